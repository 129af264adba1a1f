package query

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/gofrs/flock"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/snapshot"
)

// A room is a database file of one query's own, with its folder.
type room struct {
	db   *duckdb.DB
	dir  string
	lock *flock.Flock
}

const roomPrefix = "query-"

// open makes a room. Rooms that a process left behind when it died are
// removed first.
func (e *Engine) open(ctx context.Context) (*room, error) {
	if err := os.MkdirAll(e.o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	sweep(e.o.Dir)
	dir, err := os.MkdirTemp(e.o.Dir, roomPrefix)
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	r := &room{dir: dir, lock: flock.New(filepath.Join(dir, "lock"))}
	if _, err := r.lock.TryLock(); err != nil {
		return nil, errors.Join(fmt.Errorf("query: %w", err), os.RemoveAll(dir))
	}
	r.db, err = duckdb.Open(ctx, filepath.Join(dir, "tables.duckdb"), duckdb.Options{Memory: e.o.Memory, RowGroup: 16384})
	if err != nil {
		return nil, errors.Join(err, r.lock.Unlock(), os.RemoveAll(dir))
	}
	return r, nil
}

func (r *room) close() error {
	// What the last checkpoint could not write is thrown away with the rest.
	_ = r.db.Close()
	return errors.Join(r.lock.Unlock(), os.RemoveAll(r.dir))
}

// sweep removes the rooms that nobody holds. One that is being made has no
// lock file yet and is left alone.
func sweep(dir string) {
	found, _ := filepath.Glob(filepath.Join(dir, roomPrefix+"*", "lock"))
	for _, path := range found {
		lock := flock.New(path, flock.SetFlag(os.O_RDWR))
		if free, err := lock.TryLock(); err == nil && free {
			_ = os.RemoveAll(filepath.Dir(path))
			_ = lock.Unlock()
		}
	}
}

// names are the streams that have data.
func (e *Engine) names(ctx context.Context) []string {
	streams, err := e.o.State.Streams(ctx)
	if err != nil {
		return nil
	}
	var names []string
	for _, s := range streams {
		if s.Tenancy == e.o.Tenancy && !s.Taken.IsZero() {
			names = append(names, s.Stream)
		}
	}
	return names
}

var wordPattern = regexp.MustCompile(`[\pL_][\pL\pN_]*`)

// load makes a table of every stream whose name occurs in text. Loading one
// too many, for a name in a comment, costs time and nothing else.
func (e *Engine) load(ctx context.Context, db *duckdb.DB, text string) ([]Used, error) {
	words := map[string]bool{}
	for _, w := range wordPattern.FindAllString(strings.ToLower(text), -1) {
		words[w] = true
	}
	var used []Used
	for _, name := range e.names(ctx) {
		if !words[strings.ToLower(name)] {
			continue
		}
		sealed, err := e.table(ctx, db, name)
		if err != nil {
			return nil, fmt.Errorf("query: load %s: %w", name, duckdb.Brief(err))
		}
		used = append(used, Used{Stream: name, UploadID: sealed.UploadID, Taken: sealed.UploadTimestamp})
	}
	return used, nil
}

// table loads a stream's last-known snapshot. When a newer one takes its place
// meanwhile, that one is loaded.
func (e *Engine) table(ctx context.Context, db *duckdb.DB, stream string) (*snapshot.Snapshot, error) {
	for previous := ""; ; {
		sealed, _, err := e.o.State.LastKnown(ctx, stream, e.o.Tenancy)
		if err != nil {
			return nil, err
		}
		err = load(ctx, db, sealed)
		if err == nil || sealed.UploadID == previous || ctx.Err() != nil {
			return sealed, err
		}
		if _, gone := os.Stat(sealed.Path()); !errors.Is(gone, fs.ErrNotExist) {
			return sealed, err
		}
		previous = sealed.UploadID
	}
}

// largest is the size in bytes of the largest record that DuckDB's own JSON
// reader takes: its buffers are twice that.
const largest = 16 << 20

// load makes a table of a snapshot. DuckDB's JSON reader finds the columns and
// their types, nested ones too. What it refuses (lone surrogates, enormous
// records) is loaded record by record and typed from the records' structure.
func load(ctx context.Context, db *duckdb.DB, s *snapshot.Snapshot) error {
	if err := s.Verify(ctx); err != nil {
		return err
	}
	name := duckdb.Quote(s.Stream)
	if s.Records == 0 {
		_, err := db.ExecContext(ctx, "CREATE TABLE "+name+" (_tenancy VARCHAR, _upload_timestamp TIMESTAMP, _upload_id UUID)")
		return err
	}
	_, err := db.ExecContext(ctx, fmt.Sprintf(
		"CREATE TABLE %s AS SELECT * FROM read_json(%s, format = 'newline_delimited', compression = 'zstd', sample_size = -1, maximum_object_size = %d)",
		name, duckdb.Literal(s.Path()), largest))
	if err == nil || ctx.Err() != nil || duckdb.KindOf(err) == duckdb.Memory {
		return err
	}
	if slow := loadRecords(ctx, db, s); slow != nil {
		return errors.Join(err, slow)
	}
	return nil
}

func loadRecords(ctx context.Context, db *duckdb.DB, s *snapshot.Snapshot) (err error) {
	r, err := s.Reader(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	var buf []byte
	function, raw := "records_of_"+s.Stream, duckdb.Quote("raw_"+s.Stream)
	source, err := db.Source(function, []duckdb.Column{{Name: "record"}}, func(row *duckdb.Row) error {
		record, err := r.Next()
		if err != nil {
			return err
		}
		buf, _ = duckdb.AppendJSON(buf[:0], record)
		row.Text(0, buf)
		return nil
	})
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, "CREATE TABLE "+raw+" AS SELECT record::JSON AS record FROM "+duckdb.Quote(function)+"()")
	if err := source.Result(err); err != nil {
		return err
	}
	var structure sql.NullString
	if err := db.QueryRowContext(ctx, "SELECT json_group_structure(record)::VARCHAR FROM "+raw).Scan(&structure); err != nil {
		return err
	}
	if !structure.Valid {
		return io.ErrUnexpectedEOF
	}
	for _, statement := range []string{
		"CREATE TABLE " + duckdb.Quote(s.Stream) + " AS SELECT unnest(from_json(record, " + duckdb.Literal(structure.String) + ")) FROM " + raw,
		"DROP TABLE " + raw,
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}
