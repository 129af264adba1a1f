package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/collectord/collectord/pkg/store"
)

// A relation is a table, a view or another entry of pg_class.
type relation struct {
	kind    string            // pg_class.relkind
	columns map[string]string // name to type
	indexes []string          // the columns of each usable index: "tenancy,upload_timestamp"
	owner   string
	owned   bool   // the role is the owner or a member of it
	mayRead bool   // the role has the privilege SELECT
	comment string // of COMMENT ON
}

// The columns of indexes, as relation.indexes lists them.
const (
	byTenancy = "tenancy,upload_timestamp"
	byTime    = "upload_timestamp,tenancy"
	byEntry   = "stream,tenancy,upload_timestamp,stored_at" // of the ledger
)

// hasIndex reports whether an index begins with the columns.
func (r relation) hasIndex(columns string) bool {
	return slices.ContainsFunc(r.indexes, func(index string) bool { return strings.HasPrefix(index+",", columns+",") })
}

// isIndexed reports whether an index finds a tenancy's newest rows.
func (r relation) isIndexed() bool { return r.hasIndex(byTenancy) }

// A catalog describes the relations of one stream in a schema, and the privileges
// of the role.
type catalog struct {
	database        string              // the name of the database
	encoding        string              // of the database
	stack           int64               // max_stack_depth in bytes
	schema          bool                // the schema exists
	mayCreateSchema bool                // the role may create schemas
	mayCreate       bool                // the role may create tables in the schema
	mayUse          bool                // the role may use the schema
	relations       map[string]relation // existing ones by name
}

// readCatalog reads the catalog of a stream; "" stands for no stream.
func (s *Sink) readCatalog(ctx context.Context, tx pgx.Tx, stream string) (catalog, error) {
	found := catalog{relations: map[string]relation{}}
	err := tx.QueryRow(ctx, `
		SELECT current_database()::text, current_setting('server_encoding'), pg_size_bytes(current_setting('max_stack_depth')), n.oid IS NOT NULL,
			has_database_privilege(current_database(), 'CREATE'),
			coalesce(has_schema_privilege(n.oid, 'CREATE'), false),
			coalesce(has_schema_privilege(n.oid, 'USAGE'), false)
		FROM (SELECT $1::text AS name) AS wanted
		LEFT JOIN pg_catalog.pg_namespace AS n ON n.nspname = wanted.name`, s.opts.Schema).
		Scan(&found.database, &found.encoding, &found.stack, &found.schema, &found.mayCreateSchema, &found.mayCreate, &found.mayUse)
	if err != nil {
		return found, err
	}
	rows, err := tx.Query(ctx, relationsQuery, s.opts.Schema, []string{stream, stream + store.LatestSuffix, stream + store.TypedSuffix, store.LedgerTable, store.TypesTable})
	if err != nil {
		return found, err
	}
	var name, columns, indexes string
	var r relation
	_, err = pgx.ForEachRow(rows, []any{&name, &r.kind, &columns, &indexes, &r.owner, &r.owned, &r.mayRead, &r.comment}, func() error {
		entry := r
		if err := json.Unmarshal([]byte(columns), &entry.columns); err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(indexes), &entry.indexes); err != nil {
			return err
		}
		found.relations[name] = entry
		return nil
	})
	return found, err
}

// relationsQuery describes the relations of a schema that have one of some names.
// A superuser is a member of every role; only its own relations count as owned.
const relationsQuery = `
	SELECT c.relname::text, c.relkind::text,
		coalesce((SELECT json_object_agg(a.attname, format_type(a.atttypid, NULL)) FROM pg_catalog.pg_attribute AS a
			WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '{}')::text,
		coalesce((SELECT json_agg((SELECT string_agg(a.attname, ',' ORDER BY k.position) FROM unnest(i.indkey) WITH ORDINALITY AS k (number, position)
				JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.number))
			FROM pg_catalog.pg_index AS i
			JOIN pg_catalog.pg_class AS ic ON ic.oid = i.indexrelid
			JOIN pg_catalog.pg_am AS am ON am.oid = ic.relam AND am.amname = 'btree'
			WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL), '[]')::text,
		pg_catalog.pg_get_userbyid(c.relowner)::text,
		c.relowner = r.oid OR NOT r.rolsuper AND pg_catalog.pg_has_role(r.oid, c.relowner, 'MEMBER'),
		has_table_privilege(c.oid, 'SELECT'),
		coalesce(pg_catalog.obj_description(c.oid, 'pg_class'), '')
	FROM pg_catalog.pg_class AS c
	JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
	JOIN pg_catalog.pg_roles AS r ON r.rolname = current_user
	WHERE n.nspname = $1::text AND c.relname = ANY ($2::text[])`

// checkCatalog returns an error with what to do if the database cannot hold the
// records, or if the role may not create what is missing and required.
func (s *Sink) checkCatalog(found catalog, stream string) error {
	if found.encoding != "UTF8" {
		return fmt.Errorf("%w: the encoding of database %s is %s, which cannot hold every record: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and name it in STORE_POSTGRES_DBNAME or STORE_POSTGRES_URL",
			store.ErrRefused, quoteName(found.database), found.encoding)
	}
	schema, role := quoteName(s.opts.Schema), quoteName(s.config.User)
	if !found.schema {
		if found.mayCreateSchema {
			return nil
		}
		return fmt.Errorf("%w: schema %s does not exist and role %s may not create it: CREATE SCHEMA %s AUTHORIZATION %s",
			store.ErrRefused, schema, role, schema, role)
	}
	if !found.mayUse {
		return fmt.Errorf("%w: role %s may not use schema %s: GRANT USAGE ON SCHEMA %s TO %s",
			store.ErrRefused, role, schema, schema, role)
	}
	if found.mayCreate {
		return nil
	}
	for _, name := range []string{store.LedgerTable, stream} {
		if _, ok := found.relations[name]; name != "" && !ok {
			return fmt.Errorf("%w: table %s does not exist and role %s may not create it: GRANT CREATE ON SCHEMA %s TO %s",
				store.ErrRefused, s.qualify(name), role, schema, role)
		}
	}
	return nil
}

// checkColumns returns the stream's table if it has the required columns. It may
// have more, in any order.
func (s *Sink) checkColumns(r relation, stream string) (streamTable, error) {
	if !slices.Contains([]string{"r", "p", "f"}, r.kind) {
		return streamTable{}, fmt.Errorf("%w: %s is not a table (pg_class.relkind %q)", store.ErrRefused, s.qualify(stream), r.kind)
	}
	for _, column := range []struct {
		name   string
		wanted []string
	}{
		{name: "upload_timestamp", wanted: []string{"timestamp without time zone"}},
		{name: "tenancy", wanted: []string{"character varying", "text"}},
		{name: "json_data", wanted: []string{"json", "jsonb", "text", "character varying"}},
	} {
		if !slices.Contains(column.wanted, r.columns[column.name]) {
			return streamTable{}, fmt.Errorf("%w: table %s has %s, want a column %s of type %s", store.ErrRefused,
				s.qualify(stream), columnsOf(r), column.name, strings.Join(column.wanted, " or "))
		}
	}
	return streamTable{
		jsonType: r.columns["json_data"],
		ordered:  r.isIndexed() || r.hasIndex(byTime),
	}, nil
}

// columnsOf returns a table's columns for messages.
func columnsOf(r relation) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(r.columns)) {
		list = append(list, name+" "+r.columns[name])
	}
	return "(" + strings.Join(list, ", ") + ")"
}
