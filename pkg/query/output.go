package query

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/collectord/collectord/internal/duckdb"
)

// A Column is one of a result.
type Column struct{ Name, Type string }

// An Output takes a result.
type Output interface {
	// JSON tells whether values are wanted as JSON rather than as text.
	JSON() bool
	// Columns is called once, before the rows.
	Columns([]Column) error
	// Row takes one row; a value that is not valid is NULL.
	Row([]sql.NullString) error
	// End is called once, after the last row.
	End() error
}

// columns describes the view that is the answer.
func columns(ctx context.Context, db *duckdb.DB) (list []Column, err error) {
	rows, err := db.QueryContext(ctx, "SELECT column_name, column_type FROM (DESCRIBE "+result+")")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var c Column
		if err := rows.Scan(&c.Name, &c.Type); err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, rows.Err()
}

// answer passes the answer on.
func answer(ctx context.Context, db *duckdb.DB, l Limits, out Output, sum *Summary) error {
	list, err := columns(ctx, db)
	if err != nil {
		return fmt.Errorf("query: %w", err)
	}
	if err := out.Columns(list); err != nil {
		return err
	}
	rows, err := db.QueryContext(ctx, selection(list, l, out.JSON()))
	if err != nil {
		return fmt.Errorf("query: %w", err)
	}
	defer rows.Close()
	values := make([]sql.NullString, len(list))
	into := make([]any, len(list))
	for i := range values {
		into[i] = &values[i]
	}
	var bytes int64
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return fmt.Errorf("query: %w", err)
		}
		for _, v := range values {
			bytes += int64(len(v.String))
		}
		if l.Rows > 0 && sum.Rows == l.Rows || l.Bytes > 0 && bytes > l.Bytes {
			sum.Truncated = true
			break
		}
		if err := out.Row(values); err != nil {
			return err
		}
		sum.Rows++
	}
	if err := rows.Err(); err != nil && !sum.Truncated {
		return fmt.Errorf("query: %w", err)
	}
	return out.End()
}

// selection reads the answer with every value as text.
func selection(list []Column, l Limits, asJSON bool) string {
	var names []string
	for _, c := range list {
		name := duckdb.Quote(c.Name)
		switch {
		case asJSON:
			name = "CASE WHEN " + name + " IS NULL THEN NULL ELSE to_json(" + name + ")::VARCHAR END"
		case c.Type != "VARCHAR":
			name += "::VARCHAR"
		}
		names = append(names, name)
	}
	text := "SELECT " + strings.Join(names, ", ") + " FROM " + result
	if l.Rows > 0 {
		text += fmt.Sprintf(" LIMIT %d", l.Rows+1)
	}
	return text
}

// Parquet answers the SELECT in text into the new file at path, which appears
// whole or not at all.
func (e *Engine) Parquet(ctx context.Context, text, path string, l Limits) (sum Summary, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return sum, err
	}
	err = e.within(ctx, text, l, &sum, func(ctx context.Context, db *duckdb.DB) error {
		return e.parquet(ctx, db, path, l, &sum)
	})
	return sum, err
}

// parquet passes the answer through the program to a second database that may
// write the file: the one that runs the query may not.
func (e *Engine) parquet(ctx context.Context, db *duckdb.DB, path string, l Limits, sum *Summary) (err error) {
	list, err := columns(ctx, db)
	if err != nil {
		return fmt.Errorf("query: %w", err)
	}
	temporary := path + ".tmp"
	spill, err := os.MkdirTemp(filepath.Dir(path), ".collectord-spill-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(spill)) }()
	writer, err := duckdb.Open(ctx, "", duckdb.Options{Memory: e.o.Memory, TempDir: spill})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, writer.Close()) }()
	rows, err := db.QueryContext(ctx, selection(list, l, false))
	if err != nil {
		return fmt.Errorf("query: %w", err)
	}
	defer rows.Close()
	source, casts, err := rowSource(writer, rows, list, l, sum)
	if err != nil {
		return err
	}
	_, err = writer.ExecContext(ctx, "COPY (SELECT "+casts+" FROM rows()) TO "+duckdb.Literal(temporary)+" (FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false)")
	if err := source.Result(err); err != nil {
		return errors.Join(fmt.Errorf("query: %w", err), os.Remove(temporary))
	}
	return os.Rename(temporary, path)
}

