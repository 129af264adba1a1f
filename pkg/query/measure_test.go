package query

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// measured collects the results of a measurement.
type measured struct {
	t       *testing.T
	rows    map[int][]string // as objects
	results map[int]MeasureResult
	errs    map[int]error
	fail    error
}

func (m *measured) ReceiveRow(index int, row MeasureRow) error {
	m.rows[index] = append(m.rows[index], fmt.Sprintf("{%s,%s}", row.Resource, row.Unit))
	return m.fail
}

func (m *measured) ReceiveEnd(index int, result MeasureResult, err error) error {
	if _, twice := m.errs[index]; twice {
		m.t.Errorf("measure %d ended twice", index)
	}
	m.results[index], m.errs[index] = result, err
	return nil
}

func newMeasured(t *testing.T) *measured {
	return &measured{t: t, rows: map[int][]string{}, results: map[int]MeasureResult{}, errs: map[int]error{}}
}

// runMeasures runs measures of one query each.
func runMeasures(t *testing.T, e *Engine, o MeasureOptions, texts ...string) *measured {
	t.Helper()
	var all []Measure
	for _, text := range texts {
		all = append(all, Measure{Queries: []MeasureQuery{{Text: text}}})
	}
	m := newMeasured(t)
	if err := e.Measure(t.Context(), all, o, m); err != nil {
		t.Fatal(err)
	}
	if len(m.errs) != len(all) {
		t.Fatalf("%d of %d measures ended", len(m.errs), len(all))
	}
	return m
}

const goodMeasure = `SELECT login AS resource, 'user' AS resource_type, mfa AS compliance, 'x' AS detail FROM okta_users`

// TestMeasures checks that each measure has its own result or error, whatever the others
// do, in the order of the measures.
func TestMeasures(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret.csv")
	if err := os.WriteFile(secret, []byte("a\n1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := newEngine(t, map[string][]string{"okta_users": {`{"login":"a","mfa":1}`, `{"login":"b","mfa":0}`, `{"login":"c","mfa":null}`}})
	m := runMeasures(t, e, MeasureOptions{Memory: 512 << 20},
		goodMeasure,
		"SELECT logn AS resource, 'user' AS resource_type, 1 AS compliance, '' AS detail\nFROM okta_users",
		"SELECT login AS resource, 1 AS compliance FROM okta_users",
		"SELECT login AS resource, 'user' AS resource_type, 95 AS compliance, '' AS detail FROM okta_users",
		"SELECT 'a' AS resource, '' AS resource_type, 1 AS compliance, '' AS detail FROM read_csv('"+secret+"')",
		"ATTACH '"+secret+"' AS x",
		"SELECT 1; SELECT 2",
		"COPY okta_users TO '"+secret+"'",
		"INSTALL httpfs",
		"SELECT 'a' AS resource, '' AS resource_type, len(range(600000000)) AS compliance, '' AS detail",
		"SELECT login AS resource, 'user' AS resource_type, mfa > 0 AS compliance, 'x' AS detail FROM okta_users WHERE false",
		"SELECT login AS resource, 'user' AS resource_type, 'yes' AS compliance, 'x' AS detail FROM okta_users",
		goodMeasure+" LIMIT 1;",
	)
	wants := []string{
		"",
		`Binder Error: Referenced column "logn" not found in FROM clause! Candidate bindings: "login"`,
		"the query does not return resource_type, detail: it must return resource, resource_type, compliance, detail",
		"3 rows have a compliance that is not from 0 to 1, such as 95.0 of the resource a",
		"Permission Error: Cannot access file",
		"only one SELECT is allowed",
		"only one SELECT is allowed",
		"Permission Error: Cannot access file",
		"only one SELECT is allowed",
		"the query needs too much memory",
		"",
		"Conversion Error: Could not convert string 'yes' to DOUBLE",
		"",
	}
	for i, want := range wants {
		err := m.errs[i]
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("measure %d: error %v, want %q", i, err, want)
		}
	}
	var failed *MeasureError
	if !errors.As(m.errs[1], &failed) || failed.Line != 1 || failed.Query != 0 {
		t.Errorf("place of the error %+v", failed)
	}
	want := MeasureResult{
		Rows: 3, NotFull: 1, Parts: []MeasurePart{{BusinessUnit: "undefined", Team: "undefined", Location: "undefined", OK: 1, Total: 2}},
		Streams: []UsedStream{{Stream: "okta_users", UploadID: "8f14e45f-ceea-467f-a8c6-b1d1c0a1b2c3", Taken: taken}},
	}
	if diff := cmp.Diff(want, m.results[0]); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	if r := m.results[10]; r.Rows != 0 || len(r.Parts) != 0 {
		t.Errorf("a measure without rows: %+v", r)
	}
	if r := m.results[12]; r.Rows != 1 {
		t.Errorf("the measure after the one that ended the process: %+v", r)
	}
	if len(m.rows) != 0 {
		t.Errorf("rows although none are wanted: %v", m.rows)
	}
	if left, err := os.ReadDir(e.o.Dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, error %v", left, err)
	}
}

// TestMeasureMemory: a measure that needs too much memory fails alone. Those after it have
// another process, and one that has too little memory after others runs again.
func TestMeasureMemory(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string][]string{"okta_users": {`{"login":"a","mfa":1}`}})
	const bomb = "SELECT 'a' AS resource, '' AS resource_type, len(list(range)) AS compliance, '' AS detail FROM range(600000000)"
	m := runMeasures(t, e, MeasureOptions{Memory: 512 << 20, MemorySetting: "CONTROLS_MEMORY"}, goodMeasure, bomb, goodMeasure, bomb, bomb, goodMeasure)
	for i, wantErr := range []error{nil, ErrMemory, nil, ErrMemory, ErrMemory, nil} {
		if !errors.Is(m.errs[i], wantErr) {
			t.Errorf("measure %d: error %v, want %v", i, m.errs[i], wantErr)
		}
		const text = "the query needs too much memory: it may use 512 MiB: select fewer rows and columns, or set CONTROLS_MEMORY to more"
		if wantErr != nil && m.errs[i].Error() != text {
			t.Errorf("measure %d: error %v, want %s", i, m.errs[i], text)
		}
	}
	w := &measuring{receiver: newMeasured(t), ended: map[int]bool{}, first: 3, skipped: map[int]map[int][]string{}}
	for index, wantEnd := range map[int]bool{3: true, 4: false} {
		if err := w.end(index, MeasureResult{}, withKind(ErrMemory, errors.New("x"))); err != nil || w.ended[index] != wantEnd {
			t.Errorf("measure %d after 3: ended %v, want %v, error %v", index, w.ended[index], wantEnd, err)
		}
	}
}

