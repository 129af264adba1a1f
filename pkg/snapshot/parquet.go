package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/collectord/collectord/internal/duckdb"
)

// ParquetOptions bound what EncodeParquet uses.
type ParquetOptions struct {
	// Memory bounds DuckDB's memory in bytes; 0 is 768 MB.
	Memory int64
	// TempDir is the folder for what does not fit in memory; "" is the
	// file's own.
	TempDir string
}

// ParquetResult says what became of the records in a Parquet file.
type ParquetResult struct {
	// Typed is false when the records are in one column json_data.
	Typed bool
	// Notes say what differs from the records as they are: a renamed column,
	// a doubled member, why the columns are not typed. One sentence each.
	Notes []string
}

// parquetSlot is held while a file is encoded: two at a time would need twice
// the memory and be no quicker.
var parquetSlot = make(chan struct{}, 1)

// EncodeParquet writes the records to the new or emptied file at path, with
// Zstandard inside. Whoever needs it to appear whole passes a temporary name.
// The file is checked to hold all records when the error is nil.
//
// Each member on the records' top level is a column, in the order of first
// appearance, followed by _tenancy, _upload_timestamp (a TIMESTAMP) and
// _upload_id. The whole snapshot is read to learn the columns' types:
//   - true and false are BOOLEAN, whole numbers BIGINT, other numbers DOUBLE,
//     strings VARCHAR. Strings that look like times stay strings, so that a
//     column's type does not change with its content.
//   - Objects and arrays are JSON, in the vendor's bytes: a nested type would
//     be another one as soon as the vendor adds a member.
//   - A column of mixed scalars, or of numbers that its type cannot hold, is
//     VARCHAR: strings without quotes, numbers as they are spelt. A column
//     that mixes objects or arrays with others is JSON.
//   - null and absent are NULL; a column without any value is VARCHAR.
//   - Names that differ only by letter case get a number from the second on,
//     since most readers of Parquet do not tell them apart. Of members with
//     the same name in one record the last counts.
//
// Records that cannot be typed, or have over a thousand different members,
// are stored in one JSON column json_data beside the three members.
func (s *Snapshot) EncodeParquet(ctx context.Context, path string, o ParquetOptions) (ParquetResult, error) {
	select {
	case parquetSlot <- struct{}{}:
		defer func() { <-parquetSlot }()
	case <-ctx.Done():
		return ParquetResult{}, fmt.Errorf("encode parquet: %w", context.Cause(ctx))
	}
	res, err := s.encodeParquet(ctx, path, o)
	if err != nil {
		return res, fmt.Errorf("encode parquet: %w", duckdb.Brief(err))
	}
	return res, nil
}

func (s *Snapshot) encodeParquet(ctx context.Context, path string, o ParquetOptions) (ParquetResult, error) {
	columns, notes, err := s.inferColumns(ctx)
	if err != nil {
		return ParquetResult{}, err
	}
	res := ParquetResult{Notes: notes}
	if columns != nil {
		err := s.parquetFile(ctx, path, o, newTypedRows(columns))
		if err == nil {
			res.Typed = true
			return res, nil
		}
		if ctx.Err() != nil || errors.Is(err, ErrDamaged) || duckdb.KindOf(err) == duckdb.Other {
			return res, err
		}
		res.Notes = append(res.Notes, fmt.Sprintf("the records are in one column json_data: typed columns do not work: %v", duckdb.Brief(err)))
	}
	return res, s.parquetFile(ctx, path, o, new(plainRows))
}

// parquetRows turns records into rows.
type parquetRows interface {
	// columns are what the rows consist of, and selects the SQL that makes
	// the file's columns of them.
	columns() []duckdb.Column
	selects() []string
	fill(row *duckdb.Row, record []byte) error
}

func (s *Snapshot) parquetFile(ctx context.Context, path string, o ParquetOptions, rows parquetRows) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if o.TempDir == "" {
		o.TempDir = filepath.Dir(path)
	}
	for _, memory := range duckdb.Attempts(o.Memory) {
		err = s.parquetAttempt(ctx, path, duckdb.Options{Memory: memory, TempDir: o.TempDir}, rows)
		if duckdb.KindOf(err) != duckdb.Memory {
			break
		}
	}
	return err
}

