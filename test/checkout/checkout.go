// Package checkout finds files of the repository that the tests run in.
package checkout

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// Module is the import path of the repository's Go module.
const Module = "github.com/collectord/collectord"

// Join returns the absolute path of a file or directory of the repository. The
// elements may contain slashes.
func Join(t testing.TB, elements ...string) string {
	t.Helper()
	root, err := findRoot()
	if err != nil {
		t.Fatal(err)
	}
	path := root
	for _, e := range elements {
		path = filepath.Join(path, filepath.FromSlash(e))
	}
	return path
}

// findRoot returns the directory of go.mod, at or above the working directory.
var findRoot = sync.OnceValues(func() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod at or above the working directory")
		}
		dir = parent
	}
})
