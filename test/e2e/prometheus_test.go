package e2e_test

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/collectord/collectord/test/checkout"
	"github.com/collectord/collectord/test/harness"
)

// startPrometheus starts a Prometheus that scrapes services and has the rules for them.
func startPrometheus(t *testing.T, targets ...string) string {
	t.Helper()
	return startPrometheusWith(t, "alerts.yml", "collectord", targets...)
}

// startPrometheusWith starts a Prometheus that scrapes the targets of a job and has shipped
// rules with shorter times. It returns its URL.
func startPrometheusWith(t *testing.T, ruleFile, job string, targets ...string) string {
	t.Helper()
	dir := t.TempDir()
	rules, err := os.ReadFile(checkout.Join(t, "deploy", "prometheus", ruleFile))
	if err != nil {
		t.Fatal(err)
	}
	harness.WriteFile(t, filepath.Join(dir, "alerts.yml"), regexp.MustCompile(`(?m)^(\s+for:).*$`).ReplaceAllString(string(rules), "$1 1s"))
	harness.WriteFile(t, filepath.Join(dir, "prometheus.yml"), `
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [alerts.yml]
scrape_configs:
  - job_name: `+job+`
    static_configs: [{targets: ["`+strings.Join(targets, `", "`)+`"]}]
`)
	return startPrometheusProgram(t, dir, "prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data")
}

// startPrometheusProgram starts a program of the Prometheus project in a directory, and returns its URL.
func startPrometheusProgram(t *testing.T, dir, program string, args ...string) string {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, append(args, "--web.listen-address="+address)...)
	cmd.Dir = dir
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v; run: make test-servers", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Logf("%s:\n%s", program, output.String())
		}
	})
	return "http://" + address
}

// firingAlerts returns the names of the firing alerts with their streams, and
// whether Prometheus responded.
func firingAlerts(s *harness.Service, url string) (firing []string, responded bool) {
	s.Helper()
	out, err := exec.CommandContext(s.Context(), "promtool", "query", "instant", "--format=json", url, `ALERTS{alertstate="firing"}`).Output()
	if err != nil {
		return nil, false
	}
	var found []struct{ Metric map[string]string }
	if err := json.Unmarshal(out, &found); err != nil {
		s.Fatalf("%v: %s", err, out)
	}
	for _, one := range found {
		firing = append(firing, strings.TrimSpace(one.Metric["alertname"]+" "+one.Metric["stream"]))
	}
	return firing, true
}

// waitForAlerts waits until expected accepts the firing alerts, one in a line.
func waitForAlerts(s *harness.Service, url, when string, expected func(firing string) bool) {
	s.Helper()
	deadline := time.After(harness.HangLimit)
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for {
		firing, responded := firingAlerts(s, url)
		if responded && expected(strings.Join(firing, "\n")) {
			return
		}
		select {
		case <-again.C:
		case <-deadline:
			s.Fatalf("%s: firing alerts: %q", when, firing)
		}
	}
}

// TestPrometheusAlerts scrapes the program with a real Prometheus: alerts fire while the
// vendor refuses the credentials, and resolve when it accepts them.
func TestPrometheusAlerts(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	ws.Env["COLLECTORS"], ws.Env["SCHEDULE"], ws.Env["HTTP_TOKEN"] = "tenable", "@every 1h", "a-token-of-the-test"
	fault := refuseCredentials(sim)
	s := ws.StartService()
	url := s.BaseURL()
	prom := startPrometheus(t, strings.TrimPrefix(url, "http://"))
	expected := []string{"CollectordCredentialsRefused tenable_assets", "CollectordRunFailing tenable_assets"}
	waitForAlerts(s, prom, "while the vendor refuses", func(firing string) bool {
		for _, alert := range expected {
			if !strings.Contains(firing, alert) {
				return false
			}
		}
		// A first run that fails has not had its time yet.
		return !strings.Contains(firing, "CollectordDown") && !strings.Contains(firing, "CollectordDataLate")
	})
	fault.Remove()
	if status, body := s.Request("POST", url+"/api/v1/collectors/tenable/run", "a-token-of-the-test"); status != 202 {
		t.Fatalf("%d %s", status, body)
	}
	waitForAlerts(s, prom, "when it accepts", func(firing string) bool { return firing == "" })
	s.Signal(syscall.SIGTERM)
	ws.AssertResult(s.Wait(), harness.ExitOK)
	waitForAlerts(s, prom, "when it has ended", func(firing string) bool { return firing == "CollectordDown" })
}

// TestPrometheusAlertsOfAStreamThatIsOff checks that the alerts about a stream that the
// vendor refuses resolve when the stream is switched off.
func TestPrometheusAlertsOfAStreamThatIsOff(t *testing.T) {
	t.Parallel()
	const token = "a-token-of-the-test"
	vendor := harness.NewSmallTenable()
	sim := harness.StartVendors(t, harness.SmallCounts, vendor)
	refuseWebApps(vendor, true)
	ws := harness.NewWorkspace(t).UseVendors(sim)
	ws.Env["SCHEDULE"], ws.Env["HTTP_TOKEN"] = "@every 1h", token
	s := ws.StartService()
	url := s.BaseURL()
	prom := startPrometheus(t, strings.TrimPrefix(url, "http://"))
	waitForAlerts(s, prom, "while the vendor refuses a stream", func(firing string) bool {
		return firing == "CollectordRunFailing tenable_was"
	})
	ws.WriteEnvFile("COLLECTORS=-tenable_was")
	if status, body := s.Request("POST", url+"/-/reload", token); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	waitForAlerts(s, prom, "when the stream is off", func(firing string) bool { return firing == "" })
	if status, body := s.Request("GET", url+"/-/data", ""); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	s.Signal(syscall.SIGTERM)
	ws.AssertResult(s.Wait(), harness.ExitOK)
}
