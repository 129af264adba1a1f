package query

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// an engine over streams of a state folder of its own.
func engine(t *testing.T, streams map[string][]string) *Engine {
	t.Helper()
	st, err := state.Open(t.Context(), t.TempDir(), state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	for name, records := range streams {
		collect(t, st, name, records)
	}
	return New(Options{State: st, Tenancy: "default", Dir: filepath.Join(st.Dir(), "query")})
}

var taken = time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC)

func collect(t *testing.T, st *state.State, stream string, records []string) {
	t.Helper()
	collector, _, _ := strings.Cut(stream, "_")
	h := snapshot.Header{Collector: collector, Stream: stream, Tenancy: "default", UploadID: "8f14e45f-ceea-467f-a8c6-b1d1c0a1b2c3", UploadTimestamp: taken}
	id, err := st.Begin(t.Context(), state.Start{Header: h, Trigger: "test", Started: taken})
	if err != nil {
		t.Fatal(err)
	}
	w, err := st.Spool(t.Context(), h, 1<<40)
	if err != nil {
		t.Fatal(err)
	}
	page := w.Page()
	for _, r := range records {
		if err := page.Append([]byte(r)); err != nil {
			t.Fatal(err)
		}
	}
	if err := page.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Commit(t.Context(), id, w, state.Figures{Records: int64(len(records))}, state.Policy{}); err != nil {
		t.Fatal(err)
	}
}

