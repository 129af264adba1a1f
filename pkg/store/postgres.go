package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	// Replace keeps only the newest snapshot of each tenancy.
	Replace bool
	// Keep says which snapshots stay when Replace is false.
	Keep Keep
	// Note, when not nil, is told what is worth knowing and no failure, one
	// sentence each: records that were changed to fit, a view that could not
	// be made. What holds for every snapshot is told once per process.
	Note func(s *snapshot.Snapshot, text string)
}

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
	noted  sync.Map // what has been told once
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
	if opts.Replace {
		opts.Keep = Keep{Newest: 1}
	}
	config, err := postgresConfig(opts)
	if err != nil {
		return nil, err
	}
	return &Postgres{opts: opts, config: config}, nil
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
	table, err := p.prepare(ctx, conn, s)
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

// note tells what is worth knowing of a snapshot.
func (p *Postgres) note(s *snapshot.Snapshot, text string) {
	if p.opts.Note != nil {
		p.opts.Note(s, text)
	}
}

// noteOnce tells what holds for all snapshots, once per process.
func (p *Postgres) noteOnce(s *snapshot.Snapshot, text string) {
	if _, known := p.noted.LoadOrStore(text, true); !known {
		p.note(s, text)
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
	there, err := p.snapshots(ctx, tx, s.Header)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(there, func(t stored) bool { return t.id == s.UploadID }) {
		return nil
	}
	fresh := next(there, s.Header)
	r := p.opts.Keep.plan(there, fresh)
	if err := p.remove(ctx, tx, table, s.Header, r); err != nil {
		return err
	}
	if r.load {
		if err := p.copySnapshot(ctx, tx, table, s); err != nil {
			return err
		}
	} else {
		if err := s.Verify(ctx); err != nil {
			return err
		}
		p.note(s, "postgres: older than what table "+p.label(s.Stream)+" keeps: noted, not stored")
	}
	if err := p.remember(ctx, tx, s.Info, fresh); err != nil {
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
// of the server. Records too long for a page of the table are compressed by
// LZ4, which takes a fraction of the time of the server's own way, where the
// server knows it and nobody has chosen.
func configure(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `
		SELECT set_config(name, CASE name
			WHEN 'lock_timeout' THEN CASE setting WHEN '0' THEN '30s' ELSE setting END
			WHEN 'synchronous_commit' THEN CASE setting WHEN 'off' THEN 'on' ELSE setting END
			WHEN 'default_toast_compression' THEN CASE WHEN source = 'default' AND 'lz4' = ANY (enumvals) THEN 'lz4' ELSE setting END
			ELSE '0' END, true)
		FROM pg_catalog.pg_settings
		WHERE name IN ('lock_timeout', 'synchronous_commit', 'default_toast_compression', 'statement_timeout',
			'idle_in_transaction_session_timeout', 'transaction_timeout')`)
	return err
}

// lock takes the advisory lock of a name until the transaction ends. It waits
// as long as lock_timeout allows.
func lock(ctx context.Context, tx pgx.Tx, name string) error {
	_, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, "collectord "+name)
	return err
}

// snapshots returns those of the stream and tenancy that are there. Rows that
// are not listed, made by another program or before the list, are known by
// their timestamps only; they are looked for where it matters.
func (p *Postgres) snapshots(ctx context.Context, tx pgx.Tx, h snapshot.Header) ([]stored, error) {
	sql := `WITH noted AS (
			SELECT upload_timestamp, upload_id, stored_at FROM ` + p.label(ledgerName) + ` WHERE stream = $1 AND tenancy = $2
		)
		SELECT upload_timestamp, upload_id, stored_at FROM noted`
	if p.opts.Keep != (Keep{}) {
		sql += ` UNION ALL
		SELECT DISTINCT upload_timestamp, '', 'epoch'::timestamptz FROM ` + p.label(h.Stream) + `
		WHERE tenancy = $2 AND upload_timestamp NOT IN (SELECT upload_timestamp FROM noted)`
	}
	rows, err := tx.Query(ctx, sql, h.Stream, h.Tenancy)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (t stored, err error) {
		err = row.Scan(&t.taken, &t.id, &t.noted)
		t.taken, t.noted = t.taken.UTC(), t.noted.UTC()
		return t, err
	})
}

// remove deletes what no longer stays.
func (p *Postgres) remove(ctx context.Context, tx pgx.Tx, table postgresTable, h snapshot.Header, r retention) error {
	if !r.before.IsZero() {
		_, err := tx.Exec(ctx, `DELETE FROM `+p.label(h.Stream)+` WHERE tenancy = $1 AND upload_timestamp < $2`, h.Tenancy, r.before)
		if err != nil {
			return err
		}
	}
	if r.at.IsZero() {
		return nil
	}
	sql := `DELETE FROM ` + p.label(h.Stream) + ` WHERE tenancy = $1 AND upload_timestamp = $2`
	args := []any{h.Tenancy, r.at}
	for _, id := range r.keepIDs {
		args = append(args, id)
		sql += ` AND (` + table.hasID("json_data", fmt.Sprintf("$%d::text", len(args))) + `) IS NOT TRUE`
	}
	_, err := tx.Exec(ctx, sql, args...)
	return err
}

// remember lists the snapshot as stored.
func (p *Postgres) remember(ctx context.Context, tx pgx.Tx, info snapshot.Info, fresh stored) error {
	_, err := tx.Exec(ctx, `INSERT INTO `+p.label(ledgerName)+`
		(stream, tenancy, upload_id, upload_timestamp, records, stored_at)
		VALUES ($1, $2, $3, $4, $5, $6)`,
		info.Stream, info.Tenancy, info.UploadID, fresh.taken, info.Records, fresh.noted)
	return err
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
