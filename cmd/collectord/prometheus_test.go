package main

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
)

// prometheus starts a Prometheus that scrapes target with the deployed rules,
// whose waits are shortened, and returns its address.
func prometheus(t *testing.T, target string) string {
	t.Helper()
	dir := t.TempDir()
	rules, err := os.ReadFile(filepath.Join("..", "..", "deploy", "prometheus", "alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "alerts.yml"), regexp.MustCompile(`(?m)^(\s+for:).*$`).ReplaceAllString(string(rules), "$1 1s"))
	write(t, filepath.Join(dir, "prometheus.yml"), `
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [alerts.yml]
scrape_configs:
  - job_name: collectord
    static_configs: [{targets: ["`+target+`"]}]
`)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address="+address)
	cmd.Dir = dir
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v; run: make test-servers", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Logf("Prometheus:\n%s", said.String())
		}
	})
	return "http://" + address
}

// alerts returns the names of the alerts that fire, with their streams;
// nothing while Prometheus does not answer.
func (s *served) alerts(url string) (firing []string, answers bool) {
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

// untilAlerts waits until the firing alerts are as good wants them.
func (s *served) untilAlerts(url, what string, good func(firing string) bool) {
	s.Helper()
	deadline := time.After(20 * time.Second)
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for {
		firing, answers := s.alerts(url)
		if answers && good(strings.Join(firing, "\n")) {
			return
		}
		select {
		case <-again.C:
		case <-deadline:
			s.Fatalf("%s: firing are %q", what, firing)
		}
	}
}

// TestPrometheusAlerts has a real Prometheus scrape the program: alerts fire
// while the vendor refuses the credentials, and resolve when it accepts them.
func TestPrometheusAlerts(t *testing.T) {
	t.Parallel()
	sim := startVendors(t, smallCounts, smallTenant())
	p := newPlace(t).with(sim)
	p.env["COLLECTORS"], p.env["SCHEDULE"], p.env["HTTP_TOKEN"] = "tenable", "@every 1h", "a-token-of-the-test"
	trouble := refuse(sim)
	s := p.serve()
	url := s.address()
	prom := prometheus(t, strings.TrimPrefix(url, "http://"))
	expected := []string{"CollectordCredentialsRefused tenable_assets", "CollectordRunFailing tenable_assets", "CollectordDataLate tenable_assets"}
	s.untilAlerts(prom, "while the vendor refuses", func(firing string) bool {
		for _, alert := range expected {
			if !strings.Contains(firing, alert) {
				return false
			}
		}
		return !strings.Contains(firing, "CollectordDown")
	})
	trouble.Remove()
	if status, body := s.ask("POST", url+"/api/v1/collectors/tenable/run", "a-token-of-the-test"); status != 202 {
		t.Fatalf("%d %s", status, body)
	}
	s.untilAlerts(prom, "when it accepts", func(firing string) bool { return firing == "" })
	s.signal(syscall.SIGTERM)
	p.want(s.ended(), 0)
	s.untilAlerts(prom, "when it has ended", func(firing string) bool { return firing == "CollectordDown" })
}
