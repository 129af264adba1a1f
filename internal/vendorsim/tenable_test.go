package vendorsim_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
)

const tenableKeys = "accessKey=" + vendorsim.TenableAccessKey + ";secretKey=" + vendorsim.TenableSecretKey

// tenableClient reads a simulated tenant without any error handling.
type tenableClient struct {
	*testing.T
	*vendorsim.Tenable
	server *vendorsim.Server
	host   *vendorsim.Host
	clock  *vendorsim.Clock
}

func startTenable(t *testing.T, opts vendorsim.Options) *tenableClient {
	t.Helper()
	clock := vendorsim.NewClock(vendorsim.DefaultBase)
	v := vendorsim.NewTenable()
	opts.Vendors, opts.Now, opts.Gzip = []vendorsim.Vendor{v}, clock.Now, vendorsim.GzipStored
	s := startServer(t, opts)
	return &tenableClient{T: t, Tenable: v, server: s, host: s.Host("tenable"), clock: clock}
}

func (c *tenableClient) sendWithKeys(method, path, body string, header ...string) response {
	c.Helper()
	return sendRequest(c.T, c.server, method, c.host.URL()+path, strings.NewReader(body),
		append([]string{"X-ApiKeys", tenableKeys}, header...)...)
}

// requireJSON sends a request that must succeed and returns the members of the
// response.
func (c *tenableClient) requireJSON(method, path, body string) map[string]any {
	c.Helper()
	r := c.sendWithKeys(method, path, body)
	if r.code != 200 || r.err != nil {
		c.Fatalf("%s %s: status %d, error %v: %s", method, path, r.code, r.err, r.body)
	}
	m := map[string]any{}
	if err := json.Unmarshal([]byte(r.body), &m); err != nil {
		c.Fatalf("%s %s: %v", method, path, err)
	}
	return m
}

func (c *tenableClient) startExport(path, body string) string {
	c.Helper()
	id, _ := c.requireJSON("POST", path, body)["export_uuid"].(string)
	if len(id) != 36 {
		c.Fatalf("POST %s: no export_uuid", path)
	}
	return id
}

// pollStatus requests the status of a job two seconds after the previous poll.
func (c *tenableClient) pollStatus(base, id string) map[string]any {
	c.Helper()
	c.clock.Advance(2 * time.Second)
	return c.requireJSON("GET", base+"/"+id+"/status", "")
}

// pollUntilDone polls until the job has ended and returns all statuses.
func (c *tenableClient) pollUntilDone(base, id string) []map[string]any {
	c.Helper()
	var all []map[string]any
	for range 20 {
		s := c.pollStatus(base, id)
		all = append(all, s)
		if w := s["status"]; w == "FINISHED" || w == "ERROR" || w == "CANCELLED" {
			return all
		}
	}
	return all
}

func intList(v any) []int {
	list, _ := v.([]any)
	out := []int{}
	for _, x := range list {
		out = append(out, int(x.(float64)))
	}
	return out
}

func (c *tenableClient) readChunk(base, id string, n int) []json.RawMessage {
	c.Helper()
	r := c.sendWithKeys("GET", fmt.Sprintf("%s/%s/chunks/%d", base, id, n), "")
	var list []json.RawMessage
	if err := json.Unmarshal([]byte(r.body), &list); err != nil || r.code != 200 || r.err != nil {
		c.Fatalf("chunk %d: status %d, errors %v %v", n, r.code, err, r.err)
	}
	return list
}

// readExport runs a job to its end and returns its records.
func (c *tenableClient) readExport(start, base, body string) []json.RawMessage {
	c.Helper()
	id := c.startExport(start, body)
	statuses := c.pollUntilDone(base, id)
	var out []json.RawMessage
	for _, n := range intList(statuses[len(statuses)-1]["chunks_available"]) {
		out = append(out, c.readChunk(base, id, n)...)
	}
	return out
}

// smallRecords keeps records small in tests that only count them.
var smallRecords = map[string]int{vendorsim.TenableVulns: 1000, vendorsim.TenableAssets: 1000, vendorsim.TenableFindings: 1000}

const allStatesFilter = `"filters":{"since":1,"state":["OPEN","REOPENED","FIXED"]}`

