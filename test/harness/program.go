package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/collectord/collectord/test/checkout"
)

// Program returns the path of collectord, built with the race detector. All test
// processes share one build in bin/test, which the first of them makes or updates.
func Program(t testing.TB) string {
	t.Helper()
	buildOnce.Do(func() { programPath, buildErr = buildProgram(checkout.Join(t)) })
	if buildErr != nil {
		t.Fatal(buildErr)
	}
	return programPath
}

var (
	buildOnce   sync.Once
	programPath string
	buildErr    error
)

// buildProgram builds the program while it holds a lock that other test
// processes wait for. The go command leaves a program alone that is up to date.
func buildProgram(root string) (path string, err error) {
	dir := filepath.Join(root, "bin", "test")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close() // closing releases the lock
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	path = filepath.Join(dir, "collectord")
	// Without version information, so that a commit does not make it out of date. The
	// Makefile says why the race detector does not watch SQLite.
	cmd := exec.Command("go", "build", "-race", "-gcflags=modernc.org/sqlite/lib=-race=false -d=checkptr=0", "-ldflags=-s -w",
		"-buildvcs=false", "-o", path, "./cmd/collectord")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build ./cmd/collectord: %w\n%s", err, out)
	}
	return path, nil
}

// BuildWithoutRaceDetector builds a program of this module, such as
// "cmd/collectord", as users get it, and returns its path.
func BuildWithoutRaceDetector(t testing.TB, pkg string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), filepath.Base(pkg))
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, checkout.Module+"/"+pkg).CombinedOutput()
	if err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, out)
	}
	return path
}
