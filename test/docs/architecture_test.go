package docs_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/test/checkout"
	"github.com/collectord/collectord/test/markdown"
)

// layers lists, for each package, the packages of this module that it may import. docs/internals/architecture.md draws the same.
var layers = map[string][]string{
	"cmd/collectord":         {"pkg/calendar", "pkg/config", "pkg/collector", "pkg/collector/external", "pkg/collector/sources", "pkg/snapshot", "pkg/store", "pkg/store/file", "pkg/store/sinks", "pkg/state", "pkg/state/local", "pkg/state/shared", "pkg/backup", "pkg/cluster", "pkg/run", "pkg/delivery", "pkg/schedule", "pkg/freshness", "pkg/operation", "pkg/web", "pkg/query", "pkg/query/prompt", "pkg/control", "pkg/metrics", "pkg/notify", "pkg/doctor", "internal/listen", "internal/redact", "internal/supervise", "internal/systemd", "internal/rss", "internal/tracing"},
	"pkg/calendar":           {},
	"pkg/config":             {"internal/listen", "internal/redact", "pkg/calendar"},
	"pkg/collector":          {},
	"pkg/collector/external": {"internal/redact", "internal/supervise", "pkg/collector", "pkg/config"},
	"pkg/collector/records":  {"pkg/collector"},
	"pkg/collector/rest":     {"internal/backoff", "internal/netadvice", "internal/redact", "pkg/collector", "pkg/collector/records"},
	"pkg/collector/sources":  {"pkg/collector", "pkg/collector/records", "pkg/collector/rest", "pkg/config"},
	"pkg/snapshot":           {"internal/durable"},
	"pkg/snapshot/columns":   {"pkg/snapshot"},
	"pkg/snapshot/parquet":   {"pkg/snapshot", "pkg/snapshot/columns", "internal/duckdb"},
	"pkg/store":              {"pkg/snapshot", "pkg/snapshot/columns", "internal/durable", "internal/systemd"},
	"pkg/store/file":         {"pkg/config", "pkg/snapshot", "pkg/snapshot/parquet", "pkg/store", "internal/durable"},
	"pkg/store/duckdb":       {"pkg/config", "pkg/snapshot", "pkg/snapshot/columns", "pkg/store", "internal/duckdb", "internal/durable"},
	"pkg/store/postgres":     {"pkg/config", "pkg/snapshot", "pkg/snapshot/columns", "pkg/store"},
	"pkg/store/s3":           {"internal/backoff", "internal/netadvice", "pkg/config", "pkg/snapshot", "pkg/store"},
	"pkg/store/sinks":        {"pkg/backup", "pkg/config", "pkg/snapshot", "pkg/state", "pkg/store", "pkg/store/duckdb", "pkg/store/file", "pkg/store/postgres", "pkg/store/s3"},
	"pkg/store/storetest":    {"pkg/snapshot", "pkg/store", "internal/durable", "internal/faultproxy", "internal/testserver"},
	"pkg/cluster":            {"pkg/collector", "pkg/run", "pkg/schedule", "pkg/snapshot", "pkg/state", "pkg/state/shared"},
	"pkg/state":              {"pkg/snapshot"},
	"pkg/state/database":     {"pkg/snapshot", "pkg/state", "internal/durable"},
	"pkg/state/local":        {"pkg/snapshot", "pkg/state", "pkg/state/database", "internal/durable", "internal/systemd"},
	"pkg/state/shared":       {"pkg/snapshot", "pkg/state", "pkg/state/database", "pkg/store/postgres", "pkg/store/s3", "internal/backoff", "internal/durable"},
	"pkg/state/statetest":    {"pkg/snapshot", "pkg/state", "pkg/state/database"},
	"pkg/backup":             {"internal/backoff", "pkg/snapshot", "pkg/state", "pkg/store", "pkg/store/file", "pkg/store/s3"},
	"pkg/run":                {"pkg/collector", "pkg/snapshot", "pkg/state"},
	"pkg/delivery":           {"internal/backoff", "pkg/snapshot", "pkg/state", "pkg/store"},
	"pkg/schedule":           {"internal/backoff", "pkg/calendar", "pkg/collector", "pkg/run", "pkg/snapshot", "pkg/state"},
	"pkg/freshness":          {"pkg/collector", "pkg/run", "pkg/schedule", "pkg/snapshot", "pkg/state"},
	"pkg/operation":          {"pkg/snapshot", "pkg/state"},
	"pkg/web":                {"internal/listen", "pkg/cluster", "pkg/control", "pkg/freshness", "pkg/operation", "pkg/query", "pkg/run", "pkg/schedule", "pkg/snapshot", "pkg/state"},
	"pkg/query":              {"pkg/state", "pkg/snapshot", "pkg/snapshot/columns", "internal/duckdb", "pkg/snapshot/parquet"},
	"pkg/query/prompt":       {"pkg/query"},
	"pkg/control":            {"pkg/collector", "pkg/query", "pkg/run", "pkg/snapshot", "pkg/snapshot/columns", "pkg/state"},
	"pkg/metrics":            {"internal/systemd", "pkg/backup", "pkg/cluster", "pkg/collector", "pkg/control", "pkg/freshness", "pkg/notify", "pkg/run", "pkg/snapshot", "pkg/state"},
	"pkg/notify":             {"internal/backoff", "internal/redact", "pkg/collector", "pkg/freshness", "pkg/run", "pkg/snapshot", "pkg/state"},
	"pkg/doctor":             {"internal/listen", "internal/netadvice", "pkg/state"},
	"internal/backoff":       {},
	"internal/duckdb":        {},
	"internal/collectortest": {"internal/vendorsim", "pkg/collector", "pkg/collector/rest", "pkg/config", "pkg/run", "pkg/snapshot", "pkg/state", "pkg/state/local"},
	"internal/durable":       {},
	"internal/faultproxy":    {},
	"internal/listen":        {},
	"internal/netadvice":     {},
	"internal/redact":        {},
	"internal/testserver":    {},
	"internal/s3dialects":    {},
	"internal/supervise":     {},
	"internal/systemd":       {},
	"internal/rss":           {},
	"internal/tracing":       {},
	"internal/vendorsim":     {},
	"test":                   {"internal/duckdb", "internal/testserver", "internal/vendorsim"},
	"internal/demo":          {"internal/vendorsim", "internal/duckdb"},
	"internal/bench":         {"internal/duckdb", "internal/testserver", "internal/vendorsim", "pkg/collector", "pkg/collector/sources", "pkg/snapshot", "pkg/state", "pkg/state/local", "pkg/backup", "pkg/store", "pkg/store/duckdb", "pkg/store/file", "pkg/store/postgres", "pkg/store/s3"},
	"internal/soak":          {"internal/duckdb", "internal/faultproxy", "internal/testserver", "internal/vendorsim", "pkg/snapshot", "pkg/state", "pkg/state/local"},
}

