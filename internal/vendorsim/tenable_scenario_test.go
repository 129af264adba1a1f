package vendorsim_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
)

func TestTenableOutcomes(t *testing.T) {
	c := startTenable(t, vendorsim.Options{Counts: map[string]int{vendorsim.TenableVulns: 2000, vendorsim.TenableAssets: 1000}})
	for _, s := range []string{vendorsim.TenableVulns, vendorsim.TenableAssets} {
		c.ConfigureStream(s, func(s *vendorsim.TenableStream) {
			s.ChunkRecords = 100
			s.Next = []vendorsim.Outcome{vendorsim.OutcomeError, vendorsim.OutcomeChunkFailed, vendorsim.OutcomeCancelled,
				vendorsim.OutcomeGood, vendorsim.OutcomeStuck}
		})
	}
	size := func(m map[string]any, name string) int { return len(intList(m[name])) }
	for n, want := range []struct {
		status                       string
		available, failed, cancelled int
		reason                       bool
	}{
		{status: "ERROR", available: 2, failed: 0, cancelled: 18, reason: true},
		{status: "FINISHED", available: 19, failed: 1, cancelled: 0, reason: true},
		{status: "CANCELLED", available: 10, failed: 0, cancelled: 10, reason: false},
		{status: "FINISHED", available: 20, failed: 0, cancelled: 0, reason: false},
		{status: "PROCESSING", available: 10, failed: 0, cancelled: 0, reason: false},
	} {
		statuses := c.pollUntilDone("/vulns/export", c.startExport("/vulns/export", exportCases[0].body))
		got := statuses[len(statuses)-1]
		if got["status"] != want.status || size(got, "chunks_available") != want.available || size(got, "chunks_failed") != want.failed ||
			size(got, "chunks_cancelled") != want.cancelled || (got["reason"] != nil) != want.reason {
			t.Errorf("job %d: %v", n, got)
		}
		if n == 2 { // the chunks of a cancelled job remain readable
			if got := c.readChunk("/vulns/export", got["uuid"].(string), intList(got["chunks_available"])[0]); len(got) == 0 {
				t.Error("chunk of the cancelled job is empty")
			}
		}
	}
	// An assets job with a failed chunk looks finished. Only the list of jobs
	// shows the failure.
	c.ConfigureStream(vendorsim.TenableAssets, func(s *vendorsim.TenableStream) {
		s.Next, s.Always = nil, vendorsim.OutcomeChunkFailed
	})
	statuses := c.pollUntilDone("/assets/export", c.startExport("/assets/export", exportCases[1].body))
	if got := statuses[len(statuses)-1]; got["status"] != "FINISHED" || len(got) != 2 || size(got, "chunks_available") != 9 {
		t.Errorf("assets: %v", got)
	}
	entry := c.requireJSON("GET", "/assets/export/status", "")["exports"].([]any)[0].(map[string]any)
	if entry["total_chunks"] != 10.0 || entry["finished_chunks"] != 9.0 || entry["filters"] != "{}" {
		t.Errorf("recent assets job: %v", entry)
	}
	c.ConfigureStream(vendorsim.TenableVulns, func(s *vendorsim.TenableStream) { s.Always = vendorsim.OutcomeError })
	c.requireJSON("POST", "/vulns/export/"+c.Jobs(vendorsim.TenableVulns)[4].UUID+"/cancel", "")
	for range 2 {
		statuses := c.pollUntilDone("/vulns/export", c.startExport("/vulns/export", exportCases[0].body))
		if statuses[len(statuses)-1]["status"] != "ERROR" {
			t.Error("a job that was configured to fail did not fail")
		}
	}
}

