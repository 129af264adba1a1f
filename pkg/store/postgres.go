package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/collectord/collectord/pkg/snapshot"
)

// PostgresOptions are the settings of a Postgres destination. Whatever they
// leave out comes from the standard variables of Postgres clients: PGHOST,
// PGSSLMODE, PGSSLROOTCERT, PGCONNECT_TIMEOUT, PGPASSFILE and so on.
type PostgresOptions struct {
	// URL is a connection URL, postgres://user:password@host:5432/dbname, or
	// a keyword/value string. With it Host, Port, User and DBName are unused;
	// Password, when set, is used with either form.
	URL      string
	Host     string
	Port     int
	User     string
	Password string
	DBName   string
	// Schema holds the tables; empty means "public".
	Schema string
	// JSON is the type of json_data in tables that are made: "json", also
	// when empty, or "jsonb". Tables that exist keep theirs.
	JSON string
	// Mode is PostgresAppend, also when empty, or PostgresReplace.
	Mode PostgresMode
	// Keep bounds the history in append mode.
	Keep Keep
	// Log hears what is worth knowing and no failure: records that were
	// changed to fit, a view that could not be made. Empty means
	// slog.Default().
	Log *slog.Logger
}

// A PostgresMode says what a new snapshot does to older ones of the same
// stream and tenancy.
type PostgresMode string

// The modes.
const (
	// PostgresAppend adds to them; Keep drops the oldest.
	PostgresAppend PostgresMode = "append"
	// PostgresReplace takes their place.
	PostgresReplace PostgresMode = "replace"
)

// Postgres stores snapshots in a Postgres database: a table per stream with
// the columns upload_timestamp, tenancy and json_data, a view <stream>_latest
// of each tenancy's newest snapshot, and one table, _collectord_snapshots,
// that lists what is stored.
//
// A snapshot is one transaction: the removal of what it replaces, one COPY
// and its line in the list. So readers see the old or the new state, and a
// repeated Write, after an answer to COMMIT that was lost, finds the line and
// stores nothing. An advisory lock per stream keeps two writers apart.
//
// A removal leaves dead rows, as every DELETE does, which autovacuum turns
// into free space for the next snapshots: the table settles at about the size
// of what it keeps plus one snapshot. No lock is held that readers or VACUUM
// would have to wait for. It needs Postgres 11 or newer.
type Postgres struct {
	opts   PostgresOptions
	config *pgx.ConnConfig
	log    *slog.Logger
	noted  sync.Map // what has been logged once
}

// NewPostgres checks the options. It does not connect. No error holds a
// password.
func NewPostgres(opts PostgresOptions) (*Postgres, error) {
	if opts.Schema == "" {
		opts.Schema = "public"
	}
	if err := checkSchemaName(opts.Schema); err != nil {
		return nil, err
	}
	switch opts.JSON {
	case "":
		opts.JSON = "json"
	case "json", "jsonb":
	default:
		return nil, fmt.Errorf("postgres: type %q for json_data: want json or jsonb", opts.JSON)
	}
	switch opts.Mode {
	case "":
		opts.Mode = PostgresAppend
	case PostgresAppend, PostgresReplace:
	default:
		return nil, fmt.Errorf("postgres: mode %q: want append or replace", opts.Mode)
	}
	config, err := postgresConfig(opts)
	if err != nil {
		return nil, err
	}
	log := opts.Log
	if log == nil {
		log = slog.Default()
	}
	return &Postgres{opts: opts, config: config, log: log}, nil
}

// Name returns "postgres".
func (p *Postgres) Name() string { return "postgres" }

// Close does nothing: every Write has a connection of its own, since days may
// pass between two.
func (p *Postgres) Close() error { return nil }

