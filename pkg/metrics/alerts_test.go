package metrics

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var deploy = filepath.Join("..", "..", "deploy")

// TestAlerts runs the tests of the alert rules with promtool, and checks that each alert has a
// test in which it fires and one in which it resolves.
func TestAlerts(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"alerts", "alerts-timer"} {
		runPromtool(t, filepath.Join(deploy, "prometheus"), "check", "rules", name+".yml")
		runPromtool(t, filepath.Join(deploy, "prometheus"), "test", "rules", name+"_test.yml")
		rules, tests := readDeployFile(t, "prometheus/"+name+".yml"), readDeployFile(t, "prometheus/"+name+"_test.yml")
		for _, m := range regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(rules, -1) {
			if strings.Count(tests, "alertname: "+m[1]+"\n") < 2 {
				t.Errorf("%s: no test in which %s fires and resolves", name, m[1])
			}
		}
	}
}

// runPromtool runs promtool in a directory. It fails the test when promtool does.
func runPromtool(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "promtool", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %v: %v; if it is missing, run: make test-servers\n%s", args, err, out)
	}
}

// TestUsedMetricsExist checks that the alerts and the dashboard use metrics that exist.
func TestUsedMetricsExist(t *testing.T) {
	t.Parallel()
	published := map[string]bool{}
	for _, d := range definitions {
		published[d.name] = true
	}
	for _, name := range []string{
		"prometheus/alerts.yml", "prometheus/alerts_test.yml", "prometheus/alerts-timer.yml", "prometheus/alerts-timer_test.yml", "grafana/collectord.json",
	} {
		used := regexp.MustCompile(`\bcollectord_\w+`).FindAllString(readDeployFile(t, name), -1)
		if len(used) < 10 {
			t.Errorf("%s uses only %d metrics", name, len(used))
		}
		for _, metric := range used {
			if !published[metric] {
				t.Errorf("%s uses %s, which is not published", name, metric)
			}
		}
	}
}

// TestDocumentedMetricsExist checks that the metrics that the documents name exist.
func TestDocumentedMetricsExist(t *testing.T) {
	t.Parallel()
	documents, err := filepath.Glob(filepath.Join(deploy, "..", "docs", "*", "*.md"))
	if err != nil || len(documents) < 10 {
		t.Fatalf("%d documents: %v", len(documents), err)
	}
	for _, path := range documents {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("`(collectord_\\w+)").FindAllStringSubmatch(string(text), -1) {
			if !slices.ContainsFunc(definitions, func(d *definition) bool { return d.name == m[1] }) {
				t.Errorf("%s names %s, which is not published", path, m[1])
			}
		}
	}
}

// readDeployFile returns the text of a file below deploy.
func readDeployFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deploy, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
