// Package duckdb is the destination that stores snapshots in the tables of a
// DuckDB file.
package duckdb

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	"github.com/dustin/go-humanize/english"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/internal/durable"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/snapshot/columns"
	"github.com/collectord/collectord/pkg/store"
)

// Options are the options of a Sink.
type Options struct {
	// Path is the template of the file's path; with variables there are
	// several files.
	Path *store.Path
	// Setting is the setting that Path came from, for messages; "" means
	// STORE_DUCKDB.
	Setting string
	// Views is store.ViewsOn, ViewsTyped or ViewsOff; "" means ViewsOn.
	Views string
	// Retention says which snapshots of a tenancy stay.
	Retention store.Retention
	// Memory bounds DuckDB's memory in bytes; 0 means 768 MB. Storing a
	// snapshot takes up to a third of that for records of ordinary size,
	// whatever their number.
	Memory int64
	// LockWait is how long Write and Check wait for a file that another
	// process has open; 0 means not at all.
	LockWait time.Duration
	// Declared is that of store.Options.
	Declared map[string][]columns.Remembered
	// Note, when not nil, receives how the table differs from the snapshot.
	Note store.NoteFunc
}

// A Sink adds snapshots to the tables of a DuckDB file.
//
// Each stream has a table of its name in the schema main, created when it does
// not exist:
//
//	upload_timestamp TIMESTAMP, tenancy VARCHAR, json_data JSON
//
// An existing table is used when it has exactly these columns, in any order;
// json_data may be VARCHAR. The view <stream>_latest has the rows of each
// tenancy's newest snapshot, unless something else has that name. With
// Options.Views typed, <stream>_latest_typed has a column for each member of those
// records. The table _collectord_snapshots lists what was stored; a snapshot in it is not stored
// again, even if its rows have been deleted since.
//
// A new file has the mode durable.FileMode less the umask, an existing one keeps
// its mode, and the files that DuckDB has beside it are not readable by more.
//
// A snapshot is one transaction. The file is open only during it, so that
// other programs can open it in between. json_data holds the record byte for
// byte, except for lone surrogates, see snapshot.EscapeSurrogates.
//
// A snapshot that is stored after a newer one is sorted among the older ones:
// it does not become the latest, and its records are not stored when the
// retention would delete them. The same holds for a snapshot that is dated in
// the future. Both are noted.
type Sink struct {
	opts Options
	// onLocked, when not nil, is called each time that another process has
	// the file open, for tests.
	onLocked func()
}

// New checks the options and returns a Sink.
func New(o Options) (*Sink, error) {
	switch o.Views {
	case "", store.ViewsOn, store.ViewsTyped, store.ViewsOff:
	default:
		return nil, fmt.Errorf("duckdb: views %q: want on, typed or off", o.Views)
	}
	if o.Setting == "" {
		o.Setting = setting
	}
	return &Sink{opts: o}, nil
}

// Name returns "duckdb".
func (s *Sink) Name() string { return Name }

// ReplacesPrevious implements store.Replacer.
func (s *Sink) ReplacesPrevious() bool { return s.opts.Retention.Newest == 1 }

// Target implements store.Targeter.
func (s *Sink) Target() string { return s.opts.Path.String() }

// Close does nothing: a Sink keeps nothing open.
func (s *Sink) Close() error { return nil }

// Write adds the snapshot to its table.
func (s *Sink) Write(ctx context.Context, snap *snapshot.Snapshot) error {
	path := s.opts.Path.Render(snap.Header)
	if err := durable.MkdirAll(filepath.Dir(path), durable.DirMode, durable.SyncReadableDir); err != nil {
		return store.ExplainFileError(s.opts.Setting, path, err)
	}
	var err error
	for _, memory := range duckdb.Attempts(s.opts.Memory) {
		err = s.writeWithin(ctx, snap, path, memory)
		if duckdb.KindOf(err) != duckdb.Memory {
			break
		}
	}
	return s.explainError(snap.Stream, path, err)
}

// writeWithin adds the snapshot to the file at path with that much memory for
// DuckDB, in bytes.
func (s *Sink) writeWithin(ctx context.Context, snap *snapshot.Snapshot, path string, memory int64) (err error) {
	// Return the memory of the extraction to the system before DuckDB takes
	// its own, so that the two do not add up.
	debug.FreeOSMemory()
	created := isMissing(path)
	db, err := s.openUnlocked(ctx, path, duckdb.Options{
		Memory:   memory,
		RowGroup: duckdb.RowGroup(snap.Records, snap.Bytes),
	})
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, db.Close())
		if err == nil && created {
			err = durable.SyncReadableDir(filepath.Dir(path))
		}
	}()
	cleanUp, err := protectFiles(path, created)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cleanUp()) }()
	t := &transaction{db: db, snap: snap, table: "main." + duckdb.Quote(snap.Stream), views: s.opts.Views, declared: s.opts.Declared[snap.Stream]}
	place, err := t.storeSnapshot(ctx, s.opts.Retention)
	if err != nil {
		return err
	}
	store.ReportPlacement(ctx, s.opts.Note, snap, "duckdb: table "+snap.Stream, place)
	if t.fixed > 0 {
		t.notes = append(t.notes, english.Plural(int(t.fixed), "record has", "records have")+" \\u escapes that are no character, which DuckDB rejects: each is stored as its six letters")
	}
	for _, note := range t.notes {
		if s.opts.Note != nil {
			s.opts.Note(snap, note)
		}
	}
	// What is committed is safe in the write-ahead log. The checkpoint lets
	// other programs read the file without the log. If it fails, the repeated
	// Write does it.
	return db.Checkpoint(context.WithoutCancel(ctx))
}

