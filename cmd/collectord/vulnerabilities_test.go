package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestVulnerabilitiesAreFound gives the check of make lint a database of its
// own: a finding fails it, a database that is not there is said to be so,
// and one that is broken fails it, too.
func TestVulnerabilitiesAreFound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"index/db.json":      `{"modified":"2026-01-01T00:00:00Z"}`,
		"index/modules.json": `[{"path":"github.com/robfig/cron/v3","vulns":[{"id":"GO-2026-0001","modified":"2026-01-01T00:00:00Z"}]}]`,
		"index/vulns.json":   `[{"id":"GO-2026-0001","modified":"2026-01-01T00:00:00Z"}]`,
		"ID/GO-2026-0001.json": `{"schema_version":"1.3.1","id":"GO-2026-0001","modified":"2026-01-01T00:00:00Z","published":"2026-01-01T00:00:00Z",
			"summary":"made up for a test","affected":[{"package":{"name":"github.com/robfig/cron/v3","ecosystem":"Go"},
			"ranges":[{"type":"SEMVER","events":[{"introduced":"0"}]}],"ecosystem_specific":{"imports":[{"path":"github.com/robfig/cron/v3"}]}}],
			"database_specific":{"url":"https://pkg.go.dev/vuln/GO-2026-0001"}}`,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	broken := t.TempDir()
	if err := os.MkdirAll(filepath.Join(broken, "index"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(broken, "index", "modules.json"), []byte("nonsense"), 0o644); err != nil {
		t.Fatal(err)
	}
	const nobody = "HTTPS_PROXY=http://127.0.0.1:1" // listens there
	for setting, want := range map[string]struct {
		fails bool
		says  string
	}{
		"GOVULNDB=file://" + dir:    {true, "Your code is affected by 1 vulnerability"},
		"GOVULNDB=file://" + broken: {true, "invalid character"},
		nobody:                      {false, "NOT CHECKED: the vulnerability database cannot be reached"},
	} {
		cmd := exec.CommandContext(t.Context(), filepath.Join(checkout, "tools", "vulnerabilities.sh"), "./pkg/calendar")
		cmd.Env = append(os.Environ(), "GOVULNDB=", setting)
		out, err := cmd.CombinedOutput()
		if (err != nil) != want.fails || !strings.Contains(string(out), want.says) {
			t.Errorf("%s: %v:\n%s", setting, err, out)
		}
	}
}
