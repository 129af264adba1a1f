// Package duckdb opens DuckDB for the rest of the program: with bounded
// memory, without extensions from the network, and one at a time per file.
package duckdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	driver "github.com/duckdb/duckdb-go/v2"
)

// ordinary is the memory in bytes that is enough for any number of records of
// ordinary size, with row groups by RowGroup.
const ordinary = 256 << 20

// DefaultMemory bounds DuckDB's memory when nothing else is said, in bytes. It
// is enough for single records of 64 MB among smaller ones.
const DefaultMemory = 768 << 20

// Attempts returns the memory limits to try one after the other for a load
// whose memory is bounded by bound, 0 for DefaultMemory: a load takes what
// it is given, and needs all of it only for enormous records.
func Attempts(bound int64) []int64 {
	if bound == 0 {
		bound = DefaultMemory
	}
	if bound <= ordinary {
		return []int64{bound}
	}
	return []int64{ordinary, bound}
}

// Options say how to open a database.
type Options struct {
	// Memory bounds DuckDB's own memory in bytes; 0 is DefaultMemory. The
	// process grows by about 100 MB more: the allocator's and the driver's.
	Memory int64
	// Threads is how many threads a statement may use; 0 is 1, which needs
	// the least memory and loads as quickly as two.
	Threads int
	// ReadOnly opens an existing file for reading only.
	ReadOnly bool
	// TempDir takes what does not fit in memory; "" is beside the file. A
	// database without a file needs one.
	TempDir string
	// RowGroup is the number of rows in a new row group, see RowGroup;
	// 0 is DuckDB's own 122,880.
	RowGroup int
}

// A DB is one connection to a database that is opened by nobody else in this
// process. It belongs to one goroutine.
type DB struct {
	*sql.Conn
	pool    *sql.DB
	file    bool
	release func()
}

// catalog is the name under which the file is attached. The tables are found
// without it.
const catalog = "target"

// Open opens the database file at path, which appears when missing, or a
// database in memory when path is "". It waits while path is open elsewhere
// in this process; when another process holds it the error is a *LockedError.
// No setting of the database outlives Close.
func Open(ctx context.Context, path string, o Options) (*DB, error) {
	release, err := acquire(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("duckdb: open %s: %w", path, err)
	}
	db, err := open(ctx, path, o)
	if err != nil {
		release()
		if locked := lockedError(path, err); locked != nil {
			return nil, locked
		}
		if strings.Contains(err.Error(), path) {
			return nil, fmt.Errorf("duckdb: %w", err)
		}
		return nil, fmt.Errorf("duckdb: open %s: %w", path, err)
	}
	db.release = release
	return db, nil
}

// open attaches the file to a database in memory, since only an attached one
// can be told its row group size.
func open(ctx context.Context, path string, o Options) (*DB, error) {
	pool, err := sql.Open("duckdb", dsn(path, o))
	if err != nil {
		return nil, err
	}
	conn, err := pool.Conn(ctx)
	if err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	db := &DB{Conn: conn, pool: pool, file: path != ""}
	if path == "" {
		return db, nil
	}
	for _, statement := range []string{attach(path, o), "USE " + catalog} {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			db.file = false
			return nil, errors.Join(err, db.close())
		}
	}
	return db, nil
}

func dsn(path string, o Options) string {
	if o.Memory == 0 {
		o.Memory = DefaultMemory
	}
	if o.TempDir == "" && path != "" {
		o.TempDir = path + ".tmp"
	}
	settings := url.Values{
		"memory_limit":                 {strconv.FormatInt(o.Memory, 10) + "B"},
		"threads":                      {strconv.Itoa(max(o.Threads, 1))},
		"temp_directory":               {o.TempDir},
		"autoinstall_known_extensions": {"false"},
		"autoload_known_extensions":    {"false"},
		"allow_community_extensions":   {"false"},
	}
	return "?" + settings.Encode()
}

