package durable

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

// Modes of what ReplaceFile creates, before the umask is applied.
const (
	FileMode = 0o640
	DirMode  = 0o750
)

// ErrNotRegular means that the target of ReplaceFile exists and is a directory,
// a pipe or something else that is not a regular file.
var ErrNotRegular = errors.New("it is no regular file")

// ReplaceFile creates or replaces the file at target with what write writes to
// temp. Readers see the old file or the new one, and after ReplaceFile returns
// nil the new one survives a crash of the machine. write may also write to the
// file by its name, as long as it stays the same file.
//
// New files have mode FileMode and new directories DirMode, both less the
// umask; a replaced file keeps its mode, and its owner and group where the
// process may set them. A symbolic link stays, and the file that it points to is
// replaced, or created if it does not exist.
//
// temp is in the directory of target and has a name such as
// .users.json.collectord-<pid>-<number>. A crash can leave it behind; the next
// ReplaceFile of the same target removes it, unless a living process still
// holds it.
func ReplaceFile(target string, write func(temp *os.File) error) error {
	return ReplaceFileIf(target, write, func() (bool, error) { return true, nil })
}

// ReplaceFileIf is ReplaceFile that calls isWanted when the content is on the disk,
// immediately before it replaces target. If isWanted returns false, target stays as it is,
// which is no error.
func ReplaceFileIf(target string, write func(temp *os.File) error, isWanted func() (bool, error)) (err error) {
	target, err = followLinks(target)
	if err != nil {
		return err
	}
	old, err := os.Stat(target)
	switch {
	case err == nil && !old.Mode().IsRegular():
		return ErrNotRegular
	case errors.Is(err, fs.ErrNotExist):
		old = nil
	case err != nil:
		return err
	}
	if err := MkdirAll(filepath.Dir(target), DirMode, SyncReadableDir); err != nil {
		return err
	}
	temp, err := createTemp(target)
	if err != nil {
		return err
	}
	// After the rename the temporary name no longer exists.
	defer func() {
		if e := os.Remove(temp.Name()); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
		_ = temp.Close() // what counts was reported by Sync
	}()
	if err := write(temp); err != nil {
		return err
	}
	if !isLinked(temp) {
		return fmt.Errorf("%s is not the file it was", temp.Name())
	}
	if err := copyMode(temp, old); err != nil {
		return err
	}
	if err := temp.Sync(); err != nil {
		return err
	}
	if wanted, err := isWanted(); err != nil || !wanted {
		return err
	}
	if err := os.Rename(temp.Name(), target); err != nil {
		return err
	}
	return SyncReadableDir(filepath.Dir(target))
}

// copyMode gives temp the mode and owner of the file it replaces.
func copyMode(temp *os.File, old fs.FileInfo) error {
	if old == nil {
		return nil
	}
	if stat, ok := old.Sys().(*syscall.Stat_t); ok {
		if err := copyOwner(temp, int(stat.Uid), int(stat.Gid)); err != nil {
			return err
		}
	}
	return temp.Chmod(old.Mode().Perm())
}

// copyOwner gives temp an owner and a group. Only root may change an owner, and
// others may set a group that they are in: what is not allowed stays ours.
func copyOwner(temp *os.File, uid, gid int) error {
	err := temp.Chown(uid, gid)
	if errors.Is(err, fs.ErrPermission) {
		err = temp.Chown(-1, gid)
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return err
}

// maxLinks is how many symbolic links followLinks follows, as the kernel.
const maxLinks = 40

// followLinks returns the name that the symbolic link at target leads to, which
// need not exist, or target if it is no link.
func followLinks(target string) (string, error) {
	for range maxLinks {
		link, err := os.Readlink(target)
		if err != nil {
			return target, nil // it is no link, or Stat says what is wrong
		}
		if !filepath.IsAbs(link) {
			// A directory that is a link itself changes the meaning of "..".
			dir, err := filepath.EvalSymlinks(filepath.Dir(target))
			if err != nil {
				return "", err
			}
			link = filepath.Join(dir, link)
		}
		target = link
	}
	return "", &fs.PathError{Op: "open", Path: target, Err: syscall.ELOOP}
}

// tempNumber makes each temporary name of this process unique: the removal
// after a rename must never remove the next writer's file.
var tempNumber atomic.Int64

// createTemp creates the temporary file for target and removes those that
// crashed processes left. The file is locked while it is open. Unlike the process id in
// the name, the lock also shows that its process is alive to containers that
// share a volume.
func createTemp(target string) (*os.File, error) {
	dir, prefix := filepath.Split(target)
	prefix = tempPrefix(prefix)
	if err := removeTemps(dir, prefix); err != nil {
		return nil, err
	}
	for {
		name := fmt.Sprintf("%s%s%d-%d", dir, prefix, os.Getpid(), tempNumber.Add(1))
		f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, FileMode)
		if errors.Is(err, fs.ErrExist) {
			continue // it belongs to a process with our id in another container
		}
		if err != nil {
			return nil, err
		}
		// Between the two calls another process may have treated it as a
		// leftover. Other failures of the lock mean that the file system has
		// no locks.
		if err := lockFile(f); !errors.Is(err, syscall.EWOULDBLOCK) && isLinked(f) {
			return f, nil
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
}

// tempPrefix returns how the names of the temporary files of a target with the
// name base start. Long names are replaced by a hash, since the result must
// not exceed the limit of the file system.
func tempPrefix(base string) string {
	if len(base) > 180 {
		sum := sha256.Sum256([]byte(base))
		base = hex.EncodeToString(sum[:8])
	}
	return "." + base + ".collectord-"
}

// removeTemps removes the files in dir whose names begin with prefix and that no
// process holds.
func removeTemps(dir, prefix string) error {
	if dir == "" {
		dir = "."
	}
	names, err := listNames(dir)
	if errors.Is(err, fs.ErrPermission) {
		return nil // the directory can be written to and not listed
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		if err := removeTemp(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// listNames returns the names in dir.
func listNames(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	return names, errors.Join(err, d.Close())
}

// removeTemp removes a temporary file that no process holds.
func removeTemp(name string) (err error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil // it is gone, or belongs to another user
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	// If the lock is not granted, a living process may hold the file.
	if err := lockFile(f); err != nil || !isLinked(f) {
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

// isLinked reports whether the name of f still refers to f.
func isLinked(f *os.File) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(f.Name())
	return err == nil && os.SameFile(mine, there)
}

// SyncReadableDir is SyncDir for a directory of a user. One that may be written
// to and not read cannot be synced.
func SyncReadableDir(dir string) error {
	err := SyncDir(dir)
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return err
}

// ProbeDir reports whether files can be created in dir or, if it does not
// exist, in the nearest directory above it that does.
func ProbeDir(dir string) error {
	for {
		fi, err := os.Stat(dir)
		if err == nil && !fi.IsDir() {
			return &fs.PathError{Op: "open", Path: dir, Err: syscall.ENOTDIR}
		}
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return err
		}
		dir = parent
	}
	probe, err := os.CreateTemp(dir, ".collectord-check-*")
	if err != nil {
		return err
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}