// rowSource makes the rows readable in db, and returns the SQL that gives them
// their types again.
func rowSource(db *duckdb.DB, rows *sql.Rows, list []Column, l Limits, sum *Summary) (*duckdb.Source, string, error) {
	values, into := make([]sql.NullString, len(list)), make([]any, len(list))
	var texts []duckdb.Column
	var casts []string
	for i, c := range list {
		into[i] = &values[i]
		texts = append(texts, duckdb.Column{Name: fmt.Sprintf("c%d", i)})
		casts = append(casts, fmt.Sprintf("c%d::%s AS %s", i, c.Type, duckdb.Quote(c.Name)))
	}
	source, err := db.Source("rows", texts, func(row *duckdb.Row) error {
		if !rows.Next() {
			if err := rows.Err(); err != nil {
				return err
			}
			return io.EOF
		}
		if l.Rows > 0 && sum.Rows == l.Rows {
			sum.Truncated = true
			return io.EOF
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		for i, v := range values {
			if v.Valid {
				row.Text(i, []byte(v.String))
			}
		}
		sum.Rows++
		return nil
	})
	return source, strings.Join(casts, ", "), err
}

// CSV writes RFC 4180 with a header; NULL is empty.
func CSV(w io.Writer) Output { return &csvOutput{w: csv.NewWriter(w)} }

type csvOutput struct {
	w      *csv.Writer
	fields []string
}

func (*csvOutput) JSON() bool { return false }

func (o *csvOutput) Columns(list []Column) error {
	for _, c := range list {
		o.fields = append(o.fields, c.Name)
	}
	return o.w.Write(o.fields)
}

func (o *csvOutput) Row(values []sql.NullString) error {
	for i, v := range values {
		o.fields[i] = v.String
	}
	return o.w.Write(o.fields)
}

func (o *csvOutput) End() error {
	o.w.Flush()
	return o.w.Error()
}

// JSON writes an array of objects, one on a line, members in the columns'
// order.
func JSON(w io.Writer) Output { return &jsonOutput{w: bufio.NewWriter(w)} }

type jsonOutput struct {
	w     *bufio.Writer
	names [][]byte
	rows  int
}

func (*jsonOutput) JSON() bool { return true }

func (o *jsonOutput) Columns(list []Column) error {
	for _, c := range list {
		name, err := json.Marshal(c.Name)
		if err != nil {
			return err
		}
		o.names = append(o.names, name)
	}
	_, err := o.w.WriteString("[")
	return err
}

func (o *jsonOutput) Row(values []sql.NullString) error {
	if o.rows++; o.rows > 1 {
		_ = o.w.WriteByte(',')
	}
	_, _ = o.w.WriteString("\n{")
	for i, v := range values {
		if i > 0 {
			_ = o.w.WriteByte(',')
		}
		_, _ = o.w.Write(o.names[i])
		_ = o.w.WriteByte(':')
		_, _ = o.w.Write(jsonValue(v))
	}
	return o.w.WriteByte('}') // the writer's first error is its last one's
}

// jsonValue is v as JSON. NaN and infinities, which JSON does not have, are
// strings.
func jsonValue(v sql.NullString) []byte {
	if !v.Valid {
		return []byte("null")
	}
	if json.Valid([]byte(v.String)) {
		return []byte(v.String)
	}
	quoted, err := json.Marshal(v.String)
	if err != nil { // a string always has a form
		return []byte("null")
	}
	return quoted
}

func (o *jsonOutput) End() error {
	_, _ = o.w.WriteString("\n]\n")
	return o.w.Flush()
}

// Table writes aligned columns for reading; NULL is empty, line breaks and
// other control characters are shown as spaces.
func Table(w io.Writer) Output { return &tableOutput{w: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)} }

type tableOutput struct{ w *tabwriter.Writer }

func (*tableOutput) JSON() bool { return false }

func (o *tableOutput) Columns(list []Column) error {
	var names []string
	for _, c := range list {
		names = append(names, plain(c.Name))
	}
	return o.line(names)
}

func (o *tableOutput) Row(values []sql.NullString) error {
	var fields []string
	for _, v := range values {
		fields = append(fields, plain(v.String))
	}
	return o.line(fields)
}

func (o *tableOutput) line(fields []string) error {
	_, err := fmt.Fprintln(o.w, strings.Join(fields, "\t"))
	return err
}

func (o *tableOutput) End() error { return o.w.Flush() }

// plain takes out what would break a line or steer a terminal.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}
