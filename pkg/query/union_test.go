package query

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// collectTenancy adds a snapshot of okta_users of a tenancy.
func collectTenancy(t *testing.T, st *state.State, tenancy string, n int, records ...string) {
	t.Helper()
	h := snapshot.Header{Collector: "okta", Stream: "okta_users", Tenancy: tenancy,
		UploadID: fmt.Sprintf("8f14e45f-ceea-467f-a8c6-%012d", n), UploadTimestamp: taken.Add(time.Duration(n) * time.Hour)}
	id, err := st.Runs.Begin(t.Context(), state.RunStart{Header: h, Trigger: "test", Started: h.UploadTimestamp})
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
	if _, err := st.Runs.Commit(t.Context(), id, w, state.RunStats{Records: int64(len(records))}, state.Policy{StoreEmpty: true}); err != nil {
		t.Fatal(err)
	}
}

// newTenancies returns an engine over tenancies with records of okta_users, ordered by name.
func newTenancies(t *testing.T, records map[string][]string) *Engine {
	t.Helper()
	first := newEngine(t, nil)
	var names []string
	for name := range records {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		collectTenancy(t, first.o.State, name, i, records[name]...)
	}
	e := New(Options{State: first.o.State, Tenancies: names, Dir: filepath.Join(first.o.State.Dir(), "query")})
	t.Cleanup(e.Close)
	return e
}

// TestTenancies checks that a query reads the rows of the engine's tenancies and no others.
func TestTenancies(t *testing.T) {
	t.Parallel()
	e := newTenancies(t, map[string][]string{
		"acme":    {`{"id":1,"profile":{"email":"a@acme.com"}}`, `{"id":2,"profile":{"email":"b@acme.com"}}`},
		"globex":  {`{"id":1,"profile":{"phone":"5"},"extra":true}`},
		"initech": {`{"id":9}`},
	})
	collectTenancy(t, e.o.State, "other", 7, `{"id":100}`)
	if got := queryCSV(t, e, "SELECT _tenancy, count(*) AS n FROM okta_users GROUP BY ALL ORDER BY 1"); got != "_tenancy,n\nacme,2\nglobex,1\ninitech,1\n" {
		t.Errorf("rows: %s", got)
	}
	if got := queryCSV(t, e, "SELECT id, profile.email, profile.phone, extra FROM okta_users ORDER BY _tenancy, id"); got !=
		"id,email,phone,extra\n1,a@acme.com,,\n2,b@acme.com,,\n1,,5,true\n9,,,\n" {
		t.Errorf("members: %s", got)
	}
	var b strings.Builder
	sum, err := e.Query(t.Context(), "FROM okta_users", CSVFormat, Limits{}, &b)
	if err != nil || len(sum.Streams) != 1 || sum.Streams[0] != (UsedStream{Stream: "okta_users", Taken: taken}) {
		t.Errorf("summary %+v, %v", sum, err)
	}
	data, err := e.StreamData(t.Context())
	if err != nil || len(data) != 1 || data[0].Records != 4 || !data[0].Taken.Equal(taken) || len(strings.Fields(data[0].UploadID)) != 3 {
		t.Errorf("data %+v, %v", data, err)
	}
	if columns, err := e.Columns(t.Context(), "okta_users", Limits{}); err != nil || columns[0].Name != "id" || columns[0].Type != "BIGINT" {
		t.Errorf("columns %+v, %v", columns, err)
	}
	collectTenancy(t, e.o.State, "initech", 8) // nothing is left of it
	if got := queryCSV(t, e, "SELECT count(*) AS n FROM okta_users"); got != "n\n3\n" {
		t.Errorf("after an empty snapshot: %s", got)
	}
}

// TestForTenancies checks that a query of some tenancies can read nothing of others, also by the
// names of their files, and that all share the bound of queries.
func TestForTenancies(t *testing.T) {
	t.Parallel()
	all := newTenancies(t, map[string][]string{"acme": {`{"id":1}`}, "globex": {`{"id":"secret of globex"}`}, "initech": {`{"id":3}`}})
	if got := queryCSV(t, all, "SELECT count(*) AS n FROM okta_users"); got != "n\n3\n" { // which makes the files
		t.Errorf("all: %s", got)
	}
	for _, tc := range []struct {
		names []string
		want  string
	}{
		{[]string{"acme"}, "_tenancy,n\nacme,1\n"},
		{[]string{"acme", "initech"}, "_tenancy,n\nacme,1\ninitech,1\n"},
	} {
		if got := queryCSV(t, all.ForTenancies(tc.names), "SELECT _tenancy, count(*) AS n FROM okta_users GROUP BY ALL ORDER BY 1"); got != tc.want {
			t.Errorf("%v: %s", tc.names, got)
		}
	}
	files, err := filepath.Glob(filepath.Join(all.o.State.Dir(), "snapshots", "okta_users", "globex", "*", "columns.parquet"))
	if err != nil || len(files) != 1 {
		t.Fatalf("the files of globex are %q, %v", files, err)
	}
	acme := all.ForTenancies([]string{"acme"})
	if _, err := acme.Query(t.Context(), "FROM read_parquet('"+files[0]+"')", CSVFormat, Limits{}, io.Discard); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a file of another tenancy: %v", err)
	}
	release, err := all.acquireSlots(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if _, err := acme.Query(t.Context(), "SELECT 1", CSVFormat, Limits{}, io.Discard); !errors.Is(err, ErrBusy) {
		t.Errorf("while the only slot is in use: %v", err)
	}
}

