package web

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/control"
	"github.com/collectord/collectord/pkg/query"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/state"
)

// controlFiles are files of controls in all states, by their names.
var controlFiles = map[string]string{
	"mfa.yml": `
metric_id: mfa_enrolled
title: 'Accounts with a second factor ` + strings.ReplaceAll(hostileText, "'", "''") + `'
category: Identity
type: control
description: Each active account has a second factor.
how: |
  Each active Okta account is a resource.
  It is compliant when a factor is enrolled.
slo: [0.8, 0.95]
weight: 2
references:
  "ISO 27001:2022": [A.5.17, A.8.5]
  "CIS 8.1": ["6.5"]
query: |
  SELECT login AS resource, 'user' AS resource_type, mfa AS compliance, note AS detail, unit AS business_unit, team, place AS location
  FROM {{ ref('okta_users') }}
  ORDER BY n
`,
	"dormant.yml": `
metric_id: dormant_accounts
title: Accounts in use
category: Identity
slo: [0.8, 0.95]
weight: 1
references: {"NIST CSF v2.0": [PR.AA-01]}
query: SELECT login AS resource, 'user' AS resource_type, 1 AS compliance, 'in use' AS detail FROM {{ ref('okta_users') }}
`,
	"patching.yml": `
metric_id: patching
title: Hosts without old critical vulnerabilities
category: Vulnerabilities
slo: [0.8, 0.95]
weight: 4
references: {"CIS 8.1": ["7.1", "7.7"]}
query: SELECT 'host-' || n AS resource, 'host' AS resource_type, (n % 10 <> 0)::INT AS compliance, 'patched' AS detail FROM {{ ref('okta_users') }}
`,
	"broken.yml": `
metric_id: scan_coverage
title: Assets with a recent scan
category: Vulnerabilities
slo: [0.5, 0.9]
weight: 1
query: SELECT no_such_column AS resource, 'x' AS resource_type, 1 AS compliance, '' AS detail FROM {{ ref('okta_users') }}
`,
	"training.yml": `
metric_id: training
title: People who finished the training
category: People
slo: [0.8, 0.95]
weight: 1
query: SELECT email AS resource, 'user' AS resource_type, 1 AS compliance, '' AS detail FROM {{ ref('knowbe4_enrollments') }}
`,
	"backups.yml": `
metric_id: backups
title: Systems with a backup
category: Recovery
slo: [0.8, 0.95]
weight: 1
query: null
`,
}

