// Package query runs SQL on the last-known snapshots with the embedded DuckDB. A
// query can read nothing else: no file, no network and no setting. For that it makes
// Parquet files of snapshots, each once, which destinations store as well.
//
// DuckDB cannot bound all the memory that a statement takes, and cannot interrupt
// each of its steps. So each query runs in a process of its own, which has limits
// of the operating system and is killed at the deadline.
package query

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/collectord/collectord/pkg/snapshot/columns"
	"github.com/collectord/collectord/pkg/state"
)

// ErrRefused means that the query is not exactly one SELECT.
var ErrRefused = errors.New("only one SELECT is allowed")

// ErrBusy means that as many queries are running as may run at once.
var ErrBusy = errors.New("other queries are running: try again when one has finished")

// ErrTime means that a query was ended because it took longer than Limits.Time.
var ErrTime = errors.New("the query took too long")

// ErrMemory means that a query needed more memory than Options.Memory.
var ErrMemory = errors.New("the query needs too much memory")

// ErrNotRun means that a query could not be run for a reason that is not its text, such as
// data that cannot be loaded.
var ErrNotRun = errors.New("the query could not be run")

// Options are the settings of an Engine.
type Options struct {
	// State has the snapshots of Tenancy.
	State   *state.State
	Tenancy string
	// Tenancies, if there are some, are those whose rows the tables of Query, Parquet and
	// QueryToFile have, in place of Tenancy's alone.
	Tenancies []string
	// Dir is the directory for the databases of running queries, in which the
	// streams that a query names become tables.
	Dir string
	// Memory bounds the memory of a query's process in bytes; 0 is 1536 MiB.
	// DuckDB itself uses half of it. Only Linux enforces the other half.
	Memory int64
	// MemorySetting is the name of the setting that Memory comes from, for errors.
	MemorySetting string
	// Disk bounds the disk space for what does not fit in memory, without the
	// tables, such as "4GiB"; "" is "4GiB".
	Disk string
	// Parallel is the number of queries that run at once; 0 is 1.
	Parallel int
	// Optional are the members that records of a stream may lack, by the stream's name.
	// They are NULL when no record has them.
	Optional map[string][]string
	// Declared are the members of records whose kinds are known before there is a value, by
	// the stream's name.
	Declared map[string][]columns.Remembered
	// Bounds, if not nil, is an engine whose bounds of queries and copies at once this one
	// shares. One of several engines that are not closed runs at most Parallel-1 queries at
	// once, if that is not 0, so that the others can run one.
	Bounds *Engine
	// LowPriority gives the processes of queries less of the processor than others, such
	// as the extractions of a service. Without it, they have that of this process. Copies
	// that no query waits for always have less.
	LowPriority bool
}

// defaultMemory is sufficient for single records of 64 MB among smaller ones.
const defaultMemory = 1536 << 20

// maxThreads is the largest number of threads of a query. Each needs memory.
const maxThreads = 4

// An Engine runs queries.
type Engine struct {
	o      Options
	bounds *bounds
	own    chan struct{} // bounds the queries of this one, while there are others
	copies *copies
	files  atomic.Pointer[FileOptions] // see ShareFiles
}

// New returns an engine, which Close closes. It does no I/O.
func New(o Options) *Engine {
	if o.Disk == "" {
		o.Disk = "4GiB"
	}
	if o.Memory == 0 {
		o.Memory = defaultMemory
	}
	o.Parallel = max(o.Parallel, 1)
	if o.Bounds != nil {
		return newBounded(o, o.Bounds.bounds, newCopies(o.Bounds.copies.slots))
	}
	// One copy more than queries: Prepare does not keep a query from making its own.
	return newBounded(o, &bounds{slots: make(chan struct{}, o.Parallel)}, newCopies(make(chan struct{}, o.Parallel+1)))
}

// bounds are what engines share.
type bounds struct {
	slots   chan struct{} // of queries
	engines atomic.Int64  // the number of those that are not closed
}

// newBounded returns an engine that shares bounds.
func newBounded(o Options, b *bounds, c *copies) *Engine {
	b.engines.Add(1)
	return &Engine{o: o, bounds: b, own: make(chan struct{}, max(cap(b.slots)-1, 1)), copies: c}
}

// ForTenancies returns an engine whose tables have the rows of tenancies, of which there is at
// least one. It shares all bounds with e, and ends with it.
func (e *Engine) ForTenancies(names []string) *Engine {
	other := &Engine{o: e.o, bounds: e.bounds, own: e.own, copies: e.copies}
	other.o.Tenancies = slices.Clone(names)
	other.files.Store(e.files.Load())
	return other
}

