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

// tenant is a simulated tenant with a client that reads it plainly.
type tenant struct {
	*testing.T
	*vendorsim.Tenable
	server *vendorsim.Server
	host   *vendorsim.Host
	clock  *vendorsim.Clock
}

func newTenant(t *testing.T, opts vendorsim.Options) *tenant {
	t.Helper()
	clock := vendorsim.NewClock(vendorsim.DefaultBase)
	v := vendorsim.NewTenable()
	opts.Vendors, opts.Now, opts.Gzip = []vendorsim.Vendor{v}, clock.Now, vendorsim.GzipStored
	s := start(t, opts)
	return &tenant{t, v, s, s.Host("tenable"), clock}
}

func (c *tenant) call(method, path, body string, header ...string) reply {
	c.Helper()
	return call(c.T, c.server, method, c.host.URL()+path, strings.NewReader(body), append([]string{"X-ApiKeys", tenableKeys}, header...)...)
}

// decode makes a call that must succeed and returns the answer's members.
func (c *tenant) decode(method, path, body string) map[string]any {
	c.Helper()
	r := c.call(method, path, body)
	if r.code != 200 || r.err != nil {
		c.Fatalf("%s %s: status %d, error %v: %s", method, path, r.code, r.err, r.body)
	}
	m := map[string]any{}
	if err := json.Unmarshal([]byte(r.body), &m); err != nil {
		c.Fatalf("%s %s: %v", method, path, err)
	}
	return m
}

func (c *tenant) start(path, body string) string {
	c.Helper()
	id, _ := c.decode("POST", path, body)["export_uuid"].(string)
	if len(id) != 36 {
		c.Fatalf("POST %s: no export_uuid", path)
	}
	return id
}

// poll asks for the status two seconds after the last time.
func (c *tenant) poll(base, id string) map[string]any {
	c.Helper()
	c.clock.Advance(2 * time.Second)
	return c.decode("GET", base+"/"+id+"/status", "")
}

// finish polls until the job has ended and returns all answers.
func (c *tenant) finish(base, id string) []map[string]any {
	c.Helper()
	var all []map[string]any
	for range 20 {
		s := c.poll(base, id)
		all = append(all, s)
		if w := s["status"]; w == "FINISHED" || w == "ERROR" || w == "CANCELLED" {
			return all
		}
	}
	return all
}

func ints(v any) []int {
	list, _ := v.([]any)
	out := []int{}
	for _, x := range list {
		out = append(out, int(x.(float64)))
	}
	return out
}

func (c *tenant) chunk(base, id string, n int) []json.RawMessage {
	c.Helper()
	r := c.call("GET", fmt.Sprintf("%s/%s/chunks/%d", base, id, n), "")
	var list []json.RawMessage
	if err := json.Unmarshal([]byte(r.body), &list); err != nil || r.code != 200 || r.err != nil {
		c.Fatalf("chunk %d: status %d, errors %v %v", n, r.code, err, r.err)
	}
	return list
}

// export runs a job to its end and returns its records.
func (c *tenant) export(start, base, body string) []json.RawMessage {
	c.Helper()
	id := c.start(start, body)
	answers := c.finish(base, id)
	var out []json.RawMessage
	for _, n := range ints(answers[len(answers)-1]["chunks_available"]) {
		out = append(out, c.chunk(base, id, n)...)
	}
	return out
}

// smallRecords keeps tests that only count from moving much text.
var smallRecords = map[string]int{vendorsim.TenableVulns: 1000, vendorsim.TenableAssets: 1000, vendorsim.TenableFindings: 1000}

const everything = `"filters":{"since":1,"state":["OPEN","REOPENED","FIXED"]}`

var exports = []struct {
	stream, start, base, body string
}{
	{vendorsim.TenableVulns, "/vulns/export", "/vulns/export", `{"num_assets":50,"include_unlicensed":true,` + everything + `}`},
	{vendorsim.TenableAssets, "/assets/export", "/assets/export", `{"chunk_size":100,"filters":{}}`},
	{vendorsim.TenableAssetsV2, "/assets/v2/export", "/assets/export", `{"chunk_size":100,"filters":{"types":["host","webapp"]}}`},
	{vendorsim.TenableFindings, "/compliance/export", "/compliance/export", `{"num_findings":50,` + everything + `}`},
	{vendorsim.TenableWASBulk, "/was/v1/export/vulns", "/was/v1/export/vulns", `{"num_assets":50,"include_unlicensed":true,` + everything + `}`},
}

