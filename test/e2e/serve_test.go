package e2e_test

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/collectord/collectord/test/harness"
)

// TestServiceOverHTTP scrapes and controls the program.
func TestServiceOverHTTP(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	ws.Env["COLLECTORS"], ws.Env["HTTP_TOKEN"] = "tenable", "a-token-of-the-test"
	s := ws.StartService()
	url := s.BaseURL()
	s.WaitForLog(`"ready"`)
	s.WaitForLog(`"stored"`, `"tenable_assets"`)
	for _, path := range []string{"/-/healthy", "/-/ready", "/api/v1/status", "/api/v1/collectors", "/api/v1/runs"} {
		if status, body := s.Request("GET", url+path, ""); status != 200 || strings.Contains(body, "a-token-of-the-test") {
			t.Errorf("%s returns %d %s", path, status, body)
		}
	}
	_, text := s.Request("GET", url+"/metrics", "")
	for _, part := range []string{
		`collectord_runs_total{collector="tenable",outcome="success",stream="tenable_assets",tenancy="default"} 1`,
		`collectord_data_late{collector="tenable",stream="tenable_assets",tenancy="default"} 0`,
		`collectord_schedule_interval_seconds{collector="tenable",tenancy="default"} 86400`, `collectord_ready{tenancy="default"} 1`, "go_goroutines", "process_start_time_seconds",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("no %s in\n%s", part, text)
		}
	}
	if status, _ := s.Request("POST", url+"/api/v1/collectors/tenable/run", ""); status != 401 {
		t.Errorf("without the token the status is %d", status)
	}
	if status, body := s.Request("POST", url+"/api/v1/collectors/unknown/run", "a-token-of-the-test"); status != 404 {
		t.Errorf("for an unknown collector the response is %d %s", status, body)
	}
	if status, body := s.Request("POST", url+"/-/reload", "a-token-of-the-test"); status != 200 {
		t.Errorf("reload returns %d %s", status, body)
	}
	http.DefaultClient.CloseIdleConnections()
	s.Signal(syscall.SIGTERM)
	ws.AssertResult(s.Wait(), harness.ExitOK, `"stopped"`)
}

// TestServiceRefusesAnAddressInUse checks that the service waits for the address, and
// that the failure is one after which systemd starts it again.
func TestServiceRefusesAnAddressInUse(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	ws.Env["HTTP_LISTEN"] = taken.Addr().String()
	ws.AssertResult(ws.StartService().Wait(), harness.ExitFailed, "HTTP_LISTEN cannot be used yet", "HTTP_LISTEN", "address already in use")
}

// TestOnceWritesMetrics checks METRICS_TEXTFILE, which the node exporter reads.
func TestOnceWritesMetrics(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	path := filepath.Join(ws.Dir, "collectord.prom")
	ws.Env["COLLECTORS"], ws.Env["METRICS_TEXTFILE"] = "tenable", path
	s := ws.StartService("--once")
	ws.AssertResult(s.Wait(), harness.ExitOK)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		`collectord_last_run_success{collector="tenable",stream="tenable_assets",tenancy="default"} 1`,
		`collectord_deliveries_total{outcome="stored",sink="file",tenancy="default"}`,
	} {
		if !strings.Contains(string(text), part) {
			t.Errorf("no %s in\n%s", part, text)
		}
	}
	ws.Env["METRICS_TEXTFILE"] = filepath.Join(ws.Dir, "missing", "collectord.prom")
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitPartial, "METRICS_TEXTFILE", "no such file or directory")
}

// TestServerThatIsOpen checks that what other machines can see is said, and that
// records need the token there.
func TestServerThatIsOpen(t *testing.T) {
	t.Parallel()
	const token = "a-token-of-the-test"
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	ws.Env["COLLECTORS"], ws.Env["HTTP_LISTEN"], ws.Env["HTTP_TOKEN"], ws.Env["HTTP_PPROF"] = "tenable", "0.0.0.0:0", token, "true"
	const open = "is open to other machines without authentication"
	ws.AssertResult(ws.Run("check"), harness.ExitOK, open, "need HTTP_TOKEN")
	ws.AssertResult(ws.Run("doctor"), harness.ExitOK, open)
	s := ws.StartService()
	url := s.BaseURL()
	s.WaitForLog(open)
	s.WaitForLog(`"stored"`, `"tenable_assets"`)
	for _, path := range []string{"/streams/tenable_assets/data", "/debug/pprof/"} {
		if status, body := s.Request("GET", url+path, ""); status != 401 || strings.Contains(body, "_upload_id") {
			t.Errorf("%s without the token returns %d %.200s", path, status, body)
		}
		if status, body := s.Request("GET", url+path, token); status != 200 {
			t.Errorf("%s with the token returns %d %.200s", path, status, body)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	s.Signal(syscall.SIGTERM)
	ws.AssertResult(s.Wait(), harness.ExitOK)
}
