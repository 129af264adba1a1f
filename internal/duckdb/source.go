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

// A Source is rows made in Go that statements read as the table function
// name(), once.
type Source struct {
	columns []driver.ColumnInfo
	next    func(*Row) error
	row     Row
	rows    int64
	done    bool
	err     error
}

// Source registers a source under name. next fills one row or returns io.EOF
// when there is none.
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

// Rows is how many rows the source gave. After its end it is all of them.
func (s *Source) Rows() int64 { return s.rows }

// Result returns what went wrong with a statement that read the source: the
// source's own error, which DuckDB passes on as mere text, or the statement's.
// A statement that stopped before the source's end is an error.
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

// chunkBytes bounds what a source hands over at a time, so that records of
// many megabytes are not gathered by the thousand.
const chunkBytes = 4 << 20

// chunks is the driver's view of a source.
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

// A Row is the row being filled. Columns that are not set are NULL.
type Row struct {
	chunk driver.DataChunk
	index int
	bytes int
	set   []bool
	err   error
}

// Text sets a Text column to v, which is copied.
func (r *Row) Text(column int, v []byte) {
	r.bytes += len(v)
	put(r, column, v)
}

// Int sets an Int column.
func (r *Row) Int(column int, v int64) { put(r, column, v) }

// Float sets a Float column.
func (r *Row) Float(column int, v float64) { put(r, column, v) }

// Bool sets a Bool column.
func (r *Row) Bool(column int, v bool) { put(r, column, v) }

// Null makes the column NULL again.
func (r *Row) Null(column int) { r.set[column] = false }

func put[T any](r *Row, column int, v T) {
	r.set[column] = true
	if err := driver.SetChunkValue(r.chunk, column, r.index, v); err != nil && r.err == nil {
		r.err = err
	}
}

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
