package query

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/state/local"
)

// columnsFile returns the path of the columnar copy of a stream's last-known snapshot.
func columnsFile(t *testing.T, e *Engine, stream string) string {
	t.Helper()
	sealed, _, err := e.o.State.Snapshots.LastKnown(t.Context(), stream, "default")
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(sealed.Dir(), columnsName)
}

// The columnar copy of a snapshot is made once, by the first of several queries, and only
// for streams that a query names.
func TestColumnsAreMadeOnce(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string][]string{"okta_users": {`{"a":1}`, `{"a":2}`}, "tenable_assets": {`{"b":1}`}})
	e = New(Options{State: e.o.State, Tenancy: "default", Dir: e.o.Dir, Parallel: 4})
	t.Cleanup(e.Close)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			var b bytes.Buffer
			if _, err := e.Query(t.Context(), "SELECT sum(a) AS n FROM okta_users", CSVFormat, Limits{Wait: true}, &b); err != nil || b.String() != "n\n3\n" {
				t.Errorf("result %q, error %v", b.String(), err)
			}
		})
	}
	all.Wait()
	first, err := os.Stat(columnsFile(t, e, "okta_users"))
	if err != nil || first.Mode() != 0o600 {
		t.Fatalf("mode %v, error %v", first.Mode(), err)
	}
	if _, err := os.Stat(columnsFile(t, e, "tenable_assets")); err == nil {
		t.Error("a stream that no query names has a copy")
	}
	queryCSV(t, e, "FROM okta_users")
	again, err := os.Stat(columnsFile(t, e, "okta_users"))
	if err != nil || !os.SameFile(first, again) {
		t.Errorf("the copy was made again; error %v", err)
	}
}

// The copy goes with its snapshot, and a query reads that of the newest one.
func TestColumnsOfANewSnapshot(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string][]string{"okta_users": {`{"a":1}`}})
	queryCSV(t, e, "FROM okta_users")
	old := columnsFile(t, e, "okta_users")
	collectStreamAs(t, e.o.State, "okta_users", "9f14e45f-ceea-467f-a8c6-b1d1c0a1b2c3", taken.Add(time.Hour), []string{`{"a":2}`})
	if got := queryCSV(t, e, "SELECT a FROM okta_users"); got != "a\n2\n" {
		t.Errorf("result %q", got)
	}
	if _, err := os.Stat(old); err == nil {
		t.Errorf("%s still exists", old)
	}
}

// A copy that takes longer than a query may take is finished for the next one.
func TestColumnsAfterTheDeadline(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string][]string{"okta_users": {`{"a":1}`}})
	_, err := e.Query(t.Context(), "FROM okta_users", CSVFormat, Limits{Time: time.Millisecond}, &bytes.Buffer{})
	if !errors.Is(err, ErrTime) {
		t.Fatalf("error %v, want ErrTime", err)
	}
	if got := queryCSV(t, e, "FROM okta_users"); !strings.HasPrefix(got, "a,") {
		t.Errorf("result %q", got)
	}
	if _, err := os.Stat(columnsFile(t, e, "okta_users")); err != nil {
		t.Error(err)
	}
}

// Where the copy cannot be put beside the snapshot, the query uses it all the same.
func TestColumnsElsewhere(t *testing.T) {
	t.Parallel()
	other, err := os.MkdirTemp("/dev/shm", "collectord-test-") // another file system
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(other) })
	e := newEngine(t, map[string][]string{"okta_users": {`{"a":1}`}})
	e = New(Options{State: e.o.State, Tenancy: "default", Dir: other})
	for range 2 {
		if got := queryCSV(t, e, "SELECT a FROM okta_users"); got != "a\n1\n" {
			t.Errorf("result %q", got)
		}
	}
	if _, err := os.Stat(columnsFile(t, e, "okta_users")); err == nil {
		t.Error("the copy is beside the snapshot")
	}
	e.Close()
	if left, err := os.ReadDir(other); err != nil || len(left) > 0 {
		t.Errorf("left: %v, error %v", left, err)
	}
}

// A damaged snapshot is reported, and not read again for each query.
func TestColumnsOfADamagedSnapshot(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string][]string{"okta_users": {`{"a":1}`}, "tenable_assets": {`{"b":1}`}})
	sealed, _, err := e.o.State.Snapshots.LastKnown(t.Context(), "okta_users", "default")
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(sealed.Path())
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 0xff
	if err := os.WriteFile(sealed.Path(), content, 0o600); err != nil {
		t.Fatal(err)
	}
	_, first := e.Query(t.Context(), "FROM okta_users", CSVFormat, Limits{}, &bytes.Buffer{})
	_, second := e.Query(t.Context(), "FROM okta_users", CSVFormat, Limits{}, &bytes.Buffer{})
	if first == nil || second == nil || first.Error() != second.Error() || !strings.Contains(first.Error(), "okta_users") {
		t.Errorf("errors %v and %v", first, second)
	}
	if got := queryCSV(t, e, "SELECT b FROM tenable_assets"); got != "b\n1\n" {
		t.Errorf("another stream: %q", got)
	}
}

// The streams are listed, with their columns.
func TestCatalog(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string][]string{"okta_users": {`{"a":1}`}, "tenable_assets": {`{"b":1}`}, "snyk_issues": nil})
	if got := queryCSV(t, e, "SHOW TABLES"); got != "name\nokta_users\nsnyk_issues\ntenable_assets\n" {
		t.Errorf("SHOW TABLES: %q", got)
	}
	got := queryCSV(t, e, "SELECT table_name || '.' || column_name AS c FROM information_schema.columns WHERE column_name NOT LIKE '\\_%' ESCAPE '\\' AND table_name <> 'query_result' ORDER BY 1")
	if got != "c\nokta_users.a\ntenable_assets.b\n" {
		t.Errorf("columns: %q", got)
	}
}

