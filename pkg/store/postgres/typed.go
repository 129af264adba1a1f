package postgres

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
)

// A typedView is the work on the typed view of a stream in the transaction that
// stores a snapshot. The snapshot is stored also where the view cannot be replaced.
type typedView struct {
	sink       *Sink
	tx         pgx.Tx
	snap       *snapshot.Snapshot
	found      catalog
	columns    *store.TypedView // nil when there is to be no view
	definition string           // the stored sum of the view's query; "" if there is none
	notes      []string
}

// keptDefinition is stored in place of the sum of a query while the view keeps its
// columns because something depends on it.
const keptDefinition = "kept"

// lockTimeoutCode is the code of the error of a statement that waited for a lock for as
// long as lock_timeout allows.
const lockTimeoutCode = "55P03"

// typedName returns the quoted name of the typed view of a stream.
func (s *Sink) typedName(stream string) string { return s.qualify(stream + store.TypedSuffix) }

// typedObstacle returns why there can be no typed view of the stream, or why it
// cannot be replaced; "" if it can.
func (s *Sink) typedObstacle(found catalog, stream string) string {
	view, exists := found.relations[stream+store.TypedSuffix]
	if exists && (view.kind != "v" || !store.IsTypedView(view.comment)) {
		return s.typedName(stream) + ", the name of the typed view, belongs to something else, which is not replaced: rename or drop it, or set STORE_POSTGRES_VIEWS=on"
	}
	if exists && !view.owned {
		return "the typed view " + s.typedName(stream) + " belongs to role " + quoteName(view.owner) + ", and only its members can replace it: GRANT " +
			quoteName(view.owner) + " TO " + quoteName(s.config.User)
	}
	if reason := s.viewObstacle(found, stream, stream+store.TypedSuffix); reason != "" {
		return "no typed view of newest snapshots" + reason
	}
	return ""
}

// beginTypedView recalls the types of the typed view, if there is to be one, so that
// those of the records that are stored are added.
func (s *Sink) beginTypedView(ctx context.Context, tx pgx.Tx, snap *snapshot.Snapshot) (*typedView, error) {
	t := &typedView{sink: s, tx: tx, snap: snap}
	if s.opts.Views != store.ViewsTyped {
		return t, nil
	}
	err := inSavepoint(ctx, tx, func(tx pgx.Tx) error { return t.recallColumns(ctx, tx) })
	if err != nil {
		t.columns = nil
	}
	return t, t.noteFailure(err)
}

// noteFailure notes an error of the server, and returns other errors.
func (t *typedView) noteFailure(err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return err
	}
	t.note("it was not created or replaced, which the next delivery tries again: " + singleLineError{err}.Error())
	return nil
}

// note adds a note about the view.
func (t *typedView) note(text string) {
	t.notes = append(t.notes, "postgres: view "+t.sink.typedName(t.snap.Stream)+": "+text)
}

// types returns what receives the records; nil when there is to be no view.
func (t *typedView) types() *store.TypedView { return t.columns }

// recallColumns sets t.columns, unless there can be no view. Types that are not
// remembered, or whose view was dropped, are those of the newest snapshots.
func (t *typedView) recallColumns(ctx context.Context, tx pgx.Tx) (err error) {
	if t.found, err = t.sink.readCatalog(ctx, tx, t.snap.Stream); err != nil {
		return err
	}
	if reason := t.sink.typedObstacle(t.found, t.snap.Stream); reason != "" {
		t.sink.noteOnce(t.snap, "postgres: "+reason)
		return nil
	}
	var remembered string
	if _, exists := t.found.relations[t.snap.Stream+store.TypedSuffix]; exists {
		err := tx.QueryRow(ctx, `SELECT types, definition FROM `+t.sink.qualify(store.TypesTable)+` WHERE stream = $1`, t.snap.Stream).
			Scan(&remembered, &t.definition)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
	}
	t.columns = store.NewTypedView(remembered, maxName, t.sink.opts.Declared[t.snap.Stream])
	if t.columns.Problem != nil {
		t.note(t.columns.Problem.Error() + ": the columns are those of the newest snapshots")
	}
	if t.columns.Was != "" {
		return nil
	}
	return t.addNewestRecords(ctx, tx)
}

