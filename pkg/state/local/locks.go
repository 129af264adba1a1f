package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/database"
)

// A locker acquires locks of files in a state directory. It implements [database.Locker].
type locker struct{ *core }

// A lock is held until Unlock is called or the process dies.
type lock struct{ file *flock.Flock }

// Unlock implements [state.Lock].
func (l *lock) Unlock() error {
	if err := l.file.Unlock(); err != nil {
		return fmt.Errorf("unlock: %w", err)
	}
	return nil
}

// Lost implements [state.Lock].
func (*lock) Lost() <-chan struct{} { return nil }

// lockOwner is the content of a lock's file: who holds it.
type lockOwner struct {
	PID     int       `json:"pid"`
	Host    string    `json:"host"`
	Since   time.Time `json:"since"`
	Command string    `json:"command"`
}

// Fence implements [database.Locker]. A lock is not lost before the process ends.
func (locker) Fence(context.Context, database.DB, string) error { return nil }

// HoldTenancy implements [database.Locker].
func (l locker) HoldTenancy(tenancy string) (state.Lock, error) {
	file := l.tenancyFile(tenancy)
	got, err := file.TryRLock()
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if !got {
		return nil, fmt.Errorf("%w: the data of tenancy %s is being deleted, or imported elsewhere", state.ErrLocked, tenancy)
	}
	return &lock{file}, nil
}

func (l locker) tenancyFile(tenancy string) *flock.Flock {
	return flock.New(filepath.Join(l.dir, "locks", "tenancy~"+database.FileName(tenancy)), flock.SetPermissions(0o600))
}

// LockTenancy implements [database.Locker].
func (l locker) LockTenancy(tenancy string) (unlock func() error, err error) {
	var held []state.Lock
	release := func() (err error) {
		for _, lock := range held {
			err = errors.Join(err, lock.Unlock())
		}
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, release())
		}
	}()
	file := l.tenancyFile(tenancy)
	got, err := file.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if !got {
		return nil, fmt.Errorf("%w: a service or a command works for tenancy %s: a service ends that by a reload when the file of the tenancy is gone", state.ErrLocked, tenancy)
	}
	held = append(held, &lock{file})
	names, err := l.namesOfTenancy(tenancy)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		lock, err := l.Acquire(name, "work for tenancy "+tenancy+" is in progress ("+strings.ReplaceAll(name, "~", " ")+")")
		if err != nil {
			return nil, err
		}
		held = append(held, lock)
	}
	return release, nil
}

// namesOfTenancy returns the names of the locks of a tenancy's streams.
func (l locker) namesOfTenancy(tenancy string) (names []string, err error) {
	entries, err := os.ReadDir(filepath.Join(l.dir, "locks"))
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasSuffix(name, "~"+database.FileName(tenancy)) && !strings.HasPrefix(name, "tenancy~") {
			names = append(names, name)
		}
	}
	return names, nil
}

// RemoveLocks implements [database.Locker]. It removes the lock files of the streams, which
// have the name of the tenancy: nothing acquires one of a stream without HoldTenancy.
func (l locker) RemoveLocks(tenancy string) error {
	names, err := l.namesOfTenancy(tenancy)
	for _, name := range names {
		err = errors.Join(err, os.Remove(filepath.Join(l.dir, "locks", name)))
	}
	return err
}

// Acquire implements [database.Locker].
func (l locker) Acquire(name, work string) (state.Lock, error) {
	path := filepath.Join(l.dir, "locks", name)
	file := flock.New(path, flock.SetPermissions(0o600))
	got, err := file.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if !got {
		return nil, fmt.Errorf("%w: %s%s", state.ErrLocked, work, describeOwner(path))
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	text, err := json.Marshal(lockOwner{os.Getpid(), host, l.now().UTC().Truncate(time.Second), database.ShortCommand(os.Args)})
	if err == nil {
		// The file is only for the error messages of others: a full disk must not
		// stop a delivery, which frees disk space.
		_ = os.WriteFile(path, text, 0o600)
	}
	return &lock{file}, nil
}

// describeOwner returns who holds the lock at path, as far as its file says.
func describeOwner(path string) string {
	var o lockOwner
	text, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(text, &o) != nil || o.PID == 0 {
		return " by another process"
	}
	return fmt.Sprintf(" by process %d on %s since %s (%s)", o.PID, o.Host, o.Since.Format("2006-01-02 15:04:05 MST"), o.Command)
}
