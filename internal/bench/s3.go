package main

import (
	"github.com/collectord/collectord/internal/testserver"
)

// benchS3 runs client and server on the same two cores, which they use fully.
// The differences are hardly larger than those between runs, so there are many
// runs.
func benchS3(l *lab) (result, error) {
	r, err := l.compareUploads(3*l.pairs, nil)
	r.notes = append(r.notes, s3Note)
	return r, err
}

const s3Note = "Both uploaders use their defaults and receive the finished file. The product does more: it " +
	"creates the .json from the snapshot while it uploads. All three send checksums " +
	"(AWS_REQUEST_CHECKSUM_CALCULATION=when_supported), as they do to AWS. By default the product " +
	"sends none to other servers, and the server of this test then computes one itself."

// gigabit is 1 Gbit/s in bytes per second.
const gigabit = 125_000_000

// benchS3Link limits the connection to the speed of a network, as if S3 were on
// another machine.
func benchS3Link(l *lab) (result, error) {
	server, err := testserver.OpenS3()
	if err != nil {
		return result{}, err
	}
	between, err := newLink(server.Addr(), gigabit)
	if err != nil {
		return result{}, err
	}
	defer between.closeAll()
	r, err := l.compareUploads(2*l.pairs, []string{"AWS_ENDPOINT_URL_S3=http://" + between.addr()})
	r.notes = append(r.notes, "The same three, through a proxy that forwards 125 MB a second.")
	return r, err
}

// compareUploads compares the product with the uploaders of the SDK. where is
// added to the environment of all.
func (l *lab) compareUploads(rounds int, where []string) (result, error) {
	s, file, err := l.snapshotAndFile(".json")
	if err != nil {
		return result{}, err
	}
	uploader, err := l.buildProgram("internal/bench/s3uploader")
	if err != nil {
		return result{}, err
	}
	sdk := func(which string) runFunc {
		return func() (measured, error) {
			env, err := l.prepareS3()
			if err != nil {
				return measured{}, err
			}
			return runTimed(newCommand(l.ctx, append(env, where...), uploader, which, file, "bench", "sdk.json"))
		}
	}
	runs, err := l.runInterleaved(rounds, l.storeCommand(s, where, "s3"), sdk("transfermanager"), sdk("manager"))
	if err != nil {
		return result{}, err
	}
	r := compareResults(s, runs[0], runs[1], "the SDK's transfermanager", 1)
	r.ratio += "; " + compareResults(s, runs[0], runs[2], "its deprecated predecessor manager", 1).ratio
	return r, nil
}