// layerOf returns the package of layers that a package belongs to: the package itself,
// or the nearest one above it; "" when there is none. Programs for use by hand belong
// to the package in whose directory they are.
func layerOf(name string) string {
	for name != "" && layers[name] == nil {
		name = name[:max(0, strings.LastIndexByte(name, '/'))]
	}
	return name
}

// readImports returns, for each package of layers, the packages of this module that it
// imports.
func readImports(t *testing.T) map[string][]string {
	t.Helper()
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, checkout.Module+"/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	arrows := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		from := strings.TrimPrefix(words[0], checkout.Module+"/")
		owner := layerOf(from)
		if owner == "" {
			t.Errorf("%s is not part of the architecture: add it to layers and to docs/internals/architecture.md", from)
			continue
		}
		if arrows[owner] == nil {
			arrows[owner] = []string{}
		}
		for _, to := range words[1:] {
			to, ours := strings.CutPrefix(to, checkout.Module+"/")
			if ours && layerOf(to) != owner && !slices.Contains(arrows[owner], to) {
				arrows[owner] = append(arrows[owner], to)
			}
		}
		slices.Sort(arrows[owner])
	}
	return arrows
}

// TestImportsPointOneWay checks that each package imports what layers allows, and all
// of that.
func TestImportsPointOneWay(t *testing.T) {
	arrows := readImports(t)
	for from, to := range arrows {
		for _, to := range to {
			if !slices.Contains(layers[from], to) {
				t.Errorf("%s imports %s: the architecture lets it import only %v", from, to, layers[from])
			}
		}
	}
	for name, may := range layers {
		if _, exists := arrows[name]; !exists {
			t.Errorf("the architecture has the package %s, which does not exist", name)
		}
		for _, to := range may {
			if !slices.Contains(arrows[name], to) {
				t.Errorf("the architecture lets %s import %s, which it does not", name, to)
			}
		}
	}
}