// Write stores s in one transaction.
func (p *Postgres) Write(ctx context.Context, s *snapshot.Snapshot) error {
	conn, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	table, err := p.prepare(ctx, conn, s.Stream)
	if err != nil {
		return postgresError(ctx, "prepare "+p.label(s.Stream), err)
	}
	if err := p.store(ctx, conn, table, s); err != nil {
		return postgresError(ctx, "store in "+p.label(s.Stream), err)
	}
	return nil
}

// Check connects and tells whether snapshots could be stored. It changes
// nothing.
func (p *Postgres) Check(ctx context.Context) error {
	conn, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	if err := p.check(ctx, conn); err != nil {
		return postgresError(ctx, "check schema "+quote(p.opts.Schema), err)
	}
	return nil
}

func (p *Postgres) check(ctx context.Context, conn *pgx.Conn) error {
	var readOnly bool
	if err := conn.QueryRow(ctx, `SELECT current_setting('transaction_read_only')::bool`).Scan(&readOnly); err != nil {
		return err
	}
	if readOnly {
		return errReadOnly
	}
	found, err := p.look(ctx, conn, "")
	if err != nil {
		return err
	}
	return p.mayCreate(found, "")
}

// label names a table in messages.
func (p *Postgres) label(table string) string { return quote(p.opts.Schema, table) }

// quote writes a name for SQL, and for messages that show SQL.
func quote(names ...string) string { return pgx.Identifier(names).Sanitize() }

// note logs what does not hinder a delivery, once per process and text.
func (p *Postgres) note(text string, args ...any) {
	if _, known := p.noted.LoadOrStore(fmt.Sprint(append(args, text)...), true); !known {
		p.log.Warn(text, args...)
	}
}

// store is the transaction of one snapshot.
func (p *Postgres) store(ctx context.Context, conn *pgx.Conn, table postgresTable, s *snapshot.Snapshot) error {
	// Read committed, whatever the database's default: what the lock's last
	// holder committed must be seen.
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
	if err != nil {
		return err
	}
	defer rollBack(tx)
	if err := configure(ctx, tx); err != nil {
		return err
	}
	if err := lock(ctx, tx, p.label(s.Stream)); err != nil {
		return err
	}
	known, err := p.knows(ctx, tx, s.Header)
	if err != nil || known {
		return err
	}
	wanted, err := p.makeRoom(ctx, tx, s.Header)
	if err != nil {
		return err
	}
	if wanted {
		if err := p.copySnapshot(ctx, tx, table, s); err != nil {
			return err
		}
	} else {
		p.log.Info("older than what the table keeps: noted, not stored",
			"table", p.label(s.Stream), "tenancy", s.Tenancy, "upload_timestamp", s.UploadTimestamp)
	}
	if err := p.remember(ctx, tx, s.Info); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// rollBack ends a transaction that was not committed.
func rollBack(tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.Background(), goodbye)
	defer cancel()
	_ = tx.Rollback(ctx) // after a commit it does nothing; a lost connection rolls back by itself
}

// configure sets for the transaction what must not depend on the role's or
// the database's defaults: a COPY may take longer than a query may, a lock is
// not waited for without end, and what COMMIT has confirmed survives a crash
// of the server.
func configure(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `
		SELECT set_config(name, CASE name
			WHEN 'lock_timeout' THEN CASE setting WHEN '0' THEN '30s' ELSE setting END
			WHEN 'synchronous_commit' THEN CASE setting WHEN 'off' THEN 'on' ELSE setting END
			ELSE '0' END, true)
		FROM pg_catalog.pg_settings
		WHERE name IN ('lock_timeout', 'synchronous_commit', 'statement_timeout',
			'idle_in_transaction_session_timeout', 'transaction_timeout')`)
	return err
}

// lock takes the advisory lock of a name until the transaction ends. It waits
// as long as lock_timeout allows.
func lock(ctx context.Context, tx pgx.Tx, name string) error {
	_, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, "collectord "+name)
	return err
}

