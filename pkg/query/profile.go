package query

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/collectord/collectord/internal/duckdb"
)

// A Profile describes the columns of a stream's last-known snapshot.
type Profile struct {
	UploadID string
	Records  int64
	Columns  []ColumnProfile
}

// A ColumnProfile describes a column.
type ColumnProfile struct {
	Column
	// Filled is the number of records that have a value other than null.
	Filled int64
	// Examples are up to three different values, truncated to 80 characters.
	Examples []string
}

// exampleRows is the number of records, from the first on, that examples are taken
// from.
const exampleRows = 2000

// Profile describes the last-known snapshot of a stream. It reads the whole snapshot.
func (e *Engine) Profile(ctx context.Context, stream string, l Limits) (p Profile, err error) {
	var b bytes.Buffer
	sum, err := e.runQuery(ctx, task{Kind: profileTask, Text: "SELECT * FROM " + duckdb.Quote(stream)}, l, &b)
	if err != nil {
		return Profile{}, err
	}
	if err := json.Unmarshal(b.Bytes(), &p); err != nil {
		return Profile{}, fmt.Errorf("query: %w", err)
	}
	for _, used := range sum.Streams {
		if used.Stream == stream {
			p.UploadID = used.UploadID
		}
	}
	return p, nil
}

// writeProfile writes the Profile of resultView, without its upload id, to w.
func (s *session) writeProfile(ctx context.Context, w io.Writer) error {
	list, err := s.resultColumns(ctx)
	if err != nil {
		return err
	}
	var p Profile
	if p.Columns, p.Records, err = s.profileColumns(ctx, list); err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(p)
}

// profileColumns returns the profiles of the columns and the number of records.
func (s *session) profileColumns(ctx context.Context, list []Column) (all []ColumnProfile, records int64, err error) {
	counts := []string{"count(*)"}
	for i := range list {
		counts = append(counts, "count("+columnAlias(i)+")")
	}
	numbers, into := make([]int64, len(counts)), make([]any, len(counts))
	for i := range numbers {
		into[i] = &numbers[i]
	}
	if err := s.db.QueryRowContext(ctx, "SELECT "+strings.Join(counts, ", ")+" FROM "+aliasedResult(len(list))).Scan(into...); err != nil {
		return nil, 0, err
	}
	for i, c := range list {
		all = append(all, ColumnProfile{Column: c, Filled: numbers[i+1]})
	}
	for from := 0; from < len(all); from += exampleColumns {
		if err := s.addExamples(ctx, all, from, min(from+exampleColumns, len(all))); err != nil {
			return nil, 0, err
		}
	}
	return all, numbers[0], nil
}

// exampleColumns is the number of columns whose examples are read at once. Reading
// each column alone would prepare a statement of all columns for each.
const exampleColumns = 50

// addExamples adds the three most frequent values in the first records to the columns
// all[from:to].
func (s *session) addExamples(ctx context.Context, all []ColumnProfile, from, to int) error {
	var texts []string
	for i := from; i < to; i++ {
		texts = append(texts, "left("+columnAlias(i)+"::VARCHAR, 80)")
	}
	columns := all[from:to]
	rows, err := s.db.QueryContext(ctx, fmt.Sprintf("SELECT %s FROM (FROM %s LIMIT %d)", strings.Join(texts, ", "), aliasedResult(len(all)), exampleRows))
	if err != nil {
		return err
	}
	defer rows.Close()
	counts, values, into := make([]map[string]int, len(columns)), make([]sql.NullString, len(columns)), make([]any, len(columns))
	for i := range columns {
		counts[i], into[i] = map[string]int{}, &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		for i, v := range values {
			if v.Valid {
				counts[i][v.String]++
			}
		}
	}
	for i, n := range counts {
		columns[i].Examples = mostFrequent(n, 3)
	}
	return rows.Err()
}

// mostFrequent returns up to limit of the values with the highest counts.
func mostFrequent(counts map[string]int, limit int) []string {
	all := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	return all[:min(limit, len(all))]
}