// addNewestRecords adds the types of the records of the newest snapshots that are in
// the table.
func (t *typedView) addNewestRecords(ctx context.Context, tx pgx.Tx) error {
	table := t.found.relations[t.snap.Stream]
	rows, err := tx.Query(ctx, `SELECT json_data::text FROM (`+
		t.sink.latestQuery(t.snap.Stream, table.columns["json_data"], table.isIndexed())+`) AS l WHERE json_data IS NOT NULL`)
	if err != nil {
		return err
	}
	var buf []byte
	for rows.Next() {
		record := rows.RawValues()[0]
		var repaired bool
		if buf, repaired = snapshot.RepairEscapes(buf[:0], record); repaired {
			record = buf
		}
		t.columns.AddRecord(record)
	}
	return rows.Err()
}

// update remembers the types, and creates or replaces the view if its columns are
// others.
func (t *typedView) update(ctx context.Context) error {
	if t.columns == nil {
		return nil
	}
	chosen, remember, notes := t.columns.Choose(typeName)
	table := t.found.relations[t.snap.Stream]
	query := typedQuery(t.sink.latestQuery(t.snap.Stream, table.columns["json_data"], table.isIndexed()), table.columns["json_data"], chosen)
	definition := fmt.Sprintf("%x", sha256.Sum256([]byte(query)))
	if remember == t.columns.Was && definition == t.definition {
		return nil
	}
	// The types are stored even if the view cannot be replaced: it shows these
	// records from now on.
	err := inSavepoint(ctx, t.tx, func(tx pgx.Tx) error { return t.storeTypes(ctx, tx, remember, t.definition) })
	if err == nil {
		err = inSavepoint(ctx, t.tx, func(tx pgx.Tx) error {
			dependents, err := t.replaceView(ctx, tx, query)
			if err != nil {
				return err
			}
			if len(dependents) == 0 {
				return t.storeTypes(ctx, tx, remember, definition)
			}
			notes = nil
			observed := t.sink.describeKept(t.snap.Stream, dependents)
			t.note(observed.Text + ": " + observed.Advice)
			return t.storeTypes(ctx, tx, remember, keptDefinition)
		})
	}
	if err != nil {
		return t.noteFailure(err)
	}
	for _, note := range notes {
		t.note(note)
	}
	return nil
}

// storeTypes stores the types to remember and the sum of the query of the view.
func (t *typedView) storeTypes(ctx context.Context, tx pgx.Tx, types, definition string) error {
	_, err := tx.Exec(ctx, `INSERT INTO `+t.sink.qualify(store.TypesTable)+` (stream, types, definition) VALUES ($1, $2, $3)
		ON CONFLICT (stream) DO UPDATE SET types = excluded.types, definition = excluded.definition`, t.snap.Stream, types, definition)
	return err
}

