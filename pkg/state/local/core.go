package local

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/collectord/collectord/pkg/state"
	"github.com/gofrs/flock"
	"go.uber.org/zap"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const databaseName = "collectord.db"

// logLimit keeps the write-ahead log small, in pages of 4 KiB: its space is not
// free when the disk is full.
const logLimit = "wal_autocheckpoint(200)"

// core is what the parts of a State share: the directory and the database.
type core struct {
	dir  string
	temp string // directory of a copy of the database, which Close removes; "" for none
	db   *sql.DB
	now  func() time.Time
	log  *zap.Logger
}

// openDatabase opens the database and brings its schema up to date.
func (c *core) openDatabase(ctx context.Context) (err error) {
	db, err := openSQLite(c.dir, url.Values{
		"_pragma": {"busy_timeout(15000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)", logLimit},
		"_txlock": {"immediate"},
	})
	if err != nil {
		return err
	}
	// SQLite does not wait when two processes switch a new database to
	// write-ahead logging at once: one of them would fail.
	lock := flock.New(filepath.Join(c.dir, "locks", "open"), flock.SetPermissions(0o600))
	if _, err := lock.TryLockContext(ctx, 10*time.Millisecond); err != nil {
		return errors.Join(err, db.Close())
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	db.SetMaxOpenConns(4)
	db.SetMaxIdleConns(4)
	c.db = db
	err = c.checkIntegrity(ctx)
	if err == nil {
		err = c.migrate(ctx, migrations)
	}
	if err != nil {
		return errors.Join(err, db.Close())
	}
	return nil
}

// openSQLite opens the database in dir with the driver's options.
func openSQLite(dir string, options url.Values) (*sql.DB, error) {
	path := filepath.Join(dir, databaseName)
	return sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: url.PathEscape(path), RawQuery: options.Encode()}).String())
}

// checkIntegrity returns errDamaged when SQLite finds the database damaged.
func (c *core) checkIntegrity(ctx context.Context) error {
	var verdict string
	if err := c.db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return explainSQLiteError(err)
	}
	if verdict != "ok" {
		return fmt.Errorf("%w: %w: %s", state.ErrUnusable, errDamaged, verdict)
	}
	return nil
}

// inTransaction calls do in one transaction, which it commits when do returns
// nil and rolls back otherwise.
func (c *core) inTransaction(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := c.db.BeginTx(ctx, nil)
	if err != nil {
		return explainSQLiteError(err)
	}
	if err := do(tx); err != nil {
		return explainSQLiteError(errors.Join(err, tx.Rollback()))
	}
	return explainSQLiteError(tx.Commit())
}

// explainSQLiteError adds to an error from SQLite what to do about it.
func explainSQLiteError(err error) error {
	e := (*sqlite.Error)(nil)
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%w: %w: %w", state.ErrUnusable, errDamaged, err)
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM:
		return fmt.Errorf("%w: %w", err, errUnwritable)
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR:
		return fmt.Errorf("%s: %w: check that the disk of STATE_DIR has free space and no errors", databaseName, err)
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fmt.Errorf("%w: another program has the database open: try again when it has ended", err)
	}
	return err
}

var errUnwritable = errors.New("the directory and all in it must be writable for the user that collectord runs as")

// errDamaged says what to do about a database that cannot be read.
var errDamaged = errors.New("the database is damaged; the snapshots beside it are not touched: " +
	"move " + databaseName + ", " + databaseName + "-wal and " + databaseName + "-shm away and start again; " +
	"the next run of each collector adds the snapshots to a new one")

// minFreeBytes is how much unused space the database has at least when it is
// compacted.
const minFreeBytes = 1 << 20

// shrinkDatabase compacts the database when a quarter of it is unused, as after
// a long history was removed.
func (c *core) shrinkDatabase(ctx context.Context) error {
	var pages, free, size int64
	for pragma, value := range map[string]*int64{"page_count": &pages, "freelist_count": &free, "page_size": &size} {
		if err := c.db.QueryRowContext(ctx, "PRAGMA "+pragma).Scan(value); err != nil {
			return fmt.Errorf("compact the database: %w", explainSQLiteError(err))
		}
	}
	if free*size < minFreeBytes || free < pages/4 {
		return nil
	}
	_, err := c.db.ExecContext(ctx, "VACUUM")
	if err == nil {
		err = c.truncateLog(ctx)
	}
	if err != nil {
		return fmt.Errorf("compact the database: %w", explainSQLiteError(err))
	}
	return nil
}

// A querier is a database or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// An execer is a database or a transaction.
type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// queryAll returns the result of scan for each row.
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

// toMillis returns t as the database stores it: Unix milliseconds, 0 for the
// zero time.
func toMillis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// fromMillis is the inverse of toMillis. The time is in UTC.
func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// truncateText bounds a text for the database, such as an error that contains
// a stack trace.
func truncateText(text string) string {
	const maxBytes = 8 << 10
	if len(text) <= maxBytes {
		return text
	}
	return strings.ToValidUTF8(text[:maxBytes], "") + " (cut)"
}
