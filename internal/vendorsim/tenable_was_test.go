package vendorsim_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/collectord/collectord/internal/vendorsim"
)

type webAppPage struct {
	Pagination struct{ Total, Offset, Limit int }
	Items      []json.RawMessage
}

func (c *tenableClient) readPage(path string, limit, offset int, body string) webAppPage {
	c.Helper()
	r := c.sendWithKeys("POST", fmt.Sprintf("%s?limit=%d&offset=%d", path, limit, offset), body)
	var p webAppPage
	if err := json.Unmarshal([]byte(r.body), &p); err != nil || r.code != 200 {
		c.Fatalf("POST %s: %d, %v: %s", path, r.code, err, r.body)
	}
	return p
}

type webAppConfig struct {
	ID          string  `json:"config_id"`
	Name        string  `json:"name"`
	Description *string `json:"description"`
	Last        *struct {
		Scan      string  `json:"scan_id"`
		Status    string  `json:"status"`
		Finalized *string `json:"finalized_at"`
	} `json:"last_scan"`
}

func (c *tenableClient) readConfigs(limit, offset int, body string) []webAppConfig {
	c.Helper()
	var out []webAppConfig
	for _, raw := range c.readPage("/was/v2/configs/search", limit, offset, body).Items {
		var w webAppConfig
		if err := json.Unmarshal(raw, &w); err != nil {
			c.Fatal(err)
		}
		out = append(out, w)
	}
	return out
}

type webAppTarget struct {
	Scan     struct{ ID string } `json:"-"`
	ScanRaw  map[string]any      `json:"scan"`
	Findings struct {
		Count int `json:"finding_count"`
		Info  int `json:"info_vulns"`
	} `json:"findings"`
}

func (c *tenableClient) readTargets(parent string) []webAppTarget {
	c.Helper()
	path := "/was/v2/scans/" + parent + "/vulnerabilities/by-targets/search"
	p := c.readPage(path, 200, 0, "")
	if next := c.readPage(path, 200, 200, ""); len(next.Items) != 0 || next.Pagination.Total != len(p.Items) {
		c.Errorf("second page: %+v", next)
	}
	var out []webAppTarget
	for _, raw := range p.Items {
		var w webAppTarget
		if err := json.Unmarshal(raw, &w); err != nil {
			c.Fatal(err)
		}
		w.Scan.ID, _ = w.ScanRaw["scan_id"].(string)
		out = append(out, w)
	}
	return out
}

const jsonFormat = "application/json"

