package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	_ "github.com/duckdb/duckdb-go/v2" // the driver of the bare side
)

// The data of the queries.
const (
	queriedRecords = 2_000_000
	queriedHosts   = 20_000
	hostStream     = "crowdstrike_hosts"
)

// The targets of the queries.
const (
	columnsLeast  = 60e6  // bytes of JSON a second
	columnsMemory = 512e6 // bytes
	queryMost     = 1.3   // times the bare driver
)

// queriedState is a state directory with the streams of the queries.
type queriedState struct {
	dir   string
	bytes int64 // of JSON
	// copying is the first query, which made the copies of both streams in columns.
	copying measured
	// columns are the paths of the copies, by stream.
	columns map[string]string
}

// queryProgram returns a run of `collectord query` over the state.
func (l *lab) queryProgram(dir, text string) runFunc {
	return func() (measured, error) {
		binary, err := l.buildProgram("cmd/collectord")
		if err != nil {
			return measured{}, err
		}
		env := []string{"STATE_DIR=" + filepath.Join(dir, "state"), "STORE_FILE=off"}
		return runTimed(newCommand(l.ctx, env, binary, "query", "--format", "csv", text))
	}
}

// runWithPeak runs the program over the state in a directory, and measures the peak of the
// memory of each of its processes.
func (l *lab) runWithPeak(dir string, settings []string, args ...string) (m measured, err error) {
	binary, err := l.buildProgram("cmd/collectord")
	if err != nil {
		return m, err
	}
	peak := filepath.Join(dir, "peak")
	env := append([]string{"STATE_DIR=" + filepath.Join(dir, "state"), "STORE_FILE=off", "BENCH_PEAK=" + peak}, settings...)
	if m, err = runTimed(newCommand(l.ctx, env, l.self, append([]string{"worker", "peak", binary}, args...)...)); err != nil {
		return m, err
	}
	text, err := os.ReadFile(peak)
	if err == nil {
		m.rss, err = strconv.ParseInt(string(text), 10, 64)
	}
	return m, err
}

// runPeak runs a program, and writes the largest resident memory of its processes in
// bytes to the file BENCH_PEAK. This process is small: the kernel counts that of the
// process that starts another one as well.
func runPeak(ctx context.Context, args []string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return err
	}
	peak := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
	return os.WriteFile(os.Getenv("BENCH_PEAK"), []byte(strconv.FormatInt(peak, 10)), 0o600)
}

// prepareQueries extracts the streams and makes their copies in columns.
func (l *lab) prepareQueries() (*queriedState, error) {
	return memoize(l, "queries", func() (*queriedState, error) {
		v, err := l.startSimulator(queriedRecords, "-count", fmt.Sprintf("%s=%d", hostStream, queriedHosts))
		if err != nil {
			return nil, err
		}
		defer v.stop()
		q := &queriedState{columns: map[string]string{}}
		if q.dir, err = l.newDir(); err != nil {
			return nil, err
		}
		if _, err := l.runExtraction(v, q.dir); err != nil {
			return nil, err
		}
		s, err := openSealed(q.dir)
		if err != nil {
			return nil, err
		}
		q.bytes = s.Bytes
		if q.copying, err = l.runWithPeak(q.dir, nil, "query", "SELECT count(*) FROM "+stream); err != nil {
			return nil, err
		}
		if _, err := l.runExtractionOf(hostStream, v, q.dir); err != nil {
			return nil, err
		}
		if _, err := l.queryProgram(q.dir, "SELECT count(*) FROM "+hostStream)(); err != nil {
			return nil, err
		}
		for _, name := range []string{stream, hostStream} {
			found, err := filepath.Glob(filepath.Join(q.dir, "state/snapshots", name, "*", "*", "columns.parquet"))
			if err != nil || len(found) != 1 {
				return nil, fmt.Errorf("%d copies of %s: %w", len(found), name, err)
			}
			q.columns[name] = found[0]
		}
		return q, nil
	})
}

// benchColumns measures making the copy in columns, with one query.
func benchColumns(l *lab) (result, error) {
	q, err := l.prepareQueries()
	if err != nil {
		return result{}, err
	}
	rate := float64(q.bytes) / q.copying.wall.Seconds()
	return result{
		figure: fmt.Sprintf("%.0f MB/s, %s; %s of JSON in %s", rate/1e6, formatMB(q.copying.rss), formatMB(q.bytes), formatSeconds(q.copying.wall)),
		ratio:  fmt.Sprintf("%.2f of 512 MB", float64(q.copying.rss)/columnsMemory),
		met:    rate >= columnsLeast && float64(q.copying.rss) < columnsMemory,
		notes:  []string{"One run of `collectord query` with a snapshot that no query has used before, until its result is there."},
	}, nil
}

// benchQuery returns the comparison of a query with the driver of DuckDB in a process
// of its own, over the same files. It may take at most that many seconds, and times of
// the driver's time; 0 is any ratio, for a query in which the start of the programs takes
// most of the time.
func benchQuery(text string, seconds, times float64) func(*lab) (result, error) {
	return func(l *lab) (result, error) {
		q, err := l.prepareQueries()
		if err != nil {
			return result{}, err
		}
		bare := text
		for name, path := range q.columns {
			bare = strings.ReplaceAll(bare, name, "read_parquet('"+path+"')")
		}
		self, err := os.Executable()
		if err != nil {
			return result{}, err
		}
		ours, theirs, err := l.comparePair(l.queryProgram(q.dir, text), func() (measured, error) {
			return runTimed(newCommand(l.ctx, nil, self, "worker", "query", bare))
		})
		if err != nil {
			return result{}, err
		}
		if ours[0].out != theirs[0].out {
			return result{}, fmt.Errorf("the results differ: %.200q, %.200q", ours[0].out, theirs[0].out)
		}
		ratio, wall := medianRatio(ours, theirs), medianWall(ours)
		return result{
			figure: fmt.Sprintf("%.2f s", wall),
			ratio:  fmt.Sprintf("%.2f times DuckDB's driver alone in a process of its own (%.2f s)", ratio, medianWall(theirs)),
			met:    wall < seconds && (times == 0 || ratio <= times),
		}, nil
	}
}

// runBareQuery executes a query with the driver and prints its result as CSV without
// quotes.
func runBareQuery(ctx context.Context, args []string) (err error) {
	db, err := sql.Open("duckdb", "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	rows, err := db.QueryContext(ctx, args[0])
	if err != nil {
		return err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	fmt.Println(strings.Join(columns, ","))
	values, into := make([]string, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		fmt.Println(strings.Join(values, ","))
	}
	return rows.Err()
}