func TestTenableEmptyExports(t *testing.T) {
	for form, want := range map[vendorsim.EmptyForm]struct {
		available []int
		count     float64
		body      string
	}{
		vendorsim.EmptyNoChunks: {available: []int{}, count: 0, body: ""},
		vendorsim.EmptyCounted:  {available: []int{}, count: 1, body: ""},
		vendorsim.EmptyChunk:    {available: []int{1}, count: 1, body: "[]"},
		vendorsim.EmptyNull:     {available: []int{1}, count: 1, body: "null"},
	} {
		c := startTenable(t, vendorsim.Options{Counts: map[string]int{vendorsim.TenableVulns: 0}})
		c.ConfigureStream(vendorsim.TenableVulns, func(s *vendorsim.TenableStream) { s.Empty = form })
		statuses := c.pollUntilDone("/vulns/export", c.startExport("/vulns/export", `{}`))
		last := statuses[len(statuses)-1]
		if !slices.Equal(intList(last["chunks_available"]), want.available) || last["total_chunks"] != want.count ||
			last["chunks_available_count"] != want.count {
			t.Errorf("form %d: %v", form, last)
		}
		if want.body != "" {
			if r := c.sendWithKeys("GET", "/vulns/export/"+last["uuid"].(string)+"/chunks/1", ""); r.body != want.body {
				t.Errorf("form %d: chunk %q", form, r.body)
			}
		}
	}
}

func TestTenableDuplicates(t *testing.T) {
	const other = `{"num_assets":100,"filters":{"since":2}}`
	for form, check := range map[vendorsim.DuplicateForm]func(r response, id string) bool{
		vendorsim.DuplicateAccepted: func(r response, id string) bool { return r.code == 200 && !strings.Contains(r.body, id) },
		vendorsim.Duplicate409ID: func(r response, id string) bool {
			return r.code == 409 && strings.Contains(r.body, `"active_job_id":"`+id+`"`) &&
				strings.Contains(r.body, "conflict with the ongoing export")
		},
		vendorsim.Duplicate409Empty: func(r response, _ string) bool { return r.code == 409 && r.body == "" },
		vendorsim.Duplicate429Message: func(r response, id string) bool {
			return r.code == 429 && strings.Contains(r.body, `"message":"Duplicate export not allowed.`) &&
				strings.Contains(r.body, "(job_uuid="+id+" container_uuid=")
		},
		vendorsim.Duplicate429Values: func(r response, id string) bool {
			var b struct {
				Values, Strings []string
				Bytes           string
			}
			_ = json.Unmarshal([]byte(r.body), &b)
			whole, _ := base64.StdEncoding.DecodeString(b.Bytes)
			return r.code == 429 && b.Values[0] == id && strings.HasPrefix(b.Strings[0], "Duplicate export") &&
				strings.Contains(string(whole), id)
		},
		vendorsim.DuplicateCancelsOld: func(r response, id string) bool { return r.code == 200 && !strings.Contains(r.body, id) },
	} {
		c := startTenable(t, vendorsim.Options{})
		c.ConfigureStream(vendorsim.TenableVulns, func(s *vendorsim.TenableStream) { s.Duplicates = form })
		id := c.startExport("/vulns/export", `{"num_assets":50,"filters":{"since":1}}`)
		if r := c.sendWithKeys("POST", "/vulns/export", `{"filters":{"since":1},"num_assets":500}`); !check(r, id) {
			t.Errorf("form %d: %d %s", form, r.code, r.body)
		}
		if r := c.sendWithKeys("POST", "/vulns/export", other); r.code != 200 {
			t.Errorf("form %d: other filters: %d", form, r.code)
		}
		if got := c.Jobs(vendorsim.TenableVulns)[0].Status; (got == "CANCELLED") != (form == vendorsim.DuplicateCancelsOld) {
			t.Errorf("form %d: the older job is %s", form, got)
		}
		c.pollUntilDone("/vulns/export", id)
		if form != vendorsim.DuplicateAccepted && form != vendorsim.DuplicateCancelsOld {
			if r := c.sendWithKeys("POST", "/vulns/export", `{"num_assets":50,"filters":{"since":1}}`); r.code != 200 {
				t.Errorf("form %d: after the job ended: %d", form, r.code)
			}
		}
	}
}

