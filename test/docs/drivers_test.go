package docs_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/collectord/collectord/test/checkout"
)

// driverFree names the packages that must not link a driver, and drivers the packages that
// are drivers or belong to one.
var (
	driverFree = []string{"pkg/delivery", "pkg/freshness", "pkg/notify", "pkg/run", "pkg/schedule", "pkg/snapshot", "pkg/state", "pkg/store"}
	drivers    = []string{"github.com/aws/", "github.com/jackc/pgx", "github.com/duckdb/", "modernc.org/sqlite", checkout.Module + "/internal/duckdb"}
)

// TestNoDriverIsLinked checks that packages which only need the contract of a destination
// link none of the drivers, directly or through other packages.
func TestNoDriverIsLinked(t *testing.T) {
	for _, name := range driverFree {
		out, err := exec.Command("go", "list", "-deps", checkout.Module+"/"+name).Output()
		if err != nil {
			t.Fatalf("go list -deps %s: %v", name, err)
		}
		for dependency := range strings.Lines(string(out)) {
			dependency = strings.TrimSpace(dependency)
			if slices.ContainsFunc(drivers, func(prefix string) bool { return strings.HasPrefix(dependency, prefix) }) {
				t.Errorf("%s links %s", name, dependency)
			}
		}
	}
}
