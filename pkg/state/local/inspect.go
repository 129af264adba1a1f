package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/collectord/collectord/internal/durable"
	"github.com/collectord/collectord/pkg/state"
)

// Exists reports whether dir has a database. It also does when that cannot be read.
func Exists(dir string) bool { return fileExists(filepath.Join(dir, databaseName)) }

// Inspect opens the state in dir for reading only: it creates and migrates
// nothing, and may be called while a service of another version is running.
// The error wraps [fs.ErrNotExist] when there is no database.
func Inspect(ctx context.Context, dir string) (*state.State, error) {
	s, err := inspect(ctx, dir)
	if err != nil {
		return nil, err
	}
	return s.With(s), nil
}

// inspect is Inspect.
func inspect(ctx context.Context, dir string) (*State, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("STATE_DIR: %w", err)
	}
	path := filepath.Join(dir, databaseName)
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("STATE_DIR: %w", err)
	}
	// Without a write-ahead log no process has the database open. SQLite must
	// then open it as immutable, or it would create a log. When another process
	// opens the database meanwhile, this one may have read half of a
	// transaction, and reads again.
	for {
		immutable := !fileExists(path + "-wal")
		s, err := openReadOnly(ctx, dir, dir, immutable)
		if !immutable && lacksLogIndex(err) {
			s, err = openCopy(ctx, dir)
		}
		if immutable && fileExists(path+"-wal") {
			if s != nil {
				err = s.Close()
			}
			if ctx.Err() == nil {
				continue
			}
		}
		if err != nil {
			return nil, fmt.Errorf("STATE_DIR: %s: %w", path, err)
		}
		return s, nil
	}
}

// lacksLogIndex reports whether err means that a write-ahead log has no index and none
// can be created: a process was killed, and the file system is read-only since.
func lacksLogIndex(err error) bool {
	e := (*sqlite.Error)(nil)
	return errors.As(err, &e) && (e.Code()&0xff == sqlite3.SQLITE_CANTOPEN || e.Code()&0xff == sqlite3.SQLITE_READONLY)
}

// openCopy opens a copy of the database and its write-ahead log, which no process
// writes, in a temporary directory. Close removes it.
func openCopy(ctx context.Context, dir string) (*State, error) {
	temp, err := copyDatabase(dir)
	if err != nil {
		return nil, err
	}
	s, err := openReadOnly(ctx, dir, temp, false)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(temp))
	}
	s.temp = temp
	return s, nil
}

// copyDatabase copies the database and its write-ahead log, which no process writes, to a
// temporary directory.
func copyDatabase(dir string) (temp string, err error) {
	if temp, err = os.MkdirTemp("", "collectord-state-*"); err != nil {
		return "", err
	}
	for _, name := range []string{databaseName, databaseName + "-wal"} {
		err := durable.CopyFile(filepath.Join(temp, name), filepath.Join(dir, name))
		if err != nil && (name == databaseName || !errors.Is(err, fs.ErrNotExist)) {
			return "", errors.Join(err, os.RemoveAll(temp))
		}
	}
	return temp, nil
}

// openReadOnly opens the state in dir with the database in databaseDir.
func openReadOnly(ctx context.Context, dir, databaseDir string, immutable bool) (*State, error) {
	options := url.Values{"mode": {"ro"}, "_pragma": {"busy_timeout(5000)", "query_only(1)"}}
	if immutable {
		options.Set("immutable", "1")
	}
	db, err := openSQLite(databaseDir, options)
	if err != nil {
		return nil, err
	}
	c := &core{dir: dir, db: db, now: time.Now, log: zap.NewNop()}
	err = c.checkIntegrity(ctx)
	if err == nil {
		err = c.checkSchemaCurrent(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return newState(c), nil
}

// checkSchemaCurrent returns an error unless the schema of the database is that
// of this program.
func (c *core) checkSchemaCurrent(ctx context.Context) error {
	var version int
	if err := c.db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return explainSQLiteError(err)
	}
	if err := checkApplicationID(ctx, c.db, version); err != nil {
		return err
	}
	if version < len(migrations) {
		return fmt.Errorf("%w: its schema is %d, this one's %d", state.ErrOlder, version, len(migrations))
	}
	return checkNotNewer(version, len(migrations))
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
