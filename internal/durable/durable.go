// Package durable makes directories and names survive a crash of the machine:
// a file or directory whose parent was synced is still there afterwards.
package durable

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

// SyncDir makes the names in dir durable: files and directories that were
// created, renamed or removed there. It opens dir for reading. A file system that
// cannot sync directories, as some network and shared ones, makes names durable
// in its own way or not at all: nothing can be done about it, and SyncDir
// returns nil.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	return errors.Join(err, d.Close())
}

// MkdirAll creates dir and its missing parents with the mode perm, as
// [os.MkdirAll] does, and calls sync on the parent of each directory that it
// creates. It is safe to call from several processes at once.
func MkdirAll(dir string, perm os.FileMode, sync func(dir string) error) error {
	if fi, err := os.Stat(dir); err == nil && fi.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := MkdirAll(parent, perm, sync); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, perm); err != nil {
		// Another process may have created it since.
		if fi, e := os.Stat(dir); e == nil && fi.IsDir() {
			return nil
		}
		return err
	}
	return sync(parent)
}

// MkdirBelow creates the directory root/sub with the mode perm. It syncs every
// directory from root down, also those that exist: the process that created
// them may have died before it synced them.
func MkdirBelow(root, sub string, perm os.FileMode) error {
	if err := os.MkdirAll(filepath.Join(root, sub), perm); err != nil {
		return err
	}
	for sub != "." {
		sub = filepath.Dir(sub)
		if err := SyncDir(filepath.Join(root, sub)); err != nil {
			return err
		}
	}
	return nil
}
