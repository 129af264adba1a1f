package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	clockFault = "daemon: wrong clock"
	// clockJump is how far the clock of the daemon jumps ahead.
	clockJump = 400 * 24 * time.Hour
)

//go:embed clock_offset.go.txt
var clockOffset string

// buildWithClock builds the program of the checkout in root with a wall clock that
// can be moved, and returns its path. The source is the same but for time.Now,
// which adds an offset; the compiler reads the changed file in place of the
// original. The clock of the machine is not touched.
func buildWithClock(ctx context.Context, root, dir string) (binary string, err error) {
	goRoot, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOROOT: %w", err)
	}
	original := filepath.Join(strings.TrimSpace(string(goRoot)), "src", "time", "time.go")
	source, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	const call = "sec, nsec, mono := runtimeNow()\n"
	if bytes.Count(source, []byte("func Now() Time {\n\t"+call)) != 1 {
		return "", fmt.Errorf("%s: time.Now is not as this test knows it", original)
	}
	changed := strings.Replace(string(source), call, call+"\tsec += wallOffset.Load()\n", 1)
	changed = strings.Replace(changed, "import (\n", "import (\n\t\"sync/atomic\"\n", 1)
	changed += "\nvar wallOffset atomic.Int64\n\nfunc SetWallOffset(seconds int64) { wallOffset.Store(seconds) }\n"
	files := map[string]string{
		original: filepath.Join(dir, "time.go"),
		filepath.Join(root, "cmd", "collectord", "clock_offset.go"): filepath.Join(dir, "clock_offset.go"),
	}
	overlay, err := json.Marshal(map[string]any{"Replace": files})
	if err != nil {
		return "", err
	}
	list := filepath.Join(dir, "overlay.json")
	err = errors.Join(
		os.WriteFile(files[original], []byte(changed), 0o600),
		os.WriteFile(filepath.Join(dir, "clock_offset.go"), []byte(clockOffset), 0o600),
		os.WriteFile(list, overlay, 0o600),
	)
	if err != nil {
		return "", err
	}
	binary = filepath.Join(dir, "collectord")
	build := exec.CommandContext(ctx, "go", "build", "-overlay", list, "-o", binary, "./cmd/collectord")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the program: %w: %s", err, out)
	}
	return binary, nil
}

// trueTime returns when something happened that the daemon recorded, perhaps with its
// clock ahead.
func trueTime(recorded time.Time) time.Time {
	if recorded.After(time.Now().Add(clockJump / 2)) {
		return recorded.Add(-clockJump)
	}
	return recorded
}

// setClock moves the clock of the daemon ahead.
func (s *soak) setClock(ahead time.Duration) error {
	path := s.file("clock")
	if err := os.WriteFile(path+".new", []byte(strconv.FormatInt(int64(ahead/time.Second), 10)), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// jumpClock moves the clock of the daemon ahead and waits until a run has ended
// with it. Then the clock is right again.
func (s *soak) jumpClock() error {
	began := time.Now()
	if err := s.setClock(clockJump); err != nil {
		return err
	}
	sleepContext(s.ctx, min(8*time.Second, s.opts.time/3))
	s.faults.count(clockFault, 1)
	err := s.setClock(0)
	s.events.record(clockFault, "", began, time.Now())
	return err
}
