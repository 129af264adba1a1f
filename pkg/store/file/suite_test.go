package file

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/snapshot/parquet"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/storetest"
)

func TestMain(m *testing.M) {
	storetest.Main(m, storetest.Child{OpenSink: openFiles})
}

func TestSinks(t *testing.T) {
	storetest.Run(t, fileHarness("json"), fileHarness("ndjson.zst"), parquetHarness())
}

func TestMillionRecords(t *testing.T) {
	storetest.RunMillion(t, fileHarness("json"), parquetHarness())
}

// openFiles opens a sink that writes files with the extension ext below dir.
func openFiles(ext, dir string) (store.Sink, error) {
	p, err := store.ParsePath("STORE_FILE", filepath.Join(dir, "%TAG/%TENANCY."+ext))
	if err != nil {
		return nil, err
	}
	return New(Options{Path: p, Parquet: encodeParquet})
}

// encodeParquet is a store.ParquetFunc that encodes each file in this process.
func encodeParquet(ctx context.Context, s *snapshot.Snapshot) (store.ParquetFile, error) {
	f, err := parquet.Encode(ctx, s, parquet.Options{})
	if err != nil {
		return nil, err
	}
	return encodedFile{f}, nil
}

// An encodedFile is a store.ParquetFile.
type encodedFile struct{ *parquet.File }

func (e encodedFile) Size() int64     { return e.File.Size }
func (e encodedFile) Notes() []string { return e.File.Notes }

// newSink returns a sink that writes to the template.
func newSink(t *testing.T, template string) *Sink {
	t.Helper()
	p, err := store.ParsePath("STORE_FILE", template)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{Path: p, Parquet: encodeParquet})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A directory is where a sink writes files with the extension ext.
type directory struct{ dir, ext string }

func (d directory) path(h snapshot.Header) string {
	return filepath.Join(d.dir, store.EscapeName(h.Stream), store.EscapeName(h.Tenancy)+"."+d.ext)
}

func (d directory) Latest(t *testing.T, h snapshot.Header) []string {
	t.Helper()
	text, err := os.ReadFile(d.path(h))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return storetest.DecodeFile(t, d.path(h), text)
}

func (d directory) All(t *testing.T, h snapshot.Header) []string {
	t.Helper()
	d.assertNoTemps(t, h)
	return d.Latest(t, h)
}

// assertNoTemps checks that no temporary file is left beside the file.
func (d directory) assertNoTemps(t *testing.T, h snapshot.Header) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(d.path(h)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			t.Errorf("%s is left over", e.Name())
		}
	}
}

func fileHarness(ext string) storetest.Harness {
	return storetest.Harness{
		Name:      ext,
		Child:     func(t *testing.T) (string, string) { return ext, t.TempDir() },
		MaxMemory: 200 << 20,
		New: func(t *testing.T) (store.Sink, storetest.Place) {
			sink, d := newSuiteSink(t, ext)
			return sink, d
		},
		Breakages: breakages(ext, func(p storetest.Place) string { return p.(directory).dir }),
	}
}

func newSuiteSink(t *testing.T, ext string) (store.Sink, directory) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	sink, err := openFiles(ext, dir)
	if err != nil {
		t.Fatal(err)
	}
	return sink, directory{dir, ext}
}

// breakages are those of a sink that writes files with the extension ext below
// dirOf(place).
func breakages(ext string, dirOf func(storetest.Place) string) map[string]storetest.Breakage {
	job := func(p storetest.Place, s *snapshot.Snapshot) storetest.Job {
		return storetest.Job{Sink: ext, Place: dirOf(p), Snapshots: []string{s.Dir()}}
	}
	return map[string]storetest.Breakage{
		"full disk": {
			Refused: false,
			Write: func(t *testing.T, p storetest.Place, s *snapshot.Snapshot) (string, bool) {
				j := job(p, s)
				j.FileSize = 256 << 10
				res := j.Run(t)
				return res.Problem, res.Refused
			},
		},
		"no permission": {
			Refused: true,
			Write: func(t *testing.T, p storetest.Place, s *snapshot.Snapshot) (string, bool) {
				return job(p, s).RunUnprivileged(t, dirOf(p), 0o700)
			},
		},
		"read-only": {
			Refused: true,
			Write: func(t *testing.T, p storetest.Place, s *snapshot.Snapshot) (string, bool) {
				return job(p, s).RunUnprivileged(t, filepath.Join(dirOf(p), s.Stream), 0o555)
			},
		},
	}
}

// A parquetDirectory is where a sink writes Parquet files. Of each record it
// returns the column n, which the suite's records have, and the upload id.
type parquetDirectory struct{ directory }

func parquetHarness() storetest.Harness {
	return storetest.Harness{
		Name:      "parquet",
		Child:     func(t *testing.T) (string, string) { return "parquet", t.TempDir() },
		MaxMemory: 500 << 20,
		New: func(t *testing.T) (store.Sink, storetest.Place) {
			sink, d := newSuiteSink(t, "parquet")
			return sink, parquetDirectory{d}
		},
		Expect: func(record string) string {
			n, id := "", record[strings.LastIndex(record, `"_upload_id"`):]
			if _, rest, ok := strings.Cut(record, `"n":`); ok {
				n, _, _ = strings.Cut(rest, ",")
			}
			return n + id
		},
		Breakages: breakages("parquet", func(p storetest.Place) string { return p.(parquetDirectory).dir }),
	}
}

func (p parquetDirectory) Latest(t *testing.T, h snapshot.Header) []string {
	t.Helper()
	if _, err := os.Stat(p.path(h)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	db, err := duckdb.Open(t.Context(), "", duckdb.Options{Memory: 2 << 30})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	from := " FROM read_parquet(" + duckdb.Literal(p.path(h)) + ")"
	columns := append(queryTexts(t, db, "SELECT column_name FROM (DESCRIBE SELECT *"+from+") WHERE column_name = 'n'"), "")
	return queryTexts(t, db, "SELECT "+strings.Join(columns, "::BIGINT::VARCHAR || ")+`'"_upload_id":"' || _upload_id || '"}'`+from)
}

func (p parquetDirectory) All(t *testing.T, h snapshot.Header) []string {
	t.Helper()
	p.assertNoTemps(t, h)
	return p.Latest(t, h)
}

// queryTexts returns the only column of a query's rows.
func queryTexts(t *testing.T, db *duckdb.DB, query string) []string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		list = append(list, text)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}
