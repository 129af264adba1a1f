package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/sources"
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

// TestLinksLeadSomewhere checks the links of every document: the files and
// images that they name, and the headings.
func TestLinksLeadSomewhere(t *testing.T) {
	found := 0
	for _, m := range markdowns(t) {
		for n, line := range m.prose {
			for _, link := range linkTarget.FindAllStringSubmatch(codeSpan.ReplaceAllString(line, "`"), -1) {
				if strings.Contains(link[1], "://") || strings.HasPrefix(link[1], "mailto:") {
					continue
				}
				found++
				if err := m.leads(t, link[1]); err != nil {
					t.Errorf("%s:%d links to %s: %v", m.path, n+1, link[1], err)
				}
			}
		}
	}
	if found < 50 {
		t.Errorf("only %d links were found", found)
	}
}

// leads tells why a link of the document leads nowhere.
func (m *markdown) leads(t *testing.T, link string) error {
	name, anchor, _ := strings.Cut(link, "#")
	target := m.path
	if name != "" {
		target = path.Join(path.Dir(m.path), name)
	}
	if _, err := os.Stat(filepath.Join(checkout, filepath.FromSlash(target))); err != nil {
		return err
	}
	if anchor == "" {
		return nil
	}
	if !strings.HasSuffix(target, ".md") {
		return errors.New("only documents have headings")
	}
	if !documentOf(t, target).anchors()[anchor] {
		return fmt.Errorf("%s has no heading %q", target, anchor)
	}
	return nil
}

// TestNamedFilesExist holds the files and the targets of make that documents
// name against those that are there.
func TestNamedFilesExist(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(checkout, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	ours := regexp.MustCompile(`^(cmd|configs|deploy|docs|internal|pkg|tools|\.ci)/[\w./*@-]*$`)
	target := regexp.MustCompile(`(?m)^make ([a-z][a-z-]*)`)
	hasTarget := func(name string) bool { return strings.Contains(string(makefile), "\n"+name+":") }
	files := 0
	for _, m := range markdowns(t) {
		for _, b := range m.ofKind("sh") {
			for _, name := range target.FindAllStringSubmatch(b.text, -1) {
				if !hasTarget(name[1]) {
					t.Errorf("%s: the block at line %d names `make %s`, which the Makefile does not have", m.path, b.line, name[1])
				}
			}
		}
		m.spans(func(line int, text string) {
			if ours.MatchString(text) {
				files++
				if found, err := filepath.Glob(filepath.Join(checkout, filepath.FromSlash(text))); err != nil || len(found) == 0 {
					t.Errorf("%s:%d names %s, which does not exist", m.path, line, text)
				}
			}
			if name := target.FindStringSubmatch(text); name != nil && name[0] == text && !hasTarget(name[1]) {
				t.Errorf("%s:%d names `make %s`, which the Makefile does not have", m.path, line, name[1])
			}
		})
	}
	if files < 20 {
		t.Errorf("only %d files are named", files)
	}
}

// TestNamedSettingsExist holds the variables of collectord that documents name
// against the settings.
func TestNamedSettingsExist(t *testing.T) {
	reference := settingsReference()
	variable := regexp.MustCompile(`^([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*)(=.*)?$`)
	ours := regexp.MustCompile(`^(STORE|SCHEDULE|RESTORE|RUN|GUARD|STATE|HTTP|METRICS|SHUTDOWN|NOTIFY|SLACK|FALCON|KNOWBE4|OKTA|SNYK|TIO)(_|$)`)
	others := []string{"STATE_DIRECTORY", "STORE_AWS_S3_HISTORY", "STORE_AWS_S3_WEB"}
	found := 0
	for _, m := range markdowns(t) {
		m.spans(func(line int, text string) {
			name := variable.FindStringSubmatch(strings.TrimPrefix(text, "$"))
			if name == nil || !ours.MatchString(name[1]) || slices.Contains(others, name[1]) {
				return
			}
			found++
			if !strings.Contains(reference, "`"+strings.TrimSuffix(name[1], "_FILE")+"`") && !strings.Contains(reference, "`"+name[1]+"`") {
				t.Errorf("%s:%d names %s, which is no setting", m.path, line, name[1])
			}
		})
	}
	if found < 150 {
		t.Errorf("only %d settings are named", found)
	}
}

// TestRightsOfTheKeys holds the rights in docs/security.md against what the
// collectors say that they need.
func TestRightsOfTheKeys(t *testing.T) {
	rows := documentOf(t, "docs/security.md").rows("Rights of the keys")
	all := sources.All()
	if len(rows) != len(all) {
		t.Errorf("%d rows for %d collectors", len(rows), len(all))
	}
	for _, row := range rows {
		n := slices.IndexFunc(all, func(s collector.Source) bool { return strings.Contains(s.Title, row[0]) })
		if n < 0 {
			t.Errorf("no collector is titled %s", row[0])
			continue
		}
		rights := regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1)
		for _, right := range rights {
			if !strings.Contains(all[n].Permissions, right[1]) {
				t.Errorf("%s: docs/security.md wants %q, the collector %q", row[0], right[1], all[n].Permissions)
			}
		}
		if len(rights) == 0 {
			t.Errorf("%s: no right is named", row[0])
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