// newControlFixture returns a fixture with controls that were measured at shownAt and have
// a history, and the directory of their files.
func newControlFixture(t testing.TB) (f *fixture, dir string) {
	f, dir = newFixture(t), t.TempDir()
	for name, text := range controlFiles {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var users []string
	for n := range 300 {
		users = append(users, fmt.Sprintf(`{"n":%d,"login":%q,"mfa":%d,"note":%q,"unit":"unit %d","team":"team %d","place":"site %d"}`,
			n, fmt.Sprintf("=cmd|%d@example.com", n), min(1, n%3), hostileText, n%2, n%3, n%2))
	}
	f.addCollector("okta", 6*time.Hour, "okta_users")
	f.addSuccess("okta", "okta_users", 2*time.Hour, nil, users...)
	f.addControlHistory("mfa_enrolled", "dormant_accounts", "patching", "scan_coverage")
	f.evaluateControls(dir)
	return f, dir
}

// addControlHistory adds results of the 80 days before shownAt.
func (f *fixture) addControlHistory(ids ...string) {
	f.Helper()
	repository := f.state.Controls("acme")
	var definitions []state.ControlDefinition
	for _, id := range ids {
		definitions = append(definitions, state.ControlDefinition{ID: id, Title: id, Category: "c", Target: 0.9, Minimum: 0.5, References: "[]"})
	}
	if err := repository.ReplaceDefinitions(f.Context(), definitions); err != nil {
		f.Fatal(err)
	}
	for n := 80; n > 0; n-- {
		at := shownAt.AddDate(0, 0, -n)
		var outcomes []state.ControlOutcome
		for i, id := range ids {
			if n == 40 { // a day without a result
				continue
			}
			ok := math.Round(75 + float64(i*5) + 12*math.Sin(float64(n)/7))
			outcomes = append(outcomes, state.ControlOutcome{
				ID: id, Attempt: state.ControlAttempt{Tried: at, Data: at},
				Result: &state.ControlResult{Measured: at, Data: at, OK: ok, Total: 100, Rows: 100},
				Days: []state.ControlDay{{
					ID: id, Day: at.Format(time.DateOnly), Title: id, Category: "c", Target: 0.95, Minimum: 0.8, Weight: 1,
					BusinessUnit: "undefined", Team: "undefined", Location: "undefined", OK: ok, Total: 100, State: "measured",
				}},
			})
		}
		if err := repository.Record(f.Context(), outcomes); err != nil {
			f.Fatal(err)
		}
	}
}

// evaluateControls measures the controls of the files in dir at shownAt.
func (f *fixture) evaluateControls(dir string) {
	f.Helper()
	engine := query.New(query.Options{State: f.state, Tenancy: "acme", Dir: filepath.Join(f.dir, "controls")})
	defer engine.Close()
	now := func() time.Time { return shownAt }
	e := &control.Evaluator{State: f.state, Tenancy: "acme", Engine: engine, Log: zap.NewNop(), Now: now}
	e.ApplySettings(control.Settings{
		Dir: dir, Timeout: 10 * time.Minute, Memory: 512 << 20, Detail: true, Keep: 400 * 24 * time.Hour,
		Runner: &run.Runner{State: f.state, Tenancy: "acme", Now: now, Parallel: 1, Active: &run.ActiveRuns{}, Log: zap.NewNop()},
	})
	if _, err := e.EvaluateNow(f.Context(), "test", nil); err != nil {
		f.Fatal(err)
	}
}

// withControls returns a change of options that shows the controls of dir.
func withControls(dir string, detail bool, more ...func(*Options)) func(*Options) {
	return func(o *Options) {
		o.Controls = func() ControlSource { return ControlSource{Dir: dir, Detail: detail} }
		for _, change := range more {
			change(o)
		}
	}
}

// requestPage returns the response to a GET request with a token; "" for none.
func requestPage(t *testing.T, handler http.Handler, path, token string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost"+path, nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w
}

// TestControlPages checks the status, the policy and the texts of the pages of controls.
func TestControlPages(t *testing.T) {
	t.Parallel()
	f, dir := newControlFixture(t)
	handler := f.newHandler(withControls(dir, true))
	for _, tc := range []struct {
		path   string
		status int
		has    []string
		hasNot []string
	}{
		{
			path: "/", status: 200, has: []string{`<a href="/controls">Controls</a>`},
		},
		{
			path: "/controls", status: 200,
			has: []string{
				"66.6\u202f%", `class="colour red">red<`, `class="colour green">green<`, `class="colour amber">amber<`, `class="colour failed">failed<`,
				`class="colour empty">empty<`, `class="colour off">off<`, "no_such_column", "The score is of 24\u202fh ago", "there is no data of knowbe4_enrollments",
				`href="/controls?framework=CIS&#43;8.1"`, "A.5.17", "2\u202fh", `aria-current="page">Controls<`, `role="img" aria-label="66.6`,
			},
		},
		{path: "/controls?framework=NIST+CSF+v2.0", status: 200, has: []string{"Accounts in use", "1 measured"}, hasNot: []string{"patching", "mfa_enrolled"}},
		{path: "/controls?framework=%3Cscript%3E", status: 200, has: []string{"No control refers to &lt;script&gt;"}},
		{
			path: "/controls/mfa_enrolled", status: 200,
			has: []string{
				"Each active account has a second factor.", "It is compliant when a factor is enrolled.", "FROM &#34;okta_users&#34;", "mfa.yml</code>, line",
				"ISO 27001:2022", "unit 1", "team 2", "2026-09-05", `data-part="/controls/mfa_enrolled/details"`, "details?format=csv", "100 of 300 rows",
			},
		},
		{path: "/controls/scan_coverage", status: 200, has: []string{"It has failed since 2026-11-24 12:00:00 UTC", "no_such_column"}},
		{path: "/controls/training", status: 200, has: []string{"There is no score yet."}, hasNot: []string{"By business unit"}},
		{path: "/controls/backups", status: 200, has: []string{"There is no query to run: it has no query."}},
		{path: "/controls/none", status: 404, has: []string{"There is no control none."}},
		{path: "/controls/mfa_enrolled/details", status: 200, has: []string{"=cmd|0@example.com", "0.0", "As of 2026-11-24 12:00:00"}, hasNot: []string{"The first 100"}},
		{path: "/controls/none/details", status: 404, has: []string{`\"none\" is not a control`}},
		{path: "/controls/dormant_accounts/details", status: 200, has: []string{"None."}},
		{path: "/assets/controls.css", status: 200},
	} {
		w := requestPage(t, handler, tc.path, "")
		text := w.Body.String()
		if w.Code != tc.status {
			t.Errorf("%s: %d, want %d: %.300s", tc.path, w.Code, tc.status, text)
		}
		for _, part := range tc.has {
			if !strings.Contains(text, part) {
				t.Errorf("%s: no %q", tc.path, part)
			}
		}
		for _, part := range append(tc.hasNot, "<script>", " style=", "onclick=", "<img") {
			if strings.Contains(text, part) {
				t.Errorf("%s: has %q", tc.path, part)
			}
		}
		if policy := w.Header().Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: policy %q", tc.path, policy)
		}
	}
}

