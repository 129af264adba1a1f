package duckdb

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/storetest"
)

func TestMain(m *testing.M) {
	storetest.Main(m, storetest.Child{
		OpenSink: openDatabase,
		OpenPlace: func(path string) (io.Closer, error) {
			return duckdb.Open(context.Background(), path, duckdb.Options{})
		},
	})
}

func TestSinks(t *testing.T) { storetest.Run(t, duckdbHarness()) }

func TestMillionRecords(t *testing.T) { storetest.RunMillion(t, duckdbHarness()) }

// openDatabase opens a sink on the file x.duckdb in dir.
func openDatabase(_, dir string) (store.Sink, error) {
	p, err := store.ParsePath("STORE_DUCKDB", filepath.Join(dir, "x.duckdb"))
	if err != nil {
		return nil, err
	}
	return New(Options{Path: p})
}

// newSink returns a sink on a new file.
func newSink(t *testing.T, o Options) (*Sink, database) {
	t.Helper()
	place := database{t.TempDir()}
	var err error
	if o.Path, err = store.ParsePath("STORE_DUCKDB", place.path()); err != nil {
		t.Fatal(err)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s, place
}

// A database is where a sink stores: the file x.duckdb in dir.
type database struct{ dir string }

func (d database) path() string { return filepath.Join(d.dir, "x.duckdb") }

func (d database) Latest(t *testing.T, h snapshot.Header) []string {
	t.Helper()
	return d.readTable(t, h.Stream+"_latest", h)
}

func (d database) All(t *testing.T, h snapshot.Header) []string {
	t.Helper()
	return d.readTable(t, h.Stream, h)
}

// readTable returns the records of a table or view that belong to the tenancy of
// h.
func (d database) readTable(t *testing.T, table string, h snapshot.Header) []string {
	t.Helper()
	if _, err := os.Stat(d.path()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return queryFile(t, d.path(), func(db *duckdb.DB) ([]string, error) {
		return queryStrings(t.Context(), db, "SELECT json_data::VARCHAR FROM "+duckdb.Quote(table)+" WHERE tenancy = ?", h.Tenancy)
	})
}

// queryFile opens the database at path for reading and calls read.
func queryFile(t *testing.T, path string, read func(*duckdb.DB) ([]string, error)) []string {
	t.Helper()
	db, err := duckdb.Open(t.Context(), path, duckdb.Options{Memory: 2 << 30, ReadOnly: path != ""})
	if err != nil {
		t.Fatal(err)
	}
	list, err := read(db)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return list
}

// executeIn executes statements in the database at path.
func executeIn(t *testing.T, path string, statements ...string) {
	t.Helper()
	db, err := duckdb.Open(t.Context(), path, duckdb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range statements {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Error(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func duckdbHarness() storetest.Harness {
	job := func(p storetest.Place, s *snapshot.Snapshot) storetest.Job {
		return storetest.Job{Place: p.(database).dir, Snapshots: []string{s.Dir()}}
	}
	return storetest.Harness{
		Name:         "duckdb",
		Child:        func(t *testing.T) (string, string) { return "", t.TempDir() },
		MaxMemory:    500 << 20,
		KeepsHistory: true,
		New: func(t *testing.T) (store.Sink, storetest.Place) {
			dir := filepath.Join(t.TempDir(), "data")
			sink, err := openDatabase("", dir)
			if err != nil {
				t.Fatal(err)
			}
			return sink, database{dir}
		},
		Expect: func(record string) string {
			fixed, _ := snapshot.EscapeSurrogates(nil, []byte(record))
			return string(fixed)
		},
		Breakages: map[string]storetest.Breakage{
			"full disk": {
				Refused: false,
				Write: func(t *testing.T, p storetest.Place, s *snapshot.Snapshot) (string, bool) {
					j := job(p, s)
					j.FileSize = 1536 << 10
					res := j.Run(t)
					return res.Problem, res.Refused
				},
			},
			"no permission": {
				Refused: true,
				Write: func(t *testing.T, p storetest.Place, s *snapshot.Snapshot) (string, bool) {
					return job(p, s).RunUnprivileged(t, p.(database).dir, 0o700)
				},
			},
			"read-only": {
				Refused: true,
				Write: func(t *testing.T, p storetest.Place, s *snapshot.Snapshot) (string, bool) {
					return job(p, s).RunUnprivileged(t, p.(database).path(), 0o444)
				},
			},
			"another table": {Refused: true, Write: writeToOtherTable},
		},
	}
}

// writeToOtherTable writes s while the table has another column.
func writeToOtherTable(t *testing.T, p storetest.Place, s *snapshot.Snapshot) (string, bool) {
	d := p.(database)
	executeIn(t, d.path(), `DROP VIEW okta_users_latest`, `ALTER TABLE okta_users RENAME tenancy TO tenant`)
	sink, err := openDatabase("", d.dir)
	if err != nil {
		t.Fatal(err)
	}
	problem, refused := storetest.WriteFailing(t, sink, s)
	executeIn(t, d.path(), `ALTER TABLE okta_users RENAME tenant TO tenancy`, viewStatement("okta_users"))
	if !strings.Contains(problem, "tenant VARCHAR") {
		t.Errorf("%q does not say which columns the table has", problem)
	}
	return problem, refused
}