// knows tells whether the snapshot has been stored.
func (p *Postgres) knows(ctx context.Context, tx pgx.Tx, h snapshot.Header) (known bool, err error) {
	err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM `+p.label(ledgerName)+`
		WHERE stream = $1 AND tenancy = $2 AND upload_id = $3)`,
		h.Stream, h.Tenancy, h.UploadID).Scan(&known)
	return known, err
}

// remember lists the snapshot as stored. The order of two snapshots of one
// second is that of stored_at, hence the clock and not the transaction's
// start.
func (p *Postgres) remember(ctx context.Context, tx pgx.Tx, info snapshot.Info) error {
	_, err := tx.Exec(ctx, `INSERT INTO `+p.label(ledgerName)+`
		(stream, tenancy, upload_id, upload_timestamp, records, stored_at)
		VALUES ($1, $2, $3, $4, $5, clock_timestamp())`,
		info.Stream, info.Tenancy, info.UploadID, info.UploadTimestamp.UTC(), info.Records)
	return err
}

// makeRoom removes what the snapshot replaces or pushes out, and tells
// whether the snapshot itself is to be stored: one that arrives late, when
// newer ones are there, replaces nothing.
func (p *Postgres) makeRoom(ctx context.Context, tx pgx.Tx, h snapshot.Header) (bool, error) {
	taken := h.UploadTimestamp.UTC()
	if p.opts.Mode == PostgresReplace {
		newest, err := p.nth(ctx, tx, h, 1)
		if err != nil || taken.Before(newest) {
			return false, err
		}
		_, err = tx.Exec(ctx, `DELETE FROM `+p.label(h.Stream)+` WHERE tenancy = $1`, h.Tenancy)
		return true, err
	}
	if p.opts.Keep == (Keep{}) {
		return true, nil
	}
	oldest, err := p.nth(ctx, tx, h, max(1, p.opts.Keep.Newest))
	if err != nil {
		return false, err
	}
	oldest = oldest.Add(-p.opts.Keep.Age)
	_, err = tx.Exec(ctx, `DELETE FROM `+p.label(h.Stream)+` WHERE tenancy = $1 AND upload_timestamp < $2`, h.Tenancy, oldest)
	return !taken.Before(oldest), err
}

// nth returns the n-th newest upload timestamp of the stream and tenancy, the
// new snapshot's own and those of rows that are not listed included; the
// oldest when there are fewer.
func (p *Postgres) nth(ctx context.Context, tx pgx.Tx, h snapshot.Header, n int) (t time.Time, err error) {
	err = tx.QueryRow(ctx, `
		SELECT min(upload_timestamp) FROM (
			SELECT upload_timestamp FROM (
				SELECT $3::timestamp AS upload_timestamp
				UNION SELECT upload_timestamp FROM `+p.label(ledgerName)+` WHERE stream = $1 AND tenancy = $2
				UNION SELECT upload_timestamp FROM `+p.label(h.Stream)+` WHERE tenancy = $2
			) AS seen
			WHERE upload_timestamp IS NOT NULL
			ORDER BY upload_timestamp DESC LIMIT $4
		) AS newest`, h.Stream, h.Tenancy, h.UploadTimestamp.UTC(), n).Scan(&t)
	return t, err
}

// connect opens a connection.
func (p *Postgres) connect(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, p.config.Copy())
	if err != nil {
		return nil, postgresError(ctx, "connect", err)
	}
	return conn, nil
}

// goodbye is how long a connection has for an orderly end.
const goodbye = 2 * time.Second

// hangUp closes a connection and waits until nothing of it is left.
func hangUp(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), goodbye)
	defer cancel()
	_ = conn.Close(ctx) // what was committed is committed
	select {
	case <-conn.PgConn().CleanupDone():
	case <-ctx.Done():
	}
}

// errReadOnly is what Check finds on a standby.
var errReadOnly = errors.New("the server takes no writes now: it is a standby, or default_transaction_read_only is on")