func (s *Snapshot) parquetAttempt(ctx context.Context, path string, o duckdb.Options, rows parquetRows) (err error) {
	// What DuckDB spills goes into a folder of its own, that does not stay.
	o.TempDir, err = os.MkdirTemp(o.TempDir, ".collectord-spill-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.TempDir)) }()
	db, err := duckdb.Open(ctx, "", o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	r, err := s.Reader(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	source, err := db.Source("records", rows.columns(), func(row *duckdb.Row) error {
		record, err := r.Next()
		if err != nil {
			return err
		}
		return rows.fill(row, record)
	})
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, s.copyStatement(path, rows))
	if err := source.Result(err); err != nil {
		return err
	}
	var n int64
	count := "SELECT count(*) FROM read_parquet(" + duckdb.Literal(escapeGlob(path)) + ")"
	if err := db.QueryRowContext(ctx, count).Scan(&n); err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	if n != s.Records {
		return fmt.Errorf("%s holds %d records, the snapshot %d", path, n, s.Records)
	}
	return nil
}

func (s *Snapshot) copyStatement(path string, rows parquetRows) string {
	const (
		target = 32 << 20 // bytes of records in a row group: they are in memory together
		most   = 122_880
	)
	group := int64(most)
	if s.Records > 0 && s.Bytes > 0 {
		group = min(max(target/max(s.Bytes/s.Records, 1), 1), most)
	}
	selects := append(rows.selects(),
		duckdb.Literal(noNUL(s.Tenancy))+" AS "+memberTenancy,
		"TIMESTAMP "+duckdb.Literal(s.UploadTimestamp.UTC().Format(TimestampLayout))+" AS "+memberTimestamp,
		duckdb.Literal(noNUL(s.UploadID))+" AS "+memberID)
	return "COPY (SELECT " + strings.Join(selects, ", ") + " FROM records()) TO " + duckdb.Literal(path) +
		fmt.Sprintf(" (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE %d, USE_TMP_FILE false)", group)
}

// escapeGlob makes DuckDB take path as the name of one file.
func escapeGlob(path string) string {
	return strings.NewReplacer("[", "[[]", "*", "[*]", "?", "[?]").Replace(path)
}

// noNUL makes s fit into a statement.
func noNUL(s string) string { return strings.ReplaceAll(s, "\x00", "\ufffd") }

// plainRows has the records in one column.
type plainRows struct{ buf []byte }

func (*plainRows) columns() []duckdb.Column { return []duckdb.Column{{Name: "record"}} }
func (*plainRows) selects() []string        { return []string{"record::JSON AS json_data"} }

func (p *plainRows) fill(row *duckdb.Row, record []byte) error {
	p.buf, _ = duckdb.AppendJSON(p.buf[:0], record)
	row.Text(0, p.buf)
	return nil
}

// inferColumns reads the whole snapshot, which checks it, and returns its
// columns, nil when they cannot be had.
func (s *Snapshot) inferColumns(ctx context.Context) (_ []*parquetColumn, notes []string, err error) {
	r, err := s.Reader(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	in := newInference()
	for {
		record, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, nil, err
		}
		// What went wrong shows again in what follows from it: no columns.
		if in.problem == nil {
			in.problem = in.add(record)
		}
	}
	if in.problem != nil {
		return nil, []string{fmt.Sprintf("the records are in one column json_data: %v", in.problem)}, nil
	}
	return in.finish()
}

// members calls visit for each member on the top level of record, with its
// name and its value as it stands there.
func (m *memberWalk) members(record []byte, visit func(name, value []byte) error) error {
	m.reader.Reset(record)
	m.decoder.Reset(&m.reader, lenient...)
	if _, err := m.decoder.ReadToken(); err != nil {
		return err
	}
	for m.decoder.PeekKind() == '"' {
		raw, err := m.decoder.ReadValue()
		if err != nil {
			return err
		}
		if m.name, err = appendText(m.name[:0], &m.scratch, raw); err != nil {
			return err
		}
		value, err := m.decoder.ReadValue()
		if err != nil {
			return err
		}
		if err := visit(m.name, value); err != nil {
			return err
		}
	}
	_, err := m.decoder.ReadToken()
	return err
}

// isNull tells whether a JSON value is null.
func isNull(value []byte) bool { return bytes.Equal(value, []byte("null")) }
