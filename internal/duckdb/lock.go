package duckdb

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
)

// A LockedError means that another process has a database file open.
type LockedError struct {
	Path string
	// Process is the name of its program, "" if unknown.
	Process string
	// PID is its process id, 0 if unknown.
	PID int
}

func (e *LockedError) Error() string {
	holder := "another process"
	if e.PID != 0 {
		holder = fmt.Sprintf("%s (PID %d)", e.Process, e.PID)
	}
	return fmt.Sprintf("duckdb: %s is locked by %s: close it; until then writing is retried", e.Path, holder)
}

// The holder is named only if this user may see the process.
var (
	lockText   = regexp.MustCompile(`Could not set lock on file`)
	holderText = regexp.MustCompile(`held in (.+?) \(PID (\d+)\)`)
)

// lockedError returns a *LockedError if err, from opening path, means that another
// process has the file open, otherwise nil.
func lockedError(path string, err error) error {
	text := err.Error()
	if !lockText.MatchString(text) {
		return nil
	}
	e := &LockedError{Path: path}
	if m := holderText.FindStringSubmatch(text); m != nil {
		e.Process = filepath.Base(m[1])
		e.PID, _ = strconv.Atoi(m[2]) // digits by the pattern
	}
	return e
}

// DuckDB's file lock does not protect against a second opening in the same process,
// which would corrupt the file. openPaths has an entry for each file that is open
// or that a call of Open waits for.
var (
	openMu    sync.Mutex
	openPaths = map[string]*pathLock{}
)

type pathLock struct {
	held  chan struct{} // has an element while the file is open
	users int           // calls that have the file open or wait for it
}

// acquirePath waits until path is not open in this process, and keeps others from
// opening it until release is called.
func acquirePath(ctx context.Context, path string) (release func(), _ error) {
	if path == "" {
		return func() {}, nil
	}
	key := realPath(path)
	openMu.Lock()
	l := openPaths[key]
	if l == nil {
		l = &pathLock{held: make(chan struct{}, 1)}
		openPaths[key] = l
	}
	l.users++
	openMu.Unlock()
	leave := func() {
		openMu.Lock()
		defer openMu.Unlock()
		if l.users--; l.users == 0 {
			delete(openPaths, key)
		}
	}
	select {
	case l.held <- struct{}{}:
		return sync.OnceFunc(func() { <-l.held; leave() }), nil
	case <-ctx.Done():
		leave()
		return nil, context.Cause(ctx)
	}
}

// realPath returns the same name for all paths of a file, which may not exist.
func realPath(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		return filepath.Join(dir, filepath.Base(path))
	}
	return path
}