// GROUP BY ALL reads no other stream, and a computed name may be that of any.
func TestColumnsThatAreNeeded(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string][]string{"okta_users": {`{"a":1}`}, "tenable_assets": {`{"b":1}`}})
	queryCSV(t, e, "SELECT a, count(*) FROM okta_users GROUP BY ALL")
	if _, err := os.Stat(columnsFile(t, e, "tenable_assets")); err == nil {
		t.Error("a stream that the query does not name has a copy")
	}
	for _, text := range []string{"SELECT b FROM query_table('tenable' || '_assets')", "FROM query('SELECT b FROM tenable' || '_assets')"} {
		if got := queryCSV(t, e, text); got != "b\n1\n" {
			t.Errorf("%s returned %q", text, got)
		}
	}
}

// Prepare makes the copies before a query needs them.
func TestPrepare(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string][]string{"okta_users": {`{"a":1}`}, "tenable_assets": {`{"b":1}`}, "snyk_issues": nil})
	e.Prepare([]string{"okta_users", "tenable_assets", "snyk_issues", "no_stream"}, func(stream string, err error) {
		if stream != "no_stream" {
			t.Errorf("%s: %v", stream, err)
		}
	})
	e.copies.all.Wait()
	for _, stream := range []string{"okta_users", "tenable_assets"} {
		if _, err := os.Stat(columnsFile(t, e, stream)); err != nil {
			t.Error(err)
		}
	}
}

// The path of the state directory may have any characters.
func TestColumnsInADirectoryWithAnyName(t *testing.T) {
	t.Parallel()
	st, err := local.Open(t.Context(), filepath.Join(t.TempDir(), `a [b]*'c"?{d,e}é%20#`), local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	collectStream(t, st, "okta_users", []string{`{"a":1,"t":"2026-03-01T06:00:00Z"}`})
	collectStream(t, st, "okta_groups", []string{`{"a":"` + strings.Repeat("x", 1<<20) + `"}`})
	e := New(Options{State: st, Tenancy: "default", Dir: filepath.Join(st.Dir(), "query")})
	t.Cleanup(e.Close)
	if got := queryCSV(t, e, "SELECT u.a + length(g.a) AS n, typeof(u.t) AS t FROM okta_users u, okta_groups g"); got != "n,t\n1048577,TIMESTAMP\n" {
		t.Errorf("result %q", got)
	}
}

// Copies whose queries no longer wait do not run without a bound.
func TestColumnsWaitForOthers(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string][]string{"okta_users": {`{"a":1}`}})
	for range cap(e.copies.slots) {
		e.copies.slots <- struct{}{}
	}
	sources, err := e.streamSources(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	waiting := e.startCopy(sources[0], nil)
	e.Close()
	<-waiting.done
	if _, err := os.Stat(e.o.Dir); !errors.Is(waiting.err, context.Canceled) || err == nil {
		t.Errorf("error %v, want context.Canceled without a task", waiting.err)
	}
}

// A copy that cannot be read is made again.
func TestColumnsThatAreDamaged(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string][]string{"okta_users": {`{"a":1}`}, "tenable_assets": {`{"b":1}`}})
	queryCSV(t, e, "FROM okta_users")
	path := columnsFile(t, e, "okta_users")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"empty": nil, "truncated": whole[:len(whole)/2], "rubbish": bytes.Repeat([]byte("rubbish "), 1000),
		"without a start": append(make([]byte, len(whole)-20), whole[len(whole)-20:]...),
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		// Also a query of another stream fails if not, since each stream has a view.
		if got := queryCSV(t, e, "SELECT b FROM tenable_assets"); got != "b\n1\n" {
			t.Errorf("%s: another stream: %q", name, got)
		}
		if got := queryCSV(t, e, "SELECT a FROM okta_users"); got != "a\n1\n" {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// Damage is also found where the query reads it.
func TestColumnsThatAreDamagedInside(t *testing.T) {
	t.Parallel()
	var records []string
	for i := range 1000 {
		records = append(records, fmt.Sprintf(`{"a":"%x"}`, sha256.Sum256([]byte{byte(i), byte(i >> 8)})))
	}
	e := newEngine(t, map[string][]string{"okta_users": records})
	const text = "SELECT count(DISTINCT a) AS n FROM okta_users"
	want := queryCSV(t, e, text)
	path := columnsFile(t, e, "okta_users")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 1000; i < len(content)/2; i += 7 {
		content[i] ^= 0x55
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := queryCSV(t, e, text); got != want {
		t.Errorf("result %q, want %q", got, want)
	}
}

// A query whose copy is removed between its view and its end starts again.
func TestColumnsThatGo(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string][]string{"okta_users": {`{"a":1}`}})
	queryCSV(t, e, "FROM okta_users")
	sources, err := e.streamSources(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	one := &task{Dir: t.TempDir(), Memory: e.o.Memory, Disk: e.o.Disk, Streams: sources, Text: "FROM okta_users"}
	s, err := one.openSession(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if err := errors.Join(s.createViews(t.Context()), s.confine(t.Context()), os.Remove(sources[0].Columns)); err != nil {
		t.Fatal(err)
	}
	if err := s.defineResult(t.Context(), one.Text); err == nil || !errors.Is(s.checkGone(err), errGone) {
		t.Errorf("error %v, want errGone", err)
	}
}
