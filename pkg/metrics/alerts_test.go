package metrics_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/collectord/collectord/pkg/metrics"
)

var deploy = filepath.Join("..", "..", "deploy")

// TestAlerts has promtool run the rules' own tests, each of which sees its
// alert fire and resolve.
func TestAlerts(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Fatal("promtool is missing; run: make test-servers")
	}
	for _, args := range [][]string{{"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"}} {
		cmd := exec.CommandContext(t.Context(), "promtool", args...)
		cmd.Dir = filepath.Join(deploy, "prometheus")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
	rules, tests := content(t, "prometheus/alerts.yml"), content(t, "prometheus/alerts_test.yml")
	for _, m := range regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(rules, -1) {
		if strings.Count(tests, "alertname: "+m[1]+"\n") < 2 {
			t.Errorf("%s is not seen to fire and to resolve", m[1])
		}
	}
}

// TestUsedMetricsExist holds alerts and dashboard against what is published.
func TestUsedMetricsExist(t *testing.T) {
	t.Parallel()
	if !json.Valid([]byte(content(t, "grafana/collectord.json"))) {
		t.Error("the dashboard is not JSON")
	}
	published := map[string]bool{}
	for _, m := range metrics.Own {
		published[m.Name] = true
	}
	for _, name := range []string{"prometheus/alerts.yml", "prometheus/alerts_test.yml", "grafana/collectord.json"} {
		used := regexp.MustCompile(`\bcollectord_\w+`).FindAllString(content(t, name), -1)
		if len(used) < 10 {
			t.Errorf("%s uses only %d metrics", name, len(used))
		}
		for _, u := range used {
			if !published[u] {
				t.Errorf("%s uses %s, which is not published", name, u)
			}
		}
	}
}

// TestDocumentedMetricsExist holds the documents against what is published.
func TestDocumentedMetricsExist(t *testing.T) {
	t.Parallel()
	documents, err := filepath.Glob(filepath.Join(deploy, "..", "docs", "*.md"))
	if err != nil || len(documents) < 10 {
		t.Fatalf("%d documents: %v", len(documents), err)
	}
	for _, path := range documents {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("`(collectord_\\w+)").FindAllStringSubmatch(string(text), -1) {
			if !slices.ContainsFunc(metrics.Own, func(one *metrics.Metric) bool { return one.Name == m[1] }) {
				t.Errorf("%s names %s, which is not published", path, m[1])
			}
		}
	}
}

func content(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deploy, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