var exportCases = []struct {
	stream, start, base, body string
}{
	{
		stream: vendorsim.TenableVulns,
		start:  "/vulns/export",
		base:   "/vulns/export",
		body:   `{"num_assets":50,"include_unlicensed":true,` + allStatesFilter + `}`,
	},
	{stream: vendorsim.TenableAssets, start: "/assets/export", base: "/assets/export", body: `{"chunk_size":100,"filters":{}}`},
	{
		stream: vendorsim.TenableAssetsV2,
		start:  "/assets/v2/export",
		base:   "/assets/export",
		body:   `{"chunk_size":100,"filters":{"types":["host","webapp"]}}`,
	},
	{
		stream: vendorsim.TenableFindings,
		start:  "/compliance/export",
		base:   "/compliance/export",
		body:   `{"num_findings":50,` + allStatesFilter + `}`,
	},
	{
		stream: vendorsim.TenableWASBulk,
		start:  "/was/v1/export/vulns",
		base:   "/was/v1/export/vulns",
		body:   `{"num_assets":50,"include_unlicensed":true,` + allStatesFilter + `}`,
	},
}

func TestTenableExportIsTheStreamExactlyOnce(t *testing.T) {
	for _, e := range exportCases {
		t.Run(e.stream, func(t *testing.T) {
			c := startTenable(t, vendorsim.Options{Counts: map[string]int{e.stream: 730}})
			c.ConfigureStream(strings.TrimSuffix(e.stream, "_v2"), func(s *vendorsim.TenableStream) { s.ChunkRecords = 100 })
			want := map[string]bool{}
			for i := range 730 {
				raw := c.server.Record(e.stream, i)
				if !json.Valid(raw) {
					t.Fatalf("record %d is not JSON: %s", i, raw)
				}
				want[string(raw)] = true
			}
			records := c.readExport(e.start, e.base, e.body)
			if len(records) != 730 {
				t.Errorf("%d records, want 730", len(records))
			}
			for _, raw := range records {
				if !want[string(raw)] {
					t.Errorf("record twice or unknown: %.200s", raw)
				}
				delete(want, string(raw))
			}
			if len(want) > 0 {
				t.Errorf("%d records are missing", len(want))
			}
			if v := c.host.Stats().Violations; len(v) > 0 {
				t.Errorf("violations of a correct client: %v", v)
			}
		})
	}
}

func TestTenableJobGrows(t *testing.T) {
	c := startTenable(t, vendorsim.Options{Counts: map[string]int{vendorsim.TenableVulns: 7000}})
	id := c.startExport("/vulns/export", exportCases[0].body)
	statuses := c.pollUntilDone("/vulns/export", id)
	var states []string
	before := map[int]bool{}
	ordered, gaps := true, false
	for _, a := range statuses {
		states = append(states, a["status"].(string))
		available := intList(a["chunks_available"])
		for n := range before {
			if !slices.Contains(available, n) {
				t.Errorf("chunk %d vanished from %v", n, available)
			}
		}
		for _, n := range available {
			before[n] = true
		}
		ordered = ordered && slices.IsSorted(available)
		gaps = gaps || len(available) > 0 && slices.Max(available) > len(available)
	}
	if got := strings.Join(states, " "); got != "QUEUED PROCESSING PROCESSING PROCESSING FINISHED" {
		t.Errorf("statuses %s", got)
	}
	if ordered || !gaps {
		t.Errorf("ids in order %v, with gaps %v: want out of order with gaps", ordered, gaps)
	}
	last := statuses[len(statuses)-1]
	if last["total_chunks"] != 7.0 || last["chunks_available_count"] != 7.0 || last["num_assets_per_chunk"] != 50.0 || last["uuid"] != id {
		t.Errorf("last status: %v", last)
	}
	if last["created"] != float64(vendorsim.DefaultBase.UnixMilli()) {
		t.Errorf("created %v is not the epoch in ms", last["created"])
	}
	if f := last["filters"].(map[string]any); f["last_found"] != 0.0 || f["since"] != 1.0 {
		t.Errorf("filters %v: unset times must be 0", f)
	}
	// A chunk has the same bytes when it is read again, even while the job is
	// running.
	id = c.startExport("/vulns/export", exportCases[0].body)
	c.pollStatus("/vulns/export", id)
	n := intList(c.pollStatus("/vulns/export", id)["chunks_available"])[0]
	one, two := c.readChunk("/vulns/export", id, n), c.readChunk("/vulns/export", id, n)
	if !slices.EqualFunc(one, two, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
		t.Error("chunk differs on repeat")
	}
	if jobs := c.Jobs(vendorsim.TenableVulns); len(jobs) != 2 || jobs[1].Reads[n] != 2 || jobs[1].Polls != 2 ||
		jobs[1].Body != exportCases[0].body {
		t.Errorf("jobs: %+v", jobs)
	}
}