func csvOf(t *testing.T, e *Engine, text string) string {
	t.Helper()
	var b bytes.Buffer
	if _, err := e.Query(t.Context(), text, Limits{}, CSV(&b)); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestMetrics answers the questions that the data is collected for.
func TestMetrics(t *testing.T) {
	t.Parallel()
	e := engine(t, map[string][]string{
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
	for _, c := range []struct{ name, text, want string }{
		{"hosts", `SELECT h.hostname, count(v.aid) = 0 AS ok
			FROM crowdstrike_hosts h LEFT JOIN crowdstrike_vulnerabilities v
			ON v.aid = h.device_id AND v.status = 'open' AND v.cve.severity IN ('HIGH', 'CRITICAL')
			GROUP BY h.hostname ORDER BY ok, h.hostname; -- done`,
			"hostname,ok\none,false\nthree,true\ntwo,true\n"},
		{"logins", `SELECT profile.email FROM okta_users WHERE status = 'ACTIVE' AND last_login < now() - INTERVAL 90 DAY`,
			"email\nOld@example.com\n"},
		{"training", `SELECT u.profile.email AS email, max(k.completion_date) > now() - INTERVAL 1 YEAR AS trained
			FROM okta_users u JOIN knowbe4_enrollments k ON lower(k.user.email) = lower(u.profile.email) GROUP BY ALL ORDER BY 1`,
			"email,trained\nOld@example.com,false\nnew@example.com,true\n"},
		{"members", `SELECT _tenancy, _upload_timestamp, count(*) FROM okta_users GROUP BY ALL`,
			"_tenancy,_upload_timestamp,count_star()\ndefault,2026-03-01 06:00:00,4\n"},
		{"describe", `DESCRIBE crowdstrike_hosts;`,
			"column_name,column_type,null,key,default,extra\ndevice_id,VARCHAR,YES,,,\nhostname,VARCHAR,YES,,,\n_tenancy,VARCHAR,YES,,,\n_upload_timestamp,TIMESTAMP,YES,,,\n_upload_id,UUID,YES,,,\n"},
		{"with", "-- a comment\nWITH a AS (SELECT 1 AS x, 2 AS x) SELECT * FROM a", "x,x_1\n1,2\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := csvOf(t, e, c.text); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
	rooms, _ := filepath.Glob(filepath.Join(e.o.Dir, "*"))
	if len(rooms) > 0 {
		t.Errorf("left behind: %v", rooms)
	}
}

// TestConfined tries what a query must not reach.
func TestConfined(t *testing.T) {
	t.Parallel()
	e := engine(t, map[string][]string{"okta_users": {`{"a":1}`}})
	sealed, _, err := e.o.State.LastKnown(t.Context(), "okta_users", "default")
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
		if sum, err := e.Query(t.Context(), text, Limits{}, CSV(&b)); err == nil {
			t.Errorf("%q is answered with %d rows: %s", text, sum.Rows, b.String())
		}
		if _, err := os.Stat(out); err == nil {
			t.Fatalf("%q has written a file", text)
		}
	}
}

// TestConfinedWithoutTheParser tries the same on the database itself: the
// check for one SELECT is not what keeps a query from files.
func TestConfinedWithoutTheParser(t *testing.T) {
	t.Parallel()
	e := engine(t, nil)
	room, err := e.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer room.close()
	if err := e.confine(t.Context(), room.db); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"COPY (SELECT 1) TO '" + t.TempDir() + "/x.csv'", "ATTACH '" + t.TempDir() + "/x.db'", "INSTALL httpfs", "LOAD httpfs",
		"EXPORT DATABASE '" + t.TempDir() + "/x'", "CREATE TABLE x AS SELECT * FROM read_text('/etc/passwd')",
		"SET enable_external_access = true", "SET lock_configuration = false", "RESET lock_configuration",
		"SET memory_limit = '100GB'", "SET allowed_directories = ['/']", "SET temp_directory = '/etc'",
	} {
		if _, err := room.db.ExecContext(t.Context(), text); err == nil {
			t.Errorf("%s passes", text)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	e := engine(t, nil)
	var b bytes.Buffer
	sum, err := e.Query(t.Context(), "SELECT * FROM range(10)", Limits{Rows: 3}, CSV(&b))
	if err != nil || sum.Rows != 3 || !sum.Truncated || b.String() != "range\n0\n1\n2\n" {
		t.Errorf("%+v %v %q", sum, err, b.String())
	}
	b.Reset()
	sum, err = e.Query(t.Context(), "SELECT repeat('x', 100) FROM range(10)", Limits{Bytes: 250}, CSV(&b))
	if err != nil || sum.Rows != 2 || !sum.Truncated {
		t.Errorf("%+v %v", sum, err)
	}
	sum, err = e.Query(t.Context(), "SELECT * FROM range(3)", Limits{Rows: 3}, CSV(&b))
	if err != nil || sum.Rows != 3 || sum.Truncated {
		t.Errorf("%+v %v", sum, err)
	}
	_, err = e.Query(t.Context(), "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range + b.range = -1", Limits{Time: 100 * time.Millisecond}, CSV(&b))
	if err == nil || !strings.Contains(err.Error(), "longer than 100ms") {
		t.Errorf("an endless query ends with %v", err)
	}
	small := New(Options{State: e.o.State, Tenancy: "default", Dir: e.o.Dir, Memory: 64 << 20, Disk: "1MiB"})
	_, err = small.Query(t.Context(), "SELECT count(*) FROM (SELECT DISTINCT md5(range::VARCHAR) FROM range(20000000))", Limits{}, CSV(&b))
	if duckdb.KindOf(err) != duckdb.Memory {
		t.Errorf("beyond the memory: %v", err)
	}
}

func TestOneAtATime(t *testing.T) {
	t.Parallel()
	e := engine(t, nil)
	e.slot <- struct{}{}
	if _, err := e.Query(t.Context(), "SELECT 1", Limits{}, CSV(&bytes.Buffer{})); !errors.Is(err, ErrBusy) {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Query(ctx, "SELECT 1", Limits{Wait: true}, CSV(&bytes.Buffer{})); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestUnknownStream(t *testing.T) {
	t.Parallel()
	e := engine(t, map[string][]string{"okta_users": {`{"a":1}`}})
	_, err := e.Query(t.Context(), "SELECT * FROM okta_user", Limits{}, CSV(&bytes.Buffer{}))
	if err == nil || !strings.Contains(err.Error(), "that have data are: okta_users") {
		t.Errorf("error %v", err)
	}
}

// TestOddRecords loads what DuckDB's own JSON reader refuses.
func TestOddRecords(t *testing.T) {
	t.Parallel()
	e := engine(t, map[string][]string{
		"lone_surrogates": {`{"a":"\ud800","b":{"c":1}}`, `{"a":"x","b":{"c":2}}`},
		"large_records":   {`{"a":"` + strings.Repeat("x", 20<<20) + `"}`},
		"no_records":      nil,
		"mixed_values":    {`{"a":1,"d":[1,{"x":2}]}`, `{"a":"one","d":null}`, `{"a":{"b":1}}`, `{}`},
	})
	for text, want := range map[string]string{
		"SELECT a, b.c FROM lone_surrogates":       "a,c\n\\ud800,1\nx,2\n",
		"SELECT length(a) AS n FROM large_records": "n\n20971520\n",
		"SELECT count(*) AS n FROM no_records":     "n\n0\n",
		"SELECT a, d FROM mixed_values":            "a,d\n1,\"[1, {\"\"x\"\":2}]\"\n\"\"\"one\"\"\",\n\"{\"\"b\"\":1}\",\n,\n",
	} {
		if got := csvOf(t, e, text); got != want {
			t.Errorf("%s gives %q, want %q", text, got, want)
		}
	}
}

func TestOutputs(t *testing.T) {
	t.Parallel()
	e := engine(t, nil)
	const text = `SELECT 1 AS n, 'a"b' || chr(10) || chr(27) AS s, NULL AS none, {'x': [1,2]} AS o, TIMESTAMP '2026-01-02 03:04:05' AS t, 'nan'::DOUBLE AS f, '{"a": 1}'::JSON AS j, 12345678901234567890123::HUGEINT AS h`
	var b bytes.Buffer
	if _, err := e.Query(t.Context(), text, Limits{}, JSON(&b)); err != nil {
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
	if _, err := e.Query(t.Context(), text, Limits{}, Table(&b)); err != nil {
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
		t.Errorf("left behind: %v", left)
	}
}

func TestProfile(t *testing.T) {
	t.Parallel()
	e := engine(t, map[string][]string{"okta_users": {`{"a":1,"<b>":"x"}`, `{"a":2,"<b>":null}`, `{"a":2}`}})
	p, err := e.Profile(t.Context(), "okta_users", Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(p.Records, p.Columns[:2]); got != "3 [{{a BIGINT} 3 [2 1]} {{<b> VARCHAR} 1 [x]}]" || p.UploadID == "" {
		t.Error(got)
	}
}

// TestLeftovers removes what a killed process left, and nothing that is held.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	e := engine(t, nil)
	dead := filepath.Join(e.o.Dir, roomPrefix+"dead")
	if err := errors.Join(os.MkdirAll(dead, 0o700), os.WriteFile(filepath.Join(dead, "lock"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	held, err := e.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer held.close()
	csvOf(t, e, "SELECT 1")
	if _, err := os.Stat(dead); err == nil {
		t.Error("the dead one's is still there")
	}
	if _, err := os.Stat(held.dir); err != nil {
		t.Error(err)
	}
}
