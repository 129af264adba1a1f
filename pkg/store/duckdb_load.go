package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/snapshot"
)

// ledger lists the snapshots that were stored. upload_timestamp and stored_at
// are UTC.
const ledger = "_collectord_snapshots"

const createLedger = `CREATE TABLE IF NOT EXISTS main.` + ledger + ` (
	stream VARCHAR NOT NULL,
	tenancy VARCHAR NOT NULL,
	upload_id VARCHAR NOT NULL,
	upload_timestamp TIMESTAMP NOT NULL,
	records BIGINT NOT NULL,
	stored_at TIMESTAMP NOT NULL,
	UNIQUE (stream, tenancy, upload_id))`

// store stores s in one transaction, unless the ledger has it. fixed is the
// number of records that are not byte for byte the snapshot's.
func store(ctx context.Context, db *duckdb.DB, s *snapshot.Snapshot, keep Keep) (fixed int64, err error) {
	if _, err := db.ExecContext(ctx, "BEGIN TRANSACTION"); err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			// After a failed COMMIT there is nothing to roll back.
			_, _ = db.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		}
	}()
	l := &duckLoad{db: db, s: s, table: "main." + duckdb.Quote(s.Stream)}
	if err := l.prepare(ctx); err != nil {
		return 0, err
	}
	there, known, err := l.snapshots(ctx)
	if err != nil {
		return 0, err
	}
	if !known {
		if err := l.add(ctx, there, keep); err != nil {
			return 0, err
		}
	}
	if err := l.view(ctx); err != nil {
		return 0, err
	}
	// Once begun it is finished: an interrupted commit helps nobody.
	_, err = db.ExecContext(context.WithoutCancel(ctx), "COMMIT")
	return l.fixed, err
}

// A duckLoad is the storing of one snapshot.
type duckLoad struct {
	db    *duckdb.DB
	s     *snapshot.Snapshot
	table string // quoted
	fixed int64
}

// prepare makes the tables, or checks the one that is there.
func (l *duckLoad) prepare(ctx context.Context) error {
	if _, err := l.db.ExecContext(ctx, createLedger); err != nil {
		return err
	}
	found, err := l.columns(ctx)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		_, err := l.db.ExecContext(ctx, "CREATE TABLE "+l.table+" (upload_timestamp TIMESTAMP, tenancy VARCHAR, json_data JSON)")
		return err
	}
	slices.Sort(found)
	switch strings.Join(found, ", ") {
	case "json_data JSON, tenancy VARCHAR, upload_timestamp TIMESTAMP",
		"json_data VARCHAR, tenancy VARCHAR, upload_timestamp TIMESTAMP":
		return nil
	}
	return fmt.Errorf("%w: it has %s; want upload_timestamp TIMESTAMP, tenancy VARCHAR, json_data JSON or VARCHAR: rename it, and it will be made anew",
		ErrRefused, strings.Join(found, ", "))
}

// columns returns the table's columns as "name TYPE", none when there is no
// table.
func (l *duckLoad) columns(ctx context.Context) ([]string, error) {
	return texts(ctx, l.db, `SELECT lower(c.column_name) || ' ' || CASE WHEN t.table_name IS NULL THEN 'in a view' ELSE c.data_type END
		FROM duckdb_columns() c LEFT JOIN duckdb_tables() t USING (database_name, schema_name, table_name)
		WHERE c.database_name = current_database() AND c.schema_name = 'main' AND lower(c.table_name) = lower(?)`, l.s.Stream)
}

// snapshots returns the snapshots of the same stream and tenancy that are
// there, and whether this one is among them.
func (l *duckLoad) snapshots(ctx context.Context) (there []stored, known bool, err error) {
	rows, err := l.db.QueryContext(ctx, `
		WITH noted AS (
			SELECT upload_timestamp, upload_id, stored_at FROM main.`+ledger+` WHERE stream = $1 AND tenancy = $2
		)
		SELECT * FROM noted UNION ALL
		SELECT DISTINCT upload_timestamp, '', TIMESTAMP '1970-01-01' FROM `+l.table+`
		WHERE tenancy = $2 AND upload_timestamp NOT IN (SELECT upload_timestamp FROM noted)`, l.s.Stream, l.s.Tenancy)
	if err != nil {
		return nil, false, err
	}
	defer rows.Close()
	for rows.Next() {
		var t stored
		if err := rows.Scan(&t.taken, &t.id, &t.noted); err != nil {
			return nil, false, err
		}
		t.taken, t.noted = t.taken.UTC(), t.noted.UTC()
		known = known || t.id == l.s.UploadID
		there = append(there, t)
	}
	return there, known, rows.Err()
}

// add stores the records, removes those that no longer stay and notes the
// snapshot.
func (l *duckLoad) add(ctx context.Context, there []stored, keep Keep) error {
	fresh := next(there, l.s.Header)
	r := keep.plan(there, fresh)
	if err := l.remove(ctx, r); err != nil {
		return err
	}
	if r.load {
		if err := l.insert(ctx); err != nil {
			return err
		}
	} else if err := l.s.Verify(ctx); err != nil {
		return err
	}
	_, err := l.db.ExecContext(ctx, "INSERT INTO main."+ledger+" VALUES (?, ?, ?, ?, ?, ?)",
		l.s.Stream, l.s.Tenancy, l.s.UploadID, fresh.taken, l.s.Records, fresh.noted)
	return err
}

