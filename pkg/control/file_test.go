package control

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// writeFiles writes files into a new directory.
func writeFiles(t *testing.T, files map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const scalarFile = `metric_id: dormant
title: Users without dormant accounts
description: |
  Every user signs in.
category: "Identity"
slo: 1
slo_min: 0.80
weight: 0.4
query: |
    SELECT profile.login AS resource
    FROM {{ ref('okta_users') }};
`

const listFile = `---
metric_id: posture
title: Hosts without open findings
category: Vulnerabilities
type: risk
how: Join hosts and findings.
slo:
  - 0.80
  - 0.95
weight: 0
enabled: true
indicator: true
references:
  "ISO 27001:2022":
    - A.8.8
  "CIS 8.1":
    - 7.50
    - 7.6
  Essential8: ISM-1808
query:
  - |
    SELECT h.hostname AS resource FROM {{ ref('crowdstrike_hosts') }} AS h
    JOIN {{ref("crowdstrike_vulnerabilities")}} AS v ON v.aid = h.device_id AND h.x IN (SELECT x FROM {{ ref('crowdstrike_hosts') }})
  - SELECT 1 FROM {{ ref('tenable_assets') }}
`

// TestLoad checks both forms of files, and what differs between them.
func TestLoad(t *testing.T) {
	t.Parallel()
	dir := writeFiles(t, map[string]string{
		"metric_a.yml": scalarFile, "b.yaml": listFile, "README.md": "no control", ".c.yml": "hidden",
	})
	got, problems, err := Load(dir)
	if err != nil || len(problems) > 0 {
		t.Fatalf("problems %v, error %v", problems, err)
	}
	for i := range got {
		if got[i].Hash == "" {
			t.Errorf("%s has no hash", got[i].ID)
		}
		got[i].Hash = ""
	}
	want := []Control{
		{
			ID: "dormant", Files: []string{"metric_a.yml"}, Title: "Users without dormant accounts", Category: "Identity",
			Description: "Every user signs in.", Target: 1, Minimum: 0.8, Weight: 0.4,
			Queries: []Query{{
				Text: "SELECT profile.login AS resource\nFROM \"okta_users\"", Streams: []string{"okta_users"}, File: "metric_a.yml", Line: 10,
			}},
		},
		{
			ID: "posture", Files: []string{"b.yaml"}, Title: "Hosts without open findings", Category: "Vulnerabilities",
			Type: "risk", How: "Join hosts and findings.", Target: 0.95, Minimum: 0.8, Indicator: true,
			References: []Reference{
				{"ISO 27001:2022", []string{"A.8.8"}}, {"CIS 8.1", []string{"7.50", "7.6"}}, {"Essential8", []string{"ISM-1808"}},
			},
			Queries: []Query{
				{
					Text:    "SELECT h.hostname AS resource FROM \"crowdstrike_hosts\" AS h\nJOIN \"crowdstrike_vulnerabilities\" AS v ON v.aid = h.device_id AND h.x IN (SELECT x FROM \"crowdstrike_hosts\")",
					Streams: []string{"crowdstrike_hosts", "crowdstrike_vulnerabilities"}, File: "b.yaml", Line: 22,
				},
				{Text: `SELECT 1 FROM "tenable_assets"`, Streams: []string{"tenable_assets"}, File: "b.yaml", Line: 24},
			},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestLoadOff checks the controls that are not measured.
func TestLoadOff(t *testing.T) {
	t.Parallel()
	const head = "title: t\ncategory: c\nslo: 0.9\nweight: 1\n"
	got, problems, err := Load(writeFiles(t, map[string]string{
		"null.yml":     "metric_id: a\n" + head + "query: null\n",
		"none.yml":     "metric_id: b\n" + head,
		"disabled.yml": "metric_id: c\n" + head + "enabled: false\nquery: SELECT 1\n",
		"empty.yml":    "metric_id: d\n" + head + "query: []\n",
	}))
	if err != nil || len(problems) > 0 {
		t.Fatalf("problems %v, error %v", problems, err)
	}
	off := map[string]string{}
	for _, c := range got {
		off[c.ID] = c.Off
		if c.Target != 0.9 || c.Minimum != 0.9 || len(c.Queries) > 0 {
			t.Errorf("%+v", c)
		}
	}
	want := map[string]string{"a": "it has no query", "b": "it has no query", "c": "enabled is false", "d": "it has no query"}
	if diff := cmp.Diff(want, off); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestLoadSameID checks that two files with one id are one control.
func TestLoadSameID(t *testing.T) {
	t.Parallel()
	const head = "metric_id: same\ncategory: c\nslo: 0.9\nweight: 1\n"
	got, problems, err := Load(writeFiles(t, map[string]string{
		"1.yml": head + "title: without a query\n",
		"2.yml": head + "title: first\nquery: SELECT 1\n",
		"3.yml": head + "title: second\nquery: SELECT 2\n",
	}))
	if err != nil || len(got) != 1 {
		t.Fatalf("controls %v, error %v", got, err)
	}
	c := got[0]
	if c.Title != "first" || len(c.Queries) != 2 || c.Queries[1].Text != "SELECT 2" || !cmp.Equal(c.Files, []string{"2.yml", "1.yml", "3.yml"}) {
		t.Errorf("%+v", c)
	}
	if len(problems) != 2 || !problems[0].Harmless || !problems[1].Harmless {
		t.Errorf("problems %v", problems)
	}
}

// TestLoadSameIDBroken checks that a control of which one file is broken is not measured by
// the others alone, and that the id that is known for a file counts where it has none.
func TestLoadSameIDBroken(t *testing.T) {
	t.Parallel()
	const head = "metric_id: same\ncategory: c\nslo: 0.9\nweight: 1\n"
	got, _, err := loadKnown(writeFiles(t, map[string]string{
		"1.yml": head + "query: SELECT 1\n",
		"2.yml": head + "title: good\nquery: SELECT 2\n",
		"3.yml": "%",
	}), map[string]string{"3.yml": "other"})
	if err != nil || len(got) != 2 || got[0].ID != "other" {
		t.Fatalf("controls %+v, error %v", got, err)
	}
	if c := got[1]; c.ID != "same" || c.Title != "good" || c.Problem != "1.yml: title is missing" || len(c.Queries) > 0 || !cmp.Equal(c.Files, []string{"2.yml", "1.yml"}) {
		t.Errorf("%+v", c)
	}
}

// TestLoadProblems checks that every problem is reported with its file and line, and
// that the other files are read.
func TestLoadProblems(t *testing.T) {
	t.Parallel()
	got, problems, err := Load(writeFiles(t, map[string]string{
		"good.yml": scalarFile,
		"many.yml": `metric_id: "a b"
titel: t
category: [c]
type: kontrol
slo: [0.9, 0.8]
slo_min: 0.5
weight: -1
enabled: maybe
references: x
query:
  - |
    SELECT 1
    FROM {% if x %}
  - {a: b}
`,
		"missing.yml": "description: d\n",
		"broken.yml":  "metric_id: x\ntitle: 'a\ncategory: 'c: d'\r\nweight: 2.5\nslo: 9\n",
		"heavy.yml":   "metric_id: heavy\ntitle: t\ncategory: c\nslo: .9\nweight: 1e308\n",
		"list.yml":    "- a\n",
		"range.yml":   "metric_id: r\ntitle: t\ncategory: c\nslo: 95\nweight: .nan\nquery: SELECT {{ x }}\n",
		"twice.yml":   "metric_id: t\ntitle: t\ncategory: c\nslo: .9\nweight: 1\nweight: 2\n",
	}))
	if err != nil {
		t.Fatal(err)
	}
	var controls []string
	for _, c := range got {
		controls = append(controls, fmt.Sprint(c.ID, " | ", c.Title, " | ", c.Category, " | ", c.Weight, " | ", c.Problem))
		if c.Problem != "" && (len(c.Queries) > 0 || c.Off != "") {
			t.Errorf("a control with a problem can be measured: %+v", c)
		}
	}
	wantControls := []string{
		"dormant | Users without dormant accounts | Identity | 0.4 | ",
		"heavy | t | c | 0 | heavy.yml:5: weight is \"1e308\": it may be a number from 0 to 1000000",
		"list |  |  | 0 | list.yml: want the fields of one control, such as metric_id and query",
		"many |  |  | 0 | many.yml:1: metric_id is \"a b\": it may have up to 100 letters, digits, _, . and -",
		"missing |  |  | 0 | missing.yml: metric_id is missing",
		"r | t | c | 0 | range.yml:4: slo is \"95\": it may be a number from 0 to 1, such as 0.95",
		"t | t | c | 1 | twice.yml:6: weight is there twice",
		"x |  | c: d | 2.5 | broken.yml:3: not YAML: mapping values are not allowed in this context",
	}
	if diff := cmp.Diff(wantControls, controls); diff != "" {
		t.Errorf("controls (-want +got):\n%s", diff)
	}
	var texts []string
	for _, p := range problems {
		texts = append(texts, p.Error())
	}
	want := []string{
		`broken.yml:3: not YAML: mapping values are not allowed in this context`,
		`heavy.yml:5: weight is "1e308": it may be a number from 0 to 1000000`,
		`list.yml: want the fields of one control, such as metric_id and query`,
		`many.yml: title is missing`,
		`many.yml:1: metric_id is "a b": it may have up to 100 letters, digits, _, . and -`,
		`many.yml:2: unknown field titel: did you mean title?`,
		`many.yml:3: category is not a text`,
		`many.yml:4: type is "kontrol": it may be control, risk or performance`,
		`many.yml:5: the minimum 0.9 is above the target 0.8`,
		`many.yml:6: slo_min is the first value of the list slo: remove one of them`,
		`many.yml:7: weight is "-1": it may be a number from 0 to 1000000`,
		`many.yml:8: enabled is "maybe": it may be true or false`,
		`many.yml:9: references is not a list of frameworks, each with a list of sections`,
		`many.yml:13: query: column 6: {% if x %}: a query may refer to streams only, as in {{ ref('okta_users') }}`,
		`many.yml:14: query is neither a text nor a list of texts`,
		`missing.yml: metric_id is missing`,
		`missing.yml: title is missing`,
		`missing.yml: category is missing`,
		`missing.yml: slo is missing: want the score from which the control is green, such as 0.95`,
		`missing.yml: weight is missing: want the share of the control in the score of its category, such as 1`,
		`range.yml:4: slo is "95": it may be a number from 0 to 1, such as 0.95`,
		`range.yml:5: weight is ".nan": it may be a number from 0 to 1000000`,
		`range.yml:6: query: column 8: {{ x }}: a query may refer to streams only, as in {{ ref('okta_users') }}`,
		`twice.yml:6: weight is there twice`,
	}
	if diff := cmp.Diff(want, texts); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestLoadMissingDirectory checks the error of a directory that does not exist.
func TestLoadMissingDirectory(t *testing.T) {
	t.Parallel()
	if _, _, err := Load(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

// TestTemplate checks what a template may contain, and where the errors are.
func TestTemplate(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		template, text string
		streams        []string
		err            string
	}{
		{template: `{{ref("x")}}`, text: `"x"`, streams: []string{"x"}},
		{template: `{{  ref( 'x_1' )  }} {{- ref("y") -}}{{ref('x_1')}}`, text: `"x_1" "y""x_1"`, streams: []string{"x_1", "y"}},
		{template: `SELECT {'a': 1}, '}}'`, text: `SELECT {'a': 1}, '}}'`},
		{template: "a\nb {% if x %}", err: "column 3: {% if x %}: a query may refer to streams only, as in {{ ref('okta_users') }}"},
		{template: `é {{ x }} {{ y }}`, err: "column 3: {{ x }}: a query may refer to streams only, as in {{ ref('okta_users') }}"},
		{template: `{# comment #}`, err: "column 1: {# comment #}: a query may refer to streams only, as in {{ ref('okta_users') }}"},
		{template: `{{ ref('../x') }}`, err: "column 1: {{ ref('../x') }}: a query may refer to streams only, as in {{ ref('okta_users') }}"},
		{template: `{{ ref('x; DROP') }}`, err: "column 1: {{ ref('x; DROP') }}: a query may refer to streams only, as in {{ ref('okta_users') }}"},
		{template: `{{ ref('x") }}`, err: `column 1: {{ ref('x") }}: a query may refer to streams only, as in {{ ref('okta_users') }}`},
		{template: `{{ ref('x') | upper }}`, err: "column 1: {{ ref('x') | upper }}: a query may refer to streams only, as in {{ ref('okta_users') }}"},
		{template: `{{ ref('x')`, err: "column 1: {{ ref('x'): a query may refer to streams only, as in {{ ref('okta_users') }}"},
	} {
		text, streams, err := renderTemplate(tc.template)
		if tc.err != "" {
			if err == nil || err.Error() != tc.err {
				t.Errorf("%s: error %v, want %s", tc.template, err, tc.err)
			}
			continue
		}
		if err != nil || text != tc.text || !cmp.Equal(streams, tc.streams) {
			t.Errorf("%s: %q, %v, %v", tc.template, text, streams, err)
		}
	}
}
