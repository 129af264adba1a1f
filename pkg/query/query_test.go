package query

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.uber.org/goleak"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/local"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == WorkerCommand {
		os.Exit(Work())
	}
	goleak.VerifyTestMain(m)
}

// newEngine returns an engine over a new state directory with the streams.
func newEngine(t *testing.T, streams map[string][]string) *Engine {
	t.Helper()
	st, err := local.Open(t.Context(), t.TempDir(), local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	for name, records := range streams {
		collectStream(t, st, name, records)
	}
	e := New(Options{State: st, Tenancy: "default", Dir: filepath.Join(st.Dir(), "query")})
	t.Cleanup(e.Close)
	return e
}

var taken = time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC)

// collectStream adds a snapshot of the records.
func collectStream(t *testing.T, st *state.State, stream string, records []string) {
	t.Helper()
	collectStreamAs(t, st, stream, "8f14e45f-ceea-467f-a8c6-b1d1c0a1b2c3", taken, records)
}

func collectStreamAs(t *testing.T, st *state.State, stream, uploadID string, taken time.Time, records []string) {
	t.Helper()
	collector, _, _ := strings.Cut(stream, "_")
	h := snapshot.Header{Collector: collector, Stream: stream, Tenancy: "default", UploadID: uploadID, UploadTimestamp: taken}
	id, err := st.Runs.Begin(t.Context(), state.RunStart{Header: h, Trigger: "test", Started: taken})
	if err != nil {
		t.Fatal(err)
	}
	w, err := st.Snapshots.Spool(h)
	if err != nil {
		t.Fatal(err)
	}
	batch := w.NewBatch()
	for _, r := range records {
		if err := batch.Append([]byte(r)); err != nil {
			t.Fatal(err)
		}
	}
	if err := batch.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Runs.Commit(t.Context(), id, w, state.RunStats{Records: int64(len(records))}, state.Policy{}); err != nil {
		t.Fatal(err)
	}
}