// TestTenanciesOfDifferentTypes checks the types of a column that differ between tenancies.
func TestTenanciesOfDifferentTypes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ a, b, typ, values string }{
		{`1`, `2.5`, "DOUBLE", "1.0|2.5"},
		{`1`, `"x"`, "VARCHAR", "1|x"},
		{`1`, `null`, "BIGINT", "1|"},
		{`1`, `true`, "VARCHAR", "1|true"},
		{`1`, `"2026-01-01T00:00:00Z"`, "VARCHAR", "1|2026-01-01 00:00:00"},
		{`"x"`, `"2026-01-01T00:00:00Z"`, "VARCHAR", "x|2026-01-01 00:00:00"},
		{`"8f14e45f-ceea-467f-a8c6-b1d1c0a1b2c3"`, `"2026-01-01"`, "VARCHAR", "8f14e45f-ceea-467f-a8c6-b1d1c0a1b2c3|2026-01-01"},
		{`{"m":1}`, `null`, "STRUCT(m BIGINT)", "{'m': 1}|"},
		{`{"m":1}`, `{"n":"x"}`, "STRUCT(m BIGINT, n VARCHAR)", "{'m': 1, 'n': NULL}|{'m': NULL, 'n': x}"},
		{`{"m":1}`, `"x"`, "JSON", `{"m":1}|"x"`},
		{`{"m":1}`, `[1]`, "JSON", `{"m":1}|[1]`},
		{`{"m":1}`, `5`, "JSON", `{"m":1}|5`},
		{`[1]`, `"x"`, "JSON", `[1]|"x"`},
		{`[{"m":1}]`, `[{"n":2}]`, "STRUCT(m BIGINT, n BIGINT)[]", "[{'m': 1, 'n': NULL}]|[{'m': NULL, 'n': 2}]"},
		{`[{"m":{"x":1}}]`, `[{"m":"y"}]`, "JSON", `[{"m":{"x":1}}]|[{"m":"y"}]`},
		{`[{"m":{"x":1}}]`, `[{"m":null}]`, "STRUCT(m STRUCT(x BIGINT))[]", "[{'m': {'x': 1}}]|[{'m': NULL}]"},
		{`{"m":1}`, `{"m":true}`, "JSON", `{"m":1}|{"m":true}`},
		{`{"m":{"x":1}}`, `{"m":{}}`, "STRUCT(m JSON)", `{'m': '{"x":1}'}|{'m': '{}'}`},
	} {
		t.Run(tc.a+" and "+tc.b, func(t *testing.T) {
			t.Parallel()
			for _, order := range [][2]string{{"a", "b"}, {"b", "a"}} {
				e := newTenancies(t, map[string][]string{order[0]: {`{"k":1,"v":` + tc.a + `}`}, order[1]: {`{"k":2,"v":` + tc.b + `}`}})
				if order[0] == "b" && strings.Contains(tc.typ, "n ") { // members are in the order of the first
					continue
				}
				var got strings.Builder
				if _, err := e.Query(t.Context(), "SELECT first(typeof(v)) AS t, string_agg(coalesce(v::VARCHAR, ''), '|' ORDER BY k) AS v FROM okta_users",
					RowsFormat, Limits{}, &got); err != nil {
					t.Fatal(err)
				}
				_, row, _ := strings.Cut(got.String(), "\n")
				want, err := json.Marshal([]string{tc.typ, tc.values})
				if err != nil || strings.TrimSpace(row) != string(want) {
					t.Errorf("%v: got %s, want %s, error %v", order, row, want, err)
				}
			}
		})
	}
}

// TestOptionalMembersOfTenancies checks that a member which no tenancy has is NULL.
func TestOptionalMembersOfTenancies(t *testing.T) {
	t.Parallel()
	e := newTenancies(t, map[string][]string{"a": {`{"k":1,"cve":{"id":"x"}}`}, "b": {`{"k":2}`}})
	e.o.Optional = map[string][]string{"okta_users": {"cve.severity", "host"}}
	if got := queryCSV(t, e, "SELECT k, cve.id, cve.severity, host FROM okta_users ORDER BY k"); got != "k,id,severity,host\n1,x,,\n2,,,\n" {
		t.Errorf("got %s", got)
	}
}

// TestManyTenancies checks a stream of many tenancies.
func TestManyTenancies(t *testing.T) {
	t.Parallel()
	records := map[string][]string{}
	for i := range 30 {
		records[fmt.Sprintf("t%03d", i)] = []string{fmt.Sprintf(`{"id":%d,"m%d":{"x":1}}`, i, i%7)}
	}
	e := newTenancies(t, records)
	if got := queryCSV(t, e, "SELECT count(*) AS n, count(DISTINCT _tenancy) AS t, sum(m3.x) AS x FROM okta_users"); got != "n,t,x\n30,30,4\n" {
		t.Errorf("got %s", got)
	}
}
