package duckdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/snapshot/columns"
	"github.com/collectord/collectord/pkg/store"
)

// createLedger creates the ledger. upload_timestamp and stored_at are UTC.
const createLedger = `CREATE TABLE IF NOT EXISTS main.` + store.LedgerTable + ` (
	stream VARCHAR NOT NULL,
	tenancy VARCHAR NOT NULL,
	upload_id VARCHAR NOT NULL,
	upload_timestamp TIMESTAMP NOT NULL,
	records BIGINT NOT NULL,
	stored_at TIMESTAMP NOT NULL,
	UNIQUE (stream, tenancy, upload_id))`

// storeSnapshot stores the snapshot in one transaction, unless the ledger lists it,
// and returns where it stands.
func (t *transaction) storeSnapshot(ctx context.Context, retention store.Retention) (place store.Placement, err error) {
	if _, err := t.db.ExecContext(ctx, "BEGIN TRANSACTION"); err != nil {
		return place, err
	}
	defer func() {
		if err != nil {
			// After a failed COMMIT there is nothing to roll back.
			_, _ = t.db.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		}
	}()
	if err := t.prepareTables(ctx); err != nil {
		return place, err
	}
	if err := t.beginTypedView(ctx); err != nil {
		return place, err
	}
	if place, err = store.AddSnapshot(ctx, t, t.snap, retention, time.Now()); err != nil {
		return place, err
	}
	if err := t.createViews(ctx); err != nil {
		return place, err
	}
	if ctx.Err() != nil { // such as by the loss of a lock
		return place, context.Cause(ctx)
	}
	// A COMMIT that has begun is not interrupted: its outcome would be
	// unknown.
	_, err = t.db.ExecContext(context.WithoutCancel(ctx), "COMMIT")
	return place, err
}

// A transaction stores one snapshot. It implements store.LedgerTx.
type transaction struct {
	db    *duckdb.DB
	snap  *snapshot.Snapshot
	table string // quoted
	views string // Options.Views
	// declared are the members of the stream whose kinds are known.
	declared []columns.Remembered
	typed    *store.TypedView // nil when there is to be none
	fixed    int64            // records that are not byte for byte the snapshot's
	notes    []string
}

// prepareTables creates the tables that do not exist, and checks the columns of
// the stream's table if it does.
func (t *transaction) prepareTables(ctx context.Context) error {
	if _, err := t.db.ExecContext(ctx, createLedger); err != nil {
		return err
	}
	exists, err := checkTable(ctx, t.db, t.snap.Stream)
	if exists || err != nil {
		return err
	}
	_, err = t.db.ExecContext(ctx, "CREATE TABLE "+t.table+" (upload_timestamp TIMESTAMP, tenancy VARCHAR, json_data JSON)")
	return err
}

// checkTable reports whether the stream has a table. The error wraps store.ErrRefused
// when it has other columns.
func checkTable(ctx context.Context, db *duckdb.DB, stream string) (exists bool, err error) {
	found, err := listColumns(ctx, db, stream)
	if err != nil || len(found) == 0 {
		return false, err
	}
	slices.Sort(found)
	switch strings.Join(found, ", ") {
	case "json_data JSON, tenancy VARCHAR, upload_timestamp TIMESTAMP",
		"json_data VARCHAR, tenancy VARCHAR, upload_timestamp TIMESTAMP":
		return true, nil
	}
	return true, fmt.Errorf("%w: it has %s; want upload_timestamp TIMESTAMP, tenancy VARCHAR, json_data JSON or VARCHAR: rename it, and a new one is created",
		store.ErrRefused, strings.Join(found, ", "))
}

// listColumns returns the columns of the stream's table as "name TYPE", none
// when there is no table.
func listColumns(ctx context.Context, db *duckdb.DB, stream string) ([]string, error) {
	return queryStrings(ctx, db, `SELECT lower(c.column_name) || ' ' || CASE WHEN t.table_name IS NULL THEN 'in a view' ELSE c.data_type END
		FROM duckdb_columns() c LEFT JOIN duckdb_tables() t USING (database_name, schema_name, table_name)
		WHERE c.database_name = current_database() AND c.schema_name = 'main' AND lower(c.table_name) = lower(?)`, stream)
}

// ListStored implements store.LedgerTx.
func (t *transaction) ListStored(ctx context.Context) ([]store.StoredSnapshot, error) {
	rows, err := t.db.QueryContext(ctx, `
		WITH noted AS (
			SELECT upload_timestamp, upload_id, stored_at FROM main.`+store.LedgerTable+` WHERE stream = $1 AND tenancy = $2
		)
		SELECT * FROM noted UNION ALL
		SELECT DISTINCT upload_timestamp, '', TIMESTAMP '1970-01-01' FROM `+t.table+`
		WHERE tenancy = $2 AND upload_timestamp NOT IN (SELECT upload_timestamp FROM noted)`, t.snap.Stream, t.snap.Tenancy)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []store.StoredSnapshot
	for rows.Next() {
		var s store.StoredSnapshot
		if err := rows.Scan(&s.Taken, &s.UploadID, &s.StoredAt); err != nil {
			return nil, err
		}
		s.Taken, s.StoredAt = s.Taken.UTC(), s.StoredAt.UTC()
		list = append(list, s)
	}
	return list, rows.Err()
}