// TestMeasureLines checks the lines of errors in a query of several lines.
func TestMeasureLines(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string][]string{"okta_users": {`{"profile":{"login":"a"}}`}})
	m := runMeasures(t, e, MeasureOptions{},
		"SELECT\n  nothing(1) AS resource\nFROM okta_users",
		"SELECT\n  'x',\n  u.profile.logn AS resource\nFROM okta_users u",
		"SELECT\n\n  FORM okta_users u WHERE",
	)
	for i, want := range []string{"2 Did you mean", "3 Could not find key \"logn\" in struct Candidate Entries: \"login\"", "3 syntax error"} {
		var failed *MeasureError
		if !errors.As(m.errs[i], &failed) {
			t.Errorf("error %v", m.errs[i])
			continue
		}
		line, text, _ := strings.Cut(want, " ")
		if fmt.Sprint(failed.Line) != line || !strings.Contains(failed.Error(), text) {
			t.Errorf("line %d: %v, want %s", failed.Line, failed, want)
		}
	}
}

// TestMeasureTime checks that a query that never ends is ended, and does not end this
// process or the engine.
func TestMeasureTime(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string][]string{"okta_users": {`{"login":"a","mfa":1}`}})
	m := runMeasures(t, e, MeasureOptions{Time: 2 * time.Second},
		"WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT max(n)::VARCHAR AS resource, '' AS resource_type, 1 AS compliance, '' AS detail FROM r")
	if !errors.Is(m.errs[0], ErrTime) || !strings.Contains(m.errs[0].Error(), "2s") {
		t.Errorf("error %v", m.errs[0])
	}
	if m := runMeasures(t, e, MeasureOptions{}, goodMeasure); m.errs[0] != nil {
		t.Errorf("the next measurement: %v", m.errs[0])
	}
}

