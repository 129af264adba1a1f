package duckdb

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
)

// A LockedError says which process holds a database file.
type LockedError struct {
	Path string
	// Process is the holder's program, "" when unknown.
	Process string
	// PID is the holder's process id, 0 when unknown.
	PID int
}

func (e *LockedError) Error() string {
	holder := "another process"
	if e.PID != 0 {
		holder = fmt.Sprintf("%s (PID %d)", e.Process, e.PID)
	}
	return fmt.Sprintf("duckdb: %s is locked by %s: close it, or it will be tried again", e.Path, holder)
}

// The holder may be unreadable for us, and then has no name.
var (
	lockText   = regexp.MustCompile(`Could not set lock on file`)
	holderText = regexp.MustCompile(`held in (.+?) \(PID (\d+)\)`)
)

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

// DuckDB's file lock does not hold between two databases of one process, so
// opening a file twice here would spoil it. openPaths has an entry for each
// file that is open or waited for.
var (
	openMu    sync.Mutex
	openPaths = map[string]*pathLock{}
)

type pathLock struct {
	held  chan struct{} // holds a token while the file is open
	users int
}

// acquire makes path the caller's until release is called.
func acquire(ctx context.Context, path string) (release func(), _ error) {
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

// realPath gives one name to a file, whether it exists or not.
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
