package main

import (
	"github.com/collectord/collectord/internal/testserver"
)

// benchS3 has client and server on the same two cores, which both fill. They
// differ by little more than one run by another, so there are many.
func benchS3(l *lab) (result, error) {
	r, err := l.uploads(3*l.pairs, nil)
	r.notes = append(r.notes, "Both uploaders have their defaults and are given the finished file; the product makes the .json from the snapshot while it uploads, and so does more. All three send checksums (AWS_REQUEST_CHECKSUM_CALCULATION=when_supported), as they do to AWS: to a server of another make the product leaves them out unless it is told, and the server of this test then computes one of its own.")
	return r, err
}

// gigabit is 1 Gbit/s in bytes.
const gigabit = 125_000_000

// benchS3Link has a network between them, as wherever S3 is not the same
// machine.
func benchS3Link(l *lab) (result, error) {
	server, err := testserver.OpenS3()
	if err != nil {
		return result{}, err
	}
	between, err := newLink(server.Addr(), gigabit)
	if err != nil {
		return result{}, err
	}
	defer between.close()
	r, err := l.uploads(2*l.pairs, []string{"AWS_ENDPOINT_URL_S3=http://" + between.addr()})
	r.notes = append(r.notes, "The same three, through a proxy that passes 125 MB a second.")
	return r, err
}

// uploads compares the product with the SDK's uploaders.
func (l *lab) uploads(rounds int, where []string) (result, error) {
	s, err := l.snapshot(delivered)
	if err != nil {
		return result{}, err
	}
	file, err := l.finished(s, ".json")
	if err != nil {
		return result{}, err
	}
	uploader, err := l.built("internal/bench/s3uploader")
	if err != nil {
		return result{}, err
	}
	sdk := func(which string) side {
		return func() (measured, error) {
			env, err := l.s3Env()
			if err != nil {
				return measured{}, err
			}
			return timed(program(l.ctx, append(env, where...), uploader, which, file, "bench", "sdk.json"))
		}
	}
	runs, err := l.turns(rounds, l.write(s, where, "s3"), sdk("transfermanager"), sdk("manager"))
	if err != nil {
		return result{}, err
	}
	r := versus(s, runs[0], runs[1], "the SDK's transfermanager", 1)
	r.ratio += "; " + versus(s, runs[0], runs[2], "its deprecated predecessor manager", 1).ratio
	return r, nil
}
