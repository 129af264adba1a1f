package main

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/collectord/collectord"

// layers names, for each package, the packages of this module that it may
// import. docs/architecture.md draws the same.
var layers = map[string][]string{
	"cmd/collectord":        {"pkg/calendar", "pkg/config", "pkg/collector", "pkg/collector/sources", "pkg/snapshot", "pkg/store", "pkg/state", "pkg/backup", "pkg/schedule", "pkg/web", "pkg/query", "pkg/metrics", "pkg/notify", "pkg/doctor"},
	"pkg/calendar":          {},
	"pkg/config":            {"pkg/calendar"},
	"pkg/collector":         {},
	"pkg/collector/rest":    {"pkg/collector"},
	"pkg/collector/sources": {"pkg/collector", "pkg/collector/rest", "pkg/config"},
	"pkg/snapshot":          {"internal/duckdb"},
	"pkg/store":             {"pkg/snapshot", "internal/duckdb"},
	"pkg/state":             {"pkg/snapshot"},
	"pkg/backup":            {"pkg/snapshot", "pkg/state", "pkg/store"},
	"pkg/schedule":          {"pkg/calendar", "pkg/collector", "pkg/snapshot", "pkg/state", "pkg/store"},
	"pkg/web":               {"pkg/schedule", "pkg/state", "pkg/query"},
	"pkg/query":             {"pkg/state", "pkg/snapshot", "internal/duckdb"},
	"pkg/metrics":           {"pkg/backup", "pkg/collector", "pkg/schedule", "pkg/state", "pkg/web"},
	"pkg/notify":            {"pkg/collector", "pkg/schedule", "pkg/state"},
	"pkg/doctor":            {},
	"internal/duckdb":       {},
	"internal/faultproxy":   {},
	"internal/testserver":   {},
	"internal/vendorsim":    {},
	"internal/demo":         {"internal/vendorsim", "internal/duckdb"},
	"internal/bench":        {"internal/duckdb", "internal/testserver", "internal/vendorsim", "pkg/collector", "pkg/collector/sources", "pkg/snapshot", "pkg/store"},
	"internal/soak":         {"internal/duckdb", "internal/faultproxy", "internal/testserver", "internal/vendorsim", "pkg/snapshot", "pkg/state"},
}

// imports are the arrows that are there: for each package those of this module
// that it imports. Programs for use by hand belong to the package whose folder
// they are in.
func imports(t *testing.T) map[string][]string {
	t.Helper()
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	arrows := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		from := strings.TrimPrefix(words[0], module+"/")
		owner := from
		for owner != "" && layers[owner] == nil {
			owner = owner[:max(0, strings.LastIndexByte(owner, '/'))]
		}
		if owner == "" {
			t.Errorf("%s has no place in the architecture: give it one in layers and in docs/architecture.md", from)
			continue
		}
		if arrows[owner] == nil {
			arrows[owner] = []string{}
		}
		for _, to := range words[1:] {
			to, ours := strings.CutPrefix(to, module+"/")
			if ours && to != owner && !slices.Contains(arrows[owner], to) {
				arrows[owner] = append(arrows[owner], to)
			}
		}
		slices.Sort(arrows[owner])
	}
	return arrows
}

// TestImportsPointOneWay holds the line between the parts.
func TestImportsPointOneWay(t *testing.T) {
	arrows := imports(t)
	for from, to := range arrows {
		for _, to := range to {
			if !slices.Contains(layers[from], to) {
				t.Errorf("%s imports %s: the architecture lets it import only %v", from, to, layers[from])
			}
		}
	}
	for name, may := range layers {
		if _, exists := arrows[name]; !exists {
			t.Errorf("the architecture has a place for %s, which does not exist", name)
		}
		for _, to := range may {
			if !slices.Contains(arrows[name], to) {
				t.Errorf("the architecture lets %s import %s, which it does not", name, to)
			}
		}
	}
}

// TestArchitectureTable holds the table of docs/architecture.md against the
// imports.
func TestArchitectureTable(t *testing.T) {
	arrows := imports(t)
	rows := documentOf(t, "docs/architecture.md").rows("Rooms")
	place := map[string]int{}
	for n, row := range rows {
		place[strings.Trim(row[0], "`")] = n
	}
	if len(rows) != len(arrows) {
		t.Errorf("the table has %d rows for %d packages", len(rows), len(arrows))
	}
	for from, to := range arrows {
		n, there := place[from]
		if !there {
			t.Errorf("docs/architecture.md has no row for %s", from)
			continue
		}
		if told := tableImports(rows[n][2], from, arrows); !slices.Equal(told, to) {
			t.Errorf("docs/architecture.md says that %s imports %v, it imports %v", from, told, to)
		}
	}
}

// tableImports reads the third cell of the table's row for from.
func tableImports(cell, from string, arrows map[string][]string) (names []string) {
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cell, -1) {
		for name := range arrows {
			if m[1] == name || m[1] == path.Base(name) && !strings.Contains(m[1], "/") {
				names = append(names, name)
			}
		}
	}
	if cell == "all" {
		for name := range arrows {
			if strings.HasPrefix(name, "pkg/") && slices.Contains(arrows[from], name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// TestGeneratedArchitecture holds the diagram of docs/architecture.md against
// the imports. An arrow that others imply is left out.
func TestGeneratedArchitecture(t *testing.T) {
	const begin, end = "<!-- Drawn from the imports by \"make docs\"; do not edit. -->\n", "<!-- End of the drawing. -->\n"
	file := filepath.Join(checkout, "docs", "architecture.md")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatal("docs/architecture.md has no place for the drawing")
	}
	want := before + begin + drawing(imports(t)) + end + after
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("the drawing in docs/architecture.md is not what is imported (-code +document); run `make docs`:\n%s", diff)
	}
}

// drawing is the program's packages as a Mermaid diagram.
func drawing(arrows map[string][]string) string {
	var b strings.Builder
	b.WriteString("```mermaid\nflowchart TD\n")
	short := func(name string) string { return strings.TrimPrefix(strings.TrimPrefix(name, "pkg/"), "cmd/") }
	for _, from := range slices.Sorted(maps.Keys(arrows)) {
		if strings.HasPrefix(from, "internal/") {
			continue // tools for tests, and DuckDB at the bottom
		}
		for _, to := range arrows[from] {
			implied := slices.ContainsFunc(arrows[from], func(by string) bool { return by != to && reaches(arrows, by, to) })
			if !implied {
				fmt.Fprintf(&b, "    %s --> %s\n", short(from), short(to))
			}
		}
	}
	b.WriteString("```\n")
	return b.String()
}

// reaches tells whether arrows lead from one package to another.
func reaches(arrows map[string][]string, from, to string) bool {
	return slices.ContainsFunc(arrows[from], func(next string) bool { return next == to || reaches(arrows, next, to) })
}
