// Package parquet writes snapshots as Apache Parquet files. It uses DuckDB.
package parquet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/dustin/go-humanize/english"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/snapshot/columns"
)

// Options bound the resources that Encode uses.
type Options struct {
	// Memory bounds DuckDB's memory in bytes; 0 is 768 MB.
	Memory int64
	// Repair replaces escapes that many programs refuse, see
	// snapshot.RepairEscapes. Without it \u0000 is a character of the column, and
	// half of a surrogate pair is stored as its six letters.
	Repair bool
	// TempDir is the directory for the file and for data that does not fit in
	// memory; "" is os.TempDir(). The caller removes what a killed process leaves
	// there.
	TempDir string
	// Rules choose the types of the columns.
	Rules columns.Rules
	// Types are the types of the stream's earlier files, see File.Types; "" if there
	// were none.
	Types string
	// Declared are the members whose kinds are known, see columns.Options.
	Declared []columns.Remembered
	// Untyped puts the records into one column json_data, which needs less memory.
	Untyped bool
	// Disk bounds the disk space for data that does not fit in memory, such as
	// "4GiB"; "" is no bound.
	Disk string
}

// A File is an encoded snapshot. It must be closed.
type File struct {
	// Size is the size of the file in bytes.
	Size int64
	// Typed is false when the records are in one column json_data.
	Typed bool
	// Notes say how the file differs from the records or from earlier files,
	// one sentence each: a renamed member, another type, why the columns are
	// not typed.
	Notes []string
	// Types are the types of the file and of earlier ones, to be remembered for the
	// next one. When a file of the stream was made meanwhile, this one does not have
	// its types.
	Types string
	// View is the SELECT list that turns the columns of a file by FileRules into those
	// of a file by QueryRules. It is "" when no list can.
	View string

	file    *os.File
	dir     string // removed by Close
	escapes int64  // records with escapes that are not stored as they are
}