func TestTenableDuplicateDefaults(t *testing.T) {
	c := startTenable(t, vendorsim.Options{})
	want := map[string]int{vendorsim.TenableVulns: 409, vendorsim.TenableAssets: 409, vendorsim.TenableAssetsV2: 409,
		vendorsim.TenableFindings: 200, vendorsim.TenableWASBulk: 409}
	for _, e := range exportCases {
		c.startExport(e.start, e.body)
		r := c.sendWithKeys("POST", e.start, e.body)
		if r.code != want[e.stream] {
			t.Errorf("%s: %d, want %d", e.stream, r.code, want[e.stream])
		}
		if strings.HasPrefix(e.stream, vendorsim.TenableAssets) && r.body != "" {
			t.Errorf("%s: body %q", e.stream, r.body)
		}
	}
}

func TestTenableForeignJob(t *testing.T) {
	c := startTenable(t, vendorsim.Options{})
	id, err := c.ForeignJob(vendorsim.TenableVulns, `{"num_assets":777,"filters":{"since":1}}`)
	if err != nil {
		t.Fatal(err)
	}
	r := c.sendWithKeys("POST", "/vulns/export", `{"num_assets":50,"filters":{"since":1}}`)
	if r.code != 409 || !strings.Contains(r.body, id) {
		t.Fatalf("%d %s", r.code, r.body)
	}
	if s := c.pollStatus("/vulns/export", id); s["num_assets_per_chunk"] != 777.0 {
		t.Errorf("foreign job: %v", s)
	}
	if _, err := c.ForeignJob("nope", ""); err == nil {
		t.Error("job of an unknown stream")
	}
	// A job ends even if it is not polled.
	c.clock.Advance(11 * time.Minute)
	if r := c.sendWithKeys("POST", "/vulns/export", `{"num_assets":50,"filters":{"since":1}}`); r.code != 200 {
		t.Errorf("after the foreign job ended: %d", r.code)
	}
}

func TestTenableLostStartMakesADuplicate(t *testing.T) {
	c := startTenable(t, vendorsim.Options{})
	c.host.Inject(vendorsim.Fault{Method: "POST", Path: "/vulns/export",
		Do: vendorsim.LoseResponse(504, `{"statusCode":504,"error":"Gateway Timeout","message":"Please wait a moment and try your request again."}`)})
	if r := c.sendWithKeys("POST", "/vulns/export", `{}`); r.code != 504 {
		t.Fatalf("first: %d", r.code)
	}
	if r := c.sendWithKeys("POST", "/vulns/export", `{}`); r.code != 409 || !strings.Contains(r.body, c.Jobs(vendorsim.TenableVulns)[0].UUID) {
		t.Errorf("second: %d %s", r.code, r.body)
	}
}

func TestTenableEleventhJob(t *testing.T) {
	c := startTenable(t, vendorsim.Options{})
	for _, e := range exportCases {
		c.startExport(e.start, e.body)
	}
	for i := range 5 { // jobs are counted over all streams and users
		if _, err := c.ForeignJob(vendorsim.TenableVulns, fmt.Sprintf(`{"filters":{"since":%d}}`, 10+i)); err != nil {
			t.Fatal(err)
		}
	}
	r := c.sendWithKeys("POST", "/vulns/export", `{}`)
	if r.code != 429 || r.header.Get("Content-Type") != "text/html" || r.header.Get("Retry-After") != "2" ||
		!strings.HasPrefix(r.body, "<html>") {
		t.Errorf("eleventh job: %d %v %s", r.code, r.header, r.body)
	}
	c.clock.Advance(time.Second)
	if r := c.sendWithKeys("POST", "/vulns/export", `{}`); r.code != 429 {
		t.Errorf("early retry: %d", r.code)
	}
	if got := violationKinds(c.host.Stats().Violations); got != vendorsim.TooEarly {
		t.Errorf("violations %q", got)
	}
	c.requireJSON("POST", "/vulns/export/"+c.Jobs(vendorsim.TenableVulns)[0].UUID+"/cancel", "")
	c.clock.Advance(time.Second)
	c.startExport("/vulns/export", `{}`)
}

