package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/collectord/collectord/pkg/store"
)

// Inspect implements store.Inspector.
func (s *Sink) Inspect(ctx context.Context) ([]store.Observation, error) {
	var list []store.Observation
	err := s.inTxOfItsOwn(ctx, "inspect the schemas", func(tx pgx.Tx) error {
		former, err := s.findFormerTables(ctx, tx, "")
		if err != nil {
			return err
		}
		if former != nil {
			list = append(list, *former)
		}
		kept, err := s.findKeptViews(ctx, tx)
		list = append(list, kept...)
		return err
	})
	return list, err
}

// InspectRecords implements store.Inspector.
func (s *Sink) InspectRecords(ctx context.Context) ([]store.Observation, error) {
	var tables []storedTable
	err := s.inTxOfItsOwn(ctx, "list the tables of "+quoteName(s.opts.Schema), func(tx pgx.Tx) (err error) {
		tables, err = s.listTables(ctx, tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	var list []store.Observation
	for _, table := range tables {
		if !table.indexed && table.rows >= rowsWorthAnIndex {
			list = append(list, store.Observation{
				Text:   fmt.Sprintf("table %s has no index on (tenancy, upload_timestamp): queries of %s read all of it", s.qualify(table.name), s.qualify(table.name+store.LatestSuffix)),
				Advice: index{table: s.qualify(table.name), columns: byTenancy}.statement(),
			})
		}
		found, err := s.inspectTable(ctx, table)
		if err != nil {
			return list, err
		}
		list = append(list, found...)
	}
	return list, nil
}

// inTxOfItsOwn calls do in a transaction of a new connection. Its errors are
// explained.
func (s *Sink) inTxOfItsOwn(ctx context.Context, tried string, do func(tx pgx.Tx) error) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	if err := inTx(ctx, conn, do); err != nil {
		return explainError(ctx, tried, err)
	}
	return nil
}

// hasColumns is the SQL condition that the relation c has the columns of a
// stream's table.
const hasColumns = `(SELECT count(*) FROM pg_catalog.pg_attribute AS a
	WHERE a.attrelid = c.oid AND NOT a.attisdropped AND a.attname IN ('upload_timestamp', 'tenancy', 'json_data')) = 3`

// findFormerTables returns an observation about tables that the Python collectors
// filled in another schema, or nil. They used the schema none when
// STORE_POSTGRES_SCHEMA was not set, and the name in lower case when it has
// capitals. stream is the table to look for, "" stands for any.
func (s *Sink) findFormerTables(ctx context.Context, tx pgx.Tx, stream string) (*store.Observation, error) {
	former := strings.ToLower(s.opts.Schema)
	if s.opts.Schema == "public" {
		former = "none"
	}
	if former == s.opts.Schema {
		return nil, nil
	}
	var table string
	err := tx.QueryRow(ctx, `
		SELECT c.relname::text FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
		WHERE n.nspname = $1::text AND c.relkind IN ('r', 'p') AND ($2::text = '' OR c.relname = $2::text) AND `+hasColumns+`
			AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_class AS l WHERE l.relnamespace = n.oid AND l.relname = $3::text)
		ORDER BY c.relname LIMIT 1`, former, stream, store.LedgerTable).Scan(&table)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &store.Observation{
		Text: fmt.Sprintf("schema %s has tables of the Python collectors, such as %s, that receive no new rows: the tables of this destination are in schema %s",
			quoteName(former), table, quoteName(s.opts.Schema)),
		Advice: "STORE_POSTGRES_SCHEMA=" + former + " continues with them; rename them if nothing reads them",
	}, nil
}

// rowsWorthAnIndex is the number of rows from which a missing index is reported.
const rowsWorthAnIndex = 100_000

// A storedTable is a table of records.
type storedTable struct {
	name     string
	jsonType string
	readable bool // the role has the privilege SELECT
	indexed  bool
	rows     float64 // an estimate
}

// listTables returns the tables of records in the schema.
func (s *Sink) listTables(ctx context.Context, tx pgx.Tx) ([]storedTable, error) {
	rows, err := tx.Query(ctx, `
		SELECT c.relname::text, format_type(j.atttypid, NULL), has_table_privilege(c.oid, 'SELECT'), c.reltuples::float8,
			EXISTS (SELECT 1 FROM pg_catalog.pg_index AS i
				JOIN pg_catalog.pg_attribute AS first ON first.attrelid = c.oid AND first.attnum = i.indkey[0] AND first.attname = 'tenancy'
				WHERE i.indrelid = c.oid AND i.indisvalid)
		FROM pg_catalog.pg_class AS c
		JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
		JOIN pg_catalog.pg_attribute AS j ON j.attrelid = c.oid AND j.attname = 'json_data'
		WHERE n.nspname = $1::text AND c.relkind IN ('r', 'p') AND `+hasColumns+`
		ORDER BY c.relname`, s.opts.Schema)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (t storedTable, err error) {
		err = row.Scan(&t.name, &t.jsonType, &t.readable, &t.rows, &t.indexed)
		return t, err
	})
}

// unreadableMost is the number of unreadable rows at which counting ends.
const unreadableMost = 1000

// inspectTable looks for records that Postgres' JSON functions cannot read. jsonb
// holds none.
func (s *Sink) inspectTable(ctx context.Context, table storedTable) ([]store.Observation, error) {
	name := s.qualify(table.name)
	switch {
	case table.jsonType == "jsonb":
		return nil, nil
	case !table.readable:
		return []store.Observation{{
			Text:   "the records of table " + name + " were not examined: the role may not read it",
			Advice: "GRANT SELECT ON " + name + " TO " + quoteName(s.config.User),
		}}, nil
	}
	condition := unreadableCondition("json_data")
	var found int
	err := s.inTxOfItsOwn(ctx, "examine the records of "+name, func(tx pgx.Tx) error {
		if err := limitStatements(ctx, tx); err != nil {
			return err
		}
		return tx.QueryRow(ctx, fmt.Sprintf(`SELECT count(*) FROM (SELECT 1 FROM %s WHERE %s LIMIT %d) AS found`, name, condition, unreadableMost)).Scan(&found)
	})
	var pg *pgconn.PgError
	switch {
	case ctx.Err() != nil || errors.As(err, &pg) && pg.Code == "57014": // query_canceled
		return []store.Observation{{
			Text:   "the records of table " + name + " were not examined: reading them takes too long",
			Advice: "this finds those that Postgres' JSON functions cannot read: SELECT * FROM " + name + " WHERE " + condition,
		}}, nil
	case err != nil || found == 0:
		return nil, err
	}
	count := strconv.Itoa(found)
	if found == unreadableMost {
		count += " or more"
	}
	return []store.Observation{{
		Text:   "table " + name + ": Postgres' JSON functions cannot read all records, because of \\u0000 or half a surrogate pair; records: " + count,
		Advice: "this replaces them by U+FFFD: " + repairStatement(name, table.jsonType),
	}}, nil
}

// limitStatements lets the server end statements a second before the deadline of
// ctx.
func limitStatements(ctx context.Context, tx pgx.Tx) error {
	deadline, ok := ctx.Deadline()
	if !ok {
		return nil
	}
	limit := max(time.Until(deadline)-time.Second, 100*time.Millisecond)
	_, err := tx.Exec(ctx, `SELECT set_config('statement_timeout', $1::text, true)`, strconv.FormatInt(limit.Milliseconds(), 10))
	return err
}

// unreadableCondition returns the SQL condition that Postgres' JSON functions
// cannot read a record. The first two comparisons are fast and hold for few others.
func unreadableCondition(record string) string {
	return record + `::text LIKE '%\\u%' AND ` + record + `::text ~ '\\u(0000|[dD][89a-fA-F])' AND ` + repairExpression(record) + ` <> ` + record + `::text`
}

// repairStatement returns the statement that repairs the records of a table.
func repairStatement(table, jsonType string) string {
	return `UPDATE ` + table + ` SET json_data = (` + repairExpression("json_data") + `)::` + jsonType + ` WHERE ` + unreadableCondition("json_data") + `;`
}

// repairExpression returns the SQL expression for a record as
// snapshot.RepairEscapes changes it. It hides what must stay, escaped backslashes
// and whole surrogate pairs, behind control characters, which JSON does not have,
// so that each backslash that is left begins the escape of one code unit.
func repairExpression(record string) string {
	const (
		high = `[dD][89abAB][0-9a-fA-F]{2}`
		low  = `[dD][c-fC-F][0-9a-fA-F]{2}`
	)
	expression := `replace(` + record + `::text, '\\', chr(1))`
	expression = `regexp_replace(` + expression + `, '\\u(` + high + `)\\u(` + low + `)', chr(2) || '\1' || chr(2) || '\2', 'g')`
	expression = `regexp_replace(` + expression + `, '\\u(0000|[dD][89a-fA-F][0-9a-fA-F]{2})', U&'\FFFD', 'g')`
	return `replace(replace(` + expression + `, chr(2), '\u'), chr(1), '\\')`
}
