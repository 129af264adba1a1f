package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/database"
)

// A takeOverSource is the state directory of another instance, which no process uses, and
// which is not changed.
type takeOverSource struct {
	*State
	locked []*os.File
}

// OpenTakeOver opens the state directory of another instance for TakeOver. It reads a copy
// of the database, which it brings up to date, so that the directory may be read-only and
// of an earlier version. The error wraps ErrInUse when a process has the state open, and
// [fs.ErrNotExist] when dir has no database.
func OpenTakeOver(ctx context.Context, dir string) (*state.State, error) {
	source, err := openTakeOverSource(ctx, dir)
	if err != nil {
		return nil, err
	}
	return source.With(source), nil
}

// openTakeOverSource is OpenTakeOver.
func openTakeOverSource(ctx context.Context, dir string) (*takeOverSource, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, databaseName)); err != nil {
		return nil, err
	}
	if err := checkUnused(dir); err != nil {
		return nil, err
	}
	c := &core{dir: dir, now: time.Now, log: zap.NewNop()}
	if c.temp, err = copyDatabase(dir); err != nil {
		return nil, err
	}
	if err := c.openTemp(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(c.temp))
	}
	source := &takeOverSource{State: newState(c)}
	if err = source.lockStreams(); err == nil {
		err = checkUnused(dir) // also while it was copied
	}
	if err != nil {
		return nil, errors.Join(err, source.Close())
	}
	return source, nil
}

// openTemp opens the copy of the database.
func (c *core) openTemp(ctx context.Context) (err error) {
	if c.db, err = openSQLite(c.temp, url.Values{"_pragma": {"foreign_keys(1)"}, "_txlock": {"immediate"}}); err != nil {
		return err
	}
	if err = c.checkIntegrity(ctx); err == nil {
		err = c.migrate(ctx, migrations)
	}
	if err != nil {
		return errors.Join(err, c.db.Close())
	}
	return nil
}

// sqliteOpenByte is the byte of the file collectord.db-shm on which every connection to a
// database with a write-ahead log has a shared lock: UNIX_SHM_DMS in os_unix.c of SQLite.
const sqliteOpenByte = 128

// checkUnused returns an error that wraps ErrInUse when another process has the database
// in dir open. It changes nothing.
func checkUnused(dir string) error {
	f, err := os.Open(filepath.Join(dir, databaseName+"-shm"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	lock := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart, Start: sqliteOpenByte, Len: 1}
	if err := syscall.FcntlFlock(f.Fd(), syscall.F_GETLK, &lock); err != nil {
		return fmt.Errorf("find out whether %s is in use: %w", dir, err)
	}
	if lock.Type != syscall.F_UNLCK {
		return fmt.Errorf("%w: %s: process %d has the state open: stop the instance first", state.ErrInUse, dir, lock.Pid)
	}
	return nil
}

// lockStreams acquires the locks of all streams in the other directory, so that an instance
// that starts there meanwhile collects nothing. It creates no files: a stream without a
// lock file was never collected there.
func (t *takeOverSource) lockStreams() error {
	names, err := fs.Glob(os.DirFS(t.dir), "locks/*~*")
	if err != nil {
		return err
	}
	for _, name := range names {
		f, err := os.Open(filepath.Join(t.dir, name))
		if err != nil {
			return err
		}
		t.locked = append(t.locked, f)
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			return fmt.Errorf("%w: %s: another process holds %s: stop the instance first", state.ErrInUse, t.dir, name)
		}
	}
	return nil
}

// Close releases the locks and removes the copy of the database.
func (t *takeOverSource) Close() (err error) {
	for _, f := range t.locked {
		err = errors.Join(err, f.Close())
	}
	return errors.Join(err, t.State.Close())
}

// TakeOverState implements [database.Source].
func (t *takeOverSource) TakeOverState() *database.State { return t.State.State }
