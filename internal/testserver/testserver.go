// Package testserver starts real Postgres and S3 servers for tests.
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

const installServers = "run `make test-servers`, which installs the servers for the tests"

var (
	mu       sync.Mutex
	stops    []func()
	keepDirs bool
)

func addStop(stop func()) {
	mu.Lock()
	defer mu.Unlock()
	stops = append(stops, stop)
}

// Stop stops all servers. A package whose tests start a server calls it after
// the tests.
func Stop() {
	mu.Lock()
	defer mu.Unlock()
	for _, stop := range stops {
		stop()
	}
	stops = nil
}

// Keep makes Stop keep the directories of the servers for inspection.
func Keep() {
	mu.Lock()
	defer mu.Unlock()
	keepDirs = true
}

// removeDir removes the directory of a server unless Keep was called. The
// caller holds the lock.
func removeDir(dir string) {
	if !keepDirs {
		os.RemoveAll(dir)
	}
}

// moduleRoot returns the directory of the module.
func moduleRoot() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// freePort returns a free loopback port.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// findProgram returns the path of a program in one of the directories or in
// PATH.
func findProgram(name string, directories ...string) (string, error) {
	for _, dir := range directories {
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

// OpenPostgres is StartPostgres for programs that are not tests.
func OpenPostgres() (*Postgres, error) { return startPostgres() }

// OpenS3 is StartS3 for programs that are not tests.
func OpenS3() (*S3, error) { return startS3() }
