package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"
)

// ErrOlder means that the next [Open] brings the database up to date, and that
// until then it cannot be looked into.
var ErrOlder = errors.New("an earlier collectord wrote it")

// Inspect opens the state in dir for reading alone: it makes, probes and
// migrates nothing, and may be called beside a service of another version. The
// error wraps [fs.ErrNotExist] when there is no database.
func Inspect(ctx context.Context, dir string) (*State, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("STATE_DIR: %w", err)
	}
	path := filepath.Join(dir, databaseName)
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("STATE_DIR: %w", err)
	}
	// Without a log of writes nobody has the database open, and SQLite must be
	// told so, or it would make one. Where somebody opened it meanwhile what was
	// read may be torn, and is read again.
	for {
		quiet := !exists(path + "-wal")
		s, err := inspect(ctx, dir, quiet)
		if quiet && exists(path+"-wal") {
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

func inspect(ctx context.Context, dir string, quiet bool) (*State, error) {
	query := url.Values{"mode": {"ro"}, "_pragma": {"busy_timeout(5000)", "query_only(1)"}}
	if quiet {
		query.Set("immutable", "1")
	}
	path := filepath.Join(dir, databaseName)
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: url.PathEscape(path), RawQuery: query.Encode()}).String())
	if err != nil {
		return nil, err
	}
	s := &State{dir: dir, db: db, now: time.Now, log: zap.NewNop()}
	if err := errors.Join(s.sound(ctx), s.current(ctx)); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

// current refuses a database whose schema is not that of this program.
func (s *State) current(ctx context.Context) error {
	var version int
	if err := s.db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return explain(err)
	}
	if err := ours(ctx, s.db, version); err != nil {
		return err
	}
	if version < len(migrations) {
		return fmt.Errorf("%w: its schema is %d, this one's %d", ErrOlder, version, len(migrations))
	}
	return notNewer(version, len(migrations))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
