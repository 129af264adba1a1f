package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/collectord/collectord/internal/vendorsim"
)

// TestNamedTestsExist holds docs/reliability.md against the tests.
func TestNamedTestsExist(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "reliability.md"))
	if err != nil {
		t.Fatal(err)
	}
	code, err := exec.CommandContext(t.Context(), "grep", "-rhoE", "^func Test[A-Za-z0-9_]+", "--include=*_test.go", filepath.Join("..", "..")).Output()
	if err != nil {
		t.Fatal(err)
	}
	exists := map[string]bool{}
	for line := range strings.Lines(string(code)) {
		exists[strings.TrimPrefix(strings.TrimSpace(line), "func ")] = true
	}
	named := regexp.MustCompile("`(Test[A-Za-z0-9_]+)`").FindAllStringSubmatch(string(text), -1)
	if len(named) < 20 {
		t.Errorf("only %d tests are named", len(named))
	}
	for _, m := range named {
		if !exists[m[1]] {
			t.Errorf("docs/reliability.md names %s, which does not exist", m[1])
		}
	}
	rows := regexp.MustCompile(`(?m)^\| (\d+) \|.*\| ([^|]*) \|$`).FindAllStringSubmatch(string(text), -1)
	if len(rows) != 8+48 {
		t.Errorf("%d rows, want 8 faults and a matrix of 48", len(rows))
	}
	for _, row := range rows {
		held := regexp.MustCompile("`Test[A-Za-z0-9_]+`|^No test: .+").MatchString(row[2])
		if !held {
			t.Errorf("row %s of docs/reliability.md has neither a test nor a reason: %q", row[1], row[2])
		}
	}
}

// TestLinksLeadSomewhere checks the links between the documents.
func TestLinksLeadSomewhere(t *testing.T) {
	root := filepath.Join("..", "..")
	documents, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`\]\(([^)#]+)(#[^)]*)?\)`)
	for _, document := range append(documents, filepath.Join(root, "README.md")) {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllSubmatch(text, -1) {
			target := string(m[1])
			if strings.Contains(target, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(document), target)); err != nil {
				t.Errorf("%s links to %s: %v", document, target, err)
			}
		}
	}
}

// TestNothingReadsTheLocalFile: what somebody does to a stored file goes
// nowhere else, and the next run puts it right.
func TestNothingReadsTheLocalFile(t *testing.T) {
	t.Parallel()
	sim := startVendors(t, smallCounts, smallTenant())
	p := newPlace(t).with(sim)
	p.want(p.run("--once", "tenable_assets"), 0)
	good := p.files(p.file("state", "snapshots"))
	if err := os.WriteFile(p.source("tenable_assets"), []byte("<html>half"), 0o600); err != nil {
		t.Fatal(err)
	}
	fault := sim.Hosts()[0].Inject(vendorsim.Fault{Path: "/assets/export", Method: "POST", Times: vendorsim.Forever, Do: vendorsim.Status(403, `{"error":"Forbidden"}`)})
	p.want(p.run("--once", "tenable_assets"), 3, "Basic [16]")
	for path, content := range p.files(p.file("state", "snapshots")) {
		if good[path] != content {
			t.Errorf("%s has changed", path)
		}
	}
	fault.Remove()
	p.want(p.run("--once", "tenable_assets"), 0)
	if n := len(p.stored("tenable_assets")); n != smallCounts[vendorsim.TenableAssets] {
		t.Errorf("%d records stored", n)
	}
}

// TestExampleSettings loads the example environments.
func TestExampleSettings(t *testing.T) {
	examples, err := filepath.Glob(filepath.Join("..", "..", "configs", "*.env"))
	if err != nil || len(examples) == 0 {
		t.Fatalf("%v, %v", examples, err)
	}
	for _, example := range examples {
		text, err := os.ReadFile(example)
		if err != nil || bytes.Contains(text, []byte("\r")) {
			t.Fatalf("%s: %v", example, err)
		}
		p := newPlace(t)
		p.env = map[string]string{}
		// As its user would, readable for nobody else.
		if err := os.WriteFile(filepath.Join(p.dir, ".env"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		p.want(p.run("check"), 0, "settings are good")
	}
}
