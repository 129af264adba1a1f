package duckdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/snapshot/columns"
	"github.com/collectord/collectord/pkg/store"
)

// createTypes creates the table of remembered types. Its rows are replaced in one
// transaction, which DuckDB refuses where a column is unique.
const createTypes = `CREATE TABLE IF NOT EXISTS main.` + store.TypesTable + ` (stream VARCHAR NOT NULL, types VARCHAR NOT NULL)`

// findTypedView returns the typed view of a stream, if there is one. The error wraps
// store.ErrRefused when something else has its name.
func findTypedView(ctx context.Context, db *duckdb.DB, stream string) (view, error) {
	name := stream + store.TypedSuffix
	v, err := findView(ctx, db, name)
	if err == nil && v.exists && !store.IsTypedView(v.comment) {
		err = fmt.Errorf("%w: %s, the name of the typed view, belongs to something else, which is not replaced: rename or drop it, or set %s_VIEWS=on", store.ErrRefused, name, setting)
	}
	return v, err
}

// beginTypedView recalls the types of the typed view, if there is to be one, so that
// those of the records that are stored are added. Types that are not remembered, or
// whose view was dropped, are those of the newest snapshots.
func (t *transaction) beginTypedView(ctx context.Context) error {
	if t.views != store.ViewsTyped {
		return nil
	}
	before, err := findTypedView(ctx, t.db, t.snap.Stream)
	if err != nil {
		if errors.Is(err, store.ErrRefused) {
			t.notes = append(t.notes, fmt.Sprintf("duckdb: no typed view of newest snapshots: %v", err))
			return nil
		}
		return err
	}
	if _, err := t.db.ExecContext(ctx, createTypes); err != nil {
		return err
	}
	var remembered string
	if before.exists {
		err := t.db.QueryRowContext(ctx, "SELECT types FROM main."+store.TypesTable+" WHERE stream = ?", t.snap.Stream).Scan(&remembered)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
	}
	t.typed = store.NewTypedView(remembered, 0, t.declared)
	if t.typed.Problem != nil {
		t.noteTyped(t.typed.Problem.Error() + ": the columns are those of the newest snapshots")
	}
	if t.typed.Was != "" {
		return nil
	}
	return t.addNewestRecords(ctx)
}

// noteTyped adds a note about the typed view.
func (t *transaction) noteTyped(text string) {
	t.notes = append(t.notes, "duckdb: view "+t.snap.Stream+store.TypedSuffix+": "+text)
}