func TestTenableExportIsTheStreamExactlyOnce(t *testing.T) {
	for _, e := range exports {
		t.Run(e.stream, func(t *testing.T) {
			c := newTenant(t, vendorsim.Options{Counts: map[string]int{e.stream: 730}})
			c.Configure(strings.TrimSuffix(e.stream, "_v2"), func(s *vendorsim.TenableStream) { s.ChunkRecords = 100 })
			want := map[string]bool{}
			for i := range 730 {
				raw := c.server.Record(e.stream, i)
				if !json.Valid(raw) {
					t.Fatalf("record %d is not JSON: %s", i, raw)
				}
				want[string(raw)] = true
			}
			records := c.export(e.start, e.base, e.body)
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
				t.Errorf("violations of a good client: %v", v)
			}
		})
	}
}

func TestTenableJobGrows(t *testing.T) {
	c := newTenant(t, vendorsim.Options{Counts: map[string]int{vendorsim.TenableVulns: 7000}})
	id := c.start("/vulns/export", exports[0].body)
	answers := c.finish("/vulns/export", id)
	var words []string
	before := map[int]bool{}
	ordered, gaps := true, false
	for _, a := range answers {
		words = append(words, a["status"].(string))
		available := ints(a["chunks_available"])
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
	if got := strings.Join(words, " "); got != "QUEUED PROCESSING PROCESSING PROCESSING FINISHED" {
		t.Errorf("statuses %s", got)
	}
	if ordered || !gaps {
		t.Errorf("ids in order %v, with gaps %v: want out of order with gaps", ordered, gaps)
	}
	last := answers[len(answers)-1]
	if last["total_chunks"] != 7.0 || last["chunks_available_count"] != 7.0 || last["num_assets_per_chunk"] != 50.0 || last["uuid"] != id {
		t.Errorf("last status: %v", last)
	}
	if last["created"] != float64(vendorsim.DefaultBase.UnixMilli()) {
		t.Errorf("created %v is not the epoch in ms", last["created"])
	}
	if f := last["filters"].(map[string]any); f["last_found"] != 0.0 || f["since"] != 1.0 {
		t.Errorf("filters %v: unset times must be 0", f)
	}
	// The same bytes on repeat, also while the job works.
	id = c.start("/vulns/export", exports[0].body)
	c.poll("/vulns/export", id)
	n := ints(c.poll("/vulns/export", id)["chunks_available"])[0]
	one, two := c.chunk("/vulns/export", id, n), c.chunk("/vulns/export", id, n)
	if !slices.EqualFunc(one, two, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
		t.Error("chunk differs on repeat")
	}
	if jobs := c.Jobs(vendorsim.TenableVulns); len(jobs) != 2 || jobs[1].Reads[n] != 2 || jobs[1].Polls != 2 || jobs[1].Body != exports[0].body {
		t.Errorf("jobs: %+v", jobs)
	}
}

func TestTenableStatusShapes(t *testing.T) {
	keys := func(m map[string]any) string { return strings.Join(slices.Sorted(maps.Keys(m)), " ") }
	c := newTenant(t, vendorsim.Options{})
	for _, tc := range []struct {
		export        int
		change        func(*vendorsim.TenableStream)
		working, done string
	}{
		{0, nil, "chunks_available chunks_available_count chunks_cancelled chunks_failed created empty_chunks_count filters finished_chunks num_assets_per_chunk status total_chunks uuid", ""},
		{0, func(s *vendorsim.TenableStream) { s.OldStatus = true }, "chunks_available chunks_cancelled chunks_failed status", ""},
		{1, nil, "chunks_available status", ""},
		{3, nil, "status", "chunks_available chunks_available_count chunks_cancelled chunks_failed created empty_chunks_count filters finished_chunks num_findings status total_chunks"},
		{3, func(s *vendorsim.TenableStream) { s.Ready = true }, "chunks_available chunks_available_count chunks_cancelled chunks_failed created empty_chunks_count filters finished_chunks num_findings status total_chunks", ""},
	} {
		e := exports[tc.export]
		if tc.change != nil {
			c.Configure(e.stream, tc.change)
		}
		answers := c.finish(e.base, c.start(e.start, e.body))
		if tc.done == "" {
			tc.done = tc.working
		}
		if got := keys(answers[1]); got != tc.working {
			t.Errorf("%s while working: %s", e.stream, got)
		}
		if got := keys(answers[len(answers)-1]); got != tc.done {
			t.Errorf("%s when finished: %s", e.stream, got)
		}
	}
	for _, e := range exports[:4] {
		id := c.start(e.start, e.body)
		c.finish(e.base, id)
		r := c.call("GET", e.base+"/"+id+"/chunks/1", "", "Accept-Encoding", "gzip")
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
	c := newTenant(t, vendorsim.Options{})
	for _, path := range []string{"/vulns/export/status", "/assets/export/x/status", "/was/v2/scans/x/report", "/nowhere"} {
		for name, tc := range map[string]struct{ header, value, want string }{
			"missing":   {"X-Other", "", "Missing authentication"},
			"malformed": {"X-ApiKeys", "accessKey=a", "Missing authentication"},
			"wrong":     {"X-ApiKeys", "accessKey=a;secretKey=b", "Invalid credentials."},
		} {
			r := call(t, c.server, "GET", c.host.URL()+path, nil, tc.header, tc.value)
			if want := `{"statusCode":401,"error":"Unauthorized","message":"` + tc.want + `"}`; r.code != 401 || r.body != want {
				t.Errorf("%s, %s: %d %s", path, name, r.code, r.body)
			}
		}
	}
	for _, header := range []string{"X-APIKeys", "x-apikeys"} {
		if r := call(t, c.server, "GET", c.host.URL()+"/vulns/export/status", nil, header, strings.Replace(tenableKeys, ";", "; ", 1)+";"); r.code != 200 || r.body != `{"exports":[]}` {
			t.Errorf("%s with a space: %d %s", header, r.code, r.body)
		}
	}
	c.Revoke()
	for range 2 {
		if r := c.call("GET", "/vulns/export/status", ""); r.code != 401 {
			t.Errorf("revoked keys: %d", r.code)
		}
	}
	if !strings.Contains(kinds(c.host.Stats().Violations), vendorsim.AfterUnauthorized) {
		t.Error("going on after 401 is no violation")
	}
	c.Restore()
	c.Configure(vendorsim.TenableAssets, func(s *vendorsim.TenableStream) { s.Forbidden = true })
	if a, v := c.call("POST", "/assets/export", "{}"), c.call("GET", "/vulns/export/status", ""); a.code != 403 || v.code != 200 {
		t.Errorf("forbidden stream %d, other stream %d", a.code, v.code)
	}
}

func TestTenableStartChecks(t *testing.T) {
	c := newTenant(t, vendorsim.Options{})
	for _, s := range []string{vendorsim.TenableVulns, vendorsim.TenableAssets, vendorsim.TenableWASBulk} {
		c.Configure(s, func(s *vendorsim.TenableStream) {
			s.Duplicates, s.MaxJobs = vendorsim.DuplicateAccepted, 100
		})
	}
	c.Configure(vendorsim.TenableFindings, func(s *vendorsim.TenableStream) { s.MaxJobs = 100 })
	for _, tc := range []struct {
		path, body string
		want       int
	}{
		{"/vulns/export", `{"num_assets":10}`, 200},
		{"/vulns/export", `{"num_assets":99999}`, 200},
		{"/vulns/export", `{"num_assets":"50"}`, 200},
		{"/vulns/export", ``, 200},
		{"/vulns/export", `{"num_assets":"many"}`, 400},
		{"/vulns/export", `{`, 400},
		{"/vulns/export", `{"filters":[]}`, 400},
		{"/vulns/export", `{"filters":{"since":1,"last_found":1}}`, 400},
		{"/vulns/export", `{"filters":{"state":["GONE"]}}`, 400},
		{"/vulns/export", `{"filters":{"sinze":1}}`, 400},
		{"/vulns/export", `{"filters":{"tag.Site":["Lab"],"plugin_id":[1]}}`, 200},
		{"/assets/export", `{}`, 400},
		{"/assets/export", `{"chunk_size":99}`, 400},
		{"/assets/export", `{"chunk_size":10001}`, 400},
		{"/assets/export", `{"chunk_size":1001,"include_resource_tags":true}`, 400},
		{"/assets/export", `{"chunk_size":1000,"include_resource_tags":true}`, 200},
		{"/assets/export", `{"chunk_size":100,"filters":{"since":1}}`, 400},
		{"/assets/v2/export", `{"chunk_size":100,"filters":{"since":1}}`, 200},
		{"/assets/v2/export", `{"chunk_size":100,"filters":{"tag.Site":["Lab"]}}`, 400},
		{"/compliance/export", ``, 415},
		{"/compliance/export", `{}`, 200},
		{"/compliance/export", `{"filters":{"first_seen":1}}`, 400},
		{"/compliance/export", `{"filters":{"first_seen":1,"last_seen":1}}`, 200},
		{"/compliance/export", `{"filters":{"severity":["high"]}}`, 400},
		{"/was/v1/export/vulns", `{"filters":{"plugin_id":[1]}}`, 400},
		{"/was/v1/export/vulns", `{"filters":{"plugin_ids":[1],"severity":["high"]}}`, 200},
	} {
		if r := c.call("POST", tc.path, tc.body); r.code != tc.want {
			t.Errorf("POST %s %s: %d, want %d: %s", tc.path, tc.body, r.code, tc.want, r.body)
		}
	}
	for body, want := range map[string]float64{`{"num_assets":10}`: 50, `{"num_assets":99999}`: 5000, `{"num_assets":"500"}`: 500, `{}`: 50} {
		if got := c.poll("/vulns/export", c.start("/vulns/export", body))["num_assets_per_chunk"]; got != want {
			t.Errorf("%s: echoed %v, want %v", body, got, want)
		}
	}
	echo := c.poll("/vulns/export", c.start("/vulns/export", `{}`))["filters"].(map[string]any)
	if got := fmt.Sprint(echo["state"]); got != "[OPEN REOPENED]" {
		t.Errorf("echo of no state: %s", got)
	}
}

func TestTenableFilters(t *testing.T) {
	c := newTenant(t, vendorsim.Options{RecordBytes: smallRecords, EdgeEvery: -1, Counts: map[string]int{vendorsim.TenableVulns: 2000, vendorsim.TenableAssets: 1000, vendorsim.TenableFindings: 1000}})
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
	full := states(c.export("/vulns/export", "/vulns/export", exports[0].body))
	if full["OPEN"] == 0 || full["REOPENED"] == 0 || full["FIXED"] == 0 || full["OPEN"]+full["REOPENED"]+full["FIXED"] != 2000 {
		t.Fatalf("whole stream: %v", full)
	}
	def := states(c.export("/vulns/export", "/vulns/export", `{"num_assets":50,"include_unlicensed":true}`))
	if def["FIXED"] != 0 || def["OPEN"] >= full["OPEN"] || def["OPEN"] == 0 {
		t.Errorf("no state, no time: %v of %v, want the last 30 days of OPEN and REOPENED", def, full)
	}
	licensed := states(c.export("/vulns/export", "/vulns/export", `{"num_assets":50,`+everything+`}`))
	if licensed["OPEN"] >= full["OPEN"] {
		t.Errorf("licensed only: %v of %v", licensed, full)
	}
	late := vendorsim.DefaultBase.Add(-24 * time.Hour).Unix()
	since := states(c.export("/vulns/export", "/vulns/export", fmt.Sprintf(`{"num_assets":50,"include_unlicensed":true,"filters":{"since":%d,"state":["open","fixed"]}}`, late)))
	if since["OPEN"] == 0 || since["OPEN"] > full["OPEN"]/10 || since["FIXED"] == 0 || since["REOPENED"] != 0 {
		t.Errorf("since a day ago: %v of %v", since, full)
	}
	if n := len(c.export("/compliance/export", "/compliance/export", `{}`)); n >= 1000 || n < 700 {
		t.Errorf("compliance without state: %d", n)
	}
	if n := len(c.export("/assets/v2/export", "/assets/export", `{"chunk_size":100}`)); n >= 1000 || n < 900 {
		t.Errorf("assets v2 without types: %d of 1000, want the hosts", n)
	}
	if n := len(c.export("/assets/export", "/assets/export", `{"chunk_size":100,"filters":{"is_deleted":true}}`)); n == 0 || n > 100 {
		t.Errorf("deleted assets: %d", n)
	}
	if n := len(c.export("/assets/export", "/assets/export", fmt.Sprintf(`{"chunk_size":100,"filters":{"updated_at":%d}}`, late))); n == 0 || n > 100 {
		t.Errorf("assets updated since a day ago: %d", n)
	}
}

func TestTenableRecordsJoin(t *testing.T) {
	c := newTenant(t, vendorsim.Options{})
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
	if n := c.server.Count(vendorsim.TenableAssetsV2); n != 7 {
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