// RemoveRows implements store.LedgerTx.
func (t *transaction) RemoveRows(ctx context.Context, r store.Removal) error {
	if !r.Before.IsZero() {
		_, err := t.db.ExecContext(ctx, "DELETE FROM "+t.table+" WHERE tenancy = ? AND upload_timestamp < ?", t.snap.Tenancy, r.Before)
		if err != nil {
			return err
		}
	}
	for _, taken := range r.FromFuture {
		if err := t.removeFromFuture(ctx, taken); err != nil {
			return err
		}
	}
	if r.At.IsZero() {
		return nil
	}
	statement := "DELETE FROM " + t.table + " WHERE tenancy = ? AND upload_timestamp = ?"
	args := []any{t.snap.Tenancy, r.At}
	for _, id := range r.KeepIDs {
		statement += " AND NOT " + hasUploadID("json_data", "?")
		args = append(args, id)
	}
	_, err := t.db.ExecContext(ctx, statement, args...)
	return err
}

// removeFromFuture deletes the rows and entries of the snapshots that were
// taken at taken.
func (t *transaction) removeFromFuture(ctx context.Context, taken time.Time) error {
	_, err := t.db.ExecContext(ctx, "DELETE FROM "+t.table+" WHERE tenancy = ? AND upload_timestamp = ?", t.snap.Tenancy, taken)
	if err != nil {
		return err
	}
	_, err = t.db.ExecContext(ctx, "DELETE FROM main."+store.LedgerTable+" WHERE stream = ? AND tenancy = ? AND upload_timestamp = ?",
		t.snap.Stream, t.snap.Tenancy, taken)
	return err
}

// InsertEntry implements store.LedgerTx.
func (t *transaction) InsertEntry(ctx context.Context, entry store.StoredSnapshot) error {
	_, err := t.db.ExecContext(ctx, "INSERT INTO main."+store.LedgerTable+" VALUES (?, ?, ?, ?, ?, ?)",
		t.snap.Stream, t.snap.Tenancy, t.snap.UploadID, entry.Taken, t.snap.Records, entry.StoredAt)
	return err
}

