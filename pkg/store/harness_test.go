package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/snapshot"
)

// nobody is a user without rights here.
const nobody = 65534

// sinkAt makes the sink of that name in dir: "duckdb"; "file." and an
// extension; "postgres." and the column's type, where dir is a URL, # and a
// schema; "s3." and an extension, where dir is a bucket.
func sinkAt(name, dir string) (Sink, error) {
	if name == "duckdb" {
		p, err := ParsePath("STORE_DUCKDB", filepath.Join(dir, "x.duckdb"))
		if err != nil {
			return nil, err
		}
		return NewDuckDB(p, DuckDBOptions{}), nil
	}
	switch kind, rest, _ := strings.Cut(name, "."); kind {
	case "postgres":
		url, schema, _ := strings.Cut(dir, "#")
		return NewPostgres(PostgresOptions{URL: url, Schema: schema, JSON: rest})
	case "s3":
		p, err := ParsePath("STORE_AWS_S3_KEY", s3Keys+rest)
		if err != nil {
			return nil, err
		}
		return NewS3(S3Options{Bucket: dir, Key: p.Render})
	}
	p, err := ParsePath("STORE_FILE", filepath.Join(dir, "%TAG/%TENANCY."+strings.TrimPrefix(name, "file.")))
	if err != nil {
		return nil, err
	}
	return NewFile(p, FileOptions{})
}

func localSink(name string, at func(dir string) place) func(t *testing.T) (Sink, place) {
	return func(t *testing.T) (Sink, place) {
		dir := filepath.Join(t.TempDir(), "data")
		sink, err := sinkAt(name, dir)
		if err != nil {
			t.Fatal(err)
		}
		return sink, at(dir)
	}
}

// localChild names a new folder.
func localChild(name string) func(t *testing.T) (string, string) {
	return func(t *testing.T) (string, string) { return name, t.TempDir() }
}

// A filePlace is where a File stores.
type filePlace struct{ dir, ext string }

func (p filePlace) path(h snapshot.Header) string {
	return filepath.Join(p.dir, fileName(h.Stream), fileName(h.Tenancy)+"."+p.ext)
}

