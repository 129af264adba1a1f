package query

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/snapshot/columns"
)

// A Format is a form of a result.
type Format string

// The formats of results.
const (
	TableFormat Format = "table" // aligned columns
	// CSVFormat is RFC 4180 with a header; NULL is empty. A text that a spreadsheet
	// program could execute as a formula gets an apostrophe before it.
	CSVFormat Format = "csv"
	// RawCSVFormat is CSVFormat with every text as it is.
	RawCSVFormat Format = "csv-raw"
	JSONFormat   Format = "json" // an array of objects
	// RowsFormat is for programs: JSON values, one per line. The first is an array
	// of Columns, the others are arrays of texts, with null for NULL.
	RowsFormat Format = "rows"
	// ParquetFormat is a Parquet file, for QueryToFile only.
	ParquetFormat Format = "parquet"
)

// A task is what a worker process does. It reads one, as JSON, from its standard
// input.
type task struct {
	Kind taskKind
	Text string // the SELECT
	// Format is that of the result on standard output, for formatTask.
	Format Format `json:",omitempty"`
	// Width bounds the lines of a table, see Limits.
	Width int `json:",omitempty"`
	// Path is the file of the result, for parquetTask and copyTask.
	Path string `json:",omitempty"`
	// File is set when copyTask makes the file for destinations.
	File *fileTask `json:",omitempty"`
	// Dir is a directory for this task alone.
	Dir string
	// Streams are the streams that have data.
	Streams []streamSource
	// Memory bounds DuckDB's own memory in bytes, Disk the disk space for what
	// does not fit in it.
	Memory int64
	Disk   string
	// Threads is the number of threads of a statement; 0 is 1.
	Threads int `json:",omitempty"`
	// Rows and Bytes bound the result, see Limits.
	Rows, Bytes int64 `json:",omitempty"`
	// Measures are those of measureTask. Register reports whether Dir has the register.
	Measures         []workerMeasure `json:",omitempty"`
	Detail, Register bool            `json:",omitempty"`

	lowPriority bool // of the process, see Options
}

// A fileTask says how the file for destinations is made, see parquet.Options.
type fileTask struct {
	Types           string
	Repair, Untyped bool
}

// A streamSource is a stream of a tenancy and its last-known snapshot.
type streamSource struct {
	Stream, UploadID string
	Tenancy          string
	Taken            time.Time
	Records          int64
	// Dir is the directory of the snapshot.
	Dir string
	// Columns is the path of the snapshot's columnar copy; "" if there is none.
	Columns string
	// View is the SELECT list of the columns in it; "" is all.
	View string `json:",omitempty"`
	// Optional are the members that records may lack.
	Optional []string `json:",omitempty"`
	// Declared are the members whose kinds are known, for copyTask.
	Declared []columns.Remembered `json:",omitempty"`

	// background means that no query waits for a copy, whose process has low priority then.
	background bool
}

type taskKind string

const (
	formatTask  taskKind = "format"  // writes the result to standard output
	parquetTask taskKind = "parquet" // writes the result to a file
	profileTask taskKind = "profile" // writes a Profile to standard output
	copyTask    taskKind = "copy"    // writes a columnar copy of a snapshot to a file
	measureTask taskKind = "measure" // writes the results of measures to standard output
)

// A report is the end of a task. The worker writes it, as JSON, to file descriptor 3.
type report struct {
	Summary Summary
	Error   string  `json:",omitempty"`
	Kind    errKind `json:",omitempty"`
}

// errKind says what an error of a worker is, as far as callers tell errors apart.
type errKind string

const (
	refusedKind errKind = "refused" // ErrRefused
	memoryKind  errKind = "memory"  // ErrMemory
	goneKind    errKind = "gone"    // a snapshot was replaced while it was read
	loadKind    errKind = "load"    // ErrNotRun
	damagedKind errKind = "damaged" // snapshot.ErrDamaged
)

// errGone means that a snapshot was replaced by a newer one while it was read.
var errGone = errors.New("a snapshot was replaced while it was read")

// kindErrors has the error of each kind.
var kindErrors = map[errKind]error{
	refusedKind: ErrRefused, memoryKind: ErrMemory, goneKind: errGone, loadKind: ErrNotRun, damagedKind: snapshot.ErrDamaged,
}

// err returns the error that the worker reported.
func (r report) err() error {
	if r.Error == "" {
		return nil
	}
	return &workerError{text: r.Error, kind: kindErrors[r.Kind]}
}

// newReport returns the report of a task.
func newReport(sum Summary, err error) report {
	r := report{Summary: sum}
	if err == nil {
		return r
	}
	r.Error = shorten(settingAdvice.ReplaceAllString(err.Error(), ""))
	for kind, is := range kindErrors {
		if errors.Is(err, is) {
			r.Kind = kind
		}
	}
	return r
}

// settingAdvice matches the sentences of DuckDB's errors that advise a setting, which no
// query can change.
var settingAdvice = regexp.MustCompile(`[^.!\n]*\b(?:SET|PRAGMA) [a-z_]+\b[^.\n]*\.?`)

// maxErrorBytes bounds the text of an error, which a query can make as long as it wants.
const maxErrorBytes = 4 << 10

func shorten(text string) string {
	if len(text) <= maxErrorBytes {
		return text
	}
	return strings.ToValidUTF8(text[:maxErrorBytes], "") + "…"
}

// A workerError is an error that a worker reported. It wraps the error of its kind,
// whose text the worker has put into its own.
type workerError struct {
	text string
	kind error // nil for other errors
}

func (e *workerError) Error() string { return e.text }
func (e *workerError) Unwrap() error { return e.kind }

// withKind adds the kind of an error to err.
func withKind(kind, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", kind, err)
}
