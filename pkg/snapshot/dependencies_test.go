package snapshot

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestPureGo checks that snapshots and the state directory need no C compiler,
// and so none of the databases that destinations use.
func TestPureGo(t *testing.T) {
	const module = "github.com/collectord/collectord"
	for _, tc := range []struct{ name, cgo, format string }{
		// Without cgo, go list fails for a package that consists of C.
		{name: "packages that do not build without cgo", cgo: "0", format: "{{with .Error}}{{.}}{{end}}"},
		{name: "packages that use cgo", cgo: "1", format: "{{if not .Standard}}{{if .CgoFiles}}{{.ImportPath}}{{end}}{{end}}"},
	} {
		cmd := exec.Command("go", "list", "-deps", "-f", tc.format, module+"/pkg/snapshot", module+"/pkg/snapshot/columns", module+"/pkg/state")
		cmd.Env = append(os.Environ(), "CGO_ENABLED="+tc.cgo)
		out, err := cmd.CombinedOutput()
		if found := strings.Fields(string(out)); err != nil || len(found) > 0 {
			t.Errorf("%s: %q, error %v", tc.name, found, err)
		}
	}
	out, err := exec.Command("go", "list", "-deps", module+"/pkg/snapshot", module+"/pkg/snapshot/columns", module+"/pkg/state").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{module + "/internal/duckdb", module + "/pkg/snapshot/parquet", module + "/pkg/store"} {
		if slices.Contains(strings.Fields(string(out)), name) {
			t.Errorf("pkg/snapshot or pkg/state imports %s", name)
		}
	}
}
