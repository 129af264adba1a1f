package query

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/collectord/collectord/internal/duckdb"
)

// A Profile describes the columns of a stream's last-known snapshot.
type Profile struct {
	UploadID string
	Records  int64
	Columns  []ColumnProfile
}

// ColumnProfile is one column.
type ColumnProfile struct {
	Column
	// Filled is how many records have a value that is not null.
	Filled int64
	// Examples are up to three different values, cut to 80 characters.
	Examples []string
}

// exampleRows is how many of the first records examples are taken from.
const exampleRows = 2000

// Profile reads the whole last-known snapshot of a stream.
func (e *Engine) Profile(ctx context.Context, stream string, l Limits) (p Profile, err error) {
	var sum Summary
	text := "SELECT * FROM " + duckdb.Quote(stream)
	err = e.within(ctx, text, l, &sum, func(ctx context.Context, db *duckdb.DB) error {
		list, err := columns(ctx, db)
		if err != nil {
			return err
		}
		p.Columns, p.Records, err = profile(ctx, db, list)
		return err
	})
	for _, s := range sum.Streams {
		if s.Stream == stream {
			p.UploadID = s.UploadID
		}
	}
	return p, err
}

func profile(ctx context.Context, db *duckdb.DB, list []Column) (all []ColumnProfile, records int64, err error) {
	counts := []string{"count(*)"}
	for _, c := range list {
		counts = append(counts, "count("+duckdb.Quote(c.Name)+")")
	}
	numbers, into := make([]int64, len(counts)), make([]any, len(counts))
	for i := range numbers {
		into[i] = &numbers[i]
	}
	if err := db.QueryRowContext(ctx, "SELECT "+strings.Join(counts, ", ")+" FROM "+result).Scan(into...); err != nil {
		return nil, 0, err
	}
	for i, c := range list {
		one := ColumnProfile{Column: c, Filled: numbers[i+1]}
		if one.Filled > 0 {
			if one.Examples, err = examples(ctx, db, c.Name); err != nil {
				return nil, 0, err
			}
		}
		all = append(all, one)
	}
	return all, numbers[0], nil
}

func examples(ctx context.Context, db *duckdb.DB, column string) (all []string, err error) {
	name := duckdb.Quote(column)
	rows, err := db.QueryContext(ctx, fmt.Sprintf(
		"SELECT v FROM (SELECT left(%s::VARCHAR, 80) AS v FROM (FROM %s LIMIT %d) WHERE %s IS NOT NULL) GROUP BY v ORDER BY count(*) DESC, v LIMIT 3",
		name, result, exampleRows, name))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var v sql.NullString
		if err := rows.Scan(&v); err != nil {
			return nil, err
		}
		all = append(all, v.String)
	}
	return all, rows.Err()
}
