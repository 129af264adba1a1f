package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
)

const (
	fileMode   = 0o640
	folderMode = 0o750
)

var errNotFile = errors.New("it is no regular file")

// replaceFile makes or replaces the file at target with what write puts into
// temp, at once and durably. write may also write to the file by its name, as
// long as it stays the same file.
func replaceFile(target string, write func(temp *os.File) error) (err error) {
	if real, err := filepath.EvalSymlinks(target); err == nil {
		target = real
	}
	old, err := os.Stat(target)
	switch {
	case err == nil && !old.Mode().IsRegular():
		return errNotFile
	case errors.Is(err, fs.ErrNotExist):
		old = nil
	case err != nil:
		return err
	}
	if err := makeFolder(filepath.Dir(target)); err != nil {
		return err
	}
	temp, err := newTemp(target)
	if err != nil {
		return err
	}
	// After the rename there is nothing under the temporary name.
	defer func() {
		if e := os.Remove(temp.Name()); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
		_ = temp.Close() // closed before where its errors count
	}()
	if err := write(temp); err != nil {
		return err
	}
	if !linked(temp) {
		return fmt.Errorf("%s is not the file it was", temp.Name())
	}
	if err := keepMode(temp, old); err != nil {
		return err
	}
	if err := temp.Sync(); err != nil {
		return err
	}
	if err := os.Rename(temp.Name(), target); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(target))
}

// keepMode gives temp the mode and owner of the file it replaces.
func keepMode(temp *os.File, old fs.FileInfo) error {
	if old == nil {
		return nil
	}
	if stat, ok := old.Sys().(*syscall.Stat_t); ok {
		// Only root may give files away: without the right it stays ours.
		if err := temp.Chown(int(stat.Uid), int(stat.Gid)); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	return temp.Chmod(old.Mode().Perm())
}

// tempNumber makes each temporary name of this process another one: the
// removal after a rename must never meet the next writer's file.
var tempNumber atomic.Int64

// newTemp makes the temporary file for target and removes those that crashed
// processes left. The file is locked while it is open: the lock, unlike the
// process id in the name, also tells the living from the dead between
// containers that share a volume.
func newTemp(target string) (*os.File, error) {
	dir, prefix := filepath.Split(target)
	prefix = tempPrefix(prefix)
	if err := removeLeftovers(dir, prefix); err != nil {
		return nil, err
	}
	for {
		name := fmt.Sprintf("%s%s%d-%d", dir, prefix, os.Getpid(), tempNumber.Add(1))
		f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, fileMode)
		if errors.Is(err, fs.ErrExist) {
			continue // of another process with our id, in another container
		}
		if err != nil {
			return nil, err
		}
		// Between the two calls it can pass for a leftover. Other failures of
		// the lock mean that the file system has none.
		if err := lockFile(f); !errors.Is(err, syscall.EWOULDBLOCK) && linked(f) {
			return f, nil
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
}

// tempPrefix is how the names of target's temporary files start. Very long
// names would grow too long.
func tempPrefix(base string) string {
	if len(base) > 180 {
		sum := sha256.Sum256([]byte(base))
		base = hex.EncodeToString(sum[:8])
	}
	return "." + base + ".collectord-"
}

func removeLeftovers(dir, prefix string) error {
	if dir == "" {
		dir = "."
	}
	names, err := readNames(dir)
	if errors.Is(err, fs.ErrPermission) {
		return nil // a folder that can be written to and not listed
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		if err := removeLeftover(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func readNames(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	return names, errors.Join(err, d.Close())
}

// removeLeftover removes a temporary file that nobody holds.
func removeLeftover(name string) (err error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil // gone, or another user's
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	// Without the lock a living process writes it, or nobody can tell.
	if err := lockFile(f); err != nil || !linked(f) {
		return nil
	}
	return os.Remove(name)
}

// lockFile locks f until it is closed. It does not wait.
func lockFile(f *os.File) error {
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
	}
	return nil
}

// linked tells whether f is still the file of its name.
func linked(f *os.File) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(f.Name())
	return err == nil && os.SameFile(mine, there)
}

// makeFolder makes dir and what is missing above it, durably.
func makeFolder(dir string) error {
	if fi, err := os.Stat(dir); err == nil && fi.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeFolder(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, folderMode); err != nil {
		// Another delivery can have been quicker.
		if fi, e := os.Stat(dir); e == nil && fi.IsDir() {
			return nil
		}
		return err
	}
	return syncFolder(parent)
}

// syncFolder makes the names in dir durable.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrPermission) {
		return nil // it may be written to and not read: then it cannot be synced
	}
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
