package vendorsim_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/collectord/collectord/internal/vendorsim"
)

type wasPage struct {
	Pagination struct{ Total, Offset, Limit int }
	Items      []json.RawMessage
}

func (c *tenant) page(path string, limit, offset int, body string) wasPage {
	c.Helper()
	r := c.call("POST", fmt.Sprintf("%s?limit=%d&offset=%d", path, limit, offset), body)
	var p wasPage
	if err := json.Unmarshal([]byte(r.body), &p); err != nil || r.code != 200 {
		c.Fatalf("POST %s: %d, %v: %s", path, r.code, err, r.body)
	}
	return p
}

type wasConfig struct {
	ID          string  `json:"config_id"`
	Name        string  `json:"name"`
	Description *string `json:"description"`
	Last        *struct {
		Scan      string  `json:"scan_id"`
		Status    string  `json:"status"`
		Finalized *string `json:"finalized_at"`
	} `json:"last_scan"`
}

func (c *tenant) configs(limit, offset int, body string) []wasConfig {
	c.Helper()
	var out []wasConfig
	for _, raw := range c.page("/was/v2/configs/search", limit, offset, body).Items {
		var w wasConfig
		if err := json.Unmarshal(raw, &w); err != nil {
			c.Fatal(err)
		}
		out = append(out, w)
	}
	return out
}

type wasTarget struct {
	Scan     struct{ ID string } `json:"-"`
	ScanRaw  map[string]any      `json:"scan"`
	Findings struct {
		Count int `json:"finding_count"`
		Info  int `json:"info_vulns"`
	} `json:"findings"`
}

func (c *tenant) targets(parent string) []wasTarget {
	c.Helper()
	path := "/was/v2/scans/" + parent + "/vulnerabilities/by-targets/search"
	p := c.page(path, 200, 0, "")
	if next := c.page(path, 200, 200, ""); len(next.Items) != 0 || next.Pagination.Total != len(p.Items) {
		c.Errorf("second page: %+v", next)
	}
	var out []wasTarget
	for _, raw := range p.Items {
		var w wasTarget
		if err := json.Unmarshal(raw, &w); err != nil {
			c.Fatal(err)
		}
		w.Scan.ID, _ = w.ScanRaw["scan_id"].(string)
		out = append(out, w)
	}
	return out
}

const jsonFormat = "application/json"

// report orders the report if need be and returns it with the number of
// orders.
func (c *tenant) report(scan string) (body string, orders int) {
	c.Helper()
	path := "/was/v2/scans/" + scan + "/report"
	for range 5 {
		r := c.call("GET", path, "", "Content-Type", jsonFormat)
		switch r.code {
		case 200:
			return r.body, orders
		case 404:
			if put := c.call("PUT", path, "", "Content-Type", jsonFormat); orders == 0 && put.code != 202 || orders > 0 && put.code != 200 {
				c.Fatalf("PUT %s: %d %s", path, put.code, put.body)
			}
			orders++
		default:
			c.Fatalf("GET %s: %d %s", path, r.code, r.body)
		}
	}
	c.Fatalf("GET %s: never ready", path)
	return "", 0
}

func TestTenableWASReportsAreTheStreamExactlyOnce(t *testing.T) {
	c := newTenant(t, vendorsim.Options{Counts: map[string]int{vendorsim.TenableWAS: 410}})
	c.Configure(vendorsim.TenableWAS, func(s *vendorsim.TenableStream) { s.Configs, s.ReportPolls = 201, 1 })
	first := c.page("/was/v2/configs/search", 200, 0, "{}")
	if first.Pagination.Total != 201 || len(first.Items) != 200 {
		t.Fatalf("first page: %d of %d", len(first.Items), first.Pagination.Total)
	}
	want := map[string]bool{}
	for i := range 410 {
		if raw := c.WASRecord(i); json.Valid(raw) {
			want[string(raw)] = true
		} else {
			t.Fatalf("record %d is not JSON", i)
		}
	}
	var never, running, empty, ordered int
	for _, config := range append(c.configs(200, 0, "{}"), c.configs(200, 200, "{}")...) {
		if config.Last == nil {
			never++
			continue
		}
		if config.Last.Finalized == nil {
			running++
			continue
		}
		for _, target := range c.targets(config.Last.Scan) {
			body, orders := c.report(target.Scan.ID)
			ordered += orders
			var r struct {
				Config   wasConfig
				Scan     json.RawMessage
				Findings []json.RawMessage
			}
			if err := json.Unmarshal([]byte(body), &r); err != nil {
				t.Fatal(err)
			}
			if len(r.Findings) != target.Findings.Count+target.Findings.Info {
				t.Errorf("%d findings, counts %+v", len(r.Findings), target.Findings)
			}
			if len(r.Findings) == 0 {
				empty++
			}
			description, _ := json.Marshal(config.Description)
			description = []byte(strings.NewReplacer(`\u003c`, "<", `\u003e`, ">").Replace(string(description)))
			for _, f := range r.Findings {
				record := fmt.Sprintf(`{"finding":%s,"parent_scan":{"finalized_at":%q},"config":{"config_id":%q,"name":%q,"description":%s},"scan":%s}`,
					f, *config.Last.Finalized, config.ID, config.Name, description, r.Scan)
				if !want[record] {
					t.Errorf("record twice or unknown: %.300s", record)
				}
				delete(want, record)
			}
		}
	}
	if len(want) > 0 {
		t.Errorf("%d records are missing", len(want))
	}
	if never == 0 || running == 0 || empty == 0 || ordered == 0 {
		t.Errorf("never ran %d, running %d, empty %d, ordered %d: want some of each", never, running, empty, ordered)
	}
}