// replaceView creates the view or replaces it. New columns are added to the view that
// there is, and what depends on it stays. For a change of a column's type it has to
// be dropped, which is not done where something depends on it: dependents are the
// names of that, and the view stays as it is.
func (t *typedView) replaceView(ctx context.Context, tx pgx.Tx, query string) (dependents []string, err error) {
	name := t.sink.typedName(t.snap.Stream)
	err = inSavepoint(ctx, tx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `CREATE OR REPLACE VIEW `+name+` AS `+query)
		return err
	})
	var pg *pgconn.PgError
	var restore []string
	if errors.As(err, &pg) && pg.Code == "42P16" { // the columns are not those before with others after them
		if dependents, err = listDependents(ctx, tx, name); err != nil || len(dependents) > 0 {
			return dependents, err
		}
		restore, err = recreateView(ctx, tx, name, query)
	}
	if err != nil {
		return nil, err
	}
	comment := store.MarkTypedView(t.found.relations[t.snap.Stream+store.TypedSuffix].comment)
	for _, statement := range append(restore, `COMMENT ON VIEW `+name+` IS `+quoteText(comment)) {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// recreateView drops a view and creates it. It returns the statements that give the
// new view the owner, the options, the privileges and the comments of the columns
// of the former.
func recreateView(ctx context.Context, tx pgx.Tx, name, query string) (restore []string, err error) {
	restore, err = queryTexts(ctx, tx, attributesOfView, name)
	if err != nil {
		return nil, err
	}
	for _, statement := range []string{`DROP VIEW ` + name, `CREATE VIEW ` + name + ` AS ` + query} {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return nil, err
		}
	}
	// Privileges by default (ALTER DEFAULT PRIVILEGES) that the former view had not.
	revoke, err := queryTexts(ctx, tx, `SELECT DISTINCT format('REVOKE ALL ON %s FROM %s', $1::text,
			CASE p.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(p.grantee)) END)
		FROM pg_catalog.pg_class AS c, aclexplode(c.relacl) AS p WHERE c.oid = $1::text::regclass AND p.grantee <> c.relowner`, name)
	if err != nil {
		return nil, err
	}
	names, err := queryTexts(ctx, tx, `SELECT attname::text FROM pg_catalog.pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0`, name)
	if err != nil {
		return nil, err
	}
	present := map[string]bool{"": true}
	for _, column := range names {
		present[column] = true
	}
	statements := revoke
	for _, line := range restore {
		if column, statement, _ := strings.Cut(line, "\x01"); present[column] {
			statements = append(statements, statement)
		}
	}
	return statements, nil
}

// attributesOfView returns the statements that give another view the owner, options,
// privileges and comments of columns of the view $1, each after the name of its
// column, if any, and chr(1).
const attributesOfView = `
	WITH view AS (SELECT c.oid, c.relowner, c.relacl, c.reloptions FROM pg_catalog.pg_class AS c WHERE c.oid = $1::text::regclass),
	columns AS (SELECT a.attname, a.attnum, a.attacl, v.oid, v.relowner FROM view AS v JOIN pg_catalog.pg_attribute AS a ON a.attrelid = v.oid AND a.attnum > 0)
	SELECT chr(1) || format('ALTER VIEW %s SET (%s)', $1::text, array_to_string(reloptions, ', ')) FROM view WHERE reloptions IS NOT NULL
	UNION ALL
	SELECT chr(1) || format('GRANT %s ON %s TO %s%s', p.privilege_type, $1::text,
		CASE p.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(p.grantee)) END, CASE WHEN p.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
	FROM view, aclexplode(relacl) AS p WHERE p.grantee <> relowner
	UNION ALL
	SELECT attname || chr(1) || format('GRANT %s (%I) ON %s TO %s%s', p.privilege_type, attname, $1::text,
		CASE p.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(p.grantee)) END, CASE WHEN p.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
	FROM columns, aclexplode(attacl) AS p WHERE p.grantee <> relowner
	UNION ALL
	SELECT attname || chr(1) || format('COMMENT ON COLUMN %s.%I IS %L', $1::text, attname, pg_catalog.col_description(oid, attnum))
	FROM columns WHERE pg_catalog.col_description(oid, attnum) IS NOT NULL
	UNION ALL
	SELECT chr(1) || format('ALTER VIEW %s OWNER TO %I', $1::text, pg_get_userbyid(relowner)) FROM view WHERE pg_get_userbyid(relowner) <> current_user`

// listDependents returns the names of what depends on a view.
func listDependents(ctx context.Context, tx pgx.Tx, view string) ([]string, error) {
	return queryTexts(ctx, tx, `
		SELECT DISTINCT coalesce(format('%I.%I', n.nspname, c.relname), pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid))
		FROM pg_catalog.pg_depend AS d
		LEFT JOIN pg_catalog.pg_rewrite AS w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
		LEFT JOIN pg_catalog.pg_class AS c ON c.oid = w.ev_class
		LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
		WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = $1::text::regclass AND d.deptype = 'n' AND c.oid IS DISTINCT FROM d.refobjid
		ORDER BY 1`, view)
}

