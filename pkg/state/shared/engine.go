package shared

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/collectord/collectord/internal/backoff"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/database"
	"github.com/collectord/collectord/pkg/store/postgres"
)

// maxConnections bounds the connections of a process.
const maxConnections = 4

// limits bound what is waited for.
type limits struct {
	// response is how long the server may take to respond to a statement. A connection through
	// which nothing comes any more is noticed by it.
	response time.Duration
	// lock is how long a transaction waits for those of other processes.
	lock time.Duration
	// idle is how long a transaction may be without a statement: the server ends that of a
	// process which has stopped.
	idle time.Duration
	// command bounds a statement outside of the caller's context.
	command time.Duration
}

var defaultLimits = limits{response: 30 * time.Second, lock: 20 * time.Second, idle: 5 * time.Second, command: 3 * time.Second}

// An engine is the Postgres database of a state. It implements [database.Engine].
type engine struct {
	db      *sql.DB
	servers *connector
	schema  string
	lease   time.Duration
	limits  limits
	bucket  string // the bucket and the prefix of the snapshots
	// readOnly reports whether the state was opened by Inspect.
	readOnly bool
	// maintain does the housekeeping besides that of the database.
	maintain func(context.Context) error
}

// openEngine returns the engine of o. It does not connect.
func openEngine(_ context.Context, o Options) (*engine, error) {
	config, err := postgres.ParseURL("CLUSTER_POSTGRES_URL", o.URL)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", state.ErrUnusable, err)
	}
	// A statement is one round trip, so that a connection pooler in transaction mode gives it
	// one server connection also outside of a transaction.
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	waits := defaultLimits
	if o.limits != nil {
		waits = *o.limits
	}
	servers := newConnector(config, waits)
	db := sql.OpenDB(servers)
	db.SetMaxOpenConns(maxConnections)
	db.SetMaxIdleConns(maxConnections)
	db.SetConnMaxIdleTime(5 * time.Minute)
	return &engine{db: db, servers: servers, schema: o.Schema, lease: o.Lease, limits: waits, bucket: o.Bucket.ObjectURL(o.Prefix)}, nil
}

// tables returns db for the statements of package database, which name tables without their
// schema. A search_path would be lost in a connection pooler.
func (e *engine) tables(db database.DB) database.DB { return qualified{db, e} }

// qualified is a database in whose statements the tables get their schema.
type qualified struct {
	database.DB
	engine *engine
}

// errReadOnly refuses to change a state that was opened by Inspect.
var errReadOnly = errors.New("the state is open for reading only")

// ExecContext implements [database.DB].
func (q qualified) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if q.engine.readOnly {
		return nil, errReadOnly
	}
	return q.DB.ExecContext(ctx, q.engine.qualify(query), args...)
}

// QueryContext implements [database.DB].
func (q qualified) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return q.DB.QueryContext(ctx, q.engine.qualify(query), args...)
}

// QueryRowContext implements [database.DB].
func (q qualified) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	return q.DB.QueryRowContext(ctx, q.engine.qualify(query), args...)
}

// tableNames matches the name of a table after the word before it.
var tableNames = sync.OnceValue(func() *regexp.Regexp {
	names := make([]string, 0, len(database.TenancyTables))
	for _, table := range database.TenancyTables {
		names = append(names, table.Name)
	}
	return regexp.MustCompile(`\b(FROM|JOIN|INTO|UPDATE)(\s+)(` + strings.Join(names, "|") + `)\b`)
})

// qualify adds the schema to the names of tables in a statement.
func (e *engine) qualify(query string) string {
	return tableNames().ReplaceAllString(query, "${1}${2}"+strings.ReplaceAll(e.name(""), "$", "$$")+"${3}")
}

// name returns the name of a table with its schema.
func (e *engine) name(table string) string { return pgx.Identifier{e.schema}.Sanitize() + "." + table }

// repeatWaits are the waits before a transaction is repeated.
var repeatWaits = backoff.Policy{First: 100 * time.Millisecond, Longest: 5 * time.Second, Growth: 2, Random: 0.2}

// Transaction implements [database.Engine]. The transactions of all processes run one after
// another by an advisory lock. The server ends one whose process has stopped in the middle.
//
// While the server cannot be reached, the transaction is repeated, as long as this process
// keeps its leases: what took hours to extract is not lost because the database is restarted.
func (e *engine) Transaction(ctx context.Context, do func(database.DB) error) error {
	if e.readOnly {
		return errReadOnly
	}
	err := e.repeat(ctx, func() error { return e.tryTransaction(ctx, do) })
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err) // such as a lock that was lost
	}
	return e.Explain(err)
}

// repeat calls try until its error is none that may pass by itself, or this process would lose
// its leases.
func (e *engine) repeat(ctx context.Context, try func() error) error {
	for attempt, began := 1, time.Now(); ; attempt++ {
		err := try()
		if err == nil || !isPassing(err) || time.Since(began) > silentLeases*e.lease {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-e.servers.ended.Done():
			return fmt.Errorf("%w: %w", errInterrupted, err)
		case <-time.After(repeatWaits.Wait(attempt)):
		}
	}
}

// UrgentTransaction implements [database.Engine].
func (e *engine) UrgentTransaction(ctx context.Context, do func(database.DB) error) error {
	return e.Transaction(ctx, do)
}

