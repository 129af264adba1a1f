package duckdb

import (
	"errors"
	"io"

	driver "github.com/duckdb/duckdb-go/v2"
)

// A Type is the type of a source's column.
type Type int

// The types of columns.
const (
	Text  Type = iota // VARCHAR
	Int               // BIGINT
	Float             // DOUBLE
	Bool              // BOOLEAN
)

var driverTypes = [...]driver.Type{
	Text:  driver.TYPE_VARCHAR,
	Int:   driver.TYPE_BIGINT,
	Float: driver.TYPE_DOUBLE,
	Bool:  driver.TYPE_BOOLEAN,
}

// A Column is a column of a source.
type Column struct {
	Name string
	Type Type
}

// A Source provides rows from Go code. A statement reads them once, as the table
// function name().
type Source struct {
	columns []driver.ColumnInfo
	next    func(*Row) error
	row     Row
	rows    int64
	done    bool
	err     error
}

// Source registers a source under a name. next fills one row, or returns io.EOF
// after the last.
func (d *DB) Source(name string, columns []Column, next func(*Row) error) (*Source, error) {
	s := &Source{next: next, row: Row{set: make([]bool, len(columns))}}
	for _, c := range columns {
		t, err := driver.NewTypeInfo(driverTypes[c.Type])
		if err != nil {
			return nil, err
		}
		s.columns = append(s.columns, driver.ColumnInfo{Name: c.Name, T: t})
	}
	return s, driver.RegisterTableUDF(d.Conn, name, driver.ChunkTableFunction{
		BindArguments: func(map[string]any, ...any) (driver.ChunkTableSource, error) {
			return chunks{s}, nil
		},
	})
}

// Rows returns the number of rows that the source has provided so far.
func (s *Source) Rows() int64 { return s.rows }

// Result returns the error of a statement that read the source: the error of the
// source, of which DuckDB keeps the text only, or err, that of the statement. It is
// an error when the statement ended before the source.
func (s *Source) Result(err error) error {
	switch {
	case s.err != nil:
		return s.err
	case err != nil:
		return err
	case !s.done:
		return errors.New("duckdb: the statement ended before its records did")
	}
	return nil
}

// chunkBytes bounds the size of a chunk, so that it does not hold thousands of
// records of many megabytes.
const chunkBytes = 4 << 20

// chunks implements the driver's interface for a source.
type chunks struct{ s *Source }

func (c chunks) ColumnInfos() []driver.ColumnInfo     { return c.s.columns }
func (c chunks) Cardinality() *driver.CardinalityInfo { return nil }
func (c chunks) Init()                                {}

// FillChunk fills one chunk; an empty one ends the source.
func (c chunks) FillChunk(chunk driver.DataChunk) error {
	s := c.s
	s.row.chunk, s.row.index, s.row.bytes = chunk, 0, 0
	for !s.done && s.err == nil && s.row.index < driver.GetDataChunkCapacity() && s.row.bytes < chunkBytes {
		clear(s.row.set)
		err := s.next(&s.row)
		if err == io.EOF {
			s.done = true
			break
		}
		if s.err = errors.Join(err, s.row.finish()); s.err != nil {
			return s.err
		}
		s.rows++
	}
	return chunk.SetSize(s.row.index)
}

// A Row is the row that is being filled. Columns that are not set are NULL.
type Row struct {
	chunk driver.DataChunk
	index int
	bytes int
	set   []bool
	err   error
}

// SetText sets a Text column to v, which is copied.
func (r *Row) SetText(column int, v []byte) {
	r.bytes += len(v)
	setValue(r, column, v)
}

// SetInt sets an Int column.
func (r *Row) SetInt(column int, v int64) { setValue(r, column, v) }

// SetFloat sets a Float column.
func (r *Row) SetFloat(column int, v float64) { setValue(r, column, v) }

// SetBool sets a Bool column.
func (r *Row) SetBool(column int, v bool) { setValue(r, column, v) }

// SetNull makes the column NULL again.
func (r *Row) SetNull(column int) { r.set[column] = false }

// setValue sets a column of the row.
func setValue[T any](r *Row, column int, v T) {
	r.set[column] = true
	if err := driver.SetChunkValue(r.chunk, column, r.index, v); err != nil && r.err == nil {
		r.err = err
	}
}

// finish sets the other columns to NULL and moves to the next row.
func (r *Row) finish() error {
	for column, set := range r.set {
		if !set {
			if err := r.chunk.SetValue(column, r.index, nil); err != nil && r.err == nil {
				r.err = err
			}
		}
	}
	r.index++
	return r.err
}