func (l *duckLoad) remove(ctx context.Context, r retention) error {
	if !r.before.IsZero() {
		_, err := l.db.ExecContext(ctx, "DELETE FROM "+l.table+" WHERE tenancy = ? AND upload_timestamp < ?", l.s.Tenancy, r.before)
		if err != nil {
			return err
		}
	}
	if r.at.IsZero() {
		return nil
	}
	statement := "DELETE FROM " + l.table + " WHERE tenancy = ? AND upload_timestamp = ?"
	args := []any{l.s.Tenancy, r.at}
	for _, id := range r.keepIDs {
		statement += " AND NOT " + hasID("json_data", "?")
		args = append(args, id)
	}
	_, err := l.db.ExecContext(ctx, statement, args...)
	return err
}

// hasID is the SQL condition that a record is of the snapshot with that
// upload id. Each record ends with it, so nothing has to be parsed.
func hasID(record, id string) string {
	return `ends_with(` + record + `::VARCHAR, '"_upload_id":"' || ` + id + ` || '"}')`
}

// insert reads the whole snapshot into the table. The records are checked on
// the way, against the sealed sum and count.
func (l *duckLoad) insert(ctx context.Context) (err error) {
	r, err := l.s.Reader(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	var buf []byte
	source, err := l.db.Source("collectord_records", []duckdb.Column{{Name: "record", Type: duckdb.Text}}, func(row *duckdb.Row) error {
		record, err := r.Next()
		if err != nil {
			return err // io.EOF: all of it, undamaged
		}
		var fixed bool
		if buf, fixed = duckdb.AppendJSON(buf[:0], record); fixed {
			l.fixed++
		}
		row.Text(0, buf)
		return nil
	})
	if err != nil {
		return err
	}
	res, err := l.db.ExecContext(ctx, "INSERT INTO "+l.table+
		" (upload_timestamp, tenancy, json_data) SELECT ?, ?, record::JSON FROM collectord_records()",
		l.s.UploadTimestamp.UTC(), l.s.Tenancy)
	if err := source.Result(err); err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err == nil && n != l.s.Records {
		err = fmt.Errorf("%d records were inserted, the snapshot has %d", n, l.s.Records)
	}
	return err
}

// view makes the view of the newest snapshots, unless its name is taken by
// something that does not read the ledger.
func (l *duckLoad) view(ctx context.Context) error {
	name := l.s.Stream + "_latest"
	var taken bool
	err := l.db.QueryRowContext(ctx, `SELECT count(*) > 0 FROM (
		SELECT table_name AS name, '' AS sql FROM duckdb_tables() WHERE database_name = current_database() AND schema_name = 'main'
		UNION ALL
		SELECT view_name, sql FROM duckdb_views() WHERE database_name = current_database() AND schema_name = 'main'
		) WHERE lower(name) = lower(?) AND NOT contains(sql, ?)`, name, ledger).Scan(&taken)
	if err != nil || taken {
		return err
	}
	_, err = l.db.ExecContext(ctx, latestView(l.s.Stream))
	return err
}

// latestView is the statement for the view of a stream. A tenancy's newest
// snapshot is the ledger's newest, be it empty, or what the table has that is
// newer still: rows of a program that keeps no ledger. Of two snapshots taken
// in the same second it is the one stored last.
func latestView(stream string) string {
	table := "main." + duckdb.Quote(stream)
	return `CREATE OR REPLACE VIEW main.` + duckdb.Quote(stream+"_latest") + ` AS
		WITH noted AS (
			SELECT tenancy, max(upload_timestamp) AS taken, arg_max(upload_id, (upload_timestamp, stored_at)) AS upload_id
			FROM main.` + ledger + ` WHERE stream = ` + duckdb.Literal(stream) + ` GROUP BY tenancy
		), held AS (
			SELECT tenancy, max(upload_timestamp) AS taken FROM ` + table + ` GROUP BY tenancy
		), newest AS (
			SELECT held.tenancy, CASE WHEN noted.taken >= held.taken THEN noted.taken ELSE held.taken END AS taken,
				CASE WHEN noted.taken >= held.taken THEN noted.upload_id END AS upload_id
			FROM held LEFT JOIN noted ON held.tenancy = noted.tenancy
		)
		SELECT r.upload_timestamp, r.tenancy, r.json_data
		FROM ` + table + ` AS r JOIN newest ON r.tenancy IS NOT DISTINCT FROM newest.tenancy AND r.upload_timestamp = newest.taken
		WHERE newest.upload_id IS NULL OR ` + hasID("r.json_data", "newest.upload_id")
}

// texts returns the only column of a query's rows.
func texts(ctx context.Context, db interface {
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