// InsertRecords implements store.LedgerTx. The records are verified against
// the sealed sum and count while they are read.
func (t *transaction) InsertRecords(ctx context.Context) (err error) {
	r, err := t.snap.Reader(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	var buf []byte
	source, err := t.db.Source("collectord_records", []duckdb.Column{{Name: "record", Type: duckdb.Text}}, func(row *duckdb.Row) error {
		record, err := r.Next()
		if err != nil {
			return err // io.EOF after all records, verified
		}
		var fixed bool
		if buf, fixed = snapshot.EscapeSurrogates(buf[:0], record); fixed {
			t.fixed++
		}
		t.typed.AddRecord(buf)
		row.SetText(0, buf)
		return nil
	})
	if err != nil {
		return err
	}
	res, err := t.db.ExecContext(ctx, "INSERT INTO "+t.table+
		" (upload_timestamp, tenancy, json_data) SELECT ?, ?, record::JSON FROM collectord_records()",
		t.snap.UploadTimestamp.UTC(), t.snap.Tenancy)
	if err := source.Result(err); err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err == nil && n != t.snap.Records {
		err = fmt.Errorf("%d records were inserted, the snapshot has %d", n, t.snap.Records)
	}
	return err
}

// hasUploadID returns the SQL condition that a record belongs to the snapshot
// with that upload id. Each record ends with it, so nothing has to be parsed.
func hasUploadID(record, id string) string {
	return `ends_with(` + record + `::VARCHAR, '"_upload_id":"' || ` + id + ` || '"}')`
}

// createViews creates and drops the views of the newest snapshots.
func (t *transaction) createViews(ctx context.Context) error {
	if t.views != store.ViewsOff {
		if err := t.createLatestView(ctx); err != nil {
			return err
		}
	}
	if t.views != store.ViewsTyped {
		return t.dropTypedView(ctx)
	}
	return t.createTypedView(ctx)
}

// createLatestView creates the view of the newest snapshots, unless its name belongs
// to something that does not read the ledger.
func (t *transaction) createLatestView(ctx context.Context) error {
	v, err := findView(ctx, t.db, t.snap.Stream+store.LatestSuffix)
	if err != nil || v.exists && !strings.Contains(v.sql, store.LedgerTable) {
		return err
	}
	_, err = t.db.ExecContext(ctx, viewStatement(t.snap.Stream))
	return err
}

// A view is a view or a table by the name of one.
type view struct {
	exists  bool
	sql     string // "" for a table
	comment string
}

// findView returns the view or table of that name.
func findView(ctx context.Context, db *duckdb.DB, name string) (view, error) {
	v := view{exists: true}
	err := db.QueryRowContext(ctx, `SELECT sql, comment FROM (
		SELECT table_name AS name, '' AS sql, '' AS comment FROM duckdb_tables() WHERE database_name = current_database() AND schema_name = 'main'
		UNION ALL
		SELECT view_name, sql, coalesce(comment, '') FROM duckdb_views() WHERE database_name = current_database() AND schema_name = 'main'
		) WHERE lower(name) = lower(?)`, name).Scan(&v.sql, &v.comment)
	if errors.Is(err, sql.ErrNoRows) {
		return view{}, nil
	}
	return v, err
}

// viewStatement returns the statement that creates the view of a stream's
// newest snapshots.
func viewStatement(stream string) string {
	return `CREATE OR REPLACE VIEW main.` + duckdb.Quote(stream+store.LatestSuffix) + ` AS ` + latestQuery(stream)
}

// latestQuery returns the query of a stream's newest snapshots. A tenancy's newest snapshot is the newest one in the
// ledger, even if it is empty, unless the table has newer rows: those of a
// program that keeps no ledger. Of two snapshots that were taken in the same
// second, the one that was stored last is the newest. A snapshot from the
// future is the newest only where there is no other, see snapshot.IsFromFuture.
//
// Only the rows of tenancies without a present snapshot in the ledger are all read.
// Of the others, DuckDB skips what is older than the ledger's snapshots.
func latestQuery(stream string) string {
	table := "main." + duckdb.Quote(stream)
	// now() of a session with another time zone is the same number of
	// microseconds; a cast of it would depend on the zone.
	limit := fmt.Sprintf("make_timestamp(epoch_us(now()) + %d)", snapshot.MaxClockSkew.Microseconds())
	return `WITH entries AS (
			SELECT tenancy, upload_id, upload_timestamp, stored_at, upload_timestamp <= ` + limit + ` AS present
			FROM main.` + store.LedgerTable + ` WHERE stream = ` + duckdb.Literal(stream) + `
		), noted AS (
			SELECT tenancy, arg_max(upload_timestamp, rank) AS taken, arg_max(upload_id, rank) AS upload_id, arg_max(present, rank) AS present
			FROM (SELECT *, (present, CASE WHEN present THEN upload_timestamp ELSE stored_at END, stored_at) AS rank FROM entries)
			GROUP BY tenancy
		), newer AS (
			SELECT tenancy, max(upload_timestamp) AS taken FROM ` + table + `
			WHERE upload_timestamp > (SELECT min(taken) FROM noted WHERE present) AND upload_timestamp <= ` + limit + `
			GROUP BY tenancy
		), unknown AS (
			SELECT tenancy FROM (SELECT DISTINCT tenancy FROM ` + table + `) AS tenancies
			WHERE NOT EXISTS (SELECT 1 FROM noted WHERE noted.present AND noted.tenancy = tenancies.tenancy)
		), held AS (
			SELECT r.tenancy, max(r.upload_timestamp) AS any_taken,
				max(CASE WHEN r.upload_timestamp <= ` + limit + ` THEN r.upload_timestamp END) AS taken
			FROM ` + table + ` AS r JOIN unknown ON r.tenancy IS NOT DISTINCT FROM unknown.tenancy GROUP BY r.tenancy
		), newest AS (
			SELECT noted.tenancy, greatest(noted.taken, newer.taken) AS taken,
				CASE WHEN newer.taken > noted.taken THEN NULL ELSE upload_id END AS upload_id
			FROM noted LEFT JOIN newer ON noted.tenancy = newer.tenancy WHERE noted.present
			UNION ALL
			SELECT held.tenancy, coalesce(held.taken, noted.taken, any_taken), CASE WHEN held.taken IS NULL THEN upload_id END
			FROM held LEFT JOIN noted ON held.tenancy = noted.tenancy
		)
		SELECT r.upload_timestamp, r.tenancy, r.json_data
		FROM ` + table + ` AS r JOIN newest ON r.tenancy IS NOT DISTINCT FROM newest.tenancy AND r.upload_timestamp = newest.taken
		WHERE newest.upload_id IS NULL OR ` + hasUploadID("r.json_data", "newest.upload_id")
}

// queryStrings returns the only column of a query's rows.
func queryStrings(ctx context.Context, db interface {
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
}, query string, args ...any) ([]string, error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		list = append(list, text)
	}
	return list, rows.Err()
}
