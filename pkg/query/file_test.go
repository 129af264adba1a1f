package query

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/snapshot/parquet"
	"github.com/collectord/collectord/pkg/state"
)

// lastKnown returns the last-known snapshot of a stream.
func lastKnown(t *testing.T, e *Engine, stream string) *snapshot.Snapshot {
	t.Helper()
	sealed, _, err := e.o.State.Snapshots.LastKnown(t.Context(), stream, "default")
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// storeFile stores the Parquet file of a stream as a destination does, and returns the
// path, which has no other use.
func storeFile(t *testing.T, e *Engine, stream string) (path string, notes []string) {
	t.Helper()
	f, err := e.ParquetFile(t.Context(), lastKnown(t, e, stream))
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "stored.parquet")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	n, err := f.WriteTo(out)
	if err := errors.Join(err, out.Close(), f.Close()); err != nil || n != f.Size() {
		t.Fatalf("%d bytes of %d, error %v", n, f.Size(), err)
	}
	return path, f.Notes()
}

// requireSoleFile checks that a snapshot has a file for destinations and no other copy, and
// returns its description by the system.
func requireSoleFile(t *testing.T, e *Engine, stream string) os.FileInfo {
	t.Helper()
	if _, err := os.Stat(columnsFile(t, e, stream)); err == nil {
		t.Error("queries have a copy of their own")
	}
	info, err := os.Stat(filepath.Join(lastKnown(t, e, stream).Dir(), fileName))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// A snapshot is encoded once for several destinations, queries and controls, whichever is
// the first.
func TestOneFileForAll(t *testing.T) {
	t.Parallel()
	uses := map[string]func(t *testing.T, e *Engine){
		"destination": func(t *testing.T, e *Engine) { storeFile(t, e, "okta_users") },
		"query": func(t *testing.T, e *Engine) {
			if got := queryCSV(t, e, "SELECT sum(a) AS n, typeof(any_value(t)) AS t FROM okta_users"); got != "n,t\n3,TIMESTAMP\n" {
				t.Errorf("result %q", got)
			}
		},
		"control": func(t *testing.T, e *Engine) {
			m := runMeasures(t, e, MeasureOptions{}, "SELECT a AS resource, 'user' AS resource_type, 1 AS compliance, '' AS detail FROM okta_users")
			if m.results[0].Rows != 2 || m.errs[0] != nil {
				t.Errorf("%d rows, error %v", m.results[0].Rows, m.errs[0])
			}
		},
	}
	for first, use := range uses {
		t.Run(first, func(t *testing.T) {
			e := newEngine(t, map[string][]string{"okta_users": {`{"a":1,"t":"2026-03-01T06:00:00Z"}`, `{"a":2}`}})
			e.ShareFiles(&FileOptions{})
			use(t, e)
			made := requireSoleFile(t, e, "okta_users")
			for _, other := range uses {
				other(t, e)
				other(t, e)
			}
			if !os.SameFile(made, requireSoleFile(t, e, "okta_users")) {
				t.Error("the file was made again")
			}
		})
	}
}

// Several destinations that ask at once wait for the same file.
func TestOneFileAtOnce(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string][]string{"okta_users": {`{"a":1}`}})
	e.ShareFiles(&FileOptions{})
	s, paths := lastKnown(t, e, "okta_users"), make([]os.FileInfo, 4)
	var all sync.WaitGroup
	for i := range paths {
		all.Go(func() {
			f, err := e.ParquetFile(t.Context(), s)
			if err != nil {
				t.Error(err)
				return
			}
			if paths[i], err = f.file.Stat(); err != nil {
				t.Error(err)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, info := range paths {
		if !t.Failed() && !os.SameFile(info, paths[0]) {
			t.Error("there are several files")
		}
	}
}

// Destinations have the types of the days before, and queries those of the data.
func TestFileRemembersTypes(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string][]string{"okta_users": {`{"a":{"x":1},"b":"text","c":1}`}})
	e.ShareFiles(&FileOptions{})
	storeFile(t, e, "okta_users")
	collectStreamAs(t, e.o.State, "okta_users", "9f14e45f-ceea-467f-a8c6-b1d1c0a1b2c3", taken.Add(time.Hour), []string{`{"a":null,"b":2,"c":"new"}`})
	path, notes := storeFile(t, e, "okta_users")
	if got := describeColumns(t, path); got != "a STRUCT(x DOUBLE), b VARCHAR, c VARCHAR, _tenancy VARCHAR, _upload_timestamp TIMESTAMP WITH TIME ZONE, _upload_id VARCHAR" {
		t.Errorf("the file has %s", got)
	}
	if len(notes) != 1 || !strings.Contains(notes[0], `"c" was DOUBLE`) {
		t.Errorf("notes %q", notes)
	}
	if got := queryCSV(t, e, "SELECT typeof(a) AS a, typeof(b) AS b, b + 1 AS n, typeof(_upload_id) AS u FROM okta_users"); got != "a,b,n,u\nVARCHAR,BIGINT,3,UUID\n" {
		t.Errorf("result %q", got)
	}
	requireSoleFile(t, e, "okta_users")
}

// describeColumns returns the columns of a Parquet file.
func describeColumns(t *testing.T, path string) string {
	t.Helper()
	db, err := duckdb.Open(t.Context(), "", duckdb.Options{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var text string
	err = db.QueryRowContext(t.Context(), "SELECT string_agg(column_name || ' ' || column_type, ', ') FROM (DESCRIBE FROM "+parquetFile(path)+")").Scan(&text)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// A file has the types that another process remembered while it was made.
func TestFileOfAnotherProcess(t *testing.T) {
	t.Parallel()
	first := newEngine(t, map[string][]string{"okta_users": {`{"a":"text","b":1}`}})
	storeFile(t, first, "okta_users")
	other, err := first.o.State.Notes("default").Note(t.Context(), parquet.TypesKey("okta_users"))
	if err != nil || other == "" {
		t.Fatalf("remembered %q, error %v", other, err)
	}
	e := newEngine(t, map[string][]string{"okta_users": {`{"a":2}`}})
	source := e.sourceOf(lastKnown(t, e, "okta_users"), state.LastKnownInfo{})
	dir, remove, err := e.createTaskDir()
	if err != nil {
		t.Fatal(err)
	}
	defer remove()
	notes := e.o.State.Notes("default")
	one := task{Kind: copyTask, Dir: dir, Path: filepath.Join(dir, fileName), Streams: []streamSource{source}, Disk: e.o.Disk}
	// The types are stored between the two calls of the state.
	if err := makeFile(t.Context(), one, FileOptions{}, &racingNotes{notes, other}); err != nil {
		t.Fatal(err)
	}
	if got := describeColumns(t, one.Path); !strings.HasPrefix(got, "a VARCHAR, b DOUBLE,") {
		t.Errorf("the file has %s", got)
	}
}

// racingNotes are notes that another process changes before the first swap.
type racingNotes struct {
	state.Notes
	other string // "" when it was stored
}

func (r *racingNotes) SwapNote(ctx context.Context, key, old, text string) (bool, error) {
	if r.other != "" {
		if err := r.SetNote(ctx, key, r.other); err != nil {
			return false, err
		}
		r.other = ""
	}
	return r.Notes.SwapNote(ctx, key, old, text)
}

// Where no cast gives the values that queries have, they have a copy of their own.
func TestFileWithoutView(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string][]string{"okta_users": {`{"a":null}`}})
	e.ShareFiles(&FileOptions{})
	storeFile(t, e, "okta_users")
	collectStreamAs(t, e.o.State, "okta_users", "9f14e45f-ceea-467f-a8c6-b1d1c0a1b2c3", taken.Add(time.Hour), []string{`{"a":{"x":1}}`})
	for range 2 {
		if got := queryCSV(t, e, "SELECT a.x, typeof(a) AS t FROM okta_users"); got != "x,t\n1,STRUCT(x BIGINT)\n" {
			t.Errorf("result %q", got)
		}
	}
	path, _ := storeFile(t, e, "okta_users")
	if got := describeColumns(t, path); !strings.HasPrefix(got, "a VARCHAR,") {
		t.Errorf("the file has %s", got)
	}
}

// A file that is damaged, has no description or that of another, is made again.
func TestFileThatIsDamaged(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string][]string{"okta_users": {`{"a":1}`}})
	e.ShareFiles(&FileOptions{})
	storeFile(t, e, "okta_users")
	path := filepath.Join(lastKnown(t, e, "okta_users").Dir(), fileName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(whole)
	changed[len(changed)/2] ^= 1
	for name, damage := range map[string]func() error{
		"changed":               func() error { return os.WriteFile(path, changed, 0o600) },
		"truncated":             func() error { return os.Truncate(path, int64(len(whole)/2)) },
		"without description":   func() error { return os.Remove(describedBy(path)) },
		"half of a description": func() error { return os.WriteFile(describedBy(path), []byte(`{"size":`), 0o600) },
		"removed":               func() error { return os.Remove(path) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		stored, _ := storeFile(t, e, "okta_users")
		if got := readRows(t, stored); !strings.HasPrefix(got, `{"a":1.0,`) {
			t.Errorf("%s: the file has %s", name, got)
		}
		if got := queryCSV(t, e, "SELECT a FROM okta_users"); got != "a\n1\n" {
			t.Errorf("%s: result %q", name, got)
		}
	}
	requireSoleFile(t, e, "okta_users")
}

// With STORE_FILE_REPAIR, destinations have other texts than queries.
func TestFileIsRepaired(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string][]string{"okta_users": {`{"a":"x\ud83d"}`}})
	for _, tc := range []struct {
		repair bool
		want   string
	}{{repair: false, want: `{"a":"x\\ud83d",`}, {repair: true, want: `{"a":"x` + "\ufffd" + `",`}} {
		e.ShareFiles(&FileOptions{Repair: tc.repair})
		path, notes := storeFile(t, e, "okta_users")
		if got := readRows(t, path); !strings.HasPrefix(got, tc.want) {
			t.Errorf("repair %t: the file has %s", tc.repair, got)
		}
		if len(notes) != 1 {
			t.Errorf("repair %t: notes %q", tc.repair, notes)
		}
		if got := queryCSV(t, e, "SELECT a FROM okta_users"); got != "a\nx\\ud83d\n" {
			t.Errorf("repair %t: result %q", tc.repair, got)
		}
	}
}

