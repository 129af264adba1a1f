package duckdb

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/collectord/collectord/pkg/snapshot"
)

func opened(t *testing.T, path string, o Options) *DB {
	t.Helper()
	db, err := Open(t.Context(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func TestSettings(t *testing.T) {
	db := opened(t, filepath.Join(t.TempDir(), "it's a [file]?.duckdb"), Options{Memory: 100 << 20, RowGroup: 2048})
	defer db.Close()
	for name, want := range map[string]string{
		"memory_limit":                 "100.0 MiB",
		"threads":                      "1",
		"autoinstall_known_extensions": "false",
		"autoload_known_extensions":    "false",
	} {
		var got string
		if err := db.QueryRowContext(t.Context(), "SELECT current_setting("+Literal(name)+")::VARCHAR").Scan(&got); err != nil || got != want {
			t.Errorf("%s is %q, want %q: %v", name, got, want, err)
		}
	}
}

func TestFileIsForTheOldest(t *testing.T) {
	db := opened(t, filepath.Join(t.TempDir(), "x.duckdb"), Options{RowGroup: 2048})
	defer db.Close()
	var tags string
	if err := db.QueryRowContext(t.Context(), "SELECT tags::VARCHAR FROM duckdb_databases() WHERE database_name = 'target'").Scan(&tags); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(tags, "v1.0.0+") {
		t.Errorf("%s: small row groups need a newer DuckDB", tags)
	}
}

func TestOneOpeningAtATime(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.duckdb")
	db := opened(t, path, Options{})
	other := filepath.Join(dir, "..", filepath.Base(dir), "x.duckdb")
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("enough")
	cancel(reason)
	if _, err := Open(ctx, other, Options{}); !errors.Is(err, reason) {
		t.Errorf("error %v", err)
	}
	got := make(chan error)
	go func() {
		db, err := Open(t.Context(), other, Options{})
		if err == nil {
			_, err = db.ExecContext(t.Context(), "SELECT * FROM t")
			err = errors.Join(err, db.Close())
		}
		got <- err
	}()
	if _, err := db.ExecContext(t.Context(), "CREATE TABLE t (i INT)"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Errorf("the one that waited: %v", err)
	}
	if err := opened(t, path, Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	if len(openPaths) != 0 {
		t.Errorf("still noted: %v", openPaths)
	}
}

func TestSourceTellsItsOwnError(t *testing.T) {
	db := opened(t, "", Options{})
	defer db.Close()
	reason := errors.New("the source's")
	n := 0
	s, err := db.Source("rows", []Column{{Name: "a", Type: Int}}, func(r *Row) error {
		if n++; n == 5000 {
			return reason
		}
		r.SetInt(0, int64(n))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), "CREATE TABLE t AS SELECT * FROM rows()")
	if err := s.Result(err); !errors.Is(err, reason) {
		t.Errorf("error %v", err)
	}
}

func TestSourceReadInPart(t *testing.T) {
	db := opened(t, "", Options{})
	defer db.Close()
	s, err := db.Source("rows", []Column{{Name: "a"}}, func(r *Row) error { r.SetText(0, []byte("x")); return nil })
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), "CREATE TABLE t AS SELECT * FROM rows() LIMIT 3")
	if err := s.Result(err); err == nil {
		t.Error("reading three of endless rows passes for all")
	}
}

func TestSourceOfEmptyRows(t *testing.T) {
	db := opened(t, "", Options{})
	defer db.Close()
	n := 0
	s, err := db.Source("rows", []Column{{Name: "a"}, {Name: "b", Type: Float}}, func(r *Row) error {
		if n++; n > 3000 {
			return io.EOF
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var nulls int
	err = db.QueryRowContext(t.Context(), "SELECT count(*) FROM rows() WHERE a IS NULL AND b IS NULL").Scan(&nulls)
	if err := s.Result(err); err != nil || nulls != 3000 || s.Rows() != 3000 {
		t.Errorf("%d of %d rows are NULL: %v", nulls, s.Rows(), err)
	}
}

func TestErrorKinds(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]Kind{text: Damaged, t.TempDir(): Refused, text + "/x.duckdb": Refused} {
		if _, err := Open(t.Context(), path, Options{}); KindOf(err) != want || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: kind %d, want %d: %v", path, KindOf(err), want, err)
		}
	}
	db := opened(t, "", Options{Memory: 20 << 20})
	defer db.Close()
	_, err := db.ExecContext(t.Context(), "CREATE TABLE t AS SELECT repeat('x', 100000000) AS a FROM range(3)")
	if KindOf(err) != Memory || strings.Contains(Brief(err).Error(), "\n") {
		t.Errorf("kind %d: %v", KindOf(err), Brief(err))
	}
	if KindOf(nil) != Other || KindOf(context.Canceled) != Other {
		t.Error("not every error is DuckDB's")
	}
}

func TestRowGroup(t *testing.T) {
	for _, c := range []struct {
		records, bytes int64
		want           int
	}{{records: 0, bytes: 0, want: 122880}, {records: 1000, bytes: 2000 * 1000, want: 16384}, {records: 10, bytes: 10 << 26, want: 2048}, {records: 1000, bytes: 1000 * 100, want: 122880}} {
		if got := RowGroup(c.records, c.bytes); got != c.want {
			t.Errorf("%d records of %d bytes: %d, want %d", c.records, c.bytes, got, c.want)
		}
	}
}

// FuzzEscapeSurrogates checks that DuckDB accepts every JSON document and returns the same
// bytes, unless there were lone surrogates.
func FuzzEscapeSurrogates(f *testing.F) {
	for _, seed := range []string{`{"a":"\ud800\\ud800\u0000"}`, `[1e400,-0,1.0,12345678901234567890123]`, `{"a":1,"a":2}`, `{"":"` + "\u2028" + `"}`} {
		f.Add([]byte(seed))
	}
	db, err := Open(context.Background(), "", Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = db.Close() })
	f.Fuzz(func(t *testing.T, record []byte) {
		if !json.Valid(record) || !utf8.Valid(record) {
			return
		}
		stored, fixed := snapshot.EscapeSurrogates(nil, record)
		if fixed == bytes.Equal(stored, record) {
			t.Errorf("fixed is %t for %q", fixed, record)
		}
		var got string
		if err := db.QueryRowContext(t.Context(), "SELECT ?::VARCHAR::JSON::VARCHAR", string(stored)).Scan(&got); err != nil {
			t.Fatalf("%q: %v", record, err)
		}
		if got != string(stored) {
			t.Errorf("%q comes back as %q", stored, got)
		}
	})
}
