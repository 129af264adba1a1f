package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/snapshot"
)

// DuckDBOptions say how a DuckDB works. The zero value keeps all snapshots.
type DuckDBOptions struct {
	// Setting is the setting that the path came from, for messages; "" is
	// STORE_DUCKDB.
	Setting string
	// Replace keeps only the newest snapshot of each tenancy.
	Replace bool
	// Keep says which snapshots stay when Replace is false.
	Keep Keep
	// Memory bounds DuckDB's memory in bytes; 0 is 768 MB. A load takes up to
	// a third of that for records of ordinary size, whatever their number.
	Memory int64
	// LockWait is how long Write waits for a file that another process
	// holds; 0 is not at all.
	LockWait time.Duration
	// Note, when not nil, is told what the table says differently from the
	// snapshot, one sentence each.
	Note func(s *snapshot.Snapshot, text string)
}

// A DuckDB is the sink that adds snapshots to the tables of a DuckDB file.
//
// Each stream has a table of its name in the schema main, made when missing:
//
//	upload_timestamp TIMESTAMP, tenancy VARCHAR, json_data JSON
//
// A table that is there is used as it is when it has these columns, in any
// order; json_data may be VARCHAR. Beside it the view <stream>_latest has the
// rows of each tenancy's newest snapshot, unless something else has that
// name. The table _collectord_snapshots lists what was stored; a snapshot in
// it is not stored again, even if its rows have been removed since.
//
// A snapshot is one transaction. The file is open only meanwhile, so that
// other programs can open it in between. json_data holds the record byte for
// byte, except for lone surrogates, see duckdb.AppendJSON.
//
// A snapshot that is stored after a newer one goes among the older ones: it is
// not the latest, and is dropped where Replace or Keep leave no room for it.
type DuckDB struct {
	path *Path
	o    DuckDBOptions
}

// NewDuckDB makes a DuckDB for the file, or files, that p names.
func NewDuckDB(p *Path, o DuckDBOptions) *DuckDB {
	if o.Setting == "" {
		o.Setting = "STORE_DUCKDB"
	}
	if o.Replace {
		o.Keep = Keep{Newest: 1}
	}
	return &DuckDB{path: p, o: o}
}

// Name returns "duckdb".
func (d *DuckDB) Name() string { return "duckdb" }

// Close does nothing: nothing is kept open.
func (d *DuckDB) Close() error { return nil }

// Write adds s to its table.
func (d *DuckDB) Write(ctx context.Context, s *snapshot.Snapshot) error {
	path := d.path.Render(s.Header)
	if err := makeFolder(filepath.Dir(path)); err != nil {
		return explainFile(d.o.Setting, path, err)
	}
	var err error
	for _, memory := range duckdb.Attempts(d.o.Memory) {
		err = d.write(ctx, s, path, memory)
		if duckdb.KindOf(err) != duckdb.Memory {
			break
		}
	}
	return d.explain(s.Stream, path, err)
}

func (d *DuckDB) write(ctx context.Context, s *snapshot.Snapshot, path string, memory int64) (err error) {
	// What the extraction needed is given back before DuckDB takes its part: the
	// two do not add up.
	debug.FreeOSMemory()
	_, statErr := os.Stat(path)
	db, err := d.open(ctx, path, duckdb.Options{
		Memory:   memory,
		RowGroup: duckdb.RowGroup(s.Records, s.Bytes),
	})
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, db.Close())
		if err == nil && errors.Is(statErr, fs.ErrNotExist) {
			err = syncFolder(filepath.Dir(path))
		}
	}()
	fixed, err := store(ctx, db, s, d.o.Keep)
	if err != nil {
		return err
	}
	if fixed > 0 && d.o.Note != nil {
		d.o.Note(s, fmt.Sprintf("%d records have \\u escapes that are no character, which DuckDB rejects: each is stored as its six letters", fixed))
	}
	// What is committed is safe in the log; the checkpoint lets others read
	// the file without it. A second Write would do it, too.
	return db.Checkpoint(context.WithoutCancel(ctx))
}

// lockRetry is how often a locked file is tried.
const lockRetry = 200 * time.Millisecond

// open waits for a file that another process holds.
func (d *DuckDB) open(ctx context.Context, path string, o duckdb.Options) (*duckdb.DB, error) {
	end := time.Now().Add(d.o.LockWait)
	for {
		db, err := duckdb.Open(ctx, path, o)
		var locked *duckdb.LockedError
		if !errors.As(err, &locked) || time.Now().After(end) {
			return db, err
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(locked, context.Cause(ctx))
		case <-time.After(min(lockRetry, time.Until(end)+time.Millisecond)):
		}
	}
}

// Check opens the file, or tries to write beside the nearest folder that
// exists. It waits for a locked file as Write does: a service that runs holds
// it while it stores a snapshot.
func (d *DuckDB) Check(ctx context.Context) error {
	path := d.path.literal()
	if path == "" {
		path = d.path.Folder()
	} else if _, err := os.Stat(path); err == nil {
		db, err := d.open(ctx, path, duckdb.Options{})
		if err == nil {
			err = db.Close()
		}
		if err != nil {
			return d.explain("", path, err)
		}
		path = filepath.Dir(path)
	} else {
		path = filepath.Dir(path)
	}
	if err := probeFolder(path); err != nil {
		return explainFile(d.o.Setting, path, err)
	}
	return nil
}

// explain names the setting and the table, and sorts the error.
func (d *DuckDB) explain(table, path string, err error) error {
	if err == nil {
		return nil
	}
	what := path
	if table != "" {
		what += ": table " + table
	}
	var locked *duckdb.LockedError
	if errors.As(err, &locked) {
		return err // it says all
	}
	brief := duckdb.Brief(err)
	switch kind := duckdb.KindOf(err); {
	case errors.Is(err, ErrRefused):
		return fmt.Errorf("%s: %s: %w", d.o.Setting, what, err)
	case kind == duckdb.Memory:
		return fmt.Errorf("%s: %s: %w: %w: 2,048 records in a row have to fit: raise %s_MEMORY", d.o.Setting, what, ErrRefused, brief, d.o.Setting)
	case kind == duckdb.Refused:
		return fmt.Errorf("%s: %s: %w: %w", d.o.Setting, what, ErrRefused, brief)
	}
	return fmt.Errorf("%s: %s: %w", d.o.Setting, what, brief)
}