func TestTenableRateLimit(t *testing.T) {
	c := startTenable(t, vendorsim.Options{})
	c.host.SetLimit("tenable", vendorsim.LimitNumbers{Max: 1, Window: time.Minute, RetryAfter: 30 * time.Second})
	c.sendWithKeys("GET", "/vulns/export/status", "")
	if r := c.sendWithKeys("GET", "/vulns/export/status", ""); r.code != 429 || r.header.Get("Retry-After") != "30" ||
		r.header.Get("Content-Type") != "text/html" {
		t.Errorf("%d %v", r.code, r.header)
	}
}

func TestTenableFastPollingIsAViolation(t *testing.T) {
	c := startTenable(t, vendorsim.Options{})
	id := c.startExport("/vulns/export", `{}`)
	c.requireJSON("GET", "/vulns/export/"+id+"/status", "")
	c.requireJSON("GET", "/vulns/export/"+id+"/status", "")
	if got := violationKinds(c.host.Stats().Violations); got != vendorsim.PolledTooFast {
		t.Errorf("violations %q", got)
	}
}

func TestTenableChunkRefusals(t *testing.T) {
	c := startTenable(t, vendorsim.Options{Counts: map[string]int{vendorsim.TenableVulns: 3000}})
	id := c.startExport("/vulns/export", exportCases[0].body)
	path := "/vulns/export/" + id + "/chunks/1"
	if r := c.sendWithKeys("GET", path, ""); r.code != 400 {
		t.Errorf("chunk that is not ready: %d", r.code)
	}
	c.pollUntilDone("/vulns/export", id)
	c.readChunk("/vulns/export", id, 1)
	for _, p := range []string{
		"/vulns/export/" + id + "/chunks/3", "/vulns/export/" + id + "/chunks/x", "/vulns/export/0/chunks/1",
		"/assets/export/" + id + "/chunks/1", "/vulns/export/0/status",
	} {
		if r := c.sendWithKeys("GET", p, ""); r.code != 404 {
			t.Errorf("GET %s: %d, want 404", p, r.code)
		}
	}
	c.clock.Advance(25 * time.Hour)
	one, two := c.sendWithKeys("GET", path, ""), c.sendWithKeys("GET", path, "")
	if one.code != 404 || two.code != 404 || one.body == two.body || !strings.Contains(one.body+two.body, "Export expired or not found") {
		t.Errorf("expired chunk: %d %s, %d %s", one.code, one.body, two.code, two.body)
	}
	id = c.startExport("/compliance/export", `{}`)
	n := intList(c.pollUntilDone("/compliance/export", id)[4]["chunks_available"])[0]
	c.clock.Advance(71 * time.Hour)
	c.readChunk("/compliance/export", id, n)
	c.ExpireChunks()
	if r := c.sendWithKeys("GET", fmt.Sprintf("/compliance/export/%s/chunks/%d", id, n), ""); r.code != 404 {
		t.Errorf("after ExpireChunks: %d", r.code)
	}
}