// queryCSV returns the result of a query as CSV.
func queryCSV(t *testing.T, e *Engine, text string) string {
	t.Helper()
	var b bytes.Buffer
	if _, err := e.Query(t.Context(), text, CSVFormat, Limits{}, &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The queries are typical questions about security data.
func TestTypicalQueries(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string][]string{
		"crowdstrike_hosts": {`{"device_id":"h1","hostname":"one"}`, `{"device_id":"h2","hostname":"two"}`, `{"device_id":"h3","hostname":"three"}`},
		"crowdstrike_vulnerabilities": {
			`{"aid":"h1","status":"open","cve":{"id":"CVE-1","severity":"CRITICAL"}}`,
			`{"aid":"h2","status":"closed","cve":{"id":"CVE-1","severity":"HIGH"}}`,
			`{"aid":"h3","status":"open","cve":{"id":"CVE-2","severity":"LOW"}}`},
		"okta_users": {
			`{"status":"ACTIVE","last_login":"2020-01-02T03:04:05.000Z","profile":{"email":"Old@example.com"}}`,
			`{"status":"ACTIVE","last_login":null,"profile":{"email":"never@example.com"}}`,
			`{"status":"DEPROVISIONED","last_login":"2020-01-02T03:04:05.000Z","profile":{"email":"gone@example.com"}}`,
			fmt.Sprintf(`{"status":"ACTIVE","last_login":%q,"profile":{"email":"new@example.com"}}`, time.Now().UTC().Format("2006-01-02T15:04:05.000Z"))},
		"knowbe4_enrollments": {
			fmt.Sprintf(`{"user":{"email":"new@example.com"},"status":"Passed","completion_date":%q}`, time.Now().UTC().Add(-30*24*time.Hour).Format(time.RFC3339)),
			`{"user":{"email":"old@example.com"},"status":"Passed","completion_date":"2019-01-01T00:00:00Z"}`},
	})
	for _, tc := range []struct{ name, text, want string }{
		{name: "hosts",
			text: `SELECT h.hostname, count(v.aid) = 0 AS ok
			FROM crowdstrike_hosts h LEFT JOIN crowdstrike_vulnerabilities v
			ON v.aid = h.device_id AND v.status = 'open' AND v.cve.severity IN ('HIGH', 'CRITICAL')
			GROUP BY h.hostname ORDER BY ok, h.hostname; -- done`,
			want: "hostname,ok\none,false\nthree,true\ntwo,true\n"},
		{name: "logins",
			text: `SELECT profile.email FROM okta_users WHERE status = 'ACTIVE' AND last_login < now() - INTERVAL 90 DAY`,
			want: "email\nOld@example.com\n"},
		{name: "training",
			text: `SELECT u.profile.email AS email, max(k.completion_date) > now() - INTERVAL 1 YEAR AS trained
			FROM okta_users u JOIN knowbe4_enrollments k ON lower(k.user.email) = lower(u.profile.email) GROUP BY ALL ORDER BY 1`,
			want: "email,trained\nOld@example.com,false\nnew@example.com,true\n"},
		{name: "members",
			text: `SELECT _tenancy, _upload_timestamp, count(*) FROM okta_users GROUP BY ALL`,
			want: "_tenancy,_upload_timestamp,count_star()\ndefault,2026-03-01 06:00:00,4\n"},
		{name: "describe", text: `DESCRIBE crowdstrike_hosts;`,
			want: "column_name,column_type,null,key,default,extra\ndevice_id,VARCHAR,YES,,,\nhostname,VARCHAR,YES,,,\n_tenancy,VARCHAR,YES,,,\n_upload_timestamp,TIMESTAMP,YES,,,\n_upload_id,UUID,YES,,,\n"},
		{name: "describe in lines", text: "-- the columns\n/* of */ describe\n\tokta_users -- as inferred",
			want: "column_name,column_type,null,key,default,extra\nstatus,VARCHAR,YES,,,\nlast_login,TIMESTAMP,YES,,,\nprofile,STRUCT(email VARCHAR),YES,,,\n_tenancy,VARCHAR,YES,,,\n_upload_timestamp,TIMESTAMP,YES,,,\n_upload_id,UUID,YES,,,\n"},
		{name: "show with a comment", text: "SHOW\tTABLES -- all", want: "name\ncrowdstrike_hosts\ncrowdstrike_vulnerabilities\nknowbe4_enrollments\nokta_users\n"},
		{name: "with", text: "-- a comment\nWITH a AS (SELECT 1 AS x, 2 AS x) SELECT * FROM a", want: "x,x_1\n1,2\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := queryCSV(t, e, tc.text); got != tc.want {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
		})
	}
	sessions, _ := filepath.Glob(filepath.Join(e.o.Dir, "*"))
	if len(sessions) > 0 {
		t.Errorf("sessions not removed: %v", sessions)
	}
}

// A query has no access to files, network and settings, and changes nothing.
func TestConfined(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string][]string{"okta_users": {`{"a":1}`}})
	sealed, _, err := e.o.State.Snapshots.LastKnown(t.Context(), "okta_users", "default")
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	for _, text := range []string{
		"SELECT * FROM read_text('/etc/passwd')",
		"SELECT * FROM read_blob('/proc/self/environ')",
		"SELECT * FROM read_csv('/etc/passwd')",
		"SELECT * FROM read_csv('https://example.com/a.csv')",
		"SELECT * FROM read_json('" + sealed.Path() + "', compression = 'zstd')",
		"SELECT * FROM '/etc/passwd'",
		"SELECT * FROM glob('/etc/*')",
		"SELECT * FROM sniff_csv('/etc/passwd')",
		"SELECT * FROM query('SELECT * FROM read_text(''/etc/passwd'')')",
		"SELECT getenv('HOME')",
		"COPY (SELECT 1) TO '" + out + "'",
		"COPY okta_users TO '" + out + "'",
		"EXPLAIN ANALYZE COPY (SELECT 1) TO '" + out + "'",
		"SELECT 1; COPY (SELECT 1) TO '" + out + "'",
		"ATTACH '" + out + "'",
		"EXPORT DATABASE '" + out + "'",
		"INSTALL httpfs",
		"LOAD httpfs",
		"LOAD '" + out + "'",
		"SET enable_external_access = true",
		"SET lock_configuration = false",
		"SET memory_limit = '100GB'",
		"PRAGMA database_list",
		"CALL pragma_version()",
		"CREATE TABLE x AS SELECT 1",
		"DROP TABLE okta_users",
		"DELETE FROM okta_users",
		"CREATE SECRET s (TYPE s3)",
		"SELECT ?",
		"SELECT $1",
		"PREPARE p AS SELECT 1",
		"",
		" ; ",
		"nonsense",
	} {
		var b bytes.Buffer
		if sum, err := e.Query(t.Context(), text, CSVFormat, Limits{}, &b); err == nil {
			t.Errorf("%q returned %d rows: %s", text, sum.Rows, b.String())
		}
		if _, err := os.Stat(out); err == nil {
			t.Fatalf("%q wrote a file", text)
		}
	}
}

