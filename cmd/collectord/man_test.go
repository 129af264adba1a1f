package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/collectord/collectord/pkg/config"
)

// TestManual has all pages written, and rendered as man does.
func TestManual(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.env["SOURCE_DATE_EPOCH"] = "1767225600"
	dir := p.file("man")
	p.want(p.run("man", dir), exitFailed, dir, "no such file")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	p.want(p.run("man", dir), 0)
	want := []string{"collectord.1", "collectord.env.5"}
	for _, c := range rootCommand(&app{}).Commands() {
		if c.IsAvailableCommand() {
			want = append(want, "collectord-"+c.Name()+".1")
		}
	}
	for _, name := range want {
		if text := p.rendered(filepath.Join(dir, name)); !strings.Contains(text, "Jan 2026") || !strings.Contains(text, "NAME\n") {
			t.Errorf("%s:\n%s", name, text)
		}
	}
	first := p.rendered(filepath.Join(dir, "collectord.1"))
	first = strings.Join(strings.Fields(first), " ") // lines are filled as they fit
	for _, text := range []string{"EXIT STATUS", "SIGNALS", "78 The settings are wrong", "query Answer SQL", "collectord.env(5)"} {
		if !strings.Contains(first, text) {
			t.Errorf("collectord(1) does not say %q:\n%s", text, first)
		}
	}
	// Whatever the reference lists has its entry.
	settings := p.rendered(filepath.Join(dir, "collectord.env.5"))
	names := 0
	for line := range strings.Lines(config.Reference(new(config.Settings), allSections()...)) {
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
		t.Errorf("the reference has %d settings", names)
	}
	p.env["SOURCE_DATE_EPOCH"] = "yesterday"
	p.want(p.run("man", dir), exitSettings, "SOURCE_DATE_EPOCH")
	p.want(p.run("man"), exitUsage, "one folder")
}

// rendered is a page as text. What groff doubts fails the test.
func (p *place) rendered(path string) string {
	p.Helper()
	cmd := exec.CommandContext(p.Context(), "groff", "-man", "-Tutf8", "-P-cbou", "-ww", path)
	var doubts strings.Builder
	cmd.Stderr = &doubts
	text, err := cmd.Output()
	if err != nil || doubts.Len() > 0 {
		p.Fatalf("groff %s: %v %s(make test-servers installs groff)", path, err, doubts.String())
	}
	return string(text)
}