func attach(path string, o Options) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs // never taken for an address
	}
	options := "TYPE duckdb"
	if o.ReadOnly {
		options += ", READ_ONLY"
	}
	if o.RowGroup > 0 && !o.ReadOnly {
		options += fmt.Sprintf(", ROW_GROUP_SIZE %d", o.RowGroup)
	}
	return "ATTACH " + Literal(path) + " AS " + catalog + " (" + options + ")"
}

// RowGroup returns the number of rows in a row group for records of that
// number and size in bytes. DuckDB keeps the row group being filled in memory
// and compresses it as a whole, so this is what bounds a load's memory.
func RowGroup(records, bytes int64) int {
	const (
		target = 32 << 20
		vector = 2048 // row groups are whole vectors
		most   = 60 * vector
	)
	if records <= 0 || bytes <= 0 {
		return most
	}
	rows := target / max(bytes/records, 1) / vector * vector
	return int(min(max(rows, vector), most))
}

// Checkpoint moves what was committed from the write-ahead log into the file.
func (d *DB) Checkpoint(ctx context.Context) error {
	_, err := d.ExecContext(ctx, "CHECKPOINT "+catalog)
	return err
}

// Close closes the database, so that other processes can open its file.
func (d *DB) Close() error {
	defer d.release()
	if err := d.close(); err != nil {
		return fmt.Errorf("duckdb: close: %w", err)
	}
	return nil
}

func (d *DB) close() error {
	var err error
	if d.file {
		// Detaching tells of a failed last write, closing would not.
		for _, statement := range []string{"USE memory", "DETACH " + catalog} {
			_, e := d.ExecContext(context.Background(), statement)
			err = errors.Join(err, e)
		}
	}
	return errors.Join(err, d.Conn.Close(), d.pool.Close())
}

// Quote returns name as an SQL identifier.
func Quote(name string) string {
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// Literal returns s as an SQL string.
func Literal(s string) string {
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}

// Kind sorts DuckDB's errors.
type Kind int

// The kinds of errors.
const (
	// Other is what may pass by itself: a full disk, an interrupted call.
	Other Kind = iota
	// Refused does not pass before somebody changes something: a permission,
	// a table's shape, a file that is no database.
	Refused
	// Memory means that Options.Memory is too little for these records.
	Memory
)

// KindOf returns the kind of an error of this package or of DuckDB's.
func KindOf(err error) Kind {
	text := ""
	if err != nil {
		text = err.Error()
	}
	var e *driver.Error
	switch {
	case containsAny(text, "Out of Memory Error", "failed to pin block", "failed to allocate"):
		return Memory
	case containsAny(text, "Permission denied", "Read-only file system", "Is a directory", "Not a directory",
		"Operation not permitted", "File name too long", "not a valid DuckDB database",
		"Trying to read a database file with version number", "newer version of DuckDB"):
		return Refused
	case errors.Is(err, os.ErrPermission):
		return Refused
	case errors.As(err, &e):
		switch e.Type {
		case driver.ErrorTypeCatalog, driver.ErrorTypeBinder, driver.ErrorTypeConstraint,
			driver.ErrorTypeConversion, driver.ErrorTypePermission, driver.ErrorTypeInvalidInput,
			driver.ErrorTypeMismatchType, driver.ErrorTypeParser:
			return Refused
		}
	}
	return Other
}

func containsAny(text string, parts ...string) bool {
	for _, p := range parts {
		if strings.Contains(text, p) {
			return true
		}
	}
	return false
}

// Brief returns err with the first line of its text: DuckDB adds hints on SQL
// settings that nobody here can set, and the statement.
func Brief(err error) error {
	if err == nil {
		return nil
	}
	return briefError{err}
}

type briefError struct{ error }

func (e briefError) Error() string {
	text, _, _ := strings.Cut(e.error.Error(), "\n")
	return text
}

func (e briefError) Unwrap() error { return e.error }