// The database itself denies access to files, without the check for one SELECT.
func TestConfinedWithoutSelectCheck(t *testing.T) {
	t.Parallel()
	e := newEngine(t, nil)
	one := &task{Dir: t.TempDir(), Memory: e.o.Memory, Disk: e.o.Disk}
	s, err := one.openSession(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if err := s.confine(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"COPY (SELECT 1) TO '" + t.TempDir() + "/x.csv'", "ATTACH '" + t.TempDir() + "/x.db'", "INSTALL httpfs", "LOAD httpfs",
		"EXPORT DATABASE '" + t.TempDir() + "/x'", "CREATE TABLE x AS SELECT * FROM read_text('/etc/passwd')",
		"SET enable_external_access = true", "SET lock_configuration = false", "RESET lock_configuration",
		"SET memory_limit = '100GB'", "SET allowed_directories = ['/']", "SET temp_directory = '/etc'",
	} {
		if _, err := s.db.ExecContext(t.Context(), text); err == nil {
			t.Errorf("%s succeeded", text)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	e := newEngine(t, nil)
	var b bytes.Buffer
	sum, err := e.Query(t.Context(), "SELECT * FROM range(10)", CSVFormat, Limits{Rows: 3}, &b)
	if err != nil || sum.Rows != 3 || !sum.Truncated || b.String() != "range\n0\n1\n2\n" {
		t.Errorf("row limit: summary %+v, error %v, output %q", sum, err, b.String())
	}
	b.Reset()
	sum, err = e.Query(t.Context(), "SELECT repeat('x', 100) FROM range(10)", CSVFormat, Limits{Bytes: 250}, &b)
	if err != nil || sum.Rows != 2 || !sum.Truncated {
		t.Errorf("byte limit: summary %+v, error %v", sum, err)
	}
	for format, text := range map[Format]string{
		JSONFormat: "SELECT NULL AS " + strings.Repeat("n", 1000) + " FROM range(100000)",
		CSVFormat:  "SELECT NULL" + strings.Repeat(", NULL", 200) + " FROM range(100000)",
		RowsFormat: "SELECT 1" + strings.Repeat(", 2", 200) + " FROM range(100000)",
	} {
		b.Reset()
		sum, err = e.Query(t.Context(), text, format, Limits{Bytes: 64 << 10}, &b)
		if err != nil || !sum.Truncated || b.Len() > 256<<10 {
			t.Errorf("%s of names and NULL: summary %+v, error %v, %d bytes", format, sum, err, b.Len())
		}
	}
	_, err = e.Query(t.Context(), "SELECT NULL AS "+strings.Repeat("n", 1000), CSVFormat, Limits{Bytes: 900}, &b)
	if err == nil || !strings.Contains(err.Error(), "columns") {
		t.Errorf("names beyond the byte limit: error %v", err)
	}
	sum, err = e.Query(t.Context(), "SELECT * FROM range(3)", CSVFormat, Limits{Rows: 3}, &b)
	if err != nil || sum.Rows != 3 || sum.Truncated {
		t.Errorf("row limit not exceeded: summary %+v, error %v", sum, err)
	}
	_, err = e.Query(t.Context(), "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range + b.range = -1", CSVFormat, Limits{Time: 100 * time.Millisecond}, &b)
	if !errors.Is(err, ErrTime) {
		t.Errorf("endless query: error %v, want the time limit", err)
	}
}

// The text of an error is as short as any other.
func TestLongErrors(t *testing.T) {
	t.Parallel()
	e := newEngine(t, nil)
	for _, text := range []string{"SELECT error(repeat('é', 100000))", "SELECT repeat('é', 100000)::INT"} {
		_, err := e.Query(t.Context(), text, CSVFormat, Limits{}, &bytes.Buffer{})
		if err == nil || len(err.Error()) > 8<<10 || !utf8.ValidString(err.Error()) {
			t.Errorf("%s: error of %d bytes", text, len(fmt.Sprint(err)))
		}
	}
}

func TestOneAtATime(t *testing.T) {
	t.Parallel()
	e := newEngine(t, nil)
	e.bounds.slots <- struct{}{}
	if _, err := e.Query(t.Context(), "SELECT 1", CSVFormat, Limits{}, &bytes.Buffer{}); !errors.Is(err, ErrBusy) {
		t.Errorf("second query: error %v, want ErrBusy", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Query(ctx, "SELECT 1", CSVFormat, Limits{Wait: true}, &bytes.Buffer{}); !errors.Is(err, context.Canceled) {
		t.Errorf("second query that waits: error %v, want context.Canceled", err)
	}
}

// TestOneSlotForOthers checks that the queries of one of two engines leave a slot to the other,
// and that it has all when it is alone.
func TestOneSlotForOthers(t *testing.T) {
	t.Parallel()
	first := New(Options{Parallel: 3})
	second := New(Options{Bounds: first})
	take := func(e *Engine) (release func(), err error) { return e.acquireSlots(t.Context(), false) }
	var releases []func()
	for range 2 {
		release, err := take(first)
		if err != nil {
			t.Fatal(err)
		}
		releases = append(releases, release)
	}
	if _, err := take(first); !errors.Is(err, ErrBusy) {
		t.Errorf("the third query of the first engine: %v, want ErrBusy", err)
	}
	release, err := take(second)
	if err != nil {
		t.Fatalf("the first query of the second engine: %v", err)
	}
	if _, err := take(second); !errors.Is(err, ErrBusy) {
		t.Errorf("a fourth query of both: %v, want ErrBusy", err)
	}
	release()
	second.Close()
	if release, err = take(first); err != nil {
		t.Errorf("the third query of the only engine: %v", err)
	}
	for _, release := range append(releases, release) {
		release()
	}
	if len(first.own)+len(first.bounds.slots) > 0 {
		t.Errorf("%d and %d slots are not released", len(first.own), len(first.bounds.slots))
	}
	first.Close()
}

func TestUnknownStream(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string][]string{"okta_users": {`{"a":1}`}})
	_, err := e.Query(t.Context(), "SELECT * FROM okta_user", CSVFormat, Limits{}, &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "that have data are: okta_users") {
		t.Errorf("error %v", err)
	}
}

// Records that DuckDB's own JSON reader refuses can be queried.
func TestUnusualRecords(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string][]string{
		"lone_surrogates": {`{"a":"\ud800","b":{"c":1}}`, `{"a":"x","b":{"c":2}}`},
		"large_records":   {`{"a":"` + strings.Repeat("x", 20<<20) + `"}`},
		"no_records":      nil,
		"zero_names":      {`{"a\u0000b":1,"c":2}`},
		"repeated_names":  {`{"a":1,"a":2}`},
		"mixed_values":    {`{"a":1,"d":[1,{"x":2}]}`, `{"a":"one","d":null}`, `{"a":{"b":1}}`, `{}`},
	})
	for text, want := range map[string]string{
		"SELECT a, b.c FROM lone_surrogates":                                         "a,c\n\\ud800,1\nx,2\n",
		"SELECT length(a) AS n FROM large_records":                                   "n\n20971520\n",
		"SELECT count(*) AS n FROM no_records":                                       "n\n0\n",
		"SELECT * EXCLUDE (_tenancy, _upload_timestamp, _upload_id) FROM zero_names": "a\ufffdb,c\n1,2\n",
		// Of members with the same name in one object the last one counts.
		"SELECT a, _upload_timestamp, _upload_id FROM repeated_names": "a,_upload_timestamp,_upload_id\n2,2026-03-01 06:00:00,8f14e45f-ceea-467f-a8c6-b1d1c0a1b2c3\n",
		"SELECT a, d FROM mixed_values":                               "a,d\n1,\"[1, {\"\"x\"\":2}]\"\n\"\"\"one\"\"\",\n\"{\"\"b\"\":1}\",\n,\n",
	} {
		if got := queryCSV(t, e, text); got != want {
			t.Errorf("%s returned %q, want %q", text, got, want)
		}
	}
	if _, err := e.Parquet(t.Context(), "SELECT * FROM zero_names", filepath.Join(t.TempDir(), "out.parquet"), Limits{}); err != nil {
		t.Error(err)
	}
	if p, err := e.Profile(t.Context(), "zero_names", Limits{}); err != nil || len(p.Columns) != 5 {
		t.Errorf("profile %v, error %v", p, err)
	}
}

func TestOutputs(t *testing.T) {
	t.Parallel()
	e := newEngine(t, nil)
	const text = `SELECT 1 AS n, 'a"b' || chr(10) || chr(27) AS s, NULL AS none, {'x': [1,2]} AS o, TIMESTAMP '2026-01-02 03:04:05' AS t, 'nan'::DOUBLE AS f, '{"a": 1}'::JSON AS j, 12345678901234567890123::HUGEINT AS h`
	var b bytes.Buffer
	if _, err := e.Query(t.Context(), text, JSONFormat, Limits{}, &b); err != nil {
		t.Fatal(err)
	}
	want := `[
{"n":1,"s":"a\"b\n\u001B","none":null,"o":{"x":[1,2]},"t":"2026-01-02 03:04:05","f":"NaN","j":{"a":1},"h":12345678901234567890123}
]
`
	if got := b.String(); got != want || !json.Valid(b.Bytes()) {
		t.Errorf("got  %s\nwant %s", b.String(), want)
	}
	b.Reset()
	if _, err := e.Query(t.Context(), text, TableFormat, Limits{}, &b); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsRune(b.String(), 27) || strings.Count(b.String(), "\n") != 2 {
		t.Errorf("table %q", b.String())
	}
	path := filepath.Join(t.TempDir(), "it's.parquet")
	sum, err := e.Parquet(t.Context(), text+" FROM range(3000)", path, Limits{})
	if err != nil || sum.Rows != 3000 {
		t.Fatal(sum, err)
	}
	db, err := duckdb.Open(t.Context(), "", duckdb.Options{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var kinds, s sql.NullString
	err = db.QueryRowContext(t.Context(), "SELECT string_agg(column_type, ' ') FROM (DESCRIBE FROM read_parquet("+duckdb.Literal(path)+"))").Scan(&kinds)
	if err != nil || kinds.String != "INTEGER VARCHAR INTEGER STRUCT(x INTEGER[]) TIMESTAMP DOUBLE JSON DOUBLE" {
		t.Errorf("types %s %v", kinds.String, err)
	}
	err = db.QueryRowContext(t.Context(), "SELECT s FROM read_parquet("+duckdb.Literal(path)+") LIMIT 1").Scan(&s)
	if err != nil || s.String != "a\"b\n\x1b" {
		t.Errorf("%q %v", s.String, err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); len(left) != 1 {
		t.Errorf("directory entries %v, want only the file", left)
	}
}

func TestProfile(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string][]string{"okta_users": {`{"a":1,"<b>":"x"}`, `{"a":2,"<b>":null}`, `{"a":2}`}})
	p, err := e.Profile(t.Context(), "okta_users", Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(p.Records, p.Columns[:2]); got != "3 [{{a BIGINT} 3 [2 1]} {{<b> VARCHAR} 1 [x]}]" || p.UploadID == "" {
		t.Error(got)
	}
}

// The directory of a process that died is removed, one in use is not.
// A profile of many columns reads them in a few statements.
func TestProfileOfManyColumns(t *testing.T) {
	t.Parallel()
	record := `{"c0":"x"`
	for i := range 1200 {
		record += fmt.Sprintf(`,"c%d":%d`, i+1, i+1)
	}
	e := newEngine(t, map[string][]string{"okta_users": {record + "}", `{"c0":"y"}`, `{"c0":"y"}`}})
	p, err := e.Profile(t.Context(), "okta_users", Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(p.Columns[0], p.Columns[1200]); got != "{{c0 VARCHAR} 3 [y x]} {{c1200 BIGINT} 1 [1200]}" {
		t.Errorf("profile %s", got)
	}
}

func TestStaleTaskDirs(t *testing.T) {
	t.Parallel()
	e := newEngine(t, nil)
	e = New(Options{State: e.o.State, Tenancy: "default", Dir: filepath.Join(e.o.Dir, "query [1]")})
	dead := filepath.Join(e.o.Dir, taskDirPrefix+"dead")
	if err := errors.Join(os.MkdirAll(dead, 0o700), os.WriteFile(filepath.Join(dead, "lock"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	open, remove, err := e.createTaskDir()
	if err != nil {
		t.Fatal(err)
	}
	defer remove()
	queryCSV(t, e, "SELECT 1")
	if _, err := os.Stat(dead); err == nil {
		t.Error("the stale session was not removed")
	}
	if _, err := os.Stat(open); err != nil {
		t.Error(err)
	}
}

// TestSpreadsheets checks that a spreadsheet program executes no text of a vendor as a
// formula, and that numbers stay numbers.
func TestSpreadsheets(t *testing.T) {
	t.Parallel()
	e := newEngine(t, nil)
	const text = `SELECT * FROM (VALUES
		('=1+1', -5, -1.5::DECIMAL(9,2)), ('+41 79 000 00 00', 2, NULL), ('-12.5', 3, 0), ('@SUM(A1)', 4, 0), (chr(9) || '=1', 5, 0),
		(chr(13) || '=1', 6, 0), ('-', 7, 0), ('a=1', 8, 0), (NULL, 9, 0), (' =1', 10, 0), ('＝1', 11, 0), (' 12', 12, 0)) v("=name", n, d)`
	var guarded, raw bytes.Buffer
	for format, b := range map[Format]*bytes.Buffer{CSVFormat: &guarded, RawCSVFormat: &raw} {
		if _, err := e.Query(t.Context(), text, format, Limits{}, b); err != nil {
			t.Fatal(err)
		}
	}
	want := "'=name,n,d\n'=1+1,-5,-1.50\n'+41 79 000 00 00,2,\n-12.5,3,0.00\n'@SUM(A1),4,0.00\n'\t=1,5,0.00\n\"'\r=1\",6,0.00\n'-,7,0.00\na=1,8,0.00\n,9,0.00\n' =1,10,0.00\n'＝1,11,0.00\n\" 12\",12,0.00\n"
	if got := guarded.String(); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got := raw.String(); strings.Contains(got, "'") || !strings.HasPrefix(got, "=name,n,d\n=1+1,-5,-1.50\n") {
		t.Errorf("raw: %q", got)
	}
}

// TestListsStreams checks the statements that list tables: they list the streams that
// have data, and nothing internal.
func TestListsStreams(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string][]string{"okta_users": {`{"a":1}`}, "tenable_assets": {`{"a":1}`}})
	for _, text := range []string{"SHOW TABLES", "show tables;", "  Show\n Tables ; "} {
		if got := queryCSV(t, e, text); got != "name\nokta_users\ntenable_assets\n" {
			t.Errorf("%q: %q", text, got)
		}
	}
	if got := queryCSV(t, e, "SHOW ALL TABLES"); strings.Contains(got, resultView) || strings.Count(got, "\n") != 3 {
		t.Errorf("all tables: %q", got)
	}
	if got := queryCSV(t, newEngine(t, nil), "SHOW TABLES"); got != "name\n" {
		t.Errorf("without data: %q", got)
	}
}

// TestPivotNeedsItsValues checks that a PIVOT without IN, which DuckDB executes as
// several statements, is refused with a text that says what to write.
// TestDescribesStreams checks what programs learn about the streams without their records.
func TestDescribesStreams(t *testing.T) {
	e := newEngine(t, map[string][]string{"okta_users": {`{"id":1,"profile":{"the login":"a"}}`, `{"id":2}`}, "tenable_was": nil})
	list, err := e.StreamData(t.Context())
	if err != nil || len(list) != 2 || list[0].Stream != "okta_users" || list[0].Records != 2 || list[0].Taken.IsZero() || list[0].UploadID == "" || list[1].Records != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	columns, err := e.Columns(t.Context(), "okta_users", Limits{})
	want := []Column{
		{Name: "id", Type: "BIGINT"}, {Name: "profile", Type: `STRUCT("the login" VARCHAR)`},
		{Name: "_tenancy", Type: "VARCHAR"}, {Name: "_upload_timestamp", Type: "TIMESTAMP"}, {Name: "_upload_id", Type: "UUID"},
	}
	if diff := cmp.Diff(want, columns); diff != "" || err != nil {
		t.Errorf("%v; columns (-expected +received):\n%s", err, diff)
	}
	if _, err := e.Columns(t.Context(), "nothing", Limits{}); err == nil {
		t.Error("a stream that does not exist has columns")
	}
}

// TestNULIsRefused: DuckDB would read nothing after a NUL character.
func TestNULIsRefused(t *testing.T) {
	e := newEngine(t, map[string][]string{"okta_users": {`{"id":1}`}})
	_, err := e.Query(t.Context(), "SELECT 1 AS x\x00 FROM nonsense", CSVFormat, Limits{}, &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "NUL character at byte 14") {
		t.Errorf("error %v", err)
	}
}

func TestPivotNeedsItsValues(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string][]string{"okta_users": {`{"status":"ACTIVE"}`}})
	_, err := e.Query(t.Context(), "PIVOT okta_users ON status USING count(*)", CSVFormat, Limits{}, &bytes.Buffer{})
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "a PIVOT needs its values") {
		t.Errorf("error %v", err)
	}
	if got := queryCSV(t, e, "SELECT * FROM (PIVOT (SELECT status FROM okta_users) ON status IN ('ACTIVE', 'LOCKED') USING count(*))"); got != "ACTIVE,LOCKED\n1,0\n" {
		t.Errorf("%q", got)
	}
}

// TestDamagedDataIsNotTheQuery checks that the error of data that cannot be loaded differs
// from that of a wrong query.
func TestDamagedDataIsNotTheQuery(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string][]string{"okta_users": {`{"a":1}`}})
	sealed, _, err := e.o.State.Snapshots.LastKnown(t.Context(), "okta_users", "default")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(sealed.Path())
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)-5] ^= 1
	if err := os.WriteFile(sealed.Path(), text, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = e.Query(t.Context(), "SELECT count(*) FROM okta_users", CSVFormat, Limits{}, &bytes.Buffer{})
	if !errors.Is(err, ErrNotRun) || !strings.Contains(err.Error(), "okta_users") {
		t.Errorf("damaged data: error %v, want ErrNotRun", err)
	}
	if _, err := e.Query(t.Context(), "SELECT nothing", CSVFormat, Limits{}, &bytes.Buffer{}); err == nil || errors.Is(err, ErrNotRun) {
		t.Errorf("a wrong query: error %v", err)
	}
}