// A damaged snapshot is reported as such to destinations.
func TestFileOfADamagedSnapshot(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string][]string{"okta_users": {`{"a":1}`}})
	sealed := lastKnown(t, e, "okta_users")
	content, err := os.ReadFile(sealed.Path())
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 0xff
	if err := os.WriteFile(sealed.Path(), content, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := e.ParquetFile(t.Context(), sealed); !errors.Is(err, snapshot.ErrDamaged) || !strings.Contains(err.Error(), "okta_users") {
		t.Errorf("error %v, want ErrDamaged", err)
	}
}

// Where the file cannot be made, queries have a copy of their own.
func TestQueriesWithoutFile(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string][]string{"okta_users": {`{"a":1}`}})
	e.ShareFiles(&FileOptions{})
	s := lastKnown(t, e, "okta_users")
	if err := os.MkdirAll(filepath.Join(s.Dir(), fileName, "directory"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := e.ParquetFile(t.Context(), s)
	if err == nil || !strings.Contains(err.Error(), "make the Parquet file of okta_users") {
		t.Errorf("error %v", err)
	}
	if got := queryCSV(t, e, "SELECT a FROM okta_users"); got != "a\n1\n" {
		t.Errorf("result %q", got)
	}
}

// A snapshot without records has a file, too.
func TestFileWithoutRecords(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string][]string{"okta_users": nil})
	e.ShareFiles(&FileOptions{})
	path, _ := storeFile(t, e, "okta_users")
	if got := describeColumns(t, path); got != "_tenancy VARCHAR, _upload_timestamp TIMESTAMP WITH TIME ZONE, _upload_id VARCHAR" {
		t.Errorf("the file has %s", got)
	}
	if got := queryCSV(t, e, "SELECT count(*) AS n FROM okta_users"); got != "n\n0\n" {
		t.Errorf("result %q", got)
	}
}

