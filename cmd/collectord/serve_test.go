package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// address is where s serves HTTP.
func (s *served) address() string {
	s.Helper()
	var line struct{ Address string }
	if err := json.Unmarshal([]byte(s.until(`"serving HTTP"`)), &line); err != nil {
		s.Fatal(err)
	}
	return "http://" + line.Address
}

// ask makes a request with the token and returns the status and the body.
func (s *served) ask(method, url, token string) (int, string) {
	s.Helper()
	r, err := http.NewRequestWithContext(s.Context(), method, url, nil)
	if err != nil {
		s.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		s.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

// TestServiceTellsOverHTTP scrapes the program, and steers it.
func TestServiceTellsOverHTTP(t *testing.T) {
	t.Parallel()
	sim := startVendors(t, smallCounts, smallTenant())
	p := newPlace(t).with(sim)
	p.env["COLLECTORS"], p.env["HTTP_TOKEN"] = "tenable", "a-token-of-the-test"
	s := p.serve()
	url := s.address()
	s.until(`"ready"`)
	s.until(`"stored"`, `"tenable_assets"`)
	for _, path := range []string{"/-/healthy", "/-/ready", "/api/v1/status", "/api/v1/collectors", "/api/v1/runs"} {
		if status, body := s.ask("GET", url+path, ""); status != 200 || strings.Contains(body, "a-token-of-the-test") {
			t.Errorf("%s answers %d %s", path, status, body)
		}
	}
	_, text := s.ask("GET", url+"/metrics", "")
	for _, part := range []string{
		`collectord_runs_total{collector="tenable",outcome="success",stream="tenable_assets"} 1`,
		`collectord_data_late{collector="tenable",stream="tenable_assets"} 0`,
		`collectord_schedule_interval_seconds{collector="tenable"} 86400`, "collectord_ready 1", "go_goroutines", "process_start_time_seconds",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("no %s in\n%s", part, text)
		}
	}
	if status, _ := s.ask("POST", url+"/api/v1/collectors/tenable/run", ""); status != 401 {
		t.Errorf("without the token the answer is %d", status)
	}
	if status, body := s.ask("POST", url+"/api/v1/collectors/nobody/run", "a-token-of-the-test"); status != 404 {
		t.Errorf("an unknown collector is answered %d %s", status, body)
	}
	if status, body := s.ask("POST", url+"/-/reload", "a-token-of-the-test"); status != 200 {
		t.Errorf("reload answers %d %s", status, body)
	}
	http.DefaultClient.CloseIdleConnections()
	s.signal(syscall.SIGTERM)
	p.want(s.ended(), 0, `"stopped"`)
}

// TestServiceRefusesAnAddressInUse: that is an error of the settings.
func TestServiceRefusesAnAddressInUse(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	sim := startVendors(t, smallCounts, smallTenant())
	p := newPlace(t).with(sim)
	p.env["HTTP_LISTEN"] = taken.Addr().String()
	p.want(p.serve().ended(), exitSettings, "HTTP_LISTEN", "address already in use")
}

// TestOnceWritesMetrics for the node exporter.
func TestOnceWritesMetrics(t *testing.T) {
	t.Parallel()
	sim := startVendors(t, smallCounts, smallTenant())
	p := newPlace(t).with(sim)
	path := filepath.Join(p.dir, "collectord.prom")
	p.env["COLLECTORS"], p.env["METRICS_TEXTFILE"] = "tenable", path
	s := p.serve("--once")
	p.want(s.ended(), 0)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		`collectord_last_run_success{collector="tenable",stream="tenable_assets"} 1`,
		`collectord_deliveries_total{outcome="stored",sink="file"}`,
	} {
		if !strings.Contains(string(text), part) {
			t.Errorf("no %s in\n%s", part, text)
		}
	}
}
