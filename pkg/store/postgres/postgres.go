// Package postgres is the destination that stores snapshots in a Postgres
// database.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/snapshot/columns"
	"github.com/collectord/collectord/pkg/store"
)

// Options are the options of a Sink. What they leave out comes from the
// standard variables of Postgres clients: PGHOST, PGSSLMODE, PGSSLROOTCERT,
// PGCONNECT_TIMEOUT, PGPASSFILE and so on.
type Options struct {
	// URL is a connection URL, postgres://user:password@host:5432/dbname, or
	// a keyword/value string. If it is set, Host, Port, User and DBName are
	// not used; Password, when set, is used with either form.
	URL      string
	Host     string
	Port     int
	User     string
	Password string
	DBName   string
	// Schema holds the tables; empty means "public".
	Schema string
	// JSON is the type of json_data in tables that are created: "json" or
	// "jsonb"; "" means "json". Existing tables keep their type.
	JSON string
	// Views is store.ViewsOn, ViewsTyped or ViewsOff: whether the views of newest
	// snapshots are created and upgraded; "" means ViewsOn.
	Views string
	// Retention says which snapshots of a tenancy stay.
	Retention store.Retention
	// Declared is that of store.Options.
	Declared map[string][]columns.Remembered
	// Note, when not nil, receives what is worth knowing: records that were
	// changed to fit, a view that could not be created. What holds for every
	// snapshot is noted once per Sink.
	Note store.NoteFunc
	// urlSetting is the name of the setting with the URL; "" means STORE_POSTGRES_URL.
	urlSetting string
}

// A Sink stores snapshots in a Postgres database: a table per stream with the
// columns upload_timestamp, tenancy and json_data, a view <stream>_latest of
// each tenancy's newest snapshot, with Options.Views typed a view
// <stream>_latest_typed that has a column for each member of those records, and the
// table _collectord_snapshots, the ledger, which lists what is stored.
//
// A snapshot is one transaction: the deletion of what it replaces, one COPY and
// its entry in the ledger. Readers see the old or the new state. When the
// response to COMMIT was lost, a repeated Write finds the entry and stores
// nothing. An advisory lock per stream keeps two writers apart.
//
// A deletion leaves dead rows, as every DELETE does. Autovacuum turns them into
// free space for the next snapshots: the table settles at about the size of
// what it keeps plus one snapshot. No lock is held that readers or VACUUM would
// have to wait for. A Sink needs Postgres 11 or newer.
type Sink struct {
	opts   Options
	config *pgx.ConnConfig
	noted  sync.Map // texts that were noted once
	failed sync.Map // improvements that are not tried again
}

// New checks the options and returns a Sink. It does not connect. No error
// holds a password.
func New(opts Options) (*Sink, error) {
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
	switch opts.Views {
	case "", store.ViewsOn, store.ViewsTyped, store.ViewsOff:
	default:
		return nil, fmt.Errorf("postgres: views %q: want on, typed or off", opts.Views)
	}
	config, err := connConfig(opts)
	if err != nil {
		return nil, err
	}
	return &Sink{opts: opts, config: config}, nil
}

// Name returns "postgres".
func (s *Sink) Name() string { return Name }

// ReplacesPrevious implements store.Replacer.
func (s *Sink) ReplacesPrevious() bool { return s.opts.Retention.Newest == 1 }

// Target implements store.Targeter.
func (s *Sink) Target() string {
	return fmt.Sprintf("%s:%d/%s schema %s", s.config.Host, s.config.Port, s.config.Database, s.opts.Schema)
}

// Close does nothing: every Write opens its own connection, since days may
// pass between two.
func (s *Sink) Close() error { return nil }

// Write stores s in one transaction.
func (s *Sink) Write(ctx context.Context, snap *snapshot.Snapshot) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	table, err := s.prepareTable(ctx, conn, snap)
	if err != nil {
		return explainError(ctx, "prepare "+s.qualify(snap.Stream), err)
	}
	if err := s.storeSnapshot(ctx, conn, table, snap); err != nil {
		return explainError(ctx, "store in "+s.qualify(snap.Stream), err)
	}
	return nil
}

// Check connects and reports whether snapshots could be stored. It changes
// nothing.
func (s *Sink) Check(ctx context.Context) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	if err := inTx(ctx, conn, func(tx pgx.Tx) error { return s.checkSchema(ctx, tx) }); err != nil {
		return explainError(ctx, "check schema "+quoteName(s.opts.Schema), err)
	}
	return nil
}