// TestMeasureWithoutData checks that a query without data is left out, and that a measure
// of such queries alone fails.
func TestMeasureWithoutData(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string][]string{"okta_users": {`{"login":"a","mfa":1}`}})
	other := MeasureQuery{Text: "SELECT * FROM tenable_assets", Streams: []string{"tenable_assets"}}
	m := newMeasured(t)
	err := e.Measure(t.Context(), []Measure{
		{Queries: []MeasureQuery{other, {Text: goodMeasure, Streams: []string{"okta_users"}}}},
		{Queries: []MeasureQuery{other}},
	}, MeasureOptions{Detail: true}, m)
	if err != nil {
		t.Fatal(err)
	}
	if r := m.results[0]; m.errs[0] != nil || r.Rows != 1 || !cmp.Equal(r.Skipped, map[int][]string{0: {"tenable_assets"}}) {
		t.Errorf("%+v, error %v", r, m.errs[0])
	}
	if err := m.errs[1]; !errors.Is(err, ErrNoData) || err.Error() != "there is no data yet of tenable_assets" {
		t.Errorf("error %v", err)
	}
}

// TestMeasureRegister checks the units of rows: those of the query first, then those of
// the register for the type of the resource, then for every type.
func TestMeasureRegister(t *testing.T) {
	t.Parallel()
	register := []byte("resource,resource_type,business_unit,team,location\n" +
		"a,user,Sales,\"it's, mine\",\nA,host,Hosts,,\nb,,Any,,Bern\n")
	e := newEngine(t, map[string][]string{"okta_users": {`{"login":"A","mfa":1}`, `{"login":"b","mfa":0.5,"team":"own"}`, `{"login":"c","mfa":0}`}})
	m := runMeasures(t, e, MeasureOptions{Register: register, Detail: true},
		"SELECT login AS resource, 'user' AS resource_type, mfa AS compliance, NULL AS detail, team FROM okta_users")
	want := []string{
		`{"resource":"A","resource_type":"user","compliance":1,"detail":"","business_unit":"Sales","team":"it's, mine","location":"undefined"}`,
		`{"resource":"b","resource_type":"user","compliance":0.5,"detail":"","business_unit":"Any","team":"own","location":"Bern"}`,
		`{"resource":"c","resource_type":"user","compliance":0,"detail":"","business_unit":"undefined","team":"undefined","location":"undefined"}`,
	}
	if diff := cmp.Diff(want, m.rows[0]); diff != "" || m.errs[0] != nil {
		t.Errorf("error %v, rows (-want +got):\n%s", m.errs[0], diff)
	}
	if len(m.results[0].Parts) != 3 {
		t.Errorf("%+v", m.results[0].Parts)
	}
}

// TestMeasureRows checks the rows of values that JSON or the lines of the output could break,
// and the order of the rows.
func TestMeasureRows(t *testing.T) {
	t.Parallel()
	e := newEngine(t, nil)
	m := runMeasures(t, e, MeasureOptions{Detail: true}, `SELECT * FROM (VALUES
		('z', NULL, NULL, NULL, ' '), (NULL, 'user', 0.1::DECIMAL(3, 1), 'é <&> 😀', 'team'),
		('"' || chr(9) || chr(10) || chr(13) || chr(0) || chr(8232) || '\\=', 'a', 1e-7, '{"x":1}', '"resource":')) AS r(resource, resource_type, compliance, detail, team)`)
	want := []string{
		"{\"resource\":\"\\\"\\t\\n\\r\\u0000\u2028\\\\\\\\=\",\"resource_type\":\"a\",\"compliance\":1e-7,\"detail\":\"{\\\"x\\\":1}\"," +
			`"business_unit":"undefined","team":"\"resource\":","location":"undefined"}`,
		`{"resource":"z","resource_type":"","compliance":null,"detail":"","business_unit":"undefined","team":"undefined","location":"undefined"}`,
		`{"resource":"","resource_type":"user","compliance":0.1,"detail":"é <&> 😀","business_unit":"undefined","team":"team","location":"undefined"}`,
	}
	if diff := cmp.Diff(want, m.rows[0]); diff != "" || m.errs[0] != nil {
		t.Errorf("error %v, rows (-want +got):\n%s", m.errs[0], diff)
	}
	for _, row := range m.rows[0] {
		if !json.Valid([]byte(row)) {
			t.Errorf("not JSON: %s", row)
		}
	}
}

