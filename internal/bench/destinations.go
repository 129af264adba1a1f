package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/pkg/snapshot"
)

// delivered is how many records the comparisons of destinations store.
const delivered = 100_000

// write returns a run of the product: it stores s in the destinations, at
// once, with more variables than theirs.
func (l *lab) write(s *snapshot.Snapshot, more []string, sinks ...string) side {
	return func() (measured, error) {
		dir, err := l.folder()
		if err != nil {
			return measured{}, err
		}
		defer os.RemoveAll(dir)
		env := []string{"BENCH_DIR=" + dir, fmt.Sprint("BENCH_NUMBER=", l.number)}
		if l.profiles != "" {
			env = append(env, "BENCH_PROFILES="+l.profiles)
		}
		for _, sink := range sinks {
			own, err := l.prepare(sink)
			if err != nil {
				return measured{}, err
			}
			env = append(env, own...)
		}
		env = append(env, more...)
		return timed(program(l.ctx, env, l.self, append([]string{"worker", "write", s.Dir()}, sinks...)...))
	}
}

// prepare starts and empties the server of a destination.
func (l *lab) prepare(sink string) ([]string, error) {
	switch sink {
	case "postgres":
		p, err := testserver.OpenPostgres()
		if err != nil {
			return nil, err
		}
		url := p.URL(testserver.Owner, testserver.Password)
		return []string{"BENCH_POSTGRES=" + url}, l.psql("DROP SCHEMA IF EXISTS bench CASCADE; CHECKPOINT")
	case "s3":
		return l.s3Env()
	}
	return nil, nil
}

func (l *lab) psql(statement string) error {
	p, err := testserver.OpenPostgres()
	if err != nil {
		return err
	}
	_, err = timed(program(l.ctx, nil, "psql", "-q", "-v", "ON_ERROR_STOP=1", "-d", p.URL(testserver.Owner, testserver.Password), "-c", statement))
	return err
}

func (l *lab) s3Env() ([]string, error) {
	s, err := testserver.OpenS3()
	if err != nil {
		return nil, err
	}
	// A bucket is a folder of the server's.
	bucket := filepath.Dir(s.Object("bench", "key"))
	if err := errors.Join(os.RemoveAll(bucket), os.Mkdir(bucket, 0o755)); err != nil {
		return nil, err
	}
	env := []string{"AWS_REQUEST_CHECKSUM_CALCULATION=when_supported"}
	for name, value := range s.Env() {
		env = append(env, name+"="+value)
	}
	return env, nil
}

func benchPostgres(l *lab) (result, error) {
	s, err := l.snapshot(delivered)
	if err != nil {
		return result{}, err
	}
	text, err := l.copyText(s)
	if err != nil {
		return result{}, err
	}
	const table = "CREATE SCHEMA bench; CREATE TABLE bench.copied (upload_timestamp timestamp, tenancy varchar, json_data json); CREATE INDEX ON bench.copied (upload_timestamp, tenancy)"
	ours, theirs, err := l.compare(l.write(s, nil, "postgres"), func() (measured, error) {
		if _, err := l.prepare("postgres"); err != nil {
			return measured{}, err
		}
		if err := l.psql(table); err != nil {
			return measured{}, err
		}
		p, err := testserver.OpenPostgres()
		if err != nil {
			return measured{}, err
		}
		return timed(program(l.ctx, nil, "psql", "-q", "-d", p.URL(testserver.Owner, testserver.Password), "-c", `\copy bench.copied FROM '`+text+`'`))
	})
	if err != nil {
		return result{}, err
	}
	r := versus(s, ours, theirs, "`psql \\copy`", 1)
	r.notes = append(r.notes, "Both into a table with the same columns and index, on a server with fsync off; the product also reads the compressed snapshot, checks its SHA-256 and keeps its ledger, all in the transaction.")
	return r, nil
}

