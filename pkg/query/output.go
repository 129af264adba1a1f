package query

import (
	"bufio"
	"database/sql"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
)

// A Column is a column of a result.
type Column struct{ Name, Type string }

// newOutput returns the output that writes a result to w in a format. A table is at most
// width wide, if that is not 0.
func newOutput(f Format, width int, w io.Writer) (output, error) {
	switch f {
	case TableFormat:
		return &tableOutput{w: w, width: width}, nil
	case CSVFormat:
		return &csvOutput{w: csv.NewWriter(w), guard: GuardText}, nil
	case RawCSVFormat:
		return &csvOutput{w: csv.NewWriter(w), guard: func(text string) string { return text }}, nil
	case JSONFormat:
		return &jsonOutput{w: bufio.NewWriter(w)}, nil
	case RowsFormat:
		b := bufio.NewWriter(w)
		return &rowsOutput{w: b, encoder: json.NewEncoder(b)}, nil
	}
	return nil, fmt.Errorf("query: unknown format %q", f)
}

// An output receives a result.
type output interface {
	// wantsJSON reports whether the values are passed as JSON rather than as text.
	wantsJSON() bool
	// columns is called once, before the rows.
	columns([]Column) error
	// row is called for each row; a value that is not valid is NULL.
	row([]sql.NullString) error
	// end is called once, after the last row.
	end() error
}

// csvOutput writes CSV (RFC 4180) with a header; NULL is empty.
type csvOutput struct {
	w      *csv.Writer
	guard  func(text string) string
	text   []bool // which columns have text
	fields []string
}

func (*csvOutput) wantsJSON() bool { return false }

func (o *csvOutput) columns(list []Column) error {
	for _, c := range list {
		o.fields = append(o.fields, o.guard(c.Name))
		o.text = append(o.text, isTextType(c.Type))
	}
	return o.w.Write(o.fields)
}

func (o *csvOutput) row(values []sql.NullString) error {
	for i, v := range values {
		o.fields[i] = v.String
		if o.text[i] {
			o.fields[i] = o.guard(v.String)
		}
	}
	return o.w.Write(o.fields)
}

func (o *csvOutput) end() error {
	o.w.Flush()
	return o.w.Error()
}

// jsonOutput writes an array of objects, one per line, with the members in the order
// of the columns.
type jsonOutput struct {
	w     *bufio.Writer
	names [][]byte
	rows  int
}

func (*jsonOutput) wantsJSON() bool { return true }

func (o *jsonOutput) columns(list []Column) error {
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

func (o *jsonOutput) row(values []sql.NullString) error {
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
	return o.w.WriteByte('}') // the writer returns its first error again
}

// jsonValue returns v as JSON. NaN and infinities, which JSON does not have, become
// strings.
func jsonValue(v sql.NullString) []byte {
	if !v.Valid {
		return []byte("null")
	}
	if json.Valid([]byte(v.String)) {
		return []byte(v.String)
	}
	quoted, err := json.Marshal(v.String)
	if err != nil { // cannot happen for a string
		return []byte("null")
	}
	return quoted
}

func (o *jsonOutput) end() error {
	_, _ = o.w.WriteString("\n]\n")
	return o.w.Flush()
}

// rowsOutput writes RowsFormat.
type rowsOutput struct {
	w       *bufio.Writer
	encoder *json.Encoder
}

func (*rowsOutput) wantsJSON() bool { return false }

func (o *rowsOutput) columns(list []Column) error { return o.encoder.Encode(list) }

func (o *rowsOutput) row(values []sql.NullString) error {
	texts := make([]*string, len(values))
	for i, v := range values {
		if v.Valid {
			texts[i] = &v.String
		}
	}
	return o.encoder.Encode(texts)
}

func (o *rowsOutput) end() error { return o.w.Flush() }