// An escape that is half of a character changes no types and no other values.
func TestSurrogatesLeaveTypes(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string][]string{"okta_users": {
		`{"id":"lower","Id":"Upper","last_login":"2026-01-20T00:00:00.000Z","name":"cut \ud83d"}`,
	}})
	got := queryCSV(t, e, "SELECT id, Id_2, typeof(last_login) AS t, name, typeof(_upload_id) AS u FROM okta_users")
	if want := "id,Id_2,t,name,u\nlower,Upper,TIMESTAMP,cut \\ud83d,UUID\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A process that ends without a report has mostly reached the limit of memory.
func TestWorkerDeath(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		stderr, err string
		want        error
	}{
		{err: "signal: killed", want: ErrMemory},
		{err: "signal: segmentation fault", want: ErrMemory},
		{err: "signal: aborted", stderr: "terminate called", want: ErrMemory},
		{err: "exit status 2", stderr: "fatal error: runtime: cannot allocate memory", want: ErrMemory},
		{err: "exit status 2", stderr: "panic: oops\ngoroutine 1", want: ErrNotRun},
	} {
		if err := workerDeath(512<<20, tc.stderr, errors.New(tc.err)); !errors.Is(err, tc.want) {
			t.Errorf("%s, %q: error %v", tc.err, tc.stderr, err)
		}
	}
}

