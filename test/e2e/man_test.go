package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/collectord/collectord/pkg/collector/sources"
	"github.com/collectord/collectord/pkg/config"
	"github.com/collectord/collectord/pkg/store/sinks"
	"github.com/collectord/collectord/test/harness"
)

// TestManual writes all pages and renders them as man does.
func TestManual(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t)
	ws.Env["SOURCE_DATE_EPOCH"] = "1767225600"
	dir := ws.Path("man")
	ws.AssertResult(ws.Run("man", dir), harness.ExitFailed, dir, "no such file")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	ws.AssertResult(ws.Run("man", dir), harness.ExitOK)
	want := []string{"collectord.1", "collectord.env.5"}
	for _, name := range commandNames(ws) {
		want = append(want, "collectord-"+name+".1")
	}
	for _, name := range want {
		if text := renderManPage(ws, filepath.Join(dir, name)); !strings.Contains(text, "Jan 2026") || !strings.Contains(text, "NAME\n") {
			t.Errorf("%s:\n%s", name, text)
		}
	}
	first := renderManPage(ws, filepath.Join(dir, "collectord.1"))
	first = strings.Join(strings.Fields(first), " ") // groff fills the lines
	for _, text := range []string{"EXIT STATUS", "SIGNALS", "78 The settings are wrong", "query Run SQL", "collectord.env(5)"} {
		if !strings.Contains(first, text) {
			t.Errorf("collectord(1) does not contain %q:\n%s", text, first)
		}
	}
	// Every setting of the reference has an entry.
	settings := renderManPage(ws, filepath.Join(dir, "collectord.env.5"))
	names := 0
	for line := range strings.Lines(config.Reference(sinks.NewSettings(), sources.Sections()...)) {
		cell, row := strings.CutPrefix(line, "| `")
		name, _, _ := strings.Cut(cell, "`")
		if !row {
			continue
		}
		names++
		if !strings.Contains(settings, "\n       "+name+"\n") && !strings.Contains(settings, "\n       "+name+" ") {
			t.Errorf("collectord.env(5) lacks %s", name)
		}
	}
	if names < 50 {
		t.Errorf("the reference has only %d settings", names)
	}
	ws.Env["SOURCE_DATE_EPOCH"] = "yesterday"
	ws.AssertResult(ws.Run("man", dir), harness.ExitSettings, "SOURCE_DATE_EPOCH")
	ws.AssertResult(ws.Run("man"), harness.ExitUsage, "one directory")
}

// commandNames returns the commands that the help lists, without help itself.
func commandNames(ws *harness.Workspace) (names []string) {
	ws.Helper()
	_, list, found := strings.Cut(ws.Run("--help").Stdout, "\nAvailable Commands:\n")
	if !found {
		ws.Fatal("the help lists no commands")
	}
	list, _, _ = strings.Cut(list, "\n\n")
	for line := range strings.Lines(list) {
		if name := strings.Fields(line)[0]; name != "help" {
			names = append(names, name)
		}
	}
	if len(names) < 10 {
		ws.Fatalf("only %d commands are listed: %q", len(names), names)
	}
	return names
}

// renderManPage returns a manual page as text. A warning of groff fails the test.
func renderManPage(ws *harness.Workspace, path string) string {
	ws.Helper()
	cmd := exec.CommandContext(ws.Context(), "groff", "-man", "-Tutf8", "-P-cbou", "-ww", path)
	var warnings strings.Builder
	cmd.Stderr = &warnings
	text, err := cmd.Output()
	if err != nil || warnings.Len() > 0 {
		ws.Fatalf("groff %s: %v %s(make test-servers installs groff)", path, err, warnings.String())
	}
	return string(text)
}