// addNewestRecords adds the types of the records of the newest snapshots that are in
// the table.
func (t *transaction) addNewestRecords(ctx context.Context) error {
	rows, err := t.db.QueryContext(ctx, `SELECT n.tenancy, n.upload_timestamp, min(d.rowid), max(d.rowid)
		FROM (SELECT DISTINCT tenancy, upload_timestamp FROM (`+latestQuery(t.snap.Stream)+`) AS l) AS n
		JOIN `+t.table+` AS d ON d.tenancy IS NOT DISTINCT FROM n.tenancy AND d.upload_timestamp = n.upload_timestamp
		GROUP BY n.tenancy, n.upload_timestamp ORDER BY n.tenancy`)
	if err != nil {
		return err
	}
	var newest []rowRange
	for rows.Next() {
		var r rowRange
		if err := rows.Scan(&r.tenancy, &r.taken, &r.first, &r.last); err != nil {
			return errors.Join(err, rows.Close())
		}
		newest = append(newest, r)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	for _, r := range newest {
		if err := t.addRecordsOf(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// A rowRange is where the rows of a snapshot are in the table.
type rowRange struct {
	tenancy     sql.NullString
	taken       time.Time
	first, last int64 // row ids
}

// addRecordsOf adds the types of the records of a snapshot. A result is completely in
// memory, so that the records are read in parts.
func (t *transaction) addRecordsOf(ctx context.Context, r rowRange) error {
	const vector = 2048
	for first := r.first; first <= r.last; first += vector {
		records, err := queryStrings(ctx, t.db, `SELECT json_data::VARCHAR FROM `+t.table+`
			WHERE rowid BETWEEN ? AND ? AND tenancy IS NOT DISTINCT FROM ? AND upload_timestamp = ? AND json_data IS NOT NULL ORDER BY rowid`,
			first, first+vector-1, r.tenancy, r.taken)
		if err != nil {
			return err
		}
		for _, record := range records {
			t.typed.AddRecord([]byte(record))
		}
	}
	return nil
}

// createTypedView creates or replaces the typed view, and remembers its types.
func (t *transaction) createTypedView(ctx context.Context) error {
	if t.typed == nil {
		return nil
	}
	before, err := findTypedView(ctx, t.db, t.snap.Stream)
	if err != nil {
		return err
	}
	chosen, remember, notes := t.typed.Choose(columns.Type.String)
	for _, note := range notes {
		t.noteTyped(note)
	}
	name := "main." + duckdb.Quote(t.snap.Stream+store.TypedSuffix)
	for _, statement := range []string{
		"CREATE OR REPLACE VIEW " + name + " AS " + typedQuery(t.snap.Stream, chosen),
		"COMMENT ON VIEW " + name + " IS " + duckdb.Literal(store.MarkTypedView(before.comment)),
	} {
		if _, err := t.db.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	if remember == t.typed.Was {
		return nil
	}
	if err := t.forgetTypes(ctx); err != nil {
		return err
	}
	_, err = t.db.ExecContext(ctx, "INSERT INTO main."+store.TypesTable+" VALUES (?, ?)", t.snap.Stream, remember)
	return err
}

func (t *transaction) forgetTypes(ctx context.Context) error {
	_, err := t.db.ExecContext(ctx, "DELETE FROM main."+store.TypesTable+" WHERE stream = ?", t.snap.Stream)
	return err
}

// dropTypedView drops the typed view of the stream, if it is collectord's: no one
// would widen its types. They are forgotten, too.
func (t *transaction) dropTypedView(ctx context.Context) error {
	types, err := findView(ctx, t.db, store.TypesTable)
	if err != nil || !types.exists {
		return err
	}
	if err := t.forgetTypes(ctx); err != nil {
		return err
	}
	v, err := findView(ctx, t.db, t.snap.Stream+store.TypedSuffix)
	if err != nil || !v.exists || !store.IsTypedView(v.comment) {
		return err
	}
	_, err = t.db.ExecContext(ctx, "DROP VIEW main."+duckdb.Quote(t.snap.Stream+store.TypedSuffix))
	return err
}

// typedQuery returns the query of the typed view.
//
// One from_json converts the members whose columns have their names, so that a record
// is parsed once. It matches names exactly, and makes NULL of null, of what is absent
// and of what it cannot convert. The other members are read by their JSON pointers.
func typedQuery(stream string, chosen columns.Result) string {
	structure := []byte(`{"` + snapshot.MemberUploadID + `":"VARCHAR"`)
	selected := "l.tenancy AS " + snapshot.MemberTenancy + ", l.upload_timestamp AT TIME ZONE 'UTC' AS " + snapshot.MemberUploadTimestamp +
		", l.members." + snapshot.MemberUploadID + " AS " + snapshot.MemberUploadID
	if chosen.Root == nil {
		selected += ", l.json_data::JSON AS json_data"
	} else {
		for _, m := range chosen.Root.Members {
			column := duckdb.Quote(m.Column)
			if m.Column != m.Vendor {
				selected += ", " + pointerExpression(m) + " AS " + column
				continue
			}
			structure = append(append(append(append(structure, ','), m.Field...), ':', '"'), m.Type.String()+`"`...)
			selected += ", l.members." + column + " AS " + column
		}
	}
	return "SELECT " + selected + " FROM (SELECT n.*, from_json(n.json_data, " + duckdb.Literal(string(append(structure, '}'))) +
		") AS members FROM (" + latestQuery(stream) + ") AS n) AS l"
}

// pointerExpression returns the SQL expression of a member whose column has another
// name.
func pointerExpression(m *columns.Member) string {
	pointer := "'/' || " + strings.ReplaceAll(duckdb.Literal(strings.NewReplacer("~", "~0", "/", "~1").Replace(m.Vendor)), "\x00", "' || chr(0) || '")
	switch m.Type {
	case columns.Varchar:
		return "json_extract_string(l.json_data, " + pointer + ")"
	case columns.JSON:
		return "CASE WHEN json_type(l.json_data, " + pointer + ") <> 'NULL' THEN json_extract(l.json_data, " + pointer + ") END"
	}
	return "try_cast(json_extract_string(l.json_data, " + pointer + ") AS " + m.Type.String() + ")"
}
