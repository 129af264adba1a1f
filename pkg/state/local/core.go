package local

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"go.uber.org/zap"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/database"
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
	// redact is Options.Redact.
	redact func(string) string
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

// An engine is the SQLite database of a state. It implements [database.Engine].
type engine struct{ *core }

// Transaction implements [database.Engine]. A transaction has the lock for writing from its
// begin.
func (e engine) Transaction(ctx context.Context, do func(database.DB) error) error {
	return e.inTransaction(ctx, do)
}

// UrgentTransaction implements [database.Engine].
func (e engine) UrgentTransaction(ctx context.Context, do func(database.DB) error) error {
	return e.inReservedTransaction(ctx, do)
}

// Explain implements [database.Engine].
func (engine) Explain(err error) error { return explainSQLiteError(err) }

// NextSnapshotID implements [database.Engine].
func (engine) NextSnapshotID() string { return "(SELECT max(id) + 1 FROM snapshots)" }

// Maintain implements [database.Engine].
func (e engine) Maintain(ctx context.Context) error {
	e.keepReserve()
	return e.shrinkDatabase(ctx)
}

// inTransaction calls do in one transaction, which it commits when do returns
// nil and rolls back otherwise.
func (c *core) inTransaction(ctx context.Context, do func(database.DB) error) error {
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
