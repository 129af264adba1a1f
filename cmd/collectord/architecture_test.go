package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/collectord/collectord"

// layers names, for each package, the packages of this module that it may
// import. docs/architecture.md draws the same.
var layers = map[string][]string{
	"cmd/collectord":        {"pkg/calendar", "pkg/config", "pkg/collector", "pkg/collector/sources", "pkg/snapshot", "pkg/store", "pkg/state", "pkg/backup", "pkg/schedule", "pkg/web", "pkg/query", "pkg/metrics", "pkg/notify"},
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
	"pkg/web":               {"pkg/schedule", "pkg/state", "pkg/snapshot", "pkg/query"},
	"pkg/query":             {"pkg/state", "pkg/snapshot", "internal/duckdb"},
	"pkg/metrics":           {"pkg/backup", "pkg/collector", "pkg/schedule", "pkg/state", "pkg/web"},
	"pkg/notify":            {"pkg/collector", "pkg/schedule", "pkg/state"},
	"internal/duckdb":       {},
	"internal/faultproxy":   {},
	"internal/testserver":   {},
	"internal/vendorsim":    {},
	"internal/demo":         {"internal/vendorsim", "internal/duckdb"},
	"internal/bench":        {"internal/duckdb", "internal/testserver", "internal/vendorsim", "pkg/collector", "pkg/collector/sources", "pkg/snapshot", "pkg/store"},
	"internal/soak":         {"internal/duckdb", "internal/faultproxy", "internal/testserver", "internal/vendorsim", "pkg/snapshot", "pkg/state"},
}

// TestImportsPointOneWay holds the line between the parts.
func TestImportsPointOneWay(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		from := strings.TrimPrefix(words[0], module+"/")
		// Programs for use by hand belong to the package whose folder they are in.
		owner := from
		for owner != "" && layers[owner] == nil {
			owner = owner[:max(0, strings.LastIndexByte(owner, '/'))]
		}
		if owner == "" {
			t.Errorf("%s has no place in the architecture: give it one in layers and in docs/architecture.md", from)
			continue
		}
		seen[owner] = true
		for _, to := range words[1:] {
			to, ours := strings.CutPrefix(to, module+"/")
			if ours && to != owner && !slices.Contains(layers[owner], to) {
				t.Errorf("%s imports %s: the architecture lets it import only %v", from, to, layers[owner])
			}
		}
	}
	for name := range layers {
		if !seen[name] {
			t.Errorf("the architecture has a place for %s, which does not exist", name)
		}
	}
}
