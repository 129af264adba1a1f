package store

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/collectord/collectord/pkg/snapshot"
)

const (
	// ledgerName is the table that lists what is stored.
	ledgerName = "_collectord_snapshots"
	latest     = "_latest"
)

// A postgresTable is a table that snapshots can be copied into.
type postgresTable struct {
	// jsonType is the type of json_data as Postgres calls it.
	jsonType string
}

// hasID is the SQL condition that a record is of the snapshot with that upload
// id. As text each record ends with it; it is not parsed, since Postgres
// refuses to take a json apart that has \u0000 anywhere.
func (t postgresTable) hasID(record, id string) string {
	if t.jsonType == "jsonb" {
		return record + ` ->> '_upload_id' = ` + id
	}
	return `right(` + record + `::text, length(` + id + `) + 16) = '"_upload_id":"' || ` + id + ` || '"}'`
}

// A relation is a table, a view or something else with a name of that kind.
type relation struct {
	kind    string            // as in pg_class.relkind
	columns map[string]string // name to type
}

// A catalog is what a schema holds of what a stream needs, and what the role
// may do about the rest.
type catalog struct {
	schema          bool
	mayCreateSchema bool
	mayCreate       bool
	mayUse          bool
	relations       map[string]relation
}

// prepare returns the stream's table. It makes what is missing, and only
// then needs the permission to.
func (p *Postgres) prepare(ctx context.Context, conn *pgx.Conn, s *snapshot.Snapshot) (postgresTable, error) {
	stream := s.Stream
	if err := checkTableName(stream); err != nil {
		return postgresTable{}, err
	}
	found, err := p.look(ctx, conn, stream)
	if err != nil {
		return postgresTable{}, err
	}
	if err := p.mayCreate(found, stream); err != nil {
		return postgresTable{}, err
	}
	if len(p.missing(found, s)) > 0 {
		if found, err = p.create(ctx, conn, s); err != nil {
			return postgresTable{}, err
		}
	}
	if kind := found.relations[stream+latest].kind; kind != "" && !strings.Contains("vm", kind) {
		p.noteOnce(s, "postgres: "+p.label(stream+latest)+", the name of the view of newest snapshots, is taken by something else, which is left as it is")
	}
	return p.usable(found.relations[stream], stream)
}

// create makes what is missing. One process at a time does so in a schema;
// the lock is held for the blink of it and not for the snapshot's COPY.
func (p *Postgres) create(ctx context.Context, conn *pgx.Conn, s *snapshot.Snapshot) (catalog, error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
	if err != nil {
		return catalog{}, err
	}
	defer rollBack(tx)
	if err := configure(ctx, tx); err != nil {
		return catalog{}, err
	}
	if err := lock(ctx, tx, quote(p.opts.Schema)); err != nil {
		return catalog{}, err
	}
	found, err := p.look(ctx, tx, s.Stream)
	if err != nil {
		return catalog{}, err
	}
	for _, statement := range p.missing(found, s) {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return catalog{}, err
		}
	}
	if found, err = p.look(ctx, tx, s.Stream); err != nil {
		return catalog{}, err
	}
	return found, tx.Commit(ctx)
}

// querier is a connection or a transaction.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// look reads the catalog.
func (p *Postgres) look(ctx context.Context, q querier, stream string) (catalog, error) {
	found := catalog{relations: map[string]relation{}}
	err := q.QueryRow(ctx, `
		SELECT n.oid IS NOT NULL,
			has_database_privilege(current_database(), 'CREATE'),
			coalesce(has_schema_privilege(n.oid, 'CREATE'), false),
			coalesce(has_schema_privilege(n.oid, 'USAGE'), false)
		FROM (SELECT $1::text AS name) AS wanted
		LEFT JOIN pg_catalog.pg_namespace AS n ON n.nspname = wanted.name`, p.opts.Schema).
		Scan(&found.schema, &found.mayCreateSchema, &found.mayCreate, &found.mayUse)
	if err != nil {
		return found, err
	}
	rows, err := q.Query(ctx, `
		SELECT c.relname::text, c.relkind::text,
			coalesce(json_object_agg(a.attname, format_type(a.atttypid, NULL))
				FILTER (WHERE a.attname IS NOT NULL), '{}')::text
		FROM pg_catalog.pg_class AS c
		JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
		LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		WHERE n.nspname = $1::text AND c.relname = ANY ($2::text[])
		GROUP BY c.oid, c.relname, c.relkind`, p.opts.Schema, []string{stream, stream + latest, ledgerName})
	if err != nil {
		return found, err
	}
	var name, kind, columns string
	_, err = pgx.ForEachRow(rows, []any{&name, &kind, &columns}, func() error {
		r := relation{kind: kind}
		found.relations[name] = r
		if err := json.Unmarshal([]byte(columns), &r.columns); err != nil {
			return err
		}
		found.relations[name] = r
		return nil
	})
	return found, err
}

// mayCreate tells whether the role may make what is missing and needed, or
// what to grant.
func (p *Postgres) mayCreate(found catalog, stream string) error {
	schema, role := quote(p.opts.Schema), quote(p.config.User)
	if !found.schema {
		if found.mayCreateSchema {
			return nil
		}
		return fmt.Errorf("%w: schema %s does not exist and role %s may not make it: CREATE SCHEMA %s AUTHORIZATION %s",
			ErrRefused, schema, role, schema, role)
	}
	if !found.mayUse {
		return fmt.Errorf("%w: role %s may not use schema %s: GRANT USAGE ON SCHEMA %s TO %s",
			ErrRefused, role, schema, schema, role)
	}
	if found.mayCreate {
		return nil
	}
	for _, name := range []string{ledgerName, stream} {
		if _, ok := found.relations[name]; name != "" && !ok {
			return fmt.Errorf("%w: table %s does not exist and role %s may not make it: GRANT CREATE ON SCHEMA %s TO %s",
				ErrRefused, p.label(name), role, schema, role)
		}
	}
	return nil
}