// TestMeasureLongTexts checks that a row with long texts is an error, and never in memory here.
func TestMeasureLongTexts(t *testing.T) {
	t.Parallel()
	e := newEngine(t, nil)
	m := runMeasures(t, e, MeasureOptions{Detail: true},
		"SELECT 'a' || n AS resource, '' AS resource_type, 1 AS compliance, repeat('é', n * 300000) AS detail FROM range(3) r(n)",
		"SELECT 'a' AS resource, '' AS resource_type, 1 AS compliance, repeat('é', 500000) AS detail")
	const want = "1 row has texts of more than 1.0 MiB, such as that of the resource a2: shorten detail"
	if err := m.errs[0]; err == nil || err.Error() != want || len(m.rows[0]) > 0 {
		t.Errorf("error %v, want %s; %d rows", err, want, len(m.rows[0]))
	}
	if m.errs[1] != nil || len(m.rows[1]) != 1 {
		t.Errorf("a shorter row: error %v, %d rows", m.errs[1], len(m.rows[1]))
	}
}

// TestMeasureDivision checks what a division by 0 is in the compliance: the error names the
// query, a resource and what to do, and NULL does not count.
func TestMeasureDivision(t *testing.T) {
	t.Parallel()
	e := newEngine(t, nil)
	const rows = " FROM (VALUES ('a', 1, 2), ('b', 0, 0), ('c', 1, 0)) AS r(resource, n, total)"
	m := newMeasured(t)
	err := e.Measure(t.Context(), []Measure{
		{Queries: []MeasureQuery{{Text: "SELECT resource, '' AS resource_type, n / total AS compliance, '' AS detail" + rows + " WHERE n > 0"}}},
		{Queries: []MeasureQuery{
			{Text: "SELECT 'x' AS resource, '' AS resource_type, 1 AS compliance, '' AS detail"},
			{Text: "SELECT resource, '' AS resource_type, n / total AS compliance, '' AS detail" + rows + " WHERE n = 0"},
		}},
		{Queries: []MeasureQuery{{Text: "SELECT resource, '' AS resource_type, n / nullif(total, 0) AS compliance, '' AS detail" + rows}}},
	}, MeasureOptions{}, m)
	if err != nil {
		t.Fatal(err)
	}
	const advice = ": a division by 0 returns that: divide by nullif(x, 0), so that the row does not count"
	for i, want := range []string{
		"0 1 row has a compliance that is not from 0 to 1, such as inf of the resource c" + advice,
		"1 1 row has a compliance that is not from 0 to 1, such as nan of the resource b" + advice,
	} {
		var failed *MeasureError
		if !errors.As(m.errs[i], &failed) || fmt.Sprint(failed.Query, " ", failed) != want {
			t.Errorf("error %v, want %s", m.errs[i], want)
		}
	}
	if r := m.results[2]; m.errs[2] != nil || r.Rows != 3 || len(r.Parts) != 1 || r.Parts[0].OK != 0.5 || r.Parts[0].Total != 1 {
		t.Errorf("with nullif: %+v, error %v", r, m.errs[2])
	}
}

// TestMeasureAdvice checks that errors do not advise settings of DuckDB, which no query can
// change.
func TestMeasureAdvice(t *testing.T) {
	t.Parallel()
	e := newEngine(t, nil)
	m := runMeasures(t, e, MeasureOptions{},
		"SELECT (SELECT n FROM range(2) r(n))::VARCHAR AS resource, '' AS resource_type, 1 AS compliance, '' AS detail")
	const want = "Invalid Input Error: More than one row returned by a subquery used as an expression - scalar subqueries can only return a single row."
	if err := m.errs[0]; err == nil || strings.TrimSpace(err.Error()) != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

// TestMeasureReceiverFails checks that an error of the receiver ends the measurement.
func TestMeasureReceiverFails(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string][]string{"okta_users": {`{"login":"a","mfa":1}`}})
	m := newMeasured(t)
	m.fail = errors.New("the disk is full")
	err := e.Measure(t.Context(), []Measure{{Queries: []MeasureQuery{{Text: goodMeasure}}}}, MeasureOptions{Detail: true}, m)
	if !errors.Is(err, m.fail) {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("stopping"))
	if err := e.Measure(ctx, []Measure{{Queries: []MeasureQuery{{Text: goodMeasure}}}}, MeasureOptions{}, newMeasured(t)); err == nil {
		t.Error("no error of a measurement that is cancelled")
	}
}