func TestTenableStatusShapes(t *testing.T) {
	keys := func(m map[string]any) string { return strings.Join(slices.Sorted(maps.Keys(m)), " ") }
	const (
		vulnerabilities = "chunks_available chunks_available_count chunks_cancelled chunks_failed created empty_chunks_count " +
			"filters finished_chunks num_assets_per_chunk status total_chunks uuid"
		compliance = "chunks_available chunks_available_count chunks_cancelled chunks_failed created empty_chunks_count " +
			"filters finished_chunks num_findings status total_chunks"
	)
	c := startTenable(t, vendorsim.Options{})
	for _, tc := range []struct {
		export        int
		change        func(*vendorsim.TenableStream)
		working, done string
	}{
		{
			export:  0,
			change:  nil,
			working: vulnerabilities,
			done:    vulnerabilities,
		},
		{
			export:  0,
			change:  func(s *vendorsim.TenableStream) { s.OldStatus = true },
			working: "chunks_available chunks_cancelled chunks_failed status",
			done:    "chunks_available chunks_cancelled chunks_failed status",
		},
		{export: 1, change: nil, working: "chunks_available status", done: "chunks_available status"},
		{
			export:  3,
			change:  nil,
			working: "status",
			done:    compliance,
		},
		{
			export:  3,
			change:  func(s *vendorsim.TenableStream) { s.Ready = true },
			working: compliance,
			done:    compliance,
		},
	} {
		e := exportCases[tc.export]
		if tc.change != nil {
			c.ConfigureStream(e.stream, tc.change)
		}
		statuses := c.pollUntilDone(e.base, c.startExport(e.start, e.body))
		if got := keys(statuses[1]); got != tc.working {
			t.Errorf("%s while working: %s", e.stream, got)
		}
		if got := keys(statuses[len(statuses)-1]); got != tc.done {
			t.Errorf("%s when finished: %s", e.stream, got)
		}
	}
	for _, e := range exportCases[:4] {
		id := c.startExport(e.start, e.body)
		c.pollUntilDone(e.base, id)
		r := c.sendWithKeys("GET", e.base+"/"+id+"/chunks/1", "", "Accept-Encoding", "gzip")
		want := "application/octet-stream"
		if strings.HasPrefix(e.stream, vendorsim.TenableAssets) {
			want = "application/json;charset=utf-8"
		}
		if r.header.Get("Content-Type") != want || r.header.Get("Content-Encoding") != "gzip" || r.header.Get("X-Request-Uuid") == "" {
			t.Errorf("%s chunk headers: %v", e.stream, r.header)
		}
	}
}

func TestTenableAuth(t *testing.T) {
	c := startTenable(t, vendorsim.Options{})
	for _, path := range []string{"/vulns/export/status", "/assets/export/x/status", "/was/v2/scans/x/report", "/nowhere"} {
		for name, tc := range map[string]struct{ header, value, want string }{
			"missing":   {header: "X-Other", value: "", want: "Missing authentication"},
			"malformed": {header: "X-ApiKeys", value: "accessKey=a", want: "Missing authentication"},
			"wrong":     {header: "X-ApiKeys", value: "accessKey=a;secretKey=b", want: "Invalid credentials."},
		} {
			r := sendRequest(t, c.server, "GET", c.host.URL()+path, nil, tc.header, tc.value)
			if want := `{"statusCode":401,"error":"Unauthorized","message":"` + tc.want + `"}`; r.code != 401 || r.body != want {
				t.Errorf("%s, %s: %d %s", path, name, r.code, r.body)
			}
		}
	}
	for _, header := range []string{"X-APIKeys", "x-apikeys"} {
		if r := sendRequest(t, c.server, "GET", c.host.URL()+"/vulns/export/status", nil, header,
			strings.Replace(tenableKeys, ";", "; ", 1)+";"); r.code != 200 || r.body != `{"exports":[]}` {
			t.Errorf("%s with a space: %d %s", header, r.code, r.body)
		}
	}
	c.Revoke()
	for range 2 {
		if r := c.sendWithKeys("GET", "/vulns/export/status", ""); r.code != 401 {
			t.Errorf("revoked keys: %d", r.code)
		}
	}
	if !strings.Contains(violationKinds(c.host.Stats().Violations), vendorsim.AfterUnauthorized) {
		t.Error("another request after 401 is not a violation")
	}
	c.Restore()
	c.ConfigureStream(vendorsim.TenableAssets, func(s *vendorsim.TenableStream) { s.Forbidden = true })
	if a, v := c.sendWithKeys("POST", "/assets/export", "{}"), c.sendWithKeys("GET", "/vulns/export/status", ""); a.code != 403 || v.code != 200 {
		t.Errorf("forbidden stream %d, other stream %d", a.code, v.code)
	}
	c.ConfigureStream(vendorsim.TenableWAS, func(s *vendorsim.TenableStream) { s.Forbidden = true })
	if r := c.sendWithKeys("POST", "/was/v2/configs/search", "{}"); r.code != 403 || !strings.Contains(r.body, `"code":"OPERATION_FORBIDDEN"`) {
		t.Errorf("forbidden web applications: %d %s", r.code, r.body)
	}
}

