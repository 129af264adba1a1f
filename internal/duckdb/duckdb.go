// Package duckdb opens DuckDB with bounded memory and without extensions from the
// network. Within the process a file is open at most once at a time.
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

// ordinaryMemory is the memory in bytes that is sufficient for any number of
// records of ordinary size, with row groups by RowGroup.
const ordinaryMemory = 256 << 20

// DefaultMemory is the default bound of DuckDB's memory in bytes. It is sufficient
// for single records of 64 MB among smaller ones.
const DefaultMemory = 768 << 20

// Attempts returns the memory limits, in bytes, for the attempts to load records
// within bound; 0 means DefaultMemory. DuckDB uses all the memory that it may, and
// needs more than the first limit only for very large records.
func Attempts(bound int64) []int64 {
	if bound == 0 {
		bound = DefaultMemory
	}
	if bound <= ordinaryMemory {
		return []int64{bound}
	}
	return []int64{ordinaryMemory, bound}
}

// Options say how to open a database.
type Options struct {
	// Memory bounds DuckDB's own memory in bytes; 0 means DefaultMemory. The
	// allocator and the driver use about 100 MB more.
	Memory int64
	// Threads is how many threads a statement may use; 0 means 1, which needs
	// the least memory and loads as fast as 2.
	Threads int
	// ReadOnly opens an existing file for reading only.
	ReadOnly bool
	// TempDir is the directory for data that does not fit in memory; "" means
	// beside the file. A database without a file needs one.
	TempDir string
	// RowGroup is the number of rows in a new row group, see the function
	// RowGroup; 0 means DuckDB's default of 122,880.
	RowGroup int
}

// A DB is one connection to a database that is not open elsewhere in this process.
// It must be used by one goroutine.
type DB struct {
	*sql.Conn
	pool    *sql.DB
	file    bool
	release func()
}

// catalog is the name under which the file is attached. Statements do not need it
// to name tables.
const catalog = "target"

// Open opens the database file at path, which is created if it does not exist, or a
// database in memory if path is "". It waits while path is open elsewhere in this
// process. If another process has it open, the error is a *LockedError. The options
// are not stored in the file.
func Open(ctx context.Context, path string, o Options) (*DB, error) {
	release, err := acquirePath(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("duckdb: open %s: %w", path, err)
	}
	db, err := attachFile(ctx, path, o)
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

// attachFile opens a database in memory and attaches the file to it, since the size
// of row groups can be set for attached files only.
func attachFile(ctx context.Context, path string, o Options) (*DB, error) {
	pool, err := sql.Open("duckdb", dataSource(path, o))
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
	for _, statement := range []string{attachStatement(path, o), "USE " + catalog} {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			db.file = false
			return nil, errors.Join(err, db.closeDatabase())
		}
	}
	return db, nil
}

// dataSource returns the data source name for the driver.
func dataSource(path string, o Options) string {
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

// attachStatement returns the statement that attaches the file at path.
func attachStatement(path string, o Options) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs // an absolute path is never read as a URL
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

// RowGroup returns the number of rows in a row group for that many records with
// that many bytes in total. DuckDB keeps the row group that is being filled in
// memory and compresses it as a whole, so its size determines the memory of a
// load.
func RowGroup(records, bytes int64) int {
	const (
		targetBytes = 32 << 20
		vector      = 2048 // a row group consists of whole vectors
		maxRows     = 60 * vector
	)
	if records <= 0 || bytes <= 0 {
		return maxRows
	}
	rows := targetBytes / max(bytes/records, 1) / vector * vector
	return int(min(max(rows, vector), maxRows))
}

// Checkpoint moves what was committed from the write-ahead log into the file.
func (d *DB) Checkpoint(ctx context.Context) error {
	_, err := d.ExecContext(ctx, "CHECKPOINT "+catalog)
	return err
}

// Close closes the database, so that other processes can open its file.
func (d *DB) Close() error {
	defer d.release()
	if err := d.closeDatabase(); err != nil {
		return fmt.Errorf("duckdb: close: %w", err)
	}
	return nil
}

// closeDatabase detaches the file and closes the connection.
func (d *DB) closeDatabase() error {
	var err error
	if d.file {
		// DETACH reports a failed last write; closing does not.
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

// EscapeGlob returns the pattern that matches only the file named path, for functions
// such as read_parquet.
func EscapeGlob(path string) string {
	return strings.NewReplacer("[", "[[]", "*", "[*]", "?", "[?]").Replace(path)
}

// A Kind classifies DuckDB's errors.
type Kind int

// The kinds of errors.
const (
	// Other errors may disappear when the call is repeated: a full disk, an
	// interrupted call.
	Other Kind = iota
	// Refused errors remain until a person changes something: a permission, the
	// shape of a table, a file that is not a database.
	Refused
	// Memory means that Options.Memory is not sufficient for these records.
	Memory
	// Damaged means that the file is not a database, or only a part of one.
	Damaged
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
	case containsAny(text, "not a valid DuckDB database", "Could not read enough bytes", "Corrupt database file"):
		return Damaged
	case containsAny(text, "Permission denied", "Read-only file system", "Is a directory", "Not a directory",
		"Operation not permitted", "File name too long",
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

// containsAny reports whether text contains one of parts.
func containsAny(text string, parts ...string) bool {
	for _, p := range parts {
		if strings.Contains(text, p) {
			return true
		}
	}
	return false
}

// Brief returns err with the first line of its text. DuckDB adds the statement and
// hints about SQL settings that users of collectord cannot change.
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
