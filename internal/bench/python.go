package main

import (
	"fmt"
	"os/exec"
	"path/filepath"

	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/pkg/snapshot"
)

const (
	baseline = "internal/bench/baseline/baseline.py"
	// pythonRecords is smaller than in other cases because the Python program
	// is slow.
	pythonRecords = 30_000
)

// findPython returns the path of a python3, preferably one with psycopg2.
func (l *lab) findPython() (path string, psycopg bool, err error) {
	for _, path := range []string{"python3", "/usr/bin/python3"} {
		if newCommand(l.ctx, nil, path, "-c", "import psycopg2").Run() == nil {
			return path, true, nil
		}
	}
	path, err = exec.LookPath("python3")
	return path, false, err
}

func benchPython(l *lab) (result, error) {
	python, psycopg, err := l.findPython()
	if err != nil {
		return result{}, err
	}
	v, err := l.startSimulator(pythonRecords)
	if err != nil {
		return result{}, err
	}
	defer v.stop()
	file := filepath.Join(l.dir, "python.json")
	var s *snapshot.Snapshot
	ours, theirs, err := l.comparePair(l.extractOnce(v, &s), func() (measured, error) {
		return runTimed(newCommand(l.ctx, v.env, python, baseline, "extract", file))
	})
	if err != nil {
		return result{}, err
	}
	r := result{
		figure: fmt.Sprintf("extraction: %s, %s", formatRate(s.Bytes, medianWall(ours)), formatMB(peakRSS(ours))),
		ratio: fmt.Sprintf("%.1f times faster than Python (%s, %s)", 1/medianRatio(ours, theirs),
			formatRate(s.Bytes, medianWall(theirs)), formatMB(peakRSS(theirs))),
		met:   true,
		notes: []string{fmt.Sprintf(pythonNote, s.Records)},
	}
	if !psycopg {
		r.notes = append(r.notes, "psycopg2 is not installed (Debian: python3-psycopg2), so Postgres was not compared.")
		return r, nil
	}
	return l.compareInserts(python, file, r)
}

const pythonNote = "%d records, without latency. With latency, parallel requests increase the difference " +
	"(see vulns). Python's memory grows with the number of records."

// compareInserts adds the comparison with one INSERT per row to r.
func (l *lab) compareInserts(python, file string, r result) (result, error) {
	s, err := l.testSnapshot(pythonRecords)
	if err != nil {
		return r, err
	}
	ours, theirs, err := l.comparePair(l.storeCommand(s, nil, "postgres"), func() (measured, error) {
		if _, err := l.prepareServer("postgres"); err != nil {
			return measured{}, err
		}
		if err := l.runPSQL("CREATE SCHEMA bench; CREATE TABLE bench.rows (upload_timestamp timestamp, tenancy varchar, json_data json); CREATE INDEX ON bench.rows (upload_timestamp, tenancy)"); err != nil {
			return measured{}, err
		}
		p, err := testserver.OpenPostgres()
		if err != nil {
			return measured{}, err
		}
		return runTimed(newCommand(l.ctx, nil, python, baseline, "insert", file, p.URL(testserver.Owner, testserver.Password), "bench.rows"))
	})
	if err != nil {
		return r, err
	}
	r.figure += fmt.Sprintf("; Postgres: %s, %s", formatRate(s.Bytes, medianWall(ours)), formatMB(peakRSS(ours)))
	r.ratio += fmt.Sprintf("; %.1f times faster than one INSERT per row with psycopg2 (%s, %s)", 1/medianRatio(ours, theirs),
		formatRate(s.Bytes, medianWall(theirs)), formatMB(peakRSS(theirs)))
	return r, nil
}