// lockRetry is the wait between two attempts to open a locked file.
const lockRetry = 200 * time.Millisecond

// openUnlocked opens the file at path. While another process has it open,
// openUnlocked waits up to LockWait. If ctx ends during the wait, the error
// says which process holds the file.
func (s *Sink) openUnlocked(ctx context.Context, path string, o duckdb.Options) (*duckdb.DB, error) {
	deadline := time.Now().Add(s.opts.LockWait)
	var seen *duckdb.LockedError // from the last attempt that met a lock
	for {
		db, err := duckdb.Open(ctx, path, o)
		var locked *duckdb.LockedError
		if !errors.As(err, &locked) {
			if err != nil && seen != nil && ctx.Err() != nil {
				return nil, errors.Join(seen, context.Cause(ctx)) // ctx ended during the attempt
			}
			return db, err
		}
		seen = locked
		if s.onLocked != nil {
			s.onLocked()
		}
		if time.Now().After(deadline) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(locked, context.Cause(ctx))
		case <-time.After(min(lockRetry, time.Until(deadline)+time.Millisecond)):
		}
	}
}

// Check opens the file if it exists, or reports whether files can be created in
// its directory or in the nearest directory above that exists. It waits for a
// locked file as Write does: a running service has it open while it stores a
// snapshot.
func (s *Sink) Check(ctx context.Context) error {
	dir := s.opts.Path.Directory()
	if path := s.opts.Path.Literal(); path != "" {
		dir = filepath.Dir(path)
		if _, err := os.Stat(path); err == nil {
			if err := s.checkFile(ctx, path); err != nil {
				return s.explainError("", path, err)
			}
		}
	}
	if err := durable.ProbeDir(dir); err != nil {
		return store.ExplainFileError(s.opts.Setting, dir, err)
	}
	return nil
}

// CheckTables implements store.TableChecker.
func (s *Sink) CheckTables(ctx context.Context, streams []snapshot.Header) error {
	paths := map[string][]string{} // the streams in each file
	for _, h := range streams {
		path := s.opts.Path.Render(h)
		paths[path] = append(paths[path], h.Stream)
	}
	var errs []error
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		if _, err := os.Stat(path); err == nil {
			errs = append(errs, s.checkTablesIn(ctx, path, paths[path]))
		}
	}
	return errors.Join(errs...)
}

// checkTablesIn checks the tables of streams in the file at path.
func (s *Sink) checkTablesIn(ctx context.Context, path string, streams []string) error {
	db, err := s.openUnlocked(ctx, path, duckdb.Options{ReadOnly: true})
	if err != nil {
		return s.explainError("", path, err)
	}
	var errs []error
	for _, stream := range streams {
		_, err := checkTable(ctx, db, stream)
		if err == nil && s.opts.Views == store.ViewsTyped {
			_, err = findTypedView(ctx, db, stream)
		}
		errs = append(errs, s.explainError(stream, path, err))
	}
	return errors.Join(append(errs, db.Close())...)
}

// checkFile reports whether the file at path can be opened.
func (s *Sink) checkFile(ctx context.Context, path string) error {
	db, err := s.openUnlocked(ctx, path, duckdb.Options{})
	if err != nil {
		return err
	}
	return db.Close()
}

// explainError adds the setting, the file and the table to an error. The result
// wraps store.ErrRefused when repeating cannot help. table may be "".
func (s *Sink) explainError(table, path string, err error) error {
	if err == nil {
		return nil
	}
	what := path
	if table != "" {
		what += ": table " + table
	}
	var locked *duckdb.LockedError
	if errors.As(err, &locked) {
		return err // it says everything
	}
	brief := duckdb.Brief(err)
	switch kind := duckdb.KindOf(err); {
	case errors.Is(err, store.ErrRefused):
		return fmt.Errorf("%s: %s: %w", s.opts.Setting, what, err)
	case kind == duckdb.Memory:
		return fmt.Errorf("%s: %s: %w: %w: 2,048 records in a row have to fit: raise %s_MEMORY", s.opts.Setting, what, store.ErrRefused, brief, s.opts.Setting)
	case kind == duckdb.Damaged:
		return fmt.Errorf("%s: %s: %w: %w: %s", s.opts.Setting, what, store.ErrRefused, brief, adviceFor(path))
	case kind == duckdb.Refused:
		// DuckDB's text does not say what to do when nothing can be created there.
		if unwritable := durable.ProbeDir(filepath.Dir(path)); unwritable != nil {
			return store.ExplainFileError(s.opts.Setting, path, fmt.Errorf("%w: %w", brief, unwritable))
		}
		return fmt.Errorf("%s: %s: %w: %w", s.opts.Setting, what, store.ErrRefused, brief)
	}
	return fmt.Errorf("%s: %s: %w", s.opts.Setting, what, brief)
}
