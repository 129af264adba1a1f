package query

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"strings"
)

// resultColumns returns the columns of resultView.
func (s *session) resultColumns(ctx context.Context) (list []Column, err error) {
	rows, err := s.db.QueryContext(ctx, "SELECT column_name, column_type FROM (DESCRIBE "+resultView+")")
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

// writeFormatted writes resultView to w in the format of the task.
func (s *session) writeFormatted(ctx context.Context, w io.Writer) error {
	out, err := newOutput(s.task.Format, s.task.Width, w)
	if err != nil {
		return err
	}
	return s.writeResult(ctx, out)
}

// writeResult writes resultView to out, within the limits.
func (s *session) writeResult(ctx context.Context, out output) error {
	list, err := s.resultColumns(ctx)
	if err != nil {
		return fmt.Errorf("query: %w", err)
	}
	size := sizeOf(list, out.wantsJSON())
	if s.task.Bytes > 0 && size.header > s.task.Bytes {
		return fmt.Errorf("query: the names and types of the %d columns are larger than %d bytes: select fewer columns", len(list), s.task.Bytes)
	}
	if err := out.columns(list); err != nil {
		return err
	}
	rows, err := s.db.QueryContext(ctx, s.selectStatement(list, out.wantsJSON()))
	if err != nil {
		return fmt.Errorf("query: %w", err)
	}
	defer rows.Close()
	values := make([]sql.NullString, len(list))
	into := make([]any, len(list))
	for i := range values {
		into[i] = &values[i]
	}
	bytes := size.header
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return fmt.Errorf("query: %w", err)
		}
		bytes += size.row
		for _, v := range values {
			bytes += int64(len(v.String))
		}
		if s.isFull(bytes) {
			s.summary.Truncated = true
			break
		}
		if err := out.row(values); err != nil {
			return err
		}
		s.summary.Rows++
	}
	if err := rows.Err(); err != nil && !s.summary.Truncated {
		return fmt.Errorf("query: %w", err)
	}
	return out.end()
}

// isFull reports whether a result that has all rows of the summary cannot have another one,
// with which it would have a number of bytes.
func (s *session) isFull(bytes int64) bool {
	return s.task.Rows > 0 && s.summary.Rows == s.task.Rows || s.task.Bytes > 0 && bytes > s.task.Bytes
}

// aliasedResult returns the SQL of resultView with columnAlias as the names of its
// columns. SQL cannot contain every name that records have.
func aliasedResult(columns int) string {
	names := make([]string, columns)
	for i := range names {
		names[i] = columnAlias(i)
	}
	return resultView + " AS r(" + strings.Join(names, ", ") + ")"
}

func columnAlias(i int) string { return fmt.Sprintf("c%d", i) }

// A resultSize has the bytes of a result without its values.
type resultSize struct{ header, row int64 }

// separatorBytes is about what the separator and the quotes of a value take.
const separatorBytes = 4

func sizeOf(list []Column, asJSON bool) (size resultSize) {
	for _, c := range list {
		size.header += int64(len(c.Name) + len(c.Type) + separatorBytes)
		size.row += separatorBytes
		if asJSON {
			size.row += int64(len(c.Name))
		}
	}
	return size
}

// selectStatement returns the SQL that reads resultView with every value as text, and
// one row more than the limit.
func (s *session) selectStatement(list []Column, asJSON bool) string {
	var names []string
	for i, c := range list {
		name := columnAlias(i)
		switch {
		case asJSON:
			name = "CASE WHEN " + name + " IS NULL THEN NULL ELSE to_json(" + name + ")::VARCHAR END"
		case c.Type != "VARCHAR":
			name += "::VARCHAR"
		}
		names = append(names, name)
	}
	text := "SELECT " + strings.Join(names, ", ") + " FROM " + aliasedResult(len(list))
	if s.task.Rows > 0 {
		text += fmt.Sprintf(" LIMIT %d", s.task.Rows+1)
	}
	return text
}