func TestTenableWASRefusals(t *testing.T) {
	c := newTenant(t, vendorsim.Options{})
	scan := c.targets(c.configs(10, 0, "")[0].Last.Scan)[0].Scan.ID
	for name, tc := range map[string]struct {
		method, path, body, contentType string
		code                            int
		want                            string
	}{
		"no content type":   {"GET", "/was/v2/scans/" + scan + "/report", "", "", 415, "reasons"},
		"other format":      {"GET", "/was/v2/scans/" + scan + "/report", "", "text/csv", 415, "reasons"},
		"unknown scan":      {"GET", "/was/v2/scans/x/report", "", jsonFormat, 404, `"code":"NOT_FOUND"`},
		"order of unknown":  {"PUT", "/was/v2/scans/x/report", "", jsonFormat, 404, `"code":"NOT_FOUND"`},
		"unknown parent":    {"POST", "/was/v2/scans/x/vulnerabilities/by-targets/search", "", "", 404, `"code":"NOT_FOUND"`},
		"limit too large":   {"POST", "/was/v2/configs/search?limit=201", "{}", "", 400, `"code":"INVALID_PARAMETER"`},
		"bad offset":        {"POST", "/was/v2/configs/search?offset=-1", "{}", "", 400, `"code":"INVALID_PARAMETER"`},
		"body without JSON": {"POST", "/was/v2/configs/search", "{", "", 400, `"code":"INVALID_JSON_BODY"`},
	} {
		r := c.call(tc.method, tc.path, tc.body, "Content-Type", tc.contentType)
		if r.code != tc.code || !strings.Contains(r.body, tc.want) {
			t.Errorf("%s: %d %s, want %d", name, r.code, r.body, tc.code)
		}
	}
	if n := c.page("/was/v2/configs/search", 10, 0, "").Pagination.Limit; n != 10 {
		t.Errorf("limit %d", n)
	}
}

func TestTenableWASTrouble(t *testing.T) {
	c := newTenant(t, vendorsim.Options{Counts: map[string]int{vendorsim.TenableWAS: 410}})
	c.Configure(vendorsim.TenableWAS, func(s *vendorsim.TenableStream) {
		s.Configs, s.Shift, s.GoneTargets, s.MiscountTargets, s.AbortedParents = 201, true, []int{0}, []int{1}, []int{0}
	})
	first, second := c.configs(200, 0, "{}"), c.configs(200, 200, "{}")
	if len(second) != 1 || second[0].ID != first[199].ID {
		t.Error("the list did not shift between the pages")
	}
	if first[0].Last.Status != "aborted" {
		t.Errorf("first parent: %s", first[0].Last.Status)
	}
	targets := c.targets(first[0].Last.Scan)
	if r := c.call("GET", "/was/v2/scans/"+targets[0].Scan.ID+"/report", "", "Content-Type", jsonFormat); r.code != 404 || !strings.Contains(r.body, "reasons") {
		t.Errorf("deleted scan: %d %s", r.code, r.body)
	}
	body, _ := c.report(targets[1].Scan.ID)
	var r struct {
		Scan     struct{ Status string }
		Findings []json.RawMessage
		Notes    []map[string]string
	}
	if err := json.Unmarshal([]byte(body), &r); err != nil {
		t.Fatal(err)
	}
	if r.Scan.Status != "aborted" || len(r.Notes) != 1 || r.Notes[0]["title"] != "Scan Time Limit Reached" {
		t.Errorf("aborted report: %s, %v", r.Scan.Status, r.Notes)
	}
	if n := targets[1].Findings.Count + targets[1].Findings.Info; n == len(r.Findings) {
		t.Errorf("counts add up: %d", n)
	}
	for filter, want := range map[string]string{
		`{"field":"scans_status","operator":"contains","value":["aborted"]}`:                                                                                            "aborted",
		`{"AND":[{"field":"scans_started_at","operator":"gte","value":"2026/02/01"},{"field":"scans_status","operator":"contains","value":["completed"]}]}`:             "completed",
		`{"OR":[{"field":"scans_status","operator":"eq","value":"running"},{"field":"scans_finalized_at","operator":"lte","value":"2020/01/01"}]}`:                      "running",
		`{"AND":[{"field":"scans_started_at","operator":"gte","value":"2030/01/01"},{"field":"name","operator":"eq","value":"x"}],"OR":[{"field":"name","value":"x"}]}`: "",
	} {
		configs := c.configs(200, 0, filter)
		if (len(configs) == 0) != (want == "") {
			t.Errorf("%s: %d configs", filter, len(configs))
		}
		for _, config := range configs {
			if config.Last == nil || config.Last.Status != want {
				t.Errorf("%s: %+v", filter, config.Last)
			}
		}
	}
}