// TestArchitectureTable compares the table of docs/internals/architecture.md with the
// imports.
func TestArchitectureTable(t *testing.T) {
	arrows := readImports(t)
	rows := markdown.Read(t, "docs/internals/architecture.md").Rows("Packages")
	rowOf := map[string]int{}
	for n, row := range rows {
		rowOf[strings.Trim(row[0], "`")] = n
	}
	if len(rows) != len(arrows) {
		t.Errorf("the table has %d rows for %d packages", len(rows), len(arrows))
	}
	for from, to := range arrows {
		n, there := rowOf[from]
		if !there {
			t.Errorf("docs/internals/architecture.md has no row for %s", from)
			continue
		}
		if documented := tableImports(rows[n][2], from, arrows); !slices.Equal(documented, to) {
			t.Errorf("docs/internals/architecture.md says that %s imports %v, it imports %v", from, documented, to)
		}
	}
}

// tableImports returns the packages that the third cell of the row for from names.
func tableImports(cell, from string, arrows map[string][]string) (names []string) {
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cell, -1) {
		for name := range arrows {
			if m[1] == name || m[1] == path.Base(name) && !strings.Contains(m[1], "/") {
				names = append(names, name)
			}
		}
	}
	if cell == "all" || strings.HasPrefix(cell, "all, ") {
		for name := range arrows {
			if strings.HasPrefix(name, "pkg/") && slices.Contains(arrows[from], name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// TestGeneratedArchitecture compares the diagram of docs/internals/architecture.md with
// the imports.
func TestGeneratedArchitecture(t *testing.T) {
	const begin, end = "<!-- Drawn from the imports by \"make docs\"; do not edit. -->\n", "<!-- End of the drawing. -->\n"
	file := checkout.Join(t, "docs/internals/architecture.md")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatal("docs/internals/architecture.md has no markers for the drawing")
	}
	want := before + begin + drawing(readImports(t)) + end + after
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("the drawing in docs/internals/architecture.md differs from the imports (-code +document); run `make docs`:\n%s", diff)
	}
}

// drawing returns the packages of the program as a Mermaid diagram, without arrows that
// others imply.
func drawing(arrows map[string][]string) string {
	var b strings.Builder
	b.WriteString("```mermaid\nflowchart TD\n")
	short := func(name string) string { return strings.TrimPrefix(strings.TrimPrefix(name, "pkg/"), "cmd/") }
	for _, from := range slices.Sorted(maps.Keys(arrows)) {
		if strings.HasPrefix(from, "internal/") || from == "test" {
			continue // tools for tests, and helpers
		}
		for _, to := range arrows[from] {
			if strings.HasPrefix(to, "internal/") && to != "internal/duckdb" {
				continue // helpers, which the table names
			}
			implied := slices.ContainsFunc(arrows[from], func(by string) bool { return by != to && reaches(arrows, by, to) })
			if !implied {
				fmt.Fprintf(&b, "    %s --> %s\n", short(from), short(to))
			}
		}
	}
	b.WriteString("```\n")
	return b.String()
}

// reaches reports whether arrows lead from one package to another.
func reaches(arrows map[string][]string, from, to string) bool {
	return slices.ContainsFunc(arrows[from], func(next string) bool { return next == to || reaches(arrows, next, to) })
}