// versus compares the product's runs with another's.
func versus(s *snapshot.Snapshot, ours, theirs []measured, name string, most float64) result {
	ratio := ratios(ours, theirs)
	return result{
		figure: fmt.Sprintf("%s, %s, %s", rate(s.Bytes, walls(ours)), perGB(s.Bytes, cpus(ours)), mb(mostRSS(ours))),
		ratio:  fmt.Sprintf("%.2f times the time of %s (%s, %s)", ratio, name, rate(s.Bytes, walls(theirs)), mb(mostRSS(theirs))),
		// Within 2 % is the same on a machine that repeats itself to 5 %.
		met: ratio <= most*1.02,
	}
}

// copyText writes the records in the text form of COPY.
func (l *lab) copyText(s *snapshot.Snapshot) (string, error) {
	path := filepath.Join(l.dir, fmt.Sprint("records-", s.Records, ".copy"))
	return once(l, path, func() (_ string, err error) {
		f, err := os.Create(path)
		if err != nil {
			return "", err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		r, err := s.Reader(l.ctx)
		if err != nil {
			return "", err
		}
		defer r.Close()
		out := bufio.NewWriter(f)
		taken := s.UploadTimestamp.UTC().Format("2006-01-02 15:04:05")
		for {
			record, err := r.Next()
			if err == io.EOF {
				return path, out.Flush()
			}
			if err != nil {
				return "", err
			}
			// A failed write shows in Flush.
			_, _ = fmt.Fprintf(out, "%s\t%s\t%s\n", taken, s.Tenancy, strings.ReplaceAll(string(record), `\`, `\\`))
		}
	})
}

func benchFile(l *lab) (result, error) {
	s, err := l.snapshot(delivered)
	if err != nil {
		return result{}, err
	}
	file, err := l.finished(s, ".json")
	if err != nil {
		return result{}, err
	}
	// A disk repeats itself less than a processor.
	runs, err := l.turns(3*l.pairs, l.write(s, nil, "file"), func() (measured, error) {
		dir, err := l.folder()
		if err != nil {
			return measured{}, err
		}
		defer os.RemoveAll(dir)
		return timed(program(l.ctx, nil, "dd", "if="+file, "of="+filepath.Join(dir, "copy"), "bs=1M", "conv=fsync"))
	})
	if err != nil {
		return result{}, err
	}
	r := versus(s, runs[0], runs[1], "`dd bs=1M conv=fsync` of the finished file", 1)
	r.met = r.met || float64(s.Bytes)/walls(runs[0]) >= 400e6
	return r, nil
}

func benchFour(l *lab) (result, error) {
	s, err := l.snapshot(delivered)
	if err != nil {
		return result{}, err
	}
	names := []string{"file", "duckdb", "postgres", "s3"}
	alone := map[string][]float64{}
	var all, slowest, overall, computing []float64
	for range l.pairs {
		most := 0.0
		for _, name := range names {
			m, err := l.write(s, nil, name)()
			if err != nil {
				return result{}, err
			}
			alone[name] = append(alone[name], m.wall.Seconds())
			most = max(most, m.wall.Seconds())
		}
		done := watchCores()
		m, err := l.write(s, nil, names...)()
		if err != nil {
			return result{}, err
		}
		cores := done()
		all, slowest = append(all, m.wall.Seconds()), append(slowest, m.wall.Seconds()/most)
		overall, computing = append(overall, cores.overall), append(computing, cores.computing)
	}
	var each []string
	for _, name := range names {
		each = append(each, fmt.Sprintf("%s %.2f s", name, median(alone[name])))
	}
	return result{
		figure: fmt.Sprintf("%.2f s for %s in all four; alone: %s", median(all), mb(s.Bytes), strings.Join(each, ", ")),
		ratio:  fmt.Sprintf("%.2f times the slowest alone; the machine's cores %.0f %% busy, %.0f %% while nothing waited for the disk", median(slowest), median(overall), median(computing)),
		met:    median(slowest) <= 1.25 || median(computing) >= 90,
		notes:  []string{"The servers of Postgres and S3 run on the same cores and are part of the busy time. 90 % and more count as fully used. The rest is DuckDB's checkpoint at the end, which waits for the disk to have it."},
	}, nil
}
