// Package state is what collectord remembers between runs and restarts: the
// last-known snapshot of each stream, the snapshots that are still to be
// delivered, the history of runs, and locks that keep two processes from
// doing the same. It lives in one folder:
//
//	collectord.db                             an SQLite database
//	snapshots/<stream>/<tenancy>/<id>/        sealed snapshots
//	spool/<collector>/                        snapshots being written
//	spool/.restore/                           snapshots coming from a backup
//	spool/.trash-*                            what is being removed
//	locks/                                    who does what now
//
// A snapshot's folder appears first and the database learns of it after, in
// one transaction; whoever finds a folder that the database does not know
// completes that transaction (Recover). A lost database is rebuilt from the
// folders in the same way.
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
	"strings"
	"time"

	"github.com/gofrs/flock"
	"go.uber.org/zap"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Options are the settings of a State. The zero value is the default.
type Options struct {
	// Now is the clock; time.Now when nil.
	Now func() time.Time
	// Log hears of folders that could not be removed after what they held was
	// dealt with; such a folder costs disk and nothing else, and is tried again.
	Log *zap.Logger
}

// A State is an open state folder. Its methods may be called from several
// goroutines, and several processes may have the same folder open.
type State struct {
	dir string
	db  *sql.DB
	now func() time.Time
	log *zap.Logger
}

const databaseName = "collectord.db"

// Open opens the state in dir and makes it when it is missing.
func Open(ctx context.Context, dir string, o Options) (*State, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("STATE_DIR: %w", err)
	}
	if err := lay(dir); err != nil {
		return nil, fmt.Errorf("STATE_DIR: %w: %w", err, errUnwritable)
	}
	s := &State{dir: dir, now: o.Now, log: o.Log}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = zap.NewNop()
	}
	if err := s.open(ctx); err != nil {
		return nil, fmt.Errorf("STATE_DIR: %s: %w", filepath.Join(dir, databaseName), err)
	}
	return s, nil
}

// lay makes the folders and proves that files can be made in them.
func lay(dir string) error {
	_, missing := os.Stat(dir)
	for _, sub := range []string{"", "snapshots", "spool", "locks"} {
		sub = filepath.Join(dir, sub)
		if err := os.MkdirAll(sub, 0o700); err != nil {
			return err
		}
		f, err := os.CreateTemp(sub, ".probe-*")
		if err != nil {
			return err
		}
		err = os.Remove(f.Name())
		if errors.Is(err, fs.ErrNotExist) { // another process has tidied up
			err = nil
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	// SQLite gives the files beside the database the same mode. One that is
	// there is not opened: closing it would drop the locks that SQLite holds on
	// it elsewhere in this process.
	f, err := os.OpenFile(filepath.Join(dir, databaseName), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err == nil {
		err = f.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if missing != nil { // its own name must be durable too
		return errors.Join(syncDir(dir), syncDir(filepath.Dir(dir)))
	}
	return nil
}

func (s *State) open(ctx context.Context) (err error) {
	query := url.Values{
		"_pragma": {"busy_timeout(15000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)"},
		"_txlock": {"immediate"},
	}
	path := filepath.Join(s.dir, databaseName)
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: url.PathEscape(path), RawQuery: query.Encode()}).String())
	if err != nil {
		return err
	}
	// Two that turn a new database to write-ahead logging at once would fail:
	// SQLite does not wait there.
	alone := flock.New(filepath.Join(s.dir, "locks", "open"), flock.SetPermissions(0o600))
	if _, err := alone.TryLockContext(ctx, 10*time.Millisecond); err != nil {
		return errors.Join(err, db.Close())
	}
	defer func() { err = errors.Join(err, alone.Unlock()) }()
	db.SetMaxOpenConns(4)
	db.SetMaxIdleConns(4)
	s.db = db
	if err := s.prepare(ctx); err != nil {
		return errors.Join(err, db.Close())
	}
	return nil
}

func (s *State) prepare(ctx context.Context) error {
	if err := s.sound(ctx); err != nil {
		return err
	}
	return s.migrate(ctx, migrations)
}

// sound asks SQLite whether the database is damaged.
func (s *State) sound(ctx context.Context) error {
	var verdict string
	if err := s.db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return explain(err)
	}
	if verdict != "ok" {
		return fmt.Errorf("%w: %s", errDamaged, verdict)
	}
	return nil
}

// explain adds to an error of SQLite's what to do about it.
func explain(err error) error {
	e := (*sqlite.Error)(nil)
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%w: %w", errDamaged, err)
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM:
		return fmt.Errorf("%w: %w", err, errUnwritable)
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR:
		return fmt.Errorf("%s: %w: see whether the disk of STATE_DIR has space and is sound", databaseName, err)
	}
	return err
}

var errUnwritable = errors.New("the folder and all in it must be writable for the user that collectord runs as")

// errDamaged tells what to do about a database that cannot be read.
var errDamaged = errors.New("the database is damaged; the snapshots beside it are not touched: " +
	"move " + databaseName + ", " + databaseName + "-wal and " + databaseName + "-shm away and start again; " +
	"the next run of each collector takes the snapshots into a new one")

// Dir is the state folder.
func (s *State) Dir() string { return s.dir }

// Close closes the state.
func (s *State) Close() error {
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close state: %w", err)
	}
	return nil
}

// transact runs do in one transaction.
func (s *State) transact(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return explain(err)
	}
	if err := do(tx); err != nil {
		return explain(errors.Join(err, tx.Rollback()))
	}
	return explain(tx.Commit())
}

// Instants are stored as Unix milliseconds, 0 for none.
func toMillis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// querier is a database or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// queryAll returns what scan makes of each row.
func queryAll[T any](ctx context.Context, q querier, scan func(*sql.Rows) (T, error), query string, args ...any) ([]T, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

func scanID(rows *sql.Rows) (id int64, err error)      { err = rows.Scan(&id); return id, err }
func scanText(rows *sql.Rows) (text string, err error) { err = rows.Scan(&text); return text, err }

// clip bounds a text that the database is to keep, such as an error with a
// stack in it.
func clip(text string) string {
	const most = 8 << 10
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + " (cut)"
}