func TestTenableCancel(t *testing.T) {
	c := startTenable(t, vendorsim.Options{})
	want := map[string]string{
		vendorsim.TenableVulns:    `{"export_status":"CANCELLED","export_uuid":"ID"}`,
		vendorsim.TenableAssets:   `{"response":{"status":"CANCELLED"}}`,
		vendorsim.TenableAssetsV2: `{"response":{"status":"CANCELLED"}}`,
		vendorsim.TenableFindings: `{"status":"CANCELLED"}`,
		vendorsim.TenableWASBulk:  `{"status":"CANCELLED"}`,
	}
	for _, e := range exportCases {
		id := c.startExport(e.start, e.body)
		if r := c.sendWithKeys("POST", e.base+"/"+id+"/cancel", ""); r.code != 200 || r.body != strings.Replace(want[e.stream], "ID", id, 1) {
			t.Errorf("%s: %d %s", e.stream, r.code, r.body)
		}
		if r := c.sendWithKeys("POST", e.base+"/"+id+"/cancel", ""); r.code != 400 || !strings.Contains(r.body, "Cannot cancel") {
			t.Errorf("%s again: %d %s", e.stream, r.code, r.body)
		}
		if s := c.pollStatus(e.base, id); s["status"] != "CANCELLED" {
			t.Errorf("%s: status %v", e.stream, s)
		}
	}
	if r := c.sendWithKeys("POST", "/vulns/export/0/cancel", ""); r.code != 404 {
		t.Errorf("unknown: %d", r.code)
	}
	c.ConfigureStream(vendorsim.TenableVulns, func(s *vendorsim.TenableStream) { s.CancelForm = vendorsim.CancelPlain })
	if r := c.sendWithKeys("POST", "/vulns/export/"+c.startExport("/vulns/export", `{}`)+"/cancel", ""); r.body != `{"status":"CANCELLED"}` {
		t.Errorf("chosen form: %s", r.body)
	}
}

func TestTenableRecentJobs(t *testing.T) {
	c := startTenable(t, vendorsim.Options{})
	a := c.startExport("/assets/export", `{"chunk_size":100,"filters":{"is_licensed":true}}`)
	v := c.startExport("/vulns/export", `{"num_assets":60,"filters":{"since":1}}`)
	entry := func(path string) map[string]any {
		return c.requireJSON("GET", path, "")["exports"].([]any)[0].(map[string]any)
	}
	if got := entry("/assets/export/status"); got["uuid"] != a || got["filters"] != `{"is_licensed":true}` || got["status"] != "QUEUED" {
		t.Errorf("assets: %v", got)
	}
	if got := entry("/vulns/export/status"); got["uuid"] != v || got["filters"].(map[string]any)["since"] != 1.0 ||
		got["num_assets_per_chunk"] != 60.0 {
		t.Errorf("vulns: %v", got)
	}
	c.clock.Advance(73 * time.Hour)
	if n := len(c.requireJSON("GET", "/vulns/export/status", "")["exports"].([]any)); n != 0 {
		t.Errorf("%d jobs after three days", n)
	}
	c.ConfigureStream(vendorsim.TenableFindings, func(s *vendorsim.TenableStream) { s.MaxJobs = 2000 })
	for range 1002 {
		c.startExport("/compliance/export", `{}`)
	}
	if n := len(c.requireJSON("GET", "/compliance/export/status", "")["exports"].([]any)); n != 1000 {
		t.Errorf("%d recent jobs, want 1000", n)
	}
}

func TestTenableRoleLossAndOverlap(t *testing.T) {
	c := startTenable(t, vendorsim.Options{RecordBytes: smallRecords, EdgeEvery: -1, Counts: map[string]int{vendorsim.TenableVulns: 3000}})
	e := exportCases[0]
	c.ConfigureStream(e.stream, func(s *vendorsim.TenableStream) { s.RoleLoss = 10 })
	if n := len(c.readExport(e.start, e.base, e.body)); n < 2550 || n > 2850 {
		t.Errorf("%d of 3000 rows after role loss", n)
	}
	c.ConfigureStream(e.stream, func(s *vendorsim.TenableStream) { s.RoleLoss, s.Overlap = 0, true })
	seen := map[string]int{}
	for _, raw := range c.readExport(e.start, e.base, e.body) {
		seen[string(raw)]++
	}
	twice := 0
	for _, n := range seen {
		if n == 2 {
			twice++
		}
	}
	if len(seen) != 3000 || twice != 2 {
		t.Errorf("%d distinct records, %d twice, want 3000 and 2", len(seen), twice)
	}
}
