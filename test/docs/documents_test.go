package docs_test

import (
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

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/sources"
	"github.com/collectord/collectord/test/checkout"
	"github.com/collectord/collectord/test/markdown"
)

// TestNamedTestsExist checks that the tests that docs/internals/reliability.md names exist. Those
// of package statetest are subtests: their functions begin with a small letter.
func TestNamedTestsExist(t *testing.T) {
	text, err := os.ReadFile(checkout.Join(t, "docs", "internals", "reliability.md"))
	if err != nil {
		t.Fatal(err)
	}
	code, err := exec.CommandContext(t.Context(), "grep", "-rhoE", "^func [Tt]est[A-Z][A-Za-z0-9_]+\\(t \\*testing\\.T", "--include=*.go", checkout.Join(t)).Output()
	if err != nil {
		t.Fatal(err)
	}
	exists := map[string]bool{}
	for line := range strings.Lines(string(code)) {
		name, _, _ := strings.Cut(strings.TrimPrefix(line, "func "), "(")
		exists["T"+name[1:]] = true
	}
	named := regexp.MustCompile("`(Test[A-Za-z0-9_]+)`").FindAllStringSubmatch(string(text), -1)
	if len(named) < 20 {
		t.Errorf("only %d tests are named", len(named))
	}
	for _, m := range named {
		if !exists[m[1]] {
			t.Errorf("docs/internals/reliability.md names %s, which does not exist", m[1])
		}
	}
	rows := regexp.MustCompile(`(?m)^\| (\d+) \|.*\| ([^|]*) \|$`).FindAllStringSubmatch(string(text), -1)
	if len(rows) != 8+54 {
		t.Errorf("%d rows, want 8 faults and a matrix of 54", len(rows))
	}
	for _, row := range rows {
		valid := regexp.MustCompile("`Test[A-Za-z0-9_]+`|^No test: .+").MatchString(row[2])
		if !valid {
			t.Errorf("row %s of docs/internals/reliability.md has neither a test nor a reason: %q", row[1], row[2])
		}
	}
}

// TestLinksLeadSomewhere checks the links of every document: files, images and headings
// must exist.
func TestLinksLeadSomewhere(t *testing.T) {
	found := 0
	for _, m := range markdown.ReadAll(t) {
		for n, line := range m.Prose {
			for _, link := range markdown.LinkTarget.FindAllStringSubmatch(markdown.CodeSpan.ReplaceAllString(line, "`"), -1) {
				if strings.Contains(link[1], "://") || strings.HasPrefix(link[1], "mailto:") {
					continue
				}
				found++
				if err := followLink(t, m, link[1]); err != nil {
					t.Errorf("%s:%d links to %s: %v", m.Path, n+1, link[1], err)
				}
			}
		}
	}
	if found < 50 {
		t.Errorf("only %d links were found", found)
	}
}

// followLink returns an error when a link of the document leads nowhere.
func followLink(t *testing.T, m *markdown.Document, link string) error {
	name, anchor, _ := strings.Cut(link, "#")
	target := m.Path
	if name != "" {
		target = path.Join(path.Dir(m.Path), name)
	}
	if _, err := os.Stat(checkout.Join(t, target)); err != nil {
		return err
	}
	if anchor == "" {
		return nil
	}
	if !strings.HasSuffix(target, ".md") {
		return errors.New("only documents have headings")
	}
	if !markdown.Read(t, target).Anchors()[anchor] {
		return fmt.Errorf("%s has no heading %q", target, anchor)
	}
	return nil
}

// TestNamedFilesExist checks that the files and the targets of make that documents name
// exist.
func TestNamedFilesExist(t *testing.T) {
	makefile, err := os.ReadFile(checkout.Join(t, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	ours := regexp.MustCompile(`^(cmd|configs|deploy|docs|internal|pkg|test|tools|\.ci)/[\w./*@-]*$`)
	target := regexp.MustCompile(`(?m)^make ([a-z][a-z-]*)`)
	hasTarget := func(name string) bool { return strings.Contains(string(makefile), "\n"+name+":") }
	files := 0
	for _, m := range markdown.ReadAll(t) {
		for _, b := range m.BlocksOfKind("sh") {
			for _, name := range target.FindAllStringSubmatch(b.Text, -1) {
				if !hasTarget(name[1]) {
					t.Errorf("%s: the block at line %d names `make %s`, which the Makefile does not have", m.Path, b.Line, name[1])
				}
			}
		}
		m.EachCodeSpan(func(line int, text string) {
			if ours.MatchString(text) {
				files++
				if found, err := filepath.Glob(checkout.Join(t, text)); err != nil || len(found) == 0 {
					t.Errorf("%s:%d names %s, which does not exist", m.Path, line, text)
				}
			}
			if name := target.FindStringSubmatch(text); name != nil && name[0] == text && !hasTarget(name[1]) {
				t.Errorf("%s:%d names `make %s`, which the Makefile does not have", m.Path, line, name[1])
			}
		})
	}
	if files < 20 {
		t.Errorf("only %d files are named", files)
	}
}

// TestNamedSettingsExist checks that the variables of collectord that documents name are
// settings.
func TestNamedSettingsExist(t *testing.T) {
	reference := settingsReference()
	variable := regexp.MustCompile(`^([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*)(=.*)?$`)
	ours := regexp.MustCompile(`^(STORE|SCHEDULE|RESTORE|RUN|GUARD|STATE|HTTP|METRICS|SHUTDOWN|NOTIFY|SLACK|FALCON|KNOWBE4|OKTA|SNYK|TIO|AZURE|INTUNE|MDE)(_|$)`)
	others := []string{"STATE_DIRECTORY", "STORE_AWS_S3_HISTORY", "STORE_AWS_S3_WEB"}
	found := 0
	for _, m := range markdown.ReadAll(t) {
		m.EachCodeSpan(func(line int, text string) {
			name := variable.FindStringSubmatch(strings.TrimPrefix(text, "$"))
			if name == nil || !ours.MatchString(name[1]) || slices.Contains(others, name[1]) {
				return
			}
			found++
			if !strings.Contains(reference, "`"+strings.TrimSuffix(name[1], "_FILE")+"`") && !strings.Contains(reference, "`"+name[1]+"`") {
				t.Errorf("%s:%d names %s, which is not a setting", m.Path, line, name[1])
			}
		})
	}
	if found < 150 {
		t.Errorf("only %d settings are named", found)
	}
}

// TestRightsOfTheKeys compares the permissions in docs/guide/security.md with those that
// the definitions of the collectors list.
func TestRightsOfTheKeys(t *testing.T) {
	rows := markdown.Read(t, "docs/guide/security.md").Rows("Rights of the keys")
	all := slices.DeleteFunc(sources.All(), func(d collector.Definition) bool { return d.IsPublic })
	if len(rows) != len(all) {
		t.Errorf("%d rows for %d collectors", len(rows), len(all))
	}
	for _, row := range rows {
		n := slices.IndexFunc(all, func(s collector.Definition) bool { return strings.Contains(s.Title, row[0]) })
		if n < 0 {
			t.Errorf("no collector is titled %s", row[0])
			continue
		}
		rights := regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1)
		for _, right := range rights {
			if !strings.Contains(all[n].Permissions, right[1]) {
				t.Errorf("%s: docs/guide/security.md lists %q, the collector %q", row[0], right[1], all[n].Permissions)
			}
		}
		if len(rights) == 0 {
			t.Errorf("%s: no right is named", row[0])
		}
	}
}