// TestControlsSwitchedOff: no link and no page without CONTROLS.
func TestControlsSwitchedOff(t *testing.T) {
	t.Parallel()
	f, _ := newControlFixture(t)
	for name, handler := range map[string]http.Handler{
		"no source": f.newHandler(func(*Options) {}), "no directory": f.newHandler(withControls("", true)),
	} {
		if text := requestPage(t, handler, "/", "").Body.String(); strings.Contains(text, "/controls") {
			t.Errorf("%s: the overview has a link", name)
		}
		for path, status := range map[string]int{
			"/controls": 404, "/controls/mfa_enrolled": 404, "/controls/mfa_enrolled/details": 403,
			"/api/v1/controls": 403, "/api/v1/controls/mfa_enrolled": 403, "/api/v1/controls/mfa_enrolled/details": 403,
		} {
			w := requestPage(t, handler, path, "")
			if w.Code != status || !strings.Contains(w.Body.String(), "CONTROLS") || strings.Contains(w.Body.String(), "second factor") {
				t.Errorf("%s: %s: %d %.200s, want %d", name, path, w.Code, w.Body, status)
			}
		}
	}
}

// TestControlResourcesAreProtected like the records of streams, and hidden by either of two
// settings.
func TestControlResourcesAreProtected(t *testing.T) {
	t.Parallel()
	f, dir := newControlFixture(t)
	open := func(o *Options) { o.Token, o.Access = "secret-token", Access{} }
	for _, tc := range []struct {
		name   string
		change func(*Options)
		token  string
		status int
		has    string
	}{
		{name: "loopback", change: withControls(dir, true), status: 200, has: "=cmd|0@example.com"},
		{name: "open without a token", change: withControls(dir, true, open), status: 401, has: "this needs a token"},
		{name: "open with a wrong token", change: withControls(dir, true, open), token: "x", status: 401, has: "is wrong"},
		{name: "open with the token", change: withControls(dir, true, open), token: "secret-token", status: 200, has: "=cmd|0@example.com"},
		{name: "open, HTTP_TOKEN is not set", change: withControls(dir, true, func(o *Options) { o.Access = Access{} }), status: 403, has: "HTTP_TOKEN is not set"},
		{name: "no data", change: withControls(dir, true, func(o *Options) { o.ShowData = false }), status: 403, has: "HTTP_SHOW_DATA=false"},
		{name: "no detail", change: withControls(dir, false), status: 403, has: "CONTROLS_DETAIL=false"},
	} {
		handler := f.newHandler(tc.change)
		for _, path := range []string{"/controls/mfa_enrolled/details", "/api/v1/controls/mfa_enrolled/details", "/api/v1/controls/mfa_enrolled/details?format=csv"} {
			w := requestPage(t, handler, path, tc.token)
			if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.has) {
				t.Errorf("%s: %s: %d %.200s, want %d with %q", tc.name, path, w.Code, w.Body, tc.status, tc.has)
			}
			if tc.status != 200 && strings.Contains(w.Body.String(), "example.com") {
				t.Errorf("%s: %s shows resources", tc.name, path)
			}
		}
		page := requestPage(t, handler, "/controls/mfa_enrolled", "").Body.String()
		if strings.Contains(page, "example.com") || strings.Contains(page, "data-part") != (tc.name != "no data" && tc.name != "no detail") {
			t.Errorf("%s: the page shows resources, or a part that is refused", tc.name)
		}
	}
}