// missing returns the statements that make what is missing and may be made.
func (p *Postgres) missing(found catalog, s *snapshot.Snapshot) []string {
	stream := s.Stream
	var statements []string
	if !found.schema {
		statements = append(statements, `CREATE SCHEMA `+quote(p.opts.Schema))
	}
	if _, ok := found.relations[ledgerName]; !ok {
		statements = append(statements, `CREATE TABLE `+p.label(ledgerName)+` (
			stream varchar NOT NULL,
			tenancy varchar NOT NULL,
			upload_id varchar NOT NULL,
			upload_timestamp timestamp NOT NULL,
			records bigint NOT NULL,
			stored_at timestamptz NOT NULL,
			PRIMARY KEY (stream, tenancy, upload_id))`)
	}
	table, ok := found.relations[stream]
	jsonType := table.columns["json_data"]
	if !ok {
		jsonType = p.opts.JSON
		statements = append(statements,
			`CREATE TABLE `+p.label(stream)+` (upload_timestamp timestamp, tenancy varchar, json_data `+jsonType+`)`,
			`CREATE INDEX ON `+p.label(stream)+` (upload_timestamp, tenancy)`)
	} else if _, err := p.usable(table, stream); err != nil {
		return statements
	}
	return append(statements, p.missingView(found, s, jsonType)...)
}

// missingView returns the statement that makes the view of newest snapshots.
// A view that exists stays: views and grants of the user's own hang on it.
func (p *Postgres) missingView(found catalog, s *snapshot.Snapshot, jsonType string) []string {
	name := s.Stream + latest
	if _, ok := found.relations[name]; ok {
		return nil
	}
	if len(name) > maxName {
		p.noteOnce(s, "postgres: no view of newest snapshots: its name would be too long: "+p.label(name))
		return nil
	}
	if found.schema && !found.mayCreate {
		p.noteOnce(s, "postgres: no view of newest snapshots, "+p.label(name)+": role "+quote(p.config.User)+" may not make one; GRANT CREATE ON SCHEMA lets it")
		return nil
	}
	return []string{p.viewStatement(s.Stream, jsonType)}
}

// viewStatement defines each tenancy's newest snapshot. The list of what is
// stored decides, so that an empty snapshot counts; where the table has newer
// rows that are not listed, made by another program or before the list, those
// of the newest timestamp count. Only two snapshots of one second are told
// apart by their upload id, which lies in the record and is dear to read.
func (p *Postgres) viewStatement(stream, jsonType string) string {
	literal := "'" + strings.ReplaceAll(stream, "'", "''") + "'"
	return `CREATE VIEW ` + p.label(stream+latest) + ` AS
		WITH stored AS (
			SELECT tenancy, upload_timestamp, upload_id, stored_at,
				count(*) OVER (PARTITION BY tenancy, upload_timestamp) AS twins
			FROM ` + p.label(ledgerName) + ` WHERE stream = ` + literal + `
		), newest AS (
			SELECT DISTINCT ON (tenancy) tenancy, upload_timestamp,
				CASE WHEN twins > 1 THEN upload_id END AS upload_id
			FROM (
				SELECT tenancy, upload_timestamp, upload_id, stored_at, twins FROM stored
				UNION ALL
				SELECT tenancy, max(upload_timestamp), NULL, NULL, 1 FROM ` + p.label(stream) + ` GROUP BY tenancy
			) AS seen
			ORDER BY tenancy, upload_timestamp DESC NULLS LAST, stored_at DESC NULLS LAST
		)
		SELECT d.upload_timestamp, d.tenancy, d.json_data
		FROM ` + p.label(stream) + ` AS d
		JOIN newest AS n ON d.upload_timestamp = n.upload_timestamp AND d.tenancy IS NOT DISTINCT FROM n.tenancy
		WHERE n.upload_id IS NULL OR ` + postgresTable{jsonType}.hasID("d.json_data", "n.upload_id")
}

// usable tells whether a table can take snapshots: its own or one of the same
// shape, with more columns and in any order.
func (p *Postgres) usable(r relation, stream string) (postgresTable, error) {
	if !slices.Contains([]string{"r", "p", "f"}, r.kind) {
		return postgresTable{}, fmt.Errorf("%w: %s is no table (pg_class.relkind %q)", ErrRefused, p.label(stream), r.kind)
	}
	for _, column := range []struct {
		name   string
		wanted []string
	}{
		{"upload_timestamp", []string{"timestamp without time zone"}},
		{"tenancy", []string{"character varying", "text"}},
		{"json_data", []string{"json", "jsonb", "text", "character varying"}},
	} {
		if !slices.Contains(column.wanted, r.columns[column.name]) {
			return postgresTable{}, fmt.Errorf("%w: table %s has %s, want a column %s of type %s", ErrRefused,
				p.label(stream), columnsOf(r), column.name, strings.Join(column.wanted, " or "))
		}
	}
	return postgresTable{jsonType: r.columns["json_data"]}, nil
}

// columnsOf lists a table's columns for messages.
func columnsOf(r relation) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(r.columns)) {
		list = append(list, name+" "+r.columns[name])
	}
	return "(" + strings.Join(list, ", ") + ")"
}