func (p filePlace) latest(t *testing.T, h snapshot.Header) []string {
	t.Helper()
	text, err := os.ReadFile(p.path(h))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var r io.Reader = bytes.NewReader(text)
	switch filepath.Ext(p.ext) {
	case ".gz":
		r, err = gzip.NewReader(r)
	case ".zst":
		if len(text) == 0 {
			t.Error("an empty file is no zstd")
		}
		var d *zstd.Decoder
		if d, err = zstd.NewReader(r); err == nil {
			defer d.Close()
			r = d
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return lines(t, string(plain), strings.HasPrefix(p.ext, "json"))
}

// lines returns the records of a file.
func lines(t *testing.T, text string, array bool) []string {
	t.Helper()
	if array {
		if text == "[]\n" {
			return nil
		}
		inner, ok := strings.CutPrefix(text, "[\n")
		inner, ok2 := strings.CutSuffix(inner, "\n]\n")
		if !ok || !ok2 {
			t.Fatalf("%.100q is no array of lines", text)
		}
		return strings.Split(inner, ",\n")
	}
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

func (p filePlace) all(t *testing.T, h snapshot.Header) []string {
	t.Helper()
	p.onlyTarget(t, h)
	return p.latest(t, h)
}

// onlyTarget checks that nothing is left beside the file.
func (p filePlace) onlyTarget(t *testing.T, h snapshot.Header) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(p.path(h)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			t.Errorf("%s is left over", e.Name())
		}
	}
}

func fileHarness(ext string) harness {
	name := "file." + ext
	return harness{
		name:   name,
		child:  localChild(name),
		memory: 200 << 20,
		sink:   localSink(name, func(dir string) place { return filePlace{dir, ext} }),
		breaks: fileBreaks(name, func(p place) string { return p.(filePlace).dir }),
	}
}

func fileBreaks(name string, dir func(place) string) map[string]breakage {
	return map[string]breakage{
		"full disk": {write: func(t *testing.T, p place, s *snapshot.Snapshot) (string, bool) {
			problem, refused, _ := job{Sink: name, Dir: dir(p), Snapshots: []string{s.Dir()}, FileSize: 256 << 10}.run(t)
			return problem, refused
		}},
		"no permission": {refused: true, write: func(t *testing.T, p place, s *snapshot.Snapshot) (string, bool) {
			return asNobody(t, name, dir(p), s, dir(p), 0o700)
		}},
		"read-only": {refused: true, write: func(t *testing.T, p place, s *snapshot.Snapshot) (string, bool) {
			return asNobody(t, name, dir(p), s, filepath.Join(dir(p), s.Stream), 0o555)
		}},
	}
}

// asNobody writes as a user for whom path has that mode, in a child process.
func asNobody(t *testing.T, sink, dir string, s *snapshot.Snapshot, path string, mode fs.FileMode) (string, bool) {
	t.Helper()
	j := job{Sink: sink, Dir: dir, Snapshots: []string{s.Dir()}}
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		j.UID = nobody
		// Nobody passes through the folders above, which are the test's own.
		for d := filepath.Dir(path); strings.HasPrefix(d, os.TempDir()) && d != os.TempDir(); d = filepath.Dir(d) {
			if err := os.Chmod(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	} else {
		mode &= 0o555
		if path == dir {
			mode = 0
		}
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	problem, refused, _ := j.run(t)
	if err := os.Chmod(path, fi.Mode().Perm()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(problem, "ermission denied") || !strings.Contains(problem, "STORE_") {
		t.Errorf("%q does not name the setting and the reason", problem)
	}
	return problem, refused
}

// A parquetPlace is where a File stores Parquet. The records that it returns
// are the column n, which the suite's records have, and the upload id.
type parquetPlace struct{ filePlace }

func parquetHarness() harness {
	return harness{
		name:   "file.parquet",
		child:  localChild("file.parquet"),
		memory: 500 << 20,
		sink:   localSink("file.parquet", func(dir string) place { return parquetPlace{filePlace{dir, "parquet"}} }),
		expect: func(record string) string {
			n, id := "", record[strings.LastIndex(record, `"_upload_id"`):]
			if _, rest, ok := strings.Cut(record, `"n":`); ok {
				n, _, _ = strings.Cut(rest, ",")
			}
			return n + id
		},
		breaks: fileBreaks("file.parquet", func(p place) string { return p.(parquetPlace).dir }),
	}
}

func (p parquetPlace) latest(t *testing.T, h snapshot.Header) []string {
	t.Helper()
	if _, err := os.Stat(p.path(h)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return query(t, "", func(db *duckdb.DB) ([]string, error) {
		from := " FROM read_parquet(" + duckdb.Literal(p.path(h)) + ")"
		n, err := texts(t.Context(), db, "SELECT column_name FROM (DESCRIBE SELECT *"+from+") WHERE column_name = 'n'")
		if err != nil {
			return nil, err
		}
		return texts(t.Context(), db, "SELECT "+strings.Join(append(n, ""), "::VARCHAR || ")+`'"_upload_id":"' || _upload_id || '"}'`+from)
	})
}

func (p parquetPlace) all(t *testing.T, h snapshot.Header) []string {
	t.Helper()
	p.onlyTarget(t, h)
	return p.latest(t, h)
}

// A duckPlace is where a DuckDB stores.
type duckPlace struct{ dir string }

func (p duckPlace) path() string { return filepath.Join(p.dir, "x.duckdb") }

func duckHarness() harness {
	dir := func(p place) string { return p.(duckPlace).dir }
	return harness{
		name:    "duckdb",
		child:   localChild("duckdb"),
		memory:  500 << 20,
		sink:    localSink("duckdb", func(dir string) place { return duckPlace{dir} }),
		history: true,
		expect: func(record string) string {
			fixed, _ := duckdb.AppendJSON(nil, []byte(record))
			return string(fixed)
		},
		breaks: map[string]breakage{
			"full disk": {write: func(t *testing.T, p place, s *snapshot.Snapshot) (string, bool) {
				problem, refused, _ := job{Sink: "duckdb", Dir: dir(p), Snapshots: []string{s.Dir()}, FileSize: 1536 << 10}.run(t)
				return problem, refused
			}},
			"no permission": {refused: true, write: func(t *testing.T, p place, s *snapshot.Snapshot) (string, bool) {
				return asNobody(t, "duckdb", dir(p), s, dir(p), 0o700)
			}},
			"read-only": {refused: true, write: func(t *testing.T, p place, s *snapshot.Snapshot) (string, bool) {
				return asNobody(t, "duckdb", dir(p), s, p.(duckPlace).path(), 0o444)
			}},
			"another table": {refused: true, write: func(t *testing.T, p place, s *snapshot.Snapshot) (string, bool) {
				execute(t, p.(duckPlace).path(), `DROP VIEW okta_users_latest`,
					`ALTER TABLE okta_users RENAME tenancy TO tenant`)
				sink, err := sinkAt("duckdb", dir(p))
				if err != nil {
					t.Fatal(err)
				}
				err = sink.Write(t.Context(), s)
				execute(t, p.(duckPlace).path(), `ALTER TABLE okta_users RENAME tenant TO tenancy`,
					latestView("okta_users"))
				if err == nil || !strings.Contains(err.Error(), "tenant VARCHAR") {
					t.Errorf("%v does not tell what was found", err)
				}
				return fmt.Sprint(err), errors.Is(err, ErrRefused)
			}},
		},
	}
}

func (p duckPlace) latest(t *testing.T, h snapshot.Header) []string {
	t.Helper()
	return p.read(t, h.Stream+"_latest", h)
}

func (p duckPlace) all(t *testing.T, h snapshot.Header) []string {
	t.Helper()
	return p.read(t, h.Stream, h)
}

func (p duckPlace) read(t *testing.T, table string, h snapshot.Header) []string {
	t.Helper()
	if _, err := os.Stat(p.path()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return query(t, p.path(), func(db *duckdb.DB) ([]string, error) {
		return texts(t.Context(), db, "SELECT json_data::VARCHAR FROM "+duckdb.Quote(table)+" WHERE tenancy = ?", h.Tenancy)
	})
}

// query opens a database for reading.
func query(t *testing.T, path string, read func(*duckdb.DB) ([]string, error)) []string {
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

// execute changes a database.
func execute(t *testing.T, path string, statements ...string) {
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
