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

// deliveredRecords is the number of records that the comparisons of
// destinations store.
const deliveredRecords = 100_000

// storeCommand returns a run of the product that stores s in all of the
// destinations at the same time. more is added to the environment.
func (l *lab) storeCommand(s *snapshot.Snapshot, more []string, sinks ...string) runFunc {
	return func() (measured, error) {
		dir, err := l.newDir()
		if err != nil {
			return measured{}, err
		}
		defer os.RemoveAll(dir)
		env := []string{"BENCH_DIR=" + dir, fmt.Sprint("BENCH_NUMBER=", l.number)}
		if l.profiles != "" {
			env = append(env, "BENCH_PROFILES="+l.profiles)
		}
		for _, sink := range sinks {
			own, err := l.prepareServer(sink)
			if err != nil {
				return measured{}, err
			}
			env = append(env, own...)
		}
		env = append(env, more...)
		return runTimed(newCommand(l.ctx, env, l.self, append([]string{"worker", "write", s.Dir()}, sinks...)...))
	}
}

// prepareServer starts the server of a destination and empties it. It returns
// the environment for the worker.
func (l *lab) prepareServer(sink string) ([]string, error) {
	switch sink {
	case "postgres":
		p, err := testserver.OpenPostgres()
		if err != nil {
			return nil, err
		}
		url := p.URL(testserver.Owner, testserver.Password)
		return []string{"BENCH_POSTGRES=" + url}, l.runPSQL("DROP SCHEMA IF EXISTS bench CASCADE; CHECKPOINT")
	case "s3":
		return l.prepareS3()
	}
	return nil, nil
}

func (l *lab) runPSQL(statement string) error {
	p, err := testserver.OpenPostgres()
	if err != nil {
		return err
	}
	_, err = runTimed(newCommand(l.ctx, nil, "psql", "-q", "-v", "ON_ERROR_STOP=1", "-d",
		p.URL(testserver.Owner, testserver.Password), "-c", statement))
	return err
}

func (l *lab) prepareS3() ([]string, error) {
	s, err := testserver.OpenS3()
	if err != nil {
		return nil, err
	}
	// A bucket is a directory of the server.
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
	s, err := l.testSnapshot(deliveredRecords)
	if err != nil {
		return result{}, err
	}
	text, err := l.writeCopyText(s)
	if err != nil {
		return result{}, err
	}
	const table = "CREATE SCHEMA bench; " +
		"CREATE TABLE bench.copied (upload_timestamp timestamp, tenancy varchar, json_data json); " +
		"CREATE INDEX ON bench.copied (upload_timestamp, tenancy)"
	ours, theirs, err := l.comparePair(l.storeCommand(s, nil, "postgres"), func() (measured, error) {
		if _, err := l.prepareServer("postgres"); err != nil {
			return measured{}, err
		}
		if err := l.runPSQL(table); err != nil {
			return measured{}, err
		}
		p, err := testserver.OpenPostgres()
		if err != nil {
			return measured{}, err
		}
		return runTimed(newCommand(l.ctx, nil, "psql", "-q", "-d", p.URL(testserver.Owner, testserver.Password), "-c",
			`\copy bench.copied FROM '`+text+`'`))
	})
	if err != nil {
		return result{}, err
	}
	r := compareResults(s, ours, theirs, "`psql \\copy`", 1)
	r.notes = append(r.notes, postgresNote)
	return r, nil
}

const postgresNote = "Both load into a table with the same columns and index, on a server with fsync off. The product " +
	"also reads the compressed snapshot, verifies its SHA-256 and updates its ledger, all in the " +
	"transaction."

// compareResults returns the result of a comparison of the product's runs with
// those of another program. The target is met if the ratio of the times is at
// most most.
func compareResults(s *snapshot.Snapshot, ours, theirs []measured, name string, most float64) result {
	ratio := medianRatio(ours, theirs)
	return result{
		figure: fmt.Sprintf("%s, %s, %s", formatRate(s.Bytes, medianWall(ours)), formatCPUPerGB(s.Bytes, medianCPU(ours)),
			formatMB(peakRSS(ours))),
		ratio: fmt.Sprintf("%.2f times the time of %s (%s, %s)", ratio, name, formatRate(s.Bytes, medianWall(theirs)),
			formatMB(peakRSS(theirs))),
		// 2 % is less than the variation between runs, which is 5 %.
		met: ratio <= most*1.02,
	}
}

// writeCopyText writes the records to a file in the text format of COPY, and
// returns its path.
func (l *lab) writeCopyText(s *snapshot.Snapshot) (string, error) {
	path := filepath.Join(l.dir, fmt.Sprint("records-", s.Records, ".copy"))
	return memoize(l, path, func() (_ string, err error) {
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
			// Flush returns the error of a failed write.
			_, _ = fmt.Fprintf(out, "%s\t%s\t%s\n", taken, s.Tenancy, strings.ReplaceAll(string(record), `\`, `\\`))
		}
	})
}

func benchFile(l *lab) (result, error) {
	s, file, err := l.snapshotAndFile(".json")
	if err != nil {
		return result{}, err
	}
	// Times of a disk vary more than those of a processor.
	runs, err := l.runInterleaved(3*l.pairs, l.storeCommand(s, nil, "file"), func() (measured, error) {
		dir, err := l.newDir()
		if err != nil {
			return measured{}, err
		}
		defer os.RemoveAll(dir)
		return runTimed(newCommand(l.ctx, nil, "dd", "if="+file, "of="+filepath.Join(dir, "copy"), "bs=1M", "conv=fsync"))
	})
	if err != nil {
		return result{}, err
	}
	r := compareResults(s, runs[0], runs[1], "`dd bs=1M conv=fsync` of the finished file", 1)
	r.met = r.met || float64(s.Bytes)/medianWall(runs[0]) >= 400e6
	return r, nil
}

func benchFourDestinations(l *lab) (result, error) {
	s, err := l.testSnapshot(deliveredRecords)
	if err != nil {
		return result{}, err
	}
	names := []string{"file", "duckdb", "postgres", "s3"}
	alone := map[string][]float64{}
	var all, slowest, overall, computing []float64
	for range l.pairs {
		most := 0.0
		for _, name := range names {
			m, err := l.storeCommand(s, nil, name)()
			if err != nil {
				return result{}, err
			}
			alone[name] = append(alone[name], m.wall.Seconds())
			most = max(most, m.wall.Seconds())
		}
		done := watchCores()
		m, err := l.storeCommand(s, nil, names...)()
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
		figure: fmt.Sprintf("%.2f s for %s in all four; alone: %s", median(all), formatMB(s.Bytes), strings.Join(each, ", ")),
		ratio:  fmt.Sprintf("%.2f times the slowest alone; the machine's cores %.0f %% busy, %.0f %% while nothing waited for the disk", median(slowest), median(overall), median(computing)),
		met:    median(slowest) <= 1.25 || median(computing) >= 90,
		notes:  []string{fourDestinationsNote},
	}, nil
}

const fourDestinationsNote = "The servers of Postgres and S3 run on the same cores and are part of the busy time. 90 % and " +
	"more count as fully used. The rest is DuckDB's checkpoint at the end, which waits for the disk."