// Limits bound one query.
type Limits struct {
	// Time bounds loading and running together; 0 is no bound.
	Time time.Duration
	// Rows and Bytes bound the result; 0 is no bound. The rest of the result is
	// left out, and Summary.Truncated is true.
	Rows, Bytes int64
	// Width bounds the lines of a result in TableFormat, in columns of a terminal; 0 is no
	// bound. Values are shortened, and the last columns left out, to keep it.
	Width int
	// Wait makes a query wait until another one has finished, if as many run as
	// may run at once. Otherwise it returns ErrBusy.
	Wait bool
}

// A Summary describes a query that was run.
type Summary struct {
	Rows int64
	// Truncated reports whether the result exceeded the limits.
	Truncated bool
	Took      time.Duration
	// Streams are those that the query names.
	Streams []UsedStream
}

// A UsedStream is a stream that a query has read.
type UsedStream struct {
	Stream string
	// UploadID is that of the snapshot; "" when there are those of several tenancies.
	UploadID string
	// Taken is the time of the data: that of the snapshot, or when the vendor last said
	// that it has not changed. It is the oldest of several.
	Taken time.Time
}

// Query runs the SELECT in text and writes the result to w. After an error, w may
// have a part of it.
func (e *Engine) Query(ctx context.Context, text string, format Format, l Limits, w io.Writer) (Summary, error) {
	return e.runQuery(ctx, task{Kind: formatTask, Text: text, Format: format}, l, w)
}

// Parquet runs the SELECT in text and writes the result to the new file at path, which
// appears complete or not at all.
func (e *Engine) Parquet(ctx context.Context, text, path string, l Limits) (Summary, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return Summary{}, err
	}
	return e.runQuery(ctx, task{Kind: parquetTask, Text: text, Path: path}, l, io.Discard)
}

// QueryToFile runs the SELECT in text and returns a file with the result, which is read from
// its beginning. The file has no name any more, so that closing it, or the end of the
// process, removes it. It is on the disk of Options.Dir.
func (e *Engine) QueryToFile(ctx context.Context, text string, format Format, l Limits) (_ *os.File, sum Summary, err error) {
	dir, remove, err := e.createTaskDir()
	if err != nil {
		return nil, sum, withKind(ErrNotRun, err)
	}
	defer remove()
	path := filepath.Join(dir, "result")
	if format == ParquetFormat {
		if sum, err = e.Parquet(ctx, text, path, l); err != nil {
			return nil, sum, err
		}
		file, err := os.Open(path)
		return file, sum, withKind(ErrNotRun, err)
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, sum, withKind(ErrNotRun, err)
	}
	if sum, err = e.Query(ctx, text, format, l, file); err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, sum, errors.Join(err, file.Close())
	}
	return file, sum, nil
}

// runQuery runs a task in a process of its own, within the limits.
func (e *Engine) runQuery(ctx context.Context, t task, l Limits, w io.Writer) (sum Summary, err error) {
	if at := strings.IndexByte(t.Text, 0); at >= 0 {
		return Summary{}, fmt.Errorf("the query has a NUL character at byte %d, at which DuckDB would end it: remove it", at+1)
	}
	began := time.Now()
	if l.Time > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, l.Time, fmt.Errorf("%w: the limit is %v", ErrTime, l.Time))
		defer cancel()
	}
	release, err := e.acquireSlots(ctx, l.Wait)
	if err != nil {
		return Summary{}, err
	}
	defer release()
	defer func() {
		sum.Took = time.Since(began)
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("query: %w", context.Cause(ctx))
		}
	}()
	t.Rows, t.Bytes, t.Width, t.Disk, t.Memory, t.Threads = l.Rows, l.Bytes, l.Width, e.o.Disk, e.o.Memory/2, min(runtime.NumCPU(), maxThreads)
	return e.runTask(ctx, t, w)
}

// acquireSlots takes the slots of a query: that of the engine, if there are others, and one of
// all. The caller calls release when the query has ended.
func (e *Engine) acquireSlots(ctx context.Context, wait bool) (release func(), err error) {
	release = func() {}
	if e.bounds.engines.Load() > 1 {
		if err := acquireSlot(ctx, e.own, wait); err != nil {
			return nil, err
		}
		release = func() { <-e.own }
	}
	if err := acquireSlot(ctx, e.bounds.slots, wait); err != nil {
		release()
		return nil, err
	}
	releaseOwn := release
	return func() {
		<-e.bounds.slots
		releaseOwn()
	}, nil
}

func acquireSlot(ctx context.Context, slots chan struct{}, wait bool) error {
	select {
	case slots <- struct{}{}:
		return nil
	default:
	}
	if !wait {
		return ErrBusy
	}
	select {
	case slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("query: %w", context.Cause(ctx))
	}
}
