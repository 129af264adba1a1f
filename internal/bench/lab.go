package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/pkg/snapshot"
)

// stream is the stream that the cases extract. Its vendor responds immediately,
// and 94 % of the simulated records match the default filter.
const stream = "crowdstrike_vulnerabilities"

// A lab holds what the cases share: a temporary directory, the built programs,
// the servers and the data.
type lab struct {
	ctx      context.Context
	pairs    int
	profiles string
	dir      string
	self     string
	memo     map[string]any
	number   int
}

func newLab(ctx context.Context, pairs int, profiles string) (*lab, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "collectord-bench-*")
	if err != nil {
		return nil, err
	}
	// Postgres does not run as root and reads files in it.
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	if profiles != "" {
		if profiles, err = filepath.Abs(profiles); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(profiles, 0o755); err != nil {
			return nil, err
		}
	}
	return &lab{ctx: ctx, pairs: pairs, profiles: profiles, dir: dir, self: self, memo: map[string]any{}}, nil
}

func (l *lab) cleanUp() {
	testserver.Stop()
	if err := os.RemoveAll(l.dir); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
}

// newDir creates a directory and returns its path.
func (l *lab) newDir() (string, error) {
	l.number++
	dir := filepath.Join(l.dir, fmt.Sprint("run-", l.number))
	return dir, os.Mkdir(dir, 0o755)
}

// memoize returns the value of name. It calls makeIt the first time.
func memoize[T any](l *lab, name string, makeIt func() (T, error)) (T, error) {
	if v, ok := l.memo[name]; ok {
		return v.(T), nil
	}
	v, err := makeIt()
	if err == nil {
		l.memo[name] = v
	}
	return v, err
}

// buildProgram builds a program of this module with the flags of a release, and
// returns its path.
func (l *lab) buildProgram(pkg string) (string, error) {
	return memoize(l, "built "+pkg, func() (string, error) {
		path := filepath.Join(l.dir, filepath.Base(pkg))
		dir, target := ".", "./"+pkg
		if _, err := os.Stat(filepath.Join(pkg, "go.mod")); err == nil {
			dir, target = pkg, "." // a separate module
		}
		cmd := exec.CommandContext(l.ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, target)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go build %s: %w: %s", pkg, err, out)
		}
		return path, nil
	})
}

// A vendor is a running simulator. env points a client at it.
type vendor struct {
	env  []string
	stop func()
}

// startSimulator starts a vendor with the given number of records of 2 KB that
// match the filter.
func (l *lab) startSimulator(records int, args ...string) (vendor, error) {
	return l.startVendor(append([]string{"-vendors", "crowdstrike", "-gzip", "off", "-edge-every", "-1",
		"-count", fmt.Sprintf("%s=%d", stream, records*1065/1000), "-bytes", stream + "=2048"}, args...)...)
}

// startVendor starts a simulator of one vendor with the flags of its program.
func (l *lab) startVendor(args ...string) (vendor, error) {
	sim, err := l.buildProgram("internal/vendorsim/sim")
	if err != nil {
		return vendor{}, err
	}
	cmd := newCommand(l.ctx, nil, sim, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return vendor{}, err
	}
	if err := cmd.Start(); err != nil {
		return vendor{}, err
	}
	v := vendor{stop: func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }}
	for lines := bufio.NewScanner(out); ; {
		if !lines.Scan() {
			v.stop()
			return vendor{}, errors.New("the simulator ended before it printed its settings")
		}
		switch line := lines.Text(); {
		case line == "":
			return v, nil
		case !strings.HasPrefix(line, "#"):
			v.env = append(v.env, line)
		}
	}
}

// runExtraction runs the program once in dir.
func (l *lab) runExtraction(v vendor, dir string, env ...string) (measured, error) {
	return l.runExtractionOf(stream, v, dir, env...)
}

// runExtractionOf is runExtraction for another stream.
func (l *lab) runExtractionOf(stream string, v vendor, dir string, env ...string) (measured, error) {
	binary, err := l.buildProgram("cmd/collectord")
	if err != nil {
		return measured{}, err
	}
	env = append([]string{"STATE_DIR=" + filepath.Join(dir, "state"), "STORE_FILE=off", "LOG_FORMAT=json", "STORE_SPOOL_MAX=100GiB"}, env...)
	cmd := newCommand(l.ctx, append(v.env, env...), binary, "--once", stream)
	cmd.Dir = dir
	return runTimed(cmd)
}

// openSealed opens the only snapshot in dir.
func openSealed(dir string) (*snapshot.Snapshot, error) {
	found, err := filepath.Glob(filepath.Join(dir, "state/snapshots", stream, "*", "*"))
	if err != nil || len(found) != 1 {
		return nil, fmt.Errorf("%d snapshots in %s: %w", len(found), dir, err)
	}
	return snapshot.Open(found[0])
}

// extractIntoNewDir extracts into a new directory. The caller must remove it.
func (l *lab) extractIntoNewDir(v vendor) (measured, *snapshot.Snapshot, string, error) {
	dir, err := l.newDir()
	if err != nil {
		return measured{}, nil, "", err
	}
	m, err := l.runExtraction(v, dir)
	if err != nil {
		return m, nil, dir, err
	}
	s, err := openSealed(dir)
	return m, s, dir, err
}

// extractOnce returns a run that extracts into a new directory and stores the
// snapshot in s. The directory is removed.
func (l *lab) extractOnce(v vendor, s **snapshot.Snapshot) runFunc {
	return func() (measured, error) {
		m, got, dir, err := l.extractIntoNewDir(v)
		*s = got
		return m, errors.Join(err, os.RemoveAll(dir))
	}
}

// testSnapshot returns a snapshot with the given number of records.
func (l *lab) testSnapshot(records int) (*snapshot.Snapshot, error) {
	return memoize(l, fmt.Sprint("snapshot ", records), func() (*snapshot.Snapshot, error) {
		v, err := l.startSimulator(records)
		if err != nil {
			return nil, err
		}
		defer v.stop()
		_, s, _, err := l.extractIntoNewDir(v)
		return s, err
	})
}

// encodeSnapshot writes the records of a snapshot to a file whose extension
// selects the format, for the programs that the product is compared with. It
// returns the path.
func (l *lab) encodeSnapshot(s *snapshot.Snapshot, ext string) (string, error) {
	path := filepath.Join(l.dir, fmt.Sprint("records-", s.Records, ext))
	return memoize(l, path, func() (string, error) {
		format, err := snapshot.FormatOf(path)
		if err != nil {
			return "", err
		}
		f, err := os.Create(path)
		if err != nil {
			return "", err
		}
		return path, errors.Join(s.Encode(l.ctx, f, format), f.Close())
	})
}

// snapshotAndFile returns the snapshot of the comparisons of destinations, and
// the path of a file with its records.
func (l *lab) snapshotAndFile(ext string) (*snapshot.Snapshot, string, error) {
	s, err := l.testSnapshot(deliveredRecords)
	if err != nil {
		return nil, "", err
	}
	file, err := l.encodeSnapshot(s, ext)
	return s, file, err
}