// TestControlCSVIsSafe: every resource is in it, and no text is a formula.
func TestControlCSVIsSafe(t *testing.T) {
	t.Parallel()
	f, dir := newControlFixture(t)
	w := requestPage(t, f.newHandler(withControls(dir, true)), "/api/v1/controls/mfa_enrolled/details?format=csv", "")
	rows, err := csv.NewReader(w.Body).ReadAll()
	if err != nil || len(rows) != 101 {
		t.Fatalf("%d rows, error %v; want 100 and the header", len(rows), err)
	}
	if got := strings.Join(rows[1], "|"); got != "'=cmd|0@example.com|user|0|"+hostileText+"|unit 0|team 0|site 0" {
		t.Errorf("the first row is %q", got)
	}
	if got := w.Header().Get("Content-Disposition"); got != "attachment; filename=mfa_enrolled_20261124T120000Z.csv" {
		t.Errorf("Content-Disposition is %q", got)
	}
}

// TestControlAPI compares the API with the page and the state.
func TestControlAPI(t *testing.T) {
	t.Parallel()
	f, dir := newControlFixture(t)
	handler := f.newHandler(withControls(dir, true))
	var list struct {
		Score      *scoreView
		Categories []categoryView
		Controls   []controlView
	}
	decodeJSON(t, requestPage(t, handler, "/api/v1/controls", "").Body.String(), &list)
	states := map[string]string{}
	for _, c := range list.Controls {
		states[c.ID] = strings.TrimSpace(string(c.State) + " " + string(c.Colour))
	}
	for id, want := range map[string]string{
		"mfa_enrolled": "measured red", "dormant_accounts": "measured green", "patching": "measured amber", "scan_coverage": "failed green",
		"training": "empty", "backups": "off",
	} {
		if states[id] != want {
			t.Errorf("%s is %q, want %q", id, states[id], want)
		}
	}
	// By hand: (2·200/300 + 1·1 + 4·0.9 + 1·0.92) / 8.
	if list.Score == nil || math.Abs(list.Score.Score-(2*200.0/300+1+3.6+0.92)/8) > 1e-9 || list.Score.Controls != 4 || len(list.Categories) != 4 {
		t.Errorf("the score is %+v, categories %+v", list.Score, list.Categories)
	}
	decodeJSON(t, requestPage(t, handler, "/api/v1/controls?framework=CIS+8.1", "").Body.String(), &list)
	if len(list.Controls) != 2 || list.Score.Controls != 2 {
		t.Errorf("%d controls refer to CIS, score %+v", len(list.Controls), list.Score)
	}
	var one wholeControlView
	decodeJSON(t, requestPage(t, handler, "/api/v1/controls/mfa_enrolled", "").Body.String(), &one)
	if len(one.Days) != 80 || one.Days[79].Day != "2026-11-24" || *one.Days[79].Score != 200.0/300 || one.NotCompliant != 100 {
		t.Errorf("the days are %+v", one.Days)
	}
	if len(one.Units) != 6 || one.Units[0].Score != 0 || one.Units[0].Team != "team 0" || len(one.Queries) != 1 || !slices.Equal(one.Queries[0].Streams, []string{"okta_users"}) {
		t.Errorf("units %+v, queries %+v", one.Units, one.Queries)
	}
	var details struct {
		Resources []control.Detail
		Truncated bool
	}
	decodeJSON(t, requestPage(t, handler, "/api/v1/controls/mfa_enrolled/details?limit=3", "").Body.String(), &details)
	if len(details.Resources) != 3 || !details.Truncated || details.Resources[0].Resource != "=cmd|0@example.com" {
		t.Errorf("the resources are %+v", details)
	}
	var whole map[string]any
	if err := json.Unmarshal(requestPage(t, handler, "/api/v1/controls/mfa_enrolled/details?limit=1000", "").Body.Bytes(), &whole); err != nil || whole["truncated"] != false {
		t.Errorf("%v, error %v", whole["truncated"], err)
	}
}

// addControls measures a control over okta_users that finds one of two users not
// compliant, and returns the directory of its file.
func (f *fixture) addControls() (dir string) {
	f.Helper()
	dir = f.TempDir()
	const text = "metric_id: plain\ntitle: Plain\ncategory: c\nslo: [0.5, 0.9]\nweight: 1\nquery: |\n" +
		"  SELECT id AS resource, 'user' AS resource_type, (status = 'ACTIVE')::INT AS compliance, status AS detail FROM {{ ref('okta_users') }}\n"
	if err := os.WriteFile(filepath.Join(dir, "plain.yml"), []byte(text), 0o600); err != nil {
		f.Fatal(err)
	}
	f.evaluateControls(dir)
	return dir
}