// readReport requests the report with PUT if necessary, and returns it with the
// number of PUT requests.
func (c *tenableClient) readReport(scan string) (body string, orders int) {
	c.Helper()
	path := "/was/v2/scans/" + scan + "/report"
	for range 5 {
		r := c.sendWithKeys("GET", path, "", "Content-Type", jsonFormat)
		switch r.code {
		case 200:
			return r.body, orders
		case 404:
			if put := c.sendWithKeys("PUT", path, "", "Content-Type", jsonFormat); orders == 0 && put.code != 202 || orders > 0 && put.code != 200 {
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
	c := startTenable(t, vendorsim.Options{Counts: map[string]int{vendorsim.TenableWAS: 410}})
	c.ConfigureStream(vendorsim.TenableWAS, func(s *vendorsim.TenableStream) { s.Configs, s.ReportPolls = 201, 1 })
	first := c.readPage("/was/v2/configs/search", 200, 0, "{}")
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
	for _, config := range append(c.readConfigs(200, 0, "{}"), c.readConfigs(200, 200, "{}")...) {
		if config.Last == nil {
			never++
			continue
		}
		if config.Last.Finalized == nil {
			running++
			continue
		}
		for _, target := range c.readTargets(config.Last.Scan) {
			body, orders := c.readReport(target.Scan.ID)
			ordered += orders
			var r struct {
				Config   webAppConfig
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
	c := startTenable(t, vendorsim.Options{})
	scan := c.readTargets(c.readConfigs(10, 0, "")[0].Last.Scan)[0].Scan.ID
	for name, tc := range map[string]struct {
		method, path, body, contentType string
		code                            int
		want                            string
	}{
		"no content type": {
			method: "GET", path: "/was/v2/scans/" + scan + "/report", body: "", contentType: "", code: 415, want: "reasons",
		},
		"other format": {
			method:      "GET",
			path:        "/was/v2/scans/" + scan + "/report",
			body:        "",
			contentType: "text/csv",
			code:        415,
			want:        "reasons",
		},
		"unknown scan": {
			method:      "GET",
			path:        "/was/v2/scans/x/report",
			body:        "",
			contentType: jsonFormat,
			code:        404,
			want:        `"code":"NOT_FOUND"`,
		},
		"order of unknown": {
			method:      "PUT",
			path:        "/was/v2/scans/x/report",
			body:        "",
			contentType: jsonFormat,
			code:        404,
			want:        `"code":"NOT_FOUND"`,
		},
		"unknown parent": {
			method:      "POST",
			path:        "/was/v2/scans/x/vulnerabilities/by-targets/search",
			body:        "",
			contentType: "",
			code:        404,
			want:        `"code":"NOT_FOUND"`,
		},
		"limit too large": {
			method:      "POST",
			path:        "/was/v2/configs/search?limit=201",
			body:        "{}",
			contentType: "",
			code:        400,
			want:        `"code":"INVALID_PARAMETER"`,
		},
		"bad offset": {
			method:      "POST",
			path:        "/was/v2/configs/search?offset=-1",
			body:        "{}",
			contentType: "",
			code:        400,
			want:        `"code":"INVALID_PARAMETER"`,
		},
		"body without JSON": {
			method:      "POST",
			path:        "/was/v2/configs/search",
			body:        "{",
			contentType: "",
			code:        400,
			want:        `"code":"INVALID_JSON_BODY"`,
		},
	} {
		r := c.sendWithKeys(tc.method, tc.path, tc.body, "Content-Type", tc.contentType)
		if r.code != tc.code || !strings.Contains(r.body, tc.want) {
			t.Errorf("%s: %d %s, want %d", name, r.code, r.body, tc.code)
		}
	}
	if n := c.readPage("/was/v2/configs/search", 10, 0, "").Pagination.Limit; n != 10 {
		t.Errorf("limit %d", n)
	}
}

func TestTenableWASFaults(t *testing.T) {
	c := startTenable(t, vendorsim.Options{Counts: map[string]int{vendorsim.TenableWAS: 410}})
	c.ConfigureStream(vendorsim.TenableWAS, func(s *vendorsim.TenableStream) {
		s.Configs, s.Shift, s.GoneTargets, s.MiscountTargets, s.AbortedParents = 201, true, []int{0}, []int{1}, []int{0}
	})
	first, second := c.readConfigs(200, 0, "{}"), c.readConfigs(200, 200, "{}")
	if len(second) != 1 || second[0].ID != first[199].ID {
		t.Error("the list did not shift between the pages")
	}
	if first[0].Last.Status != "aborted" {
		t.Errorf("first parent: %s", first[0].Last.Status)
	}
	targets := c.readTargets(first[0].Last.Scan)
	if r := c.sendWithKeys("GET", "/was/v2/scans/"+targets[0].Scan.ID+"/report", "", "Content-Type", jsonFormat); r.code != 404 ||
		!strings.Contains(r.body, "reasons") {
		t.Errorf("deleted scan: %d %s", r.code, r.body)
	}
	body, _ := c.readReport(targets[1].Scan.ID)
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
		configs := c.readConfigs(200, 0, filter)
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

// TestTenableWASRunningParents tests a config that is being scanned: its last
// scan has no end, and the list of its scans has the finished ones.
func TestTenableWASRunningParents(t *testing.T) {
	c := startTenable(t, vendorsim.Options{Counts: map[string]int{vendorsim.TenableWAS: 100}})
	finished := c.readConfigs(10, 0, "")[0]
	c.ConfigureStream(vendorsim.TenableWAS, func(s *vendorsim.TenableStream) { s.RunningParents = []int{0} })
	running := c.readConfigs(10, 0, "")[0]
	if running.ID != finished.ID || running.Last.Scan == finished.Last.Scan || running.Last.Finalized != nil || running.Last.Status != "running" {
		t.Errorf("last scan %+v, want one that is running", running.Last)
	}
	items := c.readPage("/was/v2/configs/"+running.ID+"/scans/search", 200, 0, "{}").Items
	var scans []string
	for _, raw := range items {
		var scan struct {
			ID        string  `json:"scan_id"`
			Finalized *string `json:"finalized_at"`
		}
		if err := json.Unmarshal(raw, &scan); err != nil {
			t.Fatal(err)
		}
		if scan.Finalized != nil {
			scans = append(scans, scan.ID)
		}
	}
	if len(items) != 3 || len(scans) != 2 || scans[1] != finished.Last.Scan {
		t.Errorf("%d scans, finished ones %v, want three, the newest finished one %s", len(items), scans, finished.Last.Scan)
	}
	if r := c.sendWithKeys("POST", "/was/v2/configs/x/scans/search", "{}"); r.code != 404 || !strings.Contains(r.body, "reasons") {
		t.Errorf("scans of an unknown config: %d %s", r.code, r.body)
	}
}

func TestTenableListLag(t *testing.T) {
	c := startTenable(t, vendorsim.Options{Counts: map[string]int{vendorsim.TenableAssets: 100}})
	c.ConfigureStream(vendorsim.TenableAssets, func(s *vendorsim.TenableStream) {
		s.QueuedPolls, s.GrowPolls, s.ListLag = 0, 0, 1
	})
	if _, err := c.ForeignJob(vendorsim.TenableAssets, `{"chunk_size":100}`); err != nil {
		t.Fatal(err)
	}
	id := c.Jobs(vendorsim.TenableAssets)[0].UUID
	if r := c.sendWithKeys("GET", "/assets/export/"+id+"/status", ""); !strings.Contains(r.body, "FINISHED") {
		t.Fatalf("status %s", r.body)
	}
	for _, want := range []string{`"PROCESSING"`, `"FINISHED"`} {
		if r := c.sendWithKeys("GET", "/assets/export/status", ""); !strings.Contains(r.body, want) {
			t.Errorf("list %s, want %s", r.body, want)
		}
	}
}