// WriteTo writes the file's content to w.
func (f *File) WriteTo(w io.Writer) (int64, error) {
	n, err := io.Copy(w, io.NewSectionReader(f.file, 0, f.Size))
	if err == nil && n != f.Size {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// MoveTo moves the file to path, which is on the file system of Options.TempDir.
func (f *File) MoveTo(path string) error { return os.Rename(f.path(), path) }

// Close removes the file.
func (f *File) Close() error { return errors.Join(f.file.Close(), os.RemoveAll(f.dir)) }

// Encode writes the records of s to a temporary Parquet file, compressed with
// Zstandard, and checks that the file has all of them.
//
// Each member at the top level of the records is a column, in the order of
// first appearance, followed by _tenancy, _upload_timestamp (TIMESTAMP WITH TIME
// ZONE) and _upload_id. Encode reads the whole snapshot to choose the types:
//   - true and false are BOOLEAN, and numbers DOUBLE. Members of which all
//     numbers are integers, and one is so large that DOUBLE would round it, are
//     BIGINT.
//   - Strings are VARCHAR. If all strings of a member are times as in RFC 3339,
//     it is a TIMESTAMP WITH TIME ZONE, cut to microseconds. If none has an
//     offset from UTC, it is a TIMESTAMP.
//   - An object is a STRUCT of its members, a list is a LIST.
//   - A member with values of different types, or with numbers that its type
//     cannot hold, is VARCHAR: strings without quotes, numbers as the vendor
//     wrote them. If objects or lists are among them, it is JSON, in the
//     vendor's bytes; so are objects of over 200 different members or without
//     any, and what is in more than 16 objects and lists.
//   - null and absent are NULL; a member without any value is VARCHAR.
//   - Of names that differ only in letter case, the second and later ones get
//     a number, since most readers of Parquet ignore case. Of members with
//     the same name in one object the last one counts.
//
// The types of a stream only widen: members, types and names of earlier files
// stay as Options.Types remembers them. A member that was VARCHAR or JSON in an
// earlier file stays that, whatever its values are. Another change, such as from
// DOUBLE to VARCHAR, is in the notes.
//
// If there are over a thousand members, those with the most members in them are
// JSON. Records with over a thousand different members at the top level are
// stored in one JSON column json_data followed by the three members.
//
// By columns.QueryRules integers are BIGINT, or DOUBLE where fractions are among them. Times
// with an offset are TIMESTAMP in UTC, also those with a space in place of the T,
// which have none. Dates are DATE. _upload_timestamp is a TIMESTAMP, and _upload_id a
// UUID. There may be two thousand members. Those beyond at the top level are in one JSON
// column _other_members. If DuckDB cannot convert the records within its memory,
// the members with objects or lists of over a megabyte are JSON, or VARCHAR.
func Encode(ctx context.Context, s *snapshot.Snapshot, o Options) (*File, error) {
	dir, err := os.MkdirTemp(o.TempDir, "parquet-")
	if err != nil {
		return nil, fmt.Errorf("encode parquet: %w", err)
	}
	f := &File{dir: dir}
	if err := f.encode(ctx, s, o); err != nil {
		return nil, fmt.Errorf("encode parquet: %w", errors.Join(duckdb.Brief(err), os.RemoveAll(dir)))
	}
	return f, nil
}

func (f *File) path() string { return filepath.Join(f.dir, "snapshot.parquet") }

// encode fills f with the snapshot.
func (f *File) encode(ctx context.Context, s *snapshot.Snapshot, o Options) error {
	types, err := chooseTypes(ctx, s, o)
	if err != nil {
		return err
	}
	f.Notes, f.Types = types.notes, types.text
	if err := f.encodeTypes(ctx, s, o, types.root); err != nil {
		return err
	}
	f.noteEscapes(o.Repair)
	isRepaired := o.Repair && f.escapes > 0
	if o.Rules == columns.FileRules && f.Typed && !isRepaired {
		if f.View, err = f.findView(ctx, s, o, types); err != nil {
			return err
		}
	}
	return f.open()
}

// noteEscapes adds the note about escapes that are not stored as they are.
func (f *File) noteEscapes(repaired bool) {
	switch {
	case f.escapes == 0:
	case repaired:
		f.Notes = append(f.Notes, snapshot.DescribeEscapes(f.escapes, true))
	default:
		f.Notes = append(f.Notes, english.Plural(int(f.escapes), "record has", "records have")+" \\u escapes that are no character: each is stored as its six letters")
	}
}

// open opens the file that encode has written.
func (f *File) open() (err error) {
	if f.file, err = os.Open(f.path()); err != nil {
		return err
	}
	info, err := f.file.Stat()
	if err != nil {
		return errors.Join(err, f.file.Close())
	}
	f.Size = info.Size()
	return nil
}

// encodeTypes writes the file with the types of root. Without types, when root is
// nil or DuckDB cannot convert the records within its memory, they are in one
// column: of JSON, or as text where DuckDB cannot even parse them within it.
func (f *File) encodeTypes(ctx context.Context, s *snapshot.Snapshot, o Options, root *columns.Node) (err error) {
	if o.Rules == columns.QueryRules {
		f.Typed = true
		return f.encodeForQueries(ctx, s, o, root)
	}
	attempts := []rowEncoder{untypedRows{"JSON"}, untypedRows{"VARCHAR"}}
	if root != nil && o.Untyped {
		f.Notes = append(f.Notes, "the records are in one column json_data: typed columns need more memory than STORE_DUCKDB_MEMORY allows")
	}
	if f.Typed = root != nil && !o.Untyped; f.Typed {
		attempts = append([]rowEncoder{&typedRows{root: root}}, attempts...)
	}
	for _, rows := range attempts {
		if err = f.encodeRows(ctx, s, o, rows); err == nil {
			return nil
		}
		if ctx.Err() != nil || errors.Is(err, snapshot.ErrDamaged) || duckdb.KindOf(err) == duckdb.Other {
			return err
		}
		if f.Typed {
			f.Typed = false
			f.Notes = append(f.Notes, fmt.Sprintf("the records are in one column json_data: typed columns do not work: %v", duckdb.Brief(err)))
		}
	}
	return err
}

// largeValue is the size in bytes from which an object or list is large.
const largeValue = 1 << 20

// encodeForQueries writes the file by QueryRules. Where the memory is not sufficient,
// the columns with large values have other types.
func (f *File) encodeForQueries(ctx context.Context, s *snapshot.Snapshot, o Options, root *columns.Node) error {
	err := f.encodeRows(ctx, s, o, &typedRows{root: root})
	for _, typ := range []columns.Type{columns.JSON, columns.Varchar} {
		if ctx.Err() == nil && duckdb.KindOf(err) == duckdb.Memory && root.FlattenLarge(largeValue, typ) {
			err = f.encodeRows(ctx, s, o, &typedRows{root: root})
		}
	}
	return err
}

// encodeRows writes the file, with more memory for DuckDB in the attempt after
// one that ran out of it.
func (f *File) encodeRows(ctx context.Context, s *snapshot.Snapshot, o Options, rows rowEncoder) (err error) {
	for _, memory := range duckdb.Attempts(o.Memory) {
		err = f.encodeOnce(ctx, s, o, memory, rows)
		if duckdb.KindOf(err) != duckdb.Memory {
			break
		}
	}
	return err
}

func (f *File) encodeOnce(ctx context.Context, s *snapshot.Snapshot, o Options, memory int64, rows rowEncoder) (err error) {
	db, err := duckdb.Open(ctx, "", duckdb.Options{Memory: memory, TempDir: f.dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := limitDisk(ctx, db, o.Disk); err != nil {
		return err
	}
	r, err := openRecords(ctx, s, o.Repair)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	var buf []byte
	f.escapes = 0
	source, err := db.Source("records", []duckdb.Column{{Name: "record"}}, func(row *duckdb.Row) error {
		record, repaired, err := r.next()
		if err != nil {
			return err
		}
		var kept bool
		if buf, kept, err = rows.appendRow(buf[:0], record); err != nil {
			return err
		}
		if repaired || kept {
			f.escapes++
		}
		row.SetText(0, buf)
		return nil
	})
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, copyStatement(s, f.path(), rows, o.Rules))
	if err := source.Result(err); err != nil {
		return err
	}
	var n int64
	count := "SELECT count(*) FROM read_parquet(" + duckdb.Literal(duckdb.EscapeGlob(f.path())) + ")"
	if err := db.QueryRowContext(ctx, count).Scan(&n); err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	if n != s.Records {
		return fmt.Errorf("the file holds %d records, the snapshot %d", n, s.Records)
	}
	return nil
}

// limitDisk bounds the disk space for what does not fit in memory.
func limitDisk(ctx context.Context, db *duckdb.DB, size string) error {
	if size == "" {
		return nil
	}
	_, err := db.ExecContext(ctx, "SET max_temp_directory_size = "+duckdb.Literal(size))
	return err
}
