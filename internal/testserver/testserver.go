// Package testserver starts real servers for tests: Postgres and S3.
package testserver

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
)

const installServers = "run `make test-servers`, which installs what the tests need"

var (
	mu    sync.Mutex
	stops []func()
	keeps bool
)

func atEnd(stop func()) {
	mu.Lock()
	defer mu.Unlock()
	stops = append(stops, stop)
}

// Stop stops every server that was started. A package whose tests start one
// calls it when they have run.
func Stop() {
	mu.Lock()
	defer mu.Unlock()
	for _, stop := range stops {
		stop()
	}
	stops = nil
}

// Keep makes Stop leave the servers' folders where they are, for a look at what
// is in them.
func Keep() {
	mu.Lock()
	defer mu.Unlock()
	keeps = true
}

// removeDir removes a server's folder, unless Keep was called. Stop holds the lock.
func removeDir(dir string) {
	if !keeps {
		os.RemoveAll(dir)
	}
}

// root is the folder of the module.
func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// freePort returns a loopback port that nobody listens on.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// program finds a server's program by name in the folders, or PATH.
func program(name string, folders ...string) (string, error) {
	for _, dir := range folders {
		found, err := filepath.Glob(filepath.Join(dir, name))
		if err == nil && len(found) > 0 {
			return found[len(found)-1], nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s is not installed: %s", name, installServers)
	}
	return path, nil
}

// OpenPostgres is StartPostgres for programs that are no tests.
func OpenPostgres() (*Postgres, error) { return startPostgres() }

// OpenS3 is StartS3 for programs that are no tests.
func OpenS3() (*S3, error) { return startS3() }
