package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/collectord/collectord/test/checkout"
)

// TestVulnerabilitiesAreFound runs the check of make lint with other databases: a
// vulnerability and an invalid database make it fail, an unreachable one is reported.
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
	for _, tc := range []struct {
		setting string
		fails   bool
		want    string
	}{
		{
			setting: "GOVULNDB=file://" + dir,
			fails:   true,
			want:    "Your code is affected by 1 vulnerability",
		},
		{
			setting: "GOVULNDB=file://" + broken,
			fails:   true,
			want:    "invalid character",
		},
		{
			setting: "HTTPS_PROXY=http://127.0.0.1:1", // nothing listens there
			fails:   false,
			want:    "NOT CHECKED: the vulnerability database cannot be reached",
		},
	} {
		cmd := exec.CommandContext(t.Context(), checkout.Join(t, "tools", "vulnerabilities.sh"), "./pkg/calendar")
		cmd.Env = append(os.Environ(), "GOVULNDB=", tc.setting)
		out, err := cmd.CombinedOutput()
		if (err != nil) != tc.fails || !strings.Contains(string(out), tc.want) {
			t.Errorf("%s: %v:\n%s", tc.setting, err, out)
		}
	}
}