// CheckTables implements store.TableChecker.
func (s *Sink) CheckTables(ctx context.Context, streams []snapshot.Header) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	var errs []error
	for _, h := range streams {
		if err := inTx(ctx, conn, func(tx pgx.Tx) error { return s.checkStream(ctx, tx, h.Stream) }); err != nil {
			errs = append(errs, explainError(ctx, "check table "+s.qualify(h.Stream), err))
		}
	}
	return errors.Join(errs...)
}

// checkStream reports whether a snapshot of the stream could be stored.
func (s *Sink) checkStream(ctx context.Context, tx pgx.Tx, stream string) error {
	found, err := s.readCatalog(ctx, tx, stream)
	if err != nil {
		return err
	}
	table, exists := found.relations[stream]
	if exists {
		if _, err := s.checkColumns(table, stream); err != nil {
			return err
		}
	}
	// Check has found out whether what does not exist may be created.
	if s.opts.Views != store.ViewsTyped || !found.mayCreate {
		return nil
	}
	if reason := s.typedObstacle(found, stream); reason != "" {
		return fmt.Errorf("%w: STORE_POSTGRES_VIEWS: %s", store.ErrRefused, reason)
	}
	return nil
}

// checkSchema reports whether snapshots could be stored in the schema.
func (s *Sink) checkSchema(ctx context.Context, tx pgx.Tx) error {
	var readOnly bool
	if err := tx.QueryRow(ctx, `SELECT current_setting('transaction_read_only')::bool`).Scan(&readOnly); err != nil {
		return err
	}
	if readOnly {
		return errReadOnly
	}
	found, err := s.readCatalog(ctx, tx, "")
	if err != nil {
		return err
	}
	if err := s.checkCatalog(found, ""); err != nil {
		return err
	}
	if s.opts.Views == store.ViewsTyped && found.schema && !found.mayCreate {
		return fmt.Errorf("%w: STORE_POSTGRES_VIEWS: role %s may not create typed views in schema %s: GRANT CREATE ON SCHEMA %s TO %s",
			store.ErrRefused, quoteName(s.config.User), quoteName(s.opts.Schema), quoteName(s.opts.Schema), quoteName(s.config.User))
	}
	return nil
}

// qualify returns the quoted name of a table with its schema, for SQL and
// messages.
func (s *Sink) qualify(table string) string { return quoteName(s.opts.Schema, table) }

// quoteName returns a name as SQL writes it.
func quoteName(names ...string) string { return pgx.Identifier(names).Sanitize() }

// passNote passes a note about a snapshot on to Options.Note.
func (s *Sink) passNote(snap *snapshot.Snapshot, text string) {
	if s.opts.Note != nil {
		s.opts.Note(snap, text)
	}
}

// noteOnce is passNote for what holds for all snapshots: it passes each text on once.
func (s *Sink) noteOnce(snap *snapshot.Snapshot, text string) {
	if _, known := s.noted.LoadOrStore(text, true); !known {
		s.passNote(snap, text)
	}
}

// storeSnapshot stores the snapshot in one transaction, unless the ledger
// lists it.
func (s *Sink) storeSnapshot(ctx context.Context, conn *pgx.Conn, table streamTable, snap *snapshot.Snapshot) error {
	var notes []string
	var place store.Placement
	err := inTx(ctx, conn, func(tx pgx.Tx) (err error) {
		if err := lockName(ctx, tx, s.qualify(snap.Stream)); err != nil {
			return err
		}
		var now time.Time
		if err := tx.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
			return err
		}
		typed, err := s.beginTypedView(ctx, tx, snap)
		if err != nil {
			return err
		}
		ledger := &ledgerTx{sink: s, tx: tx, table: table, snap: snap, typed: typed.types()}
		if place, err = store.AddSnapshot(ctx, ledger, snap, s.opts.Retention, now); err != nil {
			return err
		}
		if err := typed.update(ctx); err != nil {
			return err
		}
		notes = append(ledger.notes, typed.notes...)
		return nil
	})
	if err != nil {
		return err
	}
	for _, note := range notes {
		s.passNote(snap, note)
	}
	store.ReportPlacement(ctx, s.opts.Note, snap, "postgres: table "+s.qualify(snap.Stream), place)
	return nil
}

// errReadOnly is the error of Check on a standby.
var errReadOnly = errors.New("the server accepts no writes now: it is a standby, or default_transaction_read_only is on")
