package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/pkg/snapshot"
)

const (
	baseline = "internal/bench/baseline/baseline.py"
	// pythonRecords is less than elsewhere: the plain way is slow.
	pythonRecords = 30_000
)

// python returns a python3 that has psycopg2 if there is one.
func (l *lab) python() (path string, psycopg bool, err error) {
	for _, path := range []string{"python3", "/usr/bin/python3"} {
		if program(l.ctx, nil, path, "-c", "import psycopg2").Run() == nil {
			return path, true, nil
		}
	}
	path, err = exec.LookPath("python3")
	return path, false, err
}

func benchPython(l *lab) (result, error) {
	python, psycopg, err := l.python()
	if err != nil {
		return result{}, err
	}
	v, err := l.simulate(pythonRecords)
	if err != nil {
		return result{}, err
	}
	defer v.stop()
	file := filepath.Join(l.dir, "python.json")
	var s *snapshot.Snapshot
	ours, theirs, err := l.compare(func() (measured, error) {
		m, got, dir, err := l.fresh(v)
		s = got
		return m, errors.Join(err, os.RemoveAll(dir))
	}, func() (measured, error) {
		return timed(program(l.ctx, v.env, python, baseline, "extract", file))
	})
	if err != nil {
		return result{}, err
	}
	r := result{
		figure: fmt.Sprintf("extraction: %s, %s", rate(s.Bytes, walls(ours)), mb(mostRSS(ours))),
		ratio:  fmt.Sprintf("%.1f times faster than Python (%s, %s)", 1/ratios(ours, theirs), rate(s.Bytes, walls(theirs)), mb(mostRSS(theirs))),
		met:    true,
		notes:  []string{fmt.Sprintf("%d records, without latency: with it, the requests that are under way at once make the more of the difference (see vulns). Python's memory grows with the records.", s.Records)},
	}
	if !psycopg {
		r.notes = append(r.notes, "psycopg2 is not installed (Debian: python3-psycopg2), so that Postgres was not compared.")
		return r, nil
	}
	return l.pythonInserts(python, file, r)
}

// pythonInserts adds the comparison of one INSERT per row.
func (l *lab) pythonInserts(python, file string, r result) (result, error) {
	s, err := l.snapshot(pythonRecords)
	if err != nil {
		return r, err
	}
	ours, theirs, err := l.compare(l.write(s, nil, "postgres"), func() (measured, error) {
		if _, err := l.prepare("postgres"); err != nil {
			return measured{}, err
		}
		if err := l.psql("CREATE SCHEMA bench; CREATE TABLE bench.rows (upload_timestamp timestamp, tenancy varchar, json_data json); CREATE INDEX ON bench.rows (upload_timestamp, tenancy)"); err != nil {
			return measured{}, err
		}
		p, err := testserver.OpenPostgres()
		if err != nil {
			return measured{}, err
		}
		return timed(program(l.ctx, nil, python, baseline, "insert", file, p.URL(testserver.Owner, testserver.Password), "bench.rows"))
	})
	if err != nil {
		return r, err
	}
	r.figure += fmt.Sprintf("; Postgres: %s, %s", rate(s.Bytes, walls(ours)), mb(mostRSS(ours)))
	r.ratio += fmt.Sprintf("; %.1f times faster than one INSERT per row with psycopg2 (%s, %s)", 1/ratios(ours, theirs), rate(s.Bytes, walls(theirs)), mb(mostRSS(theirs)))
	return r, nil
}