func TestTenableStartChecks(t *testing.T) {
	c := startTenable(t, vendorsim.Options{})
	for _, s := range []string{vendorsim.TenableVulns, vendorsim.TenableAssets, vendorsim.TenableWASBulk} {
		c.ConfigureStream(s, func(s *vendorsim.TenableStream) {
			s.Duplicates, s.MaxJobs = vendorsim.DuplicateAccepted, 100
		})
	}
	c.ConfigureStream(vendorsim.TenableFindings, func(s *vendorsim.TenableStream) { s.MaxJobs = 100 })
	for _, tc := range []struct {
		path, body string
		want       int
	}{
		{path: "/vulns/export", body: `{"num_assets":10}`, want: 200},
		{path: "/vulns/export", body: `{"num_assets":99999}`, want: 200},
		{path: "/vulns/export", body: `{"num_assets":"50"}`, want: 200},
		{path: "/vulns/export", body: ``, want: 200},
		{path: "/vulns/export", body: `{"num_assets":"many"}`, want: 400},
		{path: "/vulns/export", body: `{`, want: 400},
		{path: "/vulns/export", body: `{"filters":[]}`, want: 400},
		{path: "/vulns/export", body: `{"filters":{"since":1,"last_found":1}}`, want: 400},
		{path: "/vulns/export", body: `{"filters":{"state":["GONE"]}}`, want: 400},
		{path: "/vulns/export", body: `{"filters":{"sinze":1}}`, want: 400},
		{path: "/vulns/export", body: `{"filters":{"tag.Site":["Lab"],"plugin_id":[1]}}`, want: 200},
		{path: "/assets/export", body: `{}`, want: 400},
		{path: "/assets/export", body: `{"chunk_size":99}`, want: 400},
		{path: "/assets/export", body: `{"chunk_size":10001}`, want: 400},
		{path: "/assets/export", body: `{"chunk_size":1001,"include_resource_tags":true}`, want: 400},
		{path: "/assets/export", body: `{"chunk_size":1000,"include_resource_tags":true}`, want: 200},
		{path: "/assets/export", body: `{"chunk_size":100,"filters":{"since":1}}`, want: 400},
		{path: "/assets/v2/export", body: `{"chunk_size":100,"filters":{"since":1}}`, want: 200},
		{path: "/assets/v2/export", body: `{"chunk_size":100,"filters":{"tag.Site":["Lab"]}}`, want: 400},
		{path: "/compliance/export", body: ``, want: 415},
		{path: "/compliance/export", body: `{}`, want: 200},
		{path: "/compliance/export", body: `{"filters":{"first_seen":1}}`, want: 400},
		{path: "/compliance/export", body: `{"filters":{"first_seen":1,"last_seen":1}}`, want: 200},
		{path: "/compliance/export", body: `{"filters":{"severity":["high"]}}`, want: 400},
		{path: "/was/v1/export/vulns", body: `{"filters":{"plugin_id":[1]}}`, want: 400},
		{path: "/was/v1/export/vulns", body: `{"filters":{"plugin_ids":[1],"severity":["high"]}}`, want: 200},
	} {
		if r := c.sendWithKeys("POST", tc.path, tc.body); r.code != tc.want {
			t.Errorf("POST %s %s: %d, want %d: %s", tc.path, tc.body, r.code, tc.want, r.body)
		}
	}
	for body, want := range map[string]float64{`{"num_assets":10}`: 50, `{"num_assets":99999}`: 5000, `{"num_assets":"500"}`: 500, `{}`: 50} {
		if got := c.pollStatus("/vulns/export", c.startExport("/vulns/export", body))["num_assets_per_chunk"]; got != want {
			t.Errorf("%s: echoed %v, want %v", body, got, want)
		}
	}
	echo := c.pollStatus("/vulns/export", c.startExport("/vulns/export", `{}`))["filters"].(map[string]any)
	if got := fmt.Sprint(echo["state"]); got != "[OPEN REOPENED]" {
		t.Errorf("echo of no state: %s", got)
	}
}