// queryTexts returns the only column of a query's rows.
func queryTexts(ctx context.Context, tx pgx.Tx, query string, args ...any) ([]string, error) {
	rows, err := tx.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// describeKept returns what is to be known about a typed view that keeps its columns
// because of what depends on it.
func (s *Sink) describeKept(stream string, dependents []string) store.Observation {
	list := strings.Join(dependents, ", ")
	return store.Observation{
		Text: fmt.Sprintf("the typed view %s keeps its columns, since %s depends on it: values that do not fit their types are NULL there, and new members have no column",
			s.typedName(stream), list),
		Advice: fmt.Sprintf("drop %s, let the next delivery replace the view, and create it again", list),
	}
}

// findKeptViews returns an observation for each typed view that keeps its columns
// because something depends on it.
func (s *Sink) findKeptViews(ctx context.Context, tx pgx.Tx) ([]store.Observation, error) {
	found, err := s.readCatalog(ctx, tx, "")
	if err != nil || !found.relations[store.TypesTable].mayRead {
		return nil, err
	}
	streams, err := queryTexts(ctx, tx, `SELECT stream FROM `+s.qualify(store.TypesTable)+` WHERE definition = $1
		AND to_regclass(quote_ident($2::text) || '.' || quote_ident(stream || $3::text)) IS NOT NULL ORDER BY stream`, keptDefinition, s.opts.Schema, store.TypedSuffix)
	if err != nil {
		return nil, err
	}
	var list []store.Observation
	for _, stream := range streams {
		dependents, err := listDependents(ctx, tx, s.typedName(stream))
		if err != nil {
			return list, err
		}
		if len(dependents) > 0 {
			list = append(list, s.describeKept(stream, dependents))
		}
	}
	return list, nil
}

func (s *Sink) dropTypedKey(stream string) string { return "drop " + s.typedName(stream) }

// dropsTypedView reports whether there is a typed view of collectord's that the
// settings do not want: no one would widen its types.
func (s *Sink) dropsTypedView(found catalog, stream string) bool {
	view := found.relations[stream+store.TypedSuffix]
	_, failed := s.failed.Load(s.dropTypedKey(stream))
	return s.opts.Views != store.ViewsTyped && !failed && view.kind == "v" && view.owned && store.IsTypedView(view.comment)
}

// dropTypedView drops the typed view and forgets its types. It stays where something
// depends on it, and until the next delivery while something reads it, which is noted.
func (s *Sink) dropTypedView(ctx context.Context, tx pgx.Tx, snap *snapshot.Snapshot) error {
	name := s.typedName(snap.Stream)
	err := inSavepoint(ctx, tx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM `+s.qualify(store.TypesTable)+` WHERE stream = $1`, snap.Stream)
		return err
	})
	if err == nil {
		err = inSavepoint(ctx, tx, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `DROP VIEW `+name)
			return err
		})
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return err
	}
	if pg.Code == lockTimeoutCode {
		s.noteOnce(snap, "postgres: view "+name+": STORE_POSTGRES_VIEWS is not typed, and it was not dropped yet, which the next delivery tries again: "+singleLineError{err}.Error())
		return nil
	}
	s.failed.Store(s.dropTypedKey(snap.Stream), true)
	text := singleLineError{err}.Error()
	if dependents, err := listDependents(ctx, tx, name); err == nil && len(dependents) > 0 {
		text = strings.Join(dependents, ", ") + " depends on it"
	}
	s.noteOnce(snap, "postgres: view "+name+": STORE_POSTGRES_VIEWS is not typed, and it was not dropped: "+text+": drop it yourself; until then its columns stay as they are")
	return nil
}
