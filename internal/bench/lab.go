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

// stream is what the cases extract. Its vendor answers at once; 94 % of the
// simulated records pass the default filter.
const stream = "crowdstrike_vulnerabilities"

// A lab is where the cases run: a temporary folder, the built programs, the
// servers, the data.
type lab struct {
	ctx      context.Context
	pairs    int
	profiles string
	dir      string
	self     string
	made     map[string]any
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
	// Postgres, which is not root, reads files in it.
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
	return &lab{ctx: ctx, pairs: pairs, profiles: profiles, dir: dir, self: self, made: map[string]any{}}, nil
}

func (l *lab) close() {
	testserver.Stop()
	if err := os.RemoveAll(l.dir); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
}

// folder returns a new folder.
func (l *lab) folder() (string, error) {
	l.number++
	dir := filepath.Join(l.dir, fmt.Sprint("run-", l.number))
	return dir, os.Mkdir(dir, 0o755)
}

// once makes a thing when it is first asked for.
func once[T any](l *lab, name string, makeIt func() (T, error)) (T, error) {
	if v, ok := l.made[name]; ok {
		return v.(T), nil
	}
	v, err := makeIt()
	if err == nil {
		l.made[name] = v
	}
	return v, err
}

// built returns a program of this module, built as users get it.
func (l *lab) built(pkg string) (string, error) {
	return once(l, "built "+pkg, func() (string, error) {
		path := filepath.Join(l.dir, filepath.Base(pkg))
		dir, target := ".", "./"+pkg
		if _, err := os.Stat(filepath.Join(pkg, "go.mod")); err == nil {
			dir, target = pkg, "." // a module of its own
		}
		cmd := exec.CommandContext(l.ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, target)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go build %s: %w: %s", pkg, err, out)
		}
		return path, nil
	})
}

// A vendor is a running simulator: the variables that lead a client to it.
type vendor struct {
	env  []string
	stop func()
}

func (v vendor) get(name string) string {
	for _, line := range v.env {
		if value, ok := strings.CutPrefix(line, name+"="); ok {
			return value
		}
	}
	return ""
}

// simulate starts a vendor with so many records of 2 KB that pass the filter.
func (l *lab) simulate(records int, args ...string) (vendor, error) {
	sim, err := l.built("internal/vendorsim/sim")
	if err != nil {
		return vendor{}, err
	}
	args = append([]string{"-vendors", "crowdstrike", "-gzip", "off", "-edge-every", "-1",
		"-count", fmt.Sprintf("%s=%d", stream, records*1065/1000), "-bytes", stream + "=2048"}, args...)
	cmd := program(l.ctx, nil, sim, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return vendor{}, err
	}
	if err := cmd.Start(); err != nil {
		return vendor{}, err
	}
	v := vendor{stop: func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }}
	for lines := bufio.NewScanner(out); v.get("FALCON_SECRET") == ""; {
		if !lines.Scan() {
			v.stop()
			return vendor{}, errors.New("the simulator ended before it told its address")
		}
		if line := lines.Text(); !strings.HasPrefix(line, "#") {
			v.env = append(v.env, line)
		}
	}
	return v, nil
}

// extract runs the program once in the folder dir.
func (l *lab) extract(v vendor, dir string, env ...string) (measured, error) {
	binary, err := l.built("cmd/collectord")
	if err != nil {
		return measured{}, err
	}
	env = append([]string{"STATE_DIR=" + filepath.Join(dir, "state"), "STORE_FILE=off", "LOG_FORMAT=json", "STORE_SPOOL_MAX=100GiB"}, env...)
	cmd := program(l.ctx, append(v.env, env...), binary, "--once", stream)
	cmd.Dir = dir
	return timed(cmd)
}

// sealed returns the snapshot in dir.
func sealed(dir string) (*snapshot.Snapshot, error) {
	found, err := filepath.Glob(filepath.Join(dir, "state/snapshots", stream, "*", "*"))
	if err != nil || len(found) != 1 {
		return nil, fmt.Errorf("%d snapshots in %s: %w", len(found), dir, err)
	}
	return snapshot.Open(found[0])
}

// fresh extracts into a new folder, which the caller removes.
func (l *lab) fresh(v vendor) (measured, *snapshot.Snapshot, string, error) {
	dir, err := l.folder()
	if err != nil {
		return measured{}, nil, "", err
	}
	m, err := l.extract(v, dir)
	if err != nil {
		return m, nil, dir, err
	}
	s, err := sealed(dir)
	return m, s, dir, err
}

// snapshot returns a snapshot of so many records.
func (l *lab) snapshot(records int) (*snapshot.Snapshot, error) {
	return once(l, fmt.Sprint("snapshot ", records), func() (*snapshot.Snapshot, error) {
		v, err := l.simulate(records)
		if err != nil {
			return nil, err
		}
		defer v.stop()
		_, s, _, err := l.fresh(v)
		return s, err
	})
}

// finished returns a file with the snapshot's records in the form that its
// name tells, for the programs that the product is measured against.
func (l *lab) finished(s *snapshot.Snapshot, ext string) (string, error) {
	path := filepath.Join(l.dir, fmt.Sprint("records-", s.Records, ext))
	return once(l, path, func() (string, error) {
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
