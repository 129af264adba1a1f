package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
)

// A streamTable is the table of a stream.
type streamTable struct {
	// jsonType is the type of json_data as format_type returns it.
	jsonType string
	// ordered reports whether an index finds a tenancy's next snapshot.
	ordered bool
	// mostLevels is how deeply records may be nested.
	mostLevels int64
}

// hasUploadID returns the SQL condition that a record belongs to the snapshot with
// that upload id. Each record ends with it as text. Values of type json are not
// parsed, since Postgres refuses to parse one that has \u0000 anywhere.
func (s streamTable) hasUploadID(record, id string) string {
	if s.jsonType == "jsonb" {
		return record + ` ->> '_upload_id' = ` + id
	}
	return `right(` + record + `::text, length(` + id + `) + 16) = '"_upload_id":"' || ` + id + ` || '"}'`
}

// prepareTable returns the stream's table. It creates what is missing; only then
// does it need the privilege to.
func (s *Sink) prepareTable(ctx context.Context, conn *pgx.Conn, snap *snapshot.Snapshot) (streamTable, error) {
	stream := snap.Stream
	if err := checkTableName(stream); err != nil {
		return streamTable{}, err
	}
	var found catalog
	err := inTx(ctx, conn, func(tx pgx.Tx) (err error) {
		found, err = s.readCatalog(ctx, tx, stream)
		return err
	})
	if err != nil {
		return streamTable{}, err
	}
	if err := s.checkCatalog(found, stream); err != nil {
		return streamTable{}, err
	}
	if len(s.missingStatements(found, stream)) > 0 || len(s.missingIndexes(found, stream)) > 0 || s.decideView(found, snap) != leaveView || s.dropsTypedView(found, snap.Stream) {
		if found, err = s.createMissing(ctx, conn, snap); err != nil {
			return streamTable{}, err
		}
	}
	table, err := s.checkColumns(found.relations[stream], stream)
	table.mostLevels = found.stack / bytesPerLevel
	return table, err
}

// createMissing creates what is missing. A lock lets one process at a time do so in
// a schema. It is released before the COPY of the snapshot.
func (s *Sink) createMissing(ctx context.Context, conn *pgx.Conn, snap *snapshot.Snapshot) (found catalog, err error) {
	err = inTx(ctx, conn, func(tx pgx.Tx) error {
		if err := lockName(ctx, tx, quoteName(s.opts.Schema)); err != nil {
			return err
		}
		missing, err := s.readCatalog(ctx, tx, snap.Stream)
		if err != nil {
			return err
		}
		for _, statement := range s.missingStatements(missing, snap.Stream) {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return err
			}
		}
		if found, err = s.readCatalog(ctx, tx, snap.Stream); err != nil {
			return err
		}
		if _, err := s.checkColumns(found.relations[snap.Stream], snap.Stream); err != nil {
			return err
		}
		if missing.relations[snap.Stream].kind == "" {
			if err := s.noteFormerTable(ctx, tx, snap); err != nil {
				return err
			}
		}
		return s.improveTable(ctx, tx, &found, snap)
	})
	return found, err
}

// noteFormerTable notes that the Python collectors filled a table of the stream in
// another schema.
func (s *Sink) noteFormerTable(ctx context.Context, tx pgx.Tx, snap *snapshot.Snapshot) error {
	former, err := s.findFormerTables(ctx, tx, snap.Stream)
	if err == nil && former != nil {
		s.noteOnce(snap, "postgres: "+former.Text+": "+former.Advice)
	}
	return err
}

// improveTable creates what makes reading fast: an index and the view of newest
// snapshots. found is updated.
func (s *Sink) improveTable(ctx context.Context, tx pgx.Tx, found *catalog, snap *snapshot.Snapshot) error {
	missing := s.missingIndexes(*found, snap.Stream)
	for _, index := range missing {
		err := s.tryImprovement(ctx, tx, snap, index.name(), func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, index.statement())
			return err
		})
		if err != nil {
			return err
		}
	}
	if len(missing) > 0 {
		var err error
		if *found, err = s.readCatalog(ctx, tx, snap.Stream); err != nil {
			return err
		}
	}
	if s.dropsTypedView(*found, snap.Stream) {
		if err := s.dropTypedView(ctx, tx, snap); err != nil {
			return err
		}
	}
	return s.prepareView(ctx, tx, *found, snap)
}

// tryImprovement calls do in a savepoint. No delivery needs what it does, so that
// an error is noted only, and this process does not try it again.
func (s *Sink) tryImprovement(ctx context.Context, tx pgx.Tx, snap *snapshot.Snapshot, key string, do func(tx pgx.Tx) error) error {
	err := inSavepoint(ctx, tx, do)
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return err
	}
	s.failed.Store(key, true)
	s.passNote(snap, "postgres: "+key+" was not created or replaced: "+singleLineError{err}.Error())
	return nil
}

// An index has a table, quoted, and its columns.
type index struct{ table, columns string }

func (i index) name() string { return "index on " + i.table + " (" + i.columns + ")" }

func (i index) statement() string { return `CREATE INDEX ON ` + i.table + ` (` + i.columns + `)` }

// missingIndexes returns the indexes that are used now and that tables of earlier
// versions lack. Tables of users get none.
func (s *Sink) missingIndexes(found catalog, stream string) []index {
	var list []index
	add := func(table relation, name, columns string) {
		i := index{table: s.qualify(name), columns: columns}
		if _, failed := s.failed.Load(i.name()); !failed && table.owned && !table.hasIndex(columns) {
			list = append(list, i)
		}
	}
	if table := found.relations[stream]; table.hasIndex(byTime) {
		add(table, stream, byTenancy)
	}
	add(found.relations[store.LedgerTable], store.LedgerTable, byEntry)
	return list
}

// missingStatements returns the statements that create what is missing and what the
// role may create.
func (s *Sink) missingStatements(found catalog, stream string) []string {
	var statements []string
	if !found.schema {
		statements = append(statements, `CREATE SCHEMA `+quoteName(s.opts.Schema))
	}
	if _, ok := found.relations[store.LedgerTable]; !ok {
		statements = append(statements, `CREATE TABLE `+s.qualify(store.LedgerTable)+` (
			stream varchar NOT NULL,
			tenancy varchar NOT NULL,
			upload_id varchar NOT NULL,
			upload_timestamp timestamp NOT NULL,
			records bigint NOT NULL,
			stored_at timestamptz NOT NULL,
			PRIMARY KEY (stream, tenancy, upload_id))`)
	}
	if _, ok := found.relations[store.TypesTable]; !ok && s.opts.Views == store.ViewsTyped && (found.mayCreate || !found.schema) {
		statements = append(statements, `CREATE TABLE `+s.qualify(store.TypesTable)+` (
			stream varchar PRIMARY KEY,
			types text NOT NULL,
			definition varchar NOT NULL)`)
	}
	if _, ok := found.relations[stream]; !ok {
		statements = append(statements,
			`CREATE TABLE `+s.qualify(stream)+` (upload_timestamp timestamp, tenancy varchar, json_data `+s.opts.JSON+`)`,
			`CREATE INDEX ON `+s.qualify(stream)+` (upload_timestamp, tenancy)`,
			index{table: s.qualify(stream), columns: byTenancy}.statement())
	}
	return statements
}