// TestQueryToFile reads results from files, of which nothing is left in the directory.
func TestQueryToFile(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string][]string{"numbers": {`{"n":1,"t":"=x"}`, `{"n":2,"t":"y"}`, `{"n":3,"t":"z"}`}})
	for _, tc := range []struct {
		name      string
		format    Format
		limits    Limits
		want      string // what the result begins with
		rows      int64
		truncated bool
	}{
		{name: "CSV", format: CSVFormat, want: "n,t\n1,'=x\n2,y\n3,z\n", rows: 3},
		{name: "JSON", format: JSONFormat, want: "[\n{\"n\":1,\"t\":\"=x\"},\n", rows: 3},
		{name: "Parquet", format: ParquetFormat, want: "PAR1", rows: 3},
		{name: "few rows", format: CSVFormat, limits: Limits{Rows: 2}, want: "n,t\n1,'=x\n2,y\n", rows: 2, truncated: true},
		{name: "all rows", format: ParquetFormat, limits: Limits{Rows: 3}, want: "PAR1", rows: 3},
		{name: "few rows of Parquet", format: ParquetFormat, limits: Limits{Rows: 2}, want: "PAR1", rows: 2, truncated: true},
	} {
		file, sum, err := e.QueryToFile(t.Context(), "SELECT n, t FROM numbers ORDER BY n", tc.format, tc.limits)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		text, err := io.ReadAll(file)
		if err := errors.Join(err, file.Close()); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if !strings.HasPrefix(string(text), tc.want) || sum.Rows != tc.rows || sum.Truncated != tc.truncated {
			t.Errorf("%s: %d rows, truncated %v, %q; want %d, %v, %q", tc.name, sum.Rows, sum.Truncated, text, tc.rows, tc.truncated, tc.want)
		}
	}
	if _, _, err := e.QueryToFile(t.Context(), "SELECT 1; SELECT 2", ParquetFormat, Limits{}); !errors.Is(err, ErrRefused) {
		t.Errorf("several statements: %v", err)
	}
	for _, rows := range []string{"10", "1000000000"} {
		text := "SELECT random(), n FROM numbers, range(" + rows + ")"
		if _, _, err := e.QueryToFile(t.Context(), text, ParquetFormat, Limits{Bytes: 500}); err == nil || !strings.Contains(err.Error(), "more than the 500 B that a Parquet file may have") {
			t.Errorf("a file of many bytes, %s: %v", text, err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(e.o.Dir, taskDirPrefix+"*")); err != nil || len(left) > 0 {
		t.Errorf("%v is left, error %v", left, err)
	}
}