// TestMeasureDamagedStream checks that data that cannot be read fails the measures that
// need it and no others.
func TestMeasureDamagedStream(t *testing.T) {
	t.Parallel()
	e := newEngine(t, map[string][]string{"okta_users": {`{"login":"a","mfa":1}`}, "tenable_assets": {`{"id":1}`}})
	sealed, _, err := e.o.State.Snapshots.LastKnown(t.Context(), "tenable_assets", "default")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(sealed.Path(), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := runMeasures(t, e, MeasureOptions{}, "SELECT * FROM tenable_assets", goodMeasure)
	if !errors.Is(m.errs[0], ErrNotRun) || m.errs[1] != nil {
		t.Errorf("errors %v", m.errs)
	}
}

// TestOptionalMembers checks that a member that no record has is NULL, that one that
// records have keeps its type and its values, and that a misspelled one is an error.
func TestOptionalMembers(t *testing.T) {
	t.Parallel()
	optional := map[string][]string{
		"crowdstrike_vulnerabilities": {"cve.severity", "cve.published", "remediation.entities[].title", "created", "cve.base.score"},
		"tenable_assets":              {"odd.member", "list[].a.b", "more.a", "more.b.c"},
		"snyk_issues":                 {"attributes.status"},
	}
	e := newEngine(t, map[string][]string{
		"crowdstrike_vulnerabilities": {`{"aid":"h","cve":{"id":"C-1","published":"2026-01-02T03:04:05Z"}}`},
		"tenable_assets":              {`{"odd":"text","list":[{"a":1}],"more":{"b":"c"}}`}, "snyk_issues": {},
	})
	e = New(Options{State: e.o.State, Tenancy: "default", Dir: e.o.Dir, Optional: optional})
	t.Cleanup(e.Close)
	for text, want := range map[string]string{
		"SELECT count(*) AS n FROM crowdstrike_vulnerabilities v WHERE v.cve.severity IN ('HIGH') OR v.created > 3":     "n\n0\n",
		"SELECT cve.severity AS s, cve.base.score AS b, typeof(cve.published) AS p FROM crowdstrike_vulnerabilities":    "s,b,p\n,,TIMESTAMP\n",
		"SELECT v.severity AS s FROM crowdstrike_vulnerabilities AS cve, (SELECT 1 AS severity) v":                      "s\n1\n",
		"SELECT count(*) AS n FROM (SELECT unnest(remediation.entities).title || 'a' FROM crowdstrike_vulnerabilities)": "n\n0\n",
		"SELECT odd FROM tenable_assets":                                                                   "odd\ntext\n",
		"SELECT count(*) AS n FROM snyk_issues WHERE attributes.status = 'open'":                           "n\n0\n",
		"SELECT strptime(cve.published, '%Y-%m-%dT%H:%M:%SZ')::DATE AS d FROM crowdstrike_vulnerabilities": "d\n2026-01-02\n",
		"SELECT strptime('2026-01-02T03:04:05Z', '%Y-%m-%dT%H:%M:%SZ')::DATE AS d":                         "d\n2026-01-02\n",
		"SELECT strptime(created, '%Y') AS d FROM crowdstrike_vulnerabilities":                             "d\n\"\"\n",
		"SELECT current_setting('TimeZone') AS z":                                                          "z\nUTC\n",
	} {
		if got := queryCSV(t, e, text); strings.ReplaceAll(got, "\n\n", "\n\"\"\n") != want {
			t.Errorf("%s returned %q, want %q", text, got, want)
		}
	}
	m := runMeasures(t, e, MeasureOptions{}, "SELECT cve.severety FROM crowdstrike_vulnerabilities")
	if m.errs[0] == nil || !strings.Contains(m.errs[0].Error(), `"severity"`) {
		t.Errorf("error %v", m.errs[0])
	}
	p, err := e.Profile(t.Context(), "crowdstrike_vulnerabilities", Limits{})
	if err != nil || len(p.Columns) != 5 {
		t.Errorf("the profile has members that no record has: %+v, error %v", p.Columns, err)
	}
}
