package main

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/collectord/collectord/internal/vendorsim"
)

// counted counts the requests for a path of the first host.
func counted(sim *vendorsim.Server, method, path string) func() int {
	var mu sync.Mutex
	n := 0
	sim.Hosts()[0].Inject(vendorsim.Fault{Method: method, Path: path, Times: vendorsim.Forever, Do: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			n++
			mu.Unlock()
			next.ServeHTTP(w, r)
		})
	}})
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

// TestAKilledExportIsContinued: the next run fetches what the one that was killed
// or stopped had
// not, from the same job; what is damaged is fetched again, and other filters
// are another job.
func TestAKilledExportIsContinued(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		signal       syscall.Signal
		between      func(t *testing.T, p *place, chunk string)
		says         string
		chunks, jobs int
	}{
		"stopped": {syscall.SIGTERM, func(*testing.T, *place, string) {}, "continuing an export job that was cut off", 1, 1},
		"whole":   {syscall.SIGKILL, func(*testing.T, *place, string) {}, "continuing an export job that was cut off", 1, 1},
		"damaged": {syscall.SIGKILL, func(t *testing.T, _ *place, chunk string) {
			file := filepath.Join(chunk, "records.ndjson.zst")
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/2] ^= 1
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "a kept chunk cannot be used; it is fetched again", 2, 1},
		"other filters": {syscall.SIGKILL, func(_ *testing.T, p *place, _ string) {
			p.env["TIO_VULNERABILITIES_FILTER"] = `{"since":2,"state":["OPEN","REOPENED","FIXED"]}`
		}, "an earlier run was cut off", 2, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim := startVendors(t, smallCounts, smallTenant())
			p := newPlace(t).with(sim)
			p.env["TIO_PARALLEL"] = "1"
			trouble, asked := hang(sim)
			first := counted(sim, "GET", "/vulns/export/*/chunks/1")
			jobs := counted(sim, "POST", "/vulns/export")
			cmd, ended := p.start("--once", "tenable_vulnerabilities")
			<-asked // chunk 1 is there
			if err := cmd.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			_ = ended()
			pattern := filepath.Join(p.env["STATE_DIR"], "kept", "*", "*", "*", "*")
			kept, err := filepath.Glob(pattern)
			if err != nil || len(kept) != 1 {
				t.Fatalf("kept are %q, error %v", kept, err)
			}
			c.between(t, p, kept[0])
			trouble.Remove()
			p.want(p.run("--once", "tenable_vulnerabilities"), 0, c.says, "success")
			if first() != c.chunks || jobs() != c.jobs {
				t.Errorf("chunk 1 was fetched %d times of %d jobs, want %d of %d", first(), jobs(), c.chunks, c.jobs)
			}
			stored := p.stored("tenable_vulnerabilities")
			if len(stored) != smallCounts[vendorsim.TenableVulns] {
				t.Errorf("%d records stored", len(stored))
			}
			p.noHalves()
			if kept, err := filepath.Glob(pattern); err != nil || len(kept) != 0 {
				t.Errorf("still kept are %q, error %v", kept, err)
			}
			// The next run is a new one.
			p.want(p.run("--once", "tenable_vulnerabilities"), 0, "success")
			if jobs() != c.jobs+1 {
				t.Errorf("%d jobs after the next run", jobs())
			}
			whole := p.stored("tenable_vulnerabilities")
			slices.Sort(stored)
			slices.Sort(whole)
			if !slices.Equal(stored, whole) {
				t.Error("the continued run's records are not those of a whole run")
			}
		})
	}
}
