package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// scratchPrefix begins the names of scratch directories.
const scratchPrefix = ".scratch-"

// scratchLock is the name of the file in a scratch directory that its process
// keeps locked.
const scratchLock = "lock"

// A Scratch is a directory for temporary files of one piece of work. It is
// locked as long as it is in use, so that SweepScratch finds those that killed
// processes left.
type Scratch struct {
	dir  string
	lock *os.File
}

// CreateScratch creates a scratch directory in parent, which must exist; "" is
// os.TempDir().
func CreateScratch(parent string) (*Scratch, error) {
	dir, err := os.MkdirTemp(parent, scratchPrefix+"*")
	if err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, scratchLock), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	// A file system without locks, where nothing is swept, is no reason to fail.
	_ = lockFile(lock)
	return &Scratch{dir: dir, lock: lock}, nil
}

// Dir returns the path of the directory.
func (s *Scratch) Dir() string { return s.dir }

// Remove removes the directory and everything in it.
func (s *Scratch) Remove() error {
	// The lock is released last: until then no other process looks inside.
	return errors.Join(os.RemoveAll(s.dir), s.lock.Close())
}

// scratchGrace is how long a scratch directory without a lock file may be one
// that is being created or removed.
const scratchGrace = time.Hour

// SweepScratch removes the scratch directories in parent that no process uses.
func SweepScratch(parent string) error {
	names, err := listNames(parent)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, scratchPrefix) {
			err = errors.Join(err, removeUnused(filepath.Join(parent, name)))
		}
	}
	return err
}

// removeUnused removes a scratch directory if no process uses it.
func removeUnused(dir string) (err error) {
	lock, err := os.OpenFile(filepath.Join(dir, scratchLock), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return removeUnlockable(dir)
	}
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOTDIR) {
		return nil // it belongs to another user, or is something else
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if lockFile(lock) != nil {
		return nil // a living process may hold it
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove what a killed process left: %w", err)
	}
	return nil
}

// removeUnlockable removes a scratch directory that has no lock file, unless it is
// new.
func removeUnlockable(dir string) error {
	fi, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || time.Since(fi.ModTime()) < scratchGrace {
		return err
	}
	return os.RemoveAll(dir)
}
