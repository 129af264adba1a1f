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
		want         string // the whole body if it ends in }, else a part of it
	}{
		{"POST", "/vulns/export", 200, `{"export_uuid":"11111111-0000-4000-8000-000000000001"}`},
		{"GET", vulns + "/status", 200, `{"status":"PROCESSING","chunks_available":[],"chunks_failed":[],"chunks_cancelled":[]}`},
		{"GET", vulns + "/status", 200, `{"status":"PROCESSING","chunks_available":[1],"chunks_failed":[],"chunks_cancelled":[],"total_chunks":2}`},
		{"GET", vulns + "/status", 200, `{"status":"FINISHED","chunks_available":[1],"chunks_failed":[],"chunks_cancelled":[],"total_chunks":1}`},
		{"GET", vulns + "/status", 200, `{"status":"FINISHED","chunks_available":[1],"chunks_failed":[],"chunks_cancelled":[],"total_chunks":1}`},
		{"GET", vulns + "/chunks/1", 200, "\"caf\\u00e9 \U0001f512 \\/ ]}\""},
		{"GET", vulns + "/chunks/1", 200, `"score":1e-7`},
		{"GET", vulns + "/chunks/2", 404, `{"error":"not recorded: GET ` + vulns + `/chunks/2"}`},
		{"GET", assets + "/status", 200, `{"status":"PROCESSING","chunks_available":[]}`},
		{"GET", assets + "/status", 200, `{"status":"FINISHED","chunks_available":[1]}`},
		{"GET", compliance + "/status", 200, `{"status":"PROCESSING"}`},
		{"GET", compliance + "/status", 200, `{"status":"FINISHED","chunks_available":[1],"chunks_failed":[],"chunks_cancelled":[]}`},
		{"GET", compliance + "/status", 200, `{"status":"FINISHED","chunks_available":[1],"chunks_failed":[],"chunks_cancelled":[]}`},
		{"GET", compliance + "/chunks/1", 200, "[]"},
		{"GET", "/compliance/export/status", 200, `{"exports":[]}`},
		{"GET", "/other/export/status", 404, "not recorded"},
		{"POST", targets + "?limit=200&offset=0", 200, `"items":[{"scan"`},
		{"POST", targets + "?offset=200&limit=200", 200, `"items":[]`},
		{"POST", targets + "?limit=200&offset=0", 200, `"items":[{"scan"`}, // once more: the page by its query
		{"POST", targets + "?limit=100&offset=0", 200, `"items":[{"scan"`}, // unknown query: in order
		{"POST", targets + "?limit=100&offset=0", 200, `"items":[]`},
		{"POST", targets + "?limit=100&offset=0", 200, `"items":[]`},
		{"GET", "/was/v2/scans/t1/report", 404, "NOT_FOUND"},
		{"PUT", "/was/v2/scans/t1/report", 202, ""},
		{"GET", "/was/v2/scans/t1/report", 200, `{"findings":[]}`},
		{"GET", "/was/v2/scans/t1/report", 200, `{"findings":[]}`},
	} {
		r := call(t, s, step.method, s.URL("replay")+step.path, nil)
		ok := strings.Contains(r.body, step.want)
		if strings.HasSuffix(step.want, "}") {
			ok = r.body == step.want
		}
		if r.code != step.code || !ok {
			t.Errorf("step %d: %s %s: %d %s", n, step.method, step.path, r.code, r.body)
		}
	}
	r := call(t, s, "GET", s.URL("replay")+vulns+"/chunks/1", nil)
	if r.header.Get("Content-Type") != "application/octet-stream" || r.header.Get("X-Request-Uuid") == "" || strings.Contains(r.header.Get("Date"), "05 Mar 2026 10:00:00") {
		t.Errorf("headers: %v", r.header)
	}
	want := []string{"TIO_URL=" + s.URL("replay"), "TIO_ACCESS_KEY=" + vendorsim.TenableAccessKey, "TIO_SECRET_KEY=" + vendorsim.TenableSecretKey}
	if got := s.Host("replay").Env(); !slices.Equal(got, want) {
		t.Errorf("env %v", got)
	}
}

func TestReplayOfFilesAndFaults(t *testing.T) {
	s := startReplay(t, filepath.Join(recording, "assets.json"), filepath.Join(recording, "was.json"))
	h := s.Host("replay")
	h.Inject(vendorsim.Fault{Path: "/assets/export", Do: vendorsim.HTML(502)})
	if r := call(t, s, "POST", h.URL()+"/assets/export", nil); r.code != 502 {
		t.Errorf("fault: %d", r.code)
	}
	if r := call(t, s, "POST", h.URL()+"/assets/export", nil); r.code != 200 {
		t.Errorf("after the fault: %d", r.code)
	}
	if r := call(t, s, "POST", h.URL()+"/vulns/export", nil); r.code != 404 {
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
