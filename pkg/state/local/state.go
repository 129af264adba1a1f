// Package local keeps a state in one directory, for the processes of one machine:
//
//	collectord.db                             an SQLite database
//	snapshots/<stream>/<tenancy>/<id>/        sealed snapshots
//	spool/<collector>/                        snapshots being written
//	spool/.restore/                           snapshots being restored from a backup
//	spool/.trash-*                            directories being removed
//	spool/.scratch-*                          temporary files of destinations
//	kept/<stream>/<tenancy>/<job>/<chunk>/    chunks of interrupted export jobs
//	locks/                                    lock files, which name their owners
//	reserve                                   room for the database when the disk is full
//	instance-id                               a random text that identifies the directory
//
// A snapshot's directory is created first; then one transaction adds it to the
// database. After a crash between the two, Recover completes the transaction.
// Recover rebuilds a lost database from the directories in the same way.
package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/internal/durable"
	"github.com/collectord/collectord/internal/systemd"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/database"
)

// Options are the settings of a State. The zero value is the default.
type Options struct {
	// Now returns the current time; nil means time.Now.
	Now func() time.Time
	// Log receives a warning when a directory that is not needed any more could
	// not be removed. It costs disk space until the next attempt succeeds.
	Log *zap.Logger
	// Redact removes secrets from the texts of errors that are kept; nil means that they have
	// none.
	Redact func(string) string
}

// A State is an open state directory. It implements [state.Backend].
type State struct {
	*database.State
	*core
}

// newState returns the State over c.
func newState(c *core) *State {
	return &State{
		State: database.New(database.Parts{Dir: c.dir, DB: c.db, Engine: engine{c}, Files: files{c}, Locker: locker{c}, Now: c.now, Log: c.log, Redact: c.redact}),
		core:  c,
	}
}

// Open opens the state in dir and creates it when it is missing.
func Open(ctx context.Context, dir string, o Options) (*state.State, error) {
	s, err := openDirectory(ctx, dir, o)
	if err != nil {
		return nil, err
	}
	return s.With(s), nil
}

// openDirectory is Open.
func openDirectory(ctx context.Context, dir string, o Options) (*State, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("STATE_DIR: %w", err)
	}
	if err := createLayout(dir); err != nil {
		if errors.Is(err, syscall.ENOTDIR) {
			return nil, fmt.Errorf("STATE_DIR: %w: %w: want a directory, not a file", state.ErrUnusable, err)
		}
		if sandbox := systemd.SandboxAdvice(err); sandbox != "" {
			return nil, fmt.Errorf("STATE_DIR: %w: %s, or unset STATE_DIR", err, sandbox)
		}
		return nil, fmt.Errorf("STATE_DIR: %w: %w", err, errUnwritable)
	}
	c := &core{dir: dir, now: o.Now, log: o.Log, redact: o.Redact}
	if c.now == nil {
		c.now = time.Now
	}
	if c.log == nil {
		c.log = zap.NewNop()
	}
	if err := createInstance(dir); err != nil {
		c.log.Warn("the state directory cannot be identified, and SCHEDULE_JITTER has no effect; the next start tries again", zap.Error(err))
	}
	err = c.openDatabase(ctx)
	if IsDiskFull(err) && c.releaseReserve() {
		err = c.openDatabase(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("STATE_DIR: %s: %w", filepath.Join(dir, databaseName), err)
	}
	c.keepReserve()
	return newState(c), nil
}

// Interrupt implements [state.Backend].
func (s *State) Interrupt() {}

// Close implements [state.Backend].
func (s *State) Close() error {
	err := s.db.Close()
	if s.temp != "" {
		err = errors.Join(err, os.RemoveAll(s.temp))
	}
	if err != nil {
		return fmt.Errorf("close state: %w", err)
	}
	return nil
}

// createLayout creates the directories and the database file.
func createLayout(dir string) error {
	if err := database.CreateDirectories(dir); err != nil {
		return err
	}
	// SQLite gives the files beside the database the same mode. An existing
	// database is not opened here: closing it would drop the locks that SQLite
	// holds on it elsewhere in this process.
	f, err := os.OpenFile(filepath.Join(dir, databaseName), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), durable.SyncDir(dir))
}