// tryTransaction is one attempt of Transaction. When the response to COMMIT is lost, it finds
// out whether the server has committed.
func (e *engine) tryTransaction(ctx context.Context, do func(database.DB) error) error {
	token := uuid.NewString()
	committing := false
	err := e.inTransaction(ctx, func(tx database.DB) error {
		if err := do(e.tables(tx)); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO `+e.name("commits")+` (token, at) VALUES ($1, clock_timestamp())`, token)
		committing = err == nil
		return err
	})
	if err == nil || !committing || !isPassing(err) {
		return err
	}
	return e.findCommit(ctx, token, err)
}

// findCommit waits until the server responds again, and returns nil if it has committed the
// transaction with a token, and err otherwise. It writes, so that its own COMMIT waits for a
// synchronous standby, as that of the lost transaction should have: the server does not wait any
// more when the connection is lost.
func (e *engine) findCommit(ctx context.Context, token string, err error) error {
	var found int64
	// Alone, so that the lost transaction has ended.
	failed := e.repeat(ctx, func() error {
		return e.inTransaction(ctx, func(tx database.DB) error {
			result, err := tx.ExecContext(ctx, `UPDATE `+e.name("commits")+` SET at = clock_timestamp() WHERE token = $1`, token)
			if err == nil {
				found, err = result.RowsAffected()
			}
			return err
		})
	})
	if failed == nil && found > 0 {
		return nil
	}
	return err
}

// readOnlyCode is the code of the error with which a standby refuses to write.
const readOnlyCode = "25006"

// isPassing reports whether an error of the database may pass by itself: the server cannot be
// reached, is starting or stopping, or has ended the connection.
func isPassing(err error) bool {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		switch code := refused.Code; {
		case strings.HasPrefix(code, "08"), strings.HasPrefix(code, "57P"), strings.HasPrefix(code, "53"), strings.HasPrefix(code, "40"):
			return code != "57P04" // the database was dropped
		case code == readOnlyCode, code == "25P03", code == "25P04", code == "55P03":
			return true // a standby, a transaction that was idle or long, a lock
		}
		return false
	}
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, net.ErrClosed) || pgconn.Timeout(err) || pgconn.SafeToRetry(err)
}

// inTransaction calls do in a transaction that is alone, without the schema in its statements.
func (e *engine) inTransaction(ctx context.Context, do func(database.DB) error) error {
	tx, err := e.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return err
	}
	err = e.beginAlone(ctx, tx)
	if err == nil {
		err = do(tx)
	}
	if err != nil {
		if rollback := tx.Rollback(); rollback != nil && !errors.Is(rollback, sql.ErrTxDone) {
			return errors.Join(err, rollback)
		}
		return err
	}
	return tx.Commit()
}

// beginAlone sets the limits of a transaction, and waits until it is the only one. What COMMIT
// has confirmed must survive a crash of the server, whatever the role's default.
func (e *engine) beginAlone(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, `SELECT set_config('lock_timeout', $1, true), set_config('idle_in_transaction_session_timeout', $2, true),
		set_config('statement_timeout', '0', true),
		set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)`,
		milliseconds(e.limits.lock), milliseconds(e.limits.idle))
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, "collectord state "+e.schema)
	return err
}

// milliseconds returns d as a setting of Postgres.
func milliseconds(d time.Duration) string { return fmt.Sprintf("%dms", d.Milliseconds()) }

// NextSnapshotID implements [database.Engine].
func (e *engine) NextSnapshotID() string {
	return "nextval(pg_get_serial_sequence('" + strings.ReplaceAll(e.name("snapshots"), "'", "''") + "', 'id'))"
}

// Maintain implements [database.Engine].
func (e *engine) Maintain(ctx context.Context) error { return e.maintain(ctx) }

// Explain implements [database.Engine].
func (e *engine) Explain(err error) error {
	if hint := hintOf(err); hint != "" {
		return fmt.Errorf("%w: %s", err, hint)
	}
	return err
}

// hintOf returns what a person can do about an error of the database; "" when nothing is known
// or the error has it already.
func hintOf(err error) string {
	var connect *pgconn.ConnectError
	var refused *pgconn.PgError
	switch {
	case err == nil, errors.Is(err, state.ErrUnusable):
		return ""
	case errors.As(err, &refused):
		switch {
		case strings.HasPrefix(refused.Code, "28"), refused.Code == "3D000":
			return "check CLUSTER_POSTGRES_URL and the server's pg_hba.conf"
		case refused.Code == "42501":
			return "grant the role of CLUSTER_POSTGRES_URL CREATE and USAGE on the schema CLUSTER_SCHEMA, and the ownership of its tables"
		case refused.Code == readOnlyCode:
			return "the server accepts no writes now: it is a standby: name all servers in CLUSTER_POSTGRES_URL, with target_session_attrs=read-write; or default_transaction_read_only is on"
		case refused.Code == "53300":
			return "raise max_connections of the server, or close other connections"
		}
	case errors.As(err, &connect):
		return "check CLUSTER_POSTGRES_URL, the network, and that the server runs"
	}
	return ""
}

// explainOpen explains an error of opening the state.
func (e *engine) explainOpen(err error) error {
	var refused *pgconn.PgError
	isForPerson := errors.As(err, &refused) && (strings.HasPrefix(refused.Code, "28") || strings.HasPrefix(refused.Code, "42") || refused.Code == "3D000")
	err = e.Explain(err)
	switch {
	case errors.Is(err, state.ErrUnusable), errors.Is(err, state.ErrOlder), errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("CLUSTER_POSTGRES_URL: %w", err)
	case isForPerson:
		return fmt.Errorf("CLUSTER_POSTGRES_URL: %w: %w", state.ErrUnusable, err)
	}
	return fmt.Errorf("CLUSTER_POSTGRES_URL: open the state: %w", err)
}