// Where the file cannot be put beside the snapshot, all use it where it is.
func TestFileElsewhere(t *testing.T) {
	t.Parallel()
	other, err := os.MkdirTemp("/dev/shm", "collectord-test-") // another file system
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(other) })
	e := newEngine(t, map[string][]string{"okta_users": {`{"a":1}`}})
	e = New(Options{State: e.o.State, Tenancy: "default", Dir: other})
	e.ShareFiles(&FileOptions{})
	for range 2 {
		path, _ := storeFile(t, e, "okta_users")
		if got := readRows(t, path); !strings.HasPrefix(got, `{"a":1.0,`) {
			t.Errorf("the file has %s", got)
		}
		if got := queryCSV(t, e, "SELECT a FROM okta_users"); got != "a\n1\n" {
			t.Errorf("result %q", got)
		}
	}
	made, err := filepath.Glob(filepath.Join(other, "*", "*.parquet"))
	if err != nil || len(made) != 1 {
		t.Errorf("files %q, error %v; want one", made, err)
	}
	e.Close()
	if left, err := os.ReadDir(other); err != nil || !cmp.Equal(len(left), 0) {
		t.Errorf("left: %v, error %v", left, err)
	}
}

// The error of a file names the stream and says nothing about queries.
func TestExplainFileError(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string
	}{
		{err: errors.New("full"), want: "make the Parquet file of okta_users: full"},
		{err: withKind(ErrNotRun, errors.New("its process ended")), want: "make the Parquet file of okta_users: its process ended"},
		{
			err:  withKind(ErrMemory, errors.New("its process ended")),
			want: "make the Parquet file of okta_users: more memory is needed: its process ended: set STORE_DUCKDB_MEMORY to more, or STORE_FILE or STORE_AWS_S3_KEY to another format",
		},
	} {
		if got := explainFileError("okta_users", tc.err).Error(); got != tc.want {
			t.Errorf("got  %s\nwant %s", got, tc.want)
		}
	}
}
