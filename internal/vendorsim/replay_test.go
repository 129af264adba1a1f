package vendorsim_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/collectord/collectord/internal/vendorsim"
)

const recording = "testdata/recording"

func startReplay(t *testing.T, paths ...string) *vendorsim.Server {
	t.Helper()
	s, err := vendorsim.Replay(paths...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestReplayOrder(t *testing.T) {
	const (
		vulns      = "/vulns/export/11111111-0000-4000-8000-000000000001"
		assets     = "/assets/export/22222222-0000-4000-8000-000000000002"
		compliance = "/compliance/export/33333333-0000-4000-8000-000000000003"
		targets    = "/was/v2/scans/s1/vulnerabilities/by-targets/search"
	)
	s := startReplay(t, recording)
	for n, step := range []struct {
		method, path string
		code         int
		want         string // the whole body if it ends in }, otherwise a part of it
	}{
		{method: "POST", path: "/vulns/export", code: 200, want: `{"export_uuid":"11111111-0000-4000-8000-000000000001"}`},
		{
			method: "GET",
			path:   vulns + "/status",
			code:   200,
			want:   `{"status":"PROCESSING","chunks_available":[],"chunks_failed":[],"chunks_cancelled":[]}`,
		},
		{
			method: "GET",
			path:   vulns + "/status",
			code:   200,
			want:   `{"status":"PROCESSING","chunks_available":[1],"chunks_failed":[],"chunks_cancelled":[],"total_chunks":2}`,
		},
		{
			method: "GET",
			path:   vulns + "/status",
			code:   200,
			want:   `{"status":"FINISHED","chunks_available":[1],"chunks_failed":[],"chunks_cancelled":[],"total_chunks":1}`,
		},
		{
			method: "GET",
			path:   vulns + "/status",
			code:   200,
			want:   `{"status":"FINISHED","chunks_available":[1],"chunks_failed":[],"chunks_cancelled":[],"total_chunks":1}`,
		},
		{method: "GET", path: vulns + "/chunks/1", code: 200, want: "\"caf\\u00e9 \U0001f512 \\/ ]}\""},
		{method: "GET", path: vulns + "/chunks/1", code: 200, want: `"score":1e-7`},
		{method: "GET", path: vulns + "/chunks/2", code: 404, want: `{"error":"not recorded: GET ` + vulns + `/chunks/2"}`},
		{method: "GET", path: assets + "/status", code: 200, want: `{"status":"PROCESSING","chunks_available":[]}`},
		{method: "GET", path: assets + "/status", code: 200, want: `{"status":"FINISHED","chunks_available":[1]}`},
		{method: "GET", path: compliance + "/status", code: 200, want: `{"status":"PROCESSING"}`},
		{
			method: "GET",
			path:   compliance + "/status",
			code:   200,
			want:   `{"status":"FINISHED","chunks_available":[1],"chunks_failed":[],"chunks_cancelled":[]}`,
		},
		{
			method: "GET",
			path:   compliance + "/status",
			code:   200,
			want:   `{"status":"FINISHED","chunks_available":[1],"chunks_failed":[],"chunks_cancelled":[]}`,
		},
		{method: "GET", path: compliance + "/chunks/1", code: 200, want: "[]"},
		{method: "GET", path: "/compliance/export/status", code: 200, want: `{"exports":[]}`},
		{method: "GET", path: "/other/export/status", code: 404, want: "not recorded"},
		{method: "POST", path: targets + "?limit=200&offset=0", code: 200, want: `"items":[{"scan"`},
		{method: "POST", path: targets + "?offset=200&limit=200", code: 200, want: `"items":[]`},
		{
			method: "POST", path: targets + "?limit=200&offset=0", code: 200, want: `"items":[{"scan"`,
		}, // again: the page of the query
		{method: "POST", path: targets + "?limit=100&offset=0", code: 200, want: `"items":[{"scan"`}, // unknown query: in order
		{method: "POST", path: targets + "?limit=100&offset=0", code: 200, want: `"items":[]`},
		{method: "POST", path: targets + "?limit=100&offset=0", code: 200, want: `"items":[]`},
		{method: "GET", path: "/was/v2/scans/t1/report", code: 404, want: "NOT_FOUND"},
		{method: "PUT", path: "/was/v2/scans/t1/report", code: 202, want: ""},
		{method: "GET", path: "/was/v2/scans/t1/report", code: 200, want: `{"findings":[]}`},
		{method: "GET", path: "/was/v2/scans/t1/report", code: 200, want: `{"findings":[]}`},
	} {
		r := sendRequest(t, s, step.method, s.VendorURL("replay")+step.path, nil)
		ok := strings.Contains(r.body, step.want)
		if strings.HasSuffix(step.want, "}") {
			ok = r.body == step.want
		}
		if r.code != step.code || !ok {
			t.Errorf("step %d: %s %s: %d %s", n, step.method, step.path, r.code, r.body)
		}
	}
	r := sendRequest(t, s, "GET", s.VendorURL("replay")+vulns+"/chunks/1", nil)
	if r.header.Get("Content-Type") != "application/octet-stream" || r.header.Get("X-Request-Uuid") == "" ||
		strings.Contains(r.header.Get("Date"), "05 Mar 2026 10:00:00") {
		t.Errorf("headers: %v", r.header)
	}
	want := []string{
		"TIO_URL=" + s.VendorURL("replay"),
		"TIO_ACCESS_KEY=" + vendorsim.TenableAccessKey,
		"TIO_SECRET_KEY=" + vendorsim.TenableSecretKey,
	}
	if got := s.Host("replay").Env(); !slices.Equal(got, want) {
		t.Errorf("env %v", got)
	}
}

func TestReplayOfFilesAndFaults(t *testing.T) {
	s := startReplay(t, filepath.Join(recording, "assets.json"), filepath.Join(recording, "was.json"))
	h := s.Host("replay")
	h.Inject(vendorsim.Fault{Path: "/assets/export", Do: vendorsim.HTML(502)})
	if r := sendRequest(t, s, "POST", h.URL()+"/assets/export", nil); r.code != 502 {
		t.Errorf("fault: %d", r.code)
	}
	if r := sendRequest(t, s, "POST", h.URL()+"/assets/export", nil); r.code != 200 {
		t.Errorf("after the fault: %d", r.code)
	}
	if r := sendRequest(t, s, "POST", h.URL()+"/vulns/export", nil); r.code != 404 {
		t.Errorf("file that was not given: %d", r.code)
	}
}

func TestLoadRecordingRefuses(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken.json")
	if err := os.WriteFile(broken, []byte(`{"not":"a list"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, paths := range map[string][]string{
		"nothing": nil, "missing": {"testdata/none"}, "no interactions": {t.TempDir()}, "broken": {broken},
	} {
		t.Run(name, func(t *testing.T) {
			if s, err := vendorsim.Replay(paths...); err == nil {
				s.Close()
				t.Error("started")
			}
		})
	}
}