func TestTenableFilters(t *testing.T) {
	c := startTenable(t, vendorsim.Options{RecordBytes: smallRecords, EdgeEvery: -1,
		Counts: map[string]int{vendorsim.TenableVulns: 2000, vendorsim.TenableAssets: 1000, vendorsim.TenableFindings: 1000}})
	type counts map[string]int
	states := func(records []json.RawMessage) counts {
		got := counts{}
		for _, raw := range records {
			var r struct{ State, Severity string }
			_ = json.Unmarshal(raw, &r)
			got[r.State]++
		}
		return got
	}
	full := states(c.readExport("/vulns/export", "/vulns/export", exportCases[0].body))
	if full["OPEN"] == 0 || full["REOPENED"] == 0 || full["FIXED"] == 0 || full["OPEN"]+full["REOPENED"]+full["FIXED"] != 2000 {
		t.Fatalf("whole stream: %v", full)
	}
	def := states(c.readExport("/vulns/export", "/vulns/export", `{"num_assets":50,"include_unlicensed":true}`))
	if def["FIXED"] != 0 || def["OPEN"] >= full["OPEN"] || def["OPEN"] == 0 {
		t.Errorf("no state, no time: %v of %v, want the last 30 days of OPEN and REOPENED", def, full)
	}
	licensed := states(c.readExport("/vulns/export", "/vulns/export", `{"num_assets":50,`+allStatesFilter+`}`))
	if licensed["OPEN"] >= full["OPEN"] {
		t.Errorf("licensed only: %v of %v", licensed, full)
	}
	late := vendorsim.DefaultBase.Add(-24 * time.Hour).Unix()
	since := states(c.readExport("/vulns/export", "/vulns/export",
		fmt.Sprintf(`{"num_assets":50,"include_unlicensed":true,"filters":{"since":%d,"state":["open","fixed"]}}`, late)))
	if since["OPEN"] == 0 || since["OPEN"] > full["OPEN"]/10 || since["FIXED"] == 0 || since["REOPENED"] != 0 {
		t.Errorf("since a day ago: %v of %v", since, full)
	}
	if n := len(c.readExport("/compliance/export", "/compliance/export", `{}`)); n >= 1000 || n < 700 {
		t.Errorf("compliance without state: %d", n)
	}
	if n := len(c.readExport("/assets/v2/export", "/assets/export", `{"chunk_size":100}`)); n >= 1000 || n < 900 {
		t.Errorf("assets v2 without types: %d of 1000, want the hosts", n)
	}
	if n := len(c.readExport("/assets/export", "/assets/export", `{"chunk_size":100,"filters":{"is_deleted":true}}`)); n == 0 || n > 100 {
		t.Errorf("deleted assets: %d", n)
	}
	if n := len(c.readExport("/assets/export", "/assets/export",
		fmt.Sprintf(`{"chunk_size":100,"filters":{"updated_at":%d}}`, late))); n == 0 || n > 100 {
		t.Errorf("assets updated since a day ago: %d", n)
	}
}

func TestTenableRecordsJoin(t *testing.T) {
	c := startTenable(t, vendorsim.Options{})
	var v struct {
		Asset struct{ UUID string }
	}
	if err := json.Unmarshal(c.server.Record(vendorsim.TenableVulns, 41), &v); err != nil {
		t.Fatal(err)
	}
	if want := c.server.RecordID(vendorsim.TenableAssets, 3); v.Asset.UUID != want || c.server.RecordID(vendorsim.TenableAssetsV2, 3) != want {
		t.Errorf("finding 41 belongs to asset %s, want %s", v.Asset.UUID, want)
	}
	c.server.SetCount(vendorsim.TenableAssets, 7)
	if n := c.server.RecordCount(vendorsim.TenableAssetsV2); n != 7 {
		t.Errorf("%d nested assets, want as many as flat ones", n)
	}
	var raw bytes.Buffer
	for i := range 300 {
		raw.Write(c.server.Record(vendorsim.TenableVulns, i))
	}
	for _, want := range []string{`"port":"0"`, `"port":0`, `"cvss3_base_score":7.8`, `"cvss3_base_score":5,`, `"vpr":null`} {
		if !strings.Contains(raw.String(), want) {
			t.Errorf("no record has %s", want)
		}
	}
	if n := len(c.server.Record(vendorsim.TenableVulns, vendorsim.HugeIndex)); n < 600_000 {
		t.Errorf("huge record has %d bytes", n)
	}
}
