package e2e_test

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/harness"
)

// countRequests returns the function that returns the number of requests for a path of
// the first host since now.
func countRequests(sim *vendorsim.Server, method, path string) func() int {
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

// TestAFailedExportIsContinued checks that the run after one that failed because of the
// vendor or the network fetches only the missing chunks of the same job.
func TestAFailedExportIsContinued(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]vendorsim.Effect{
		"unavailable": vendorsim.HTML(503), "connection reset": vendorsim.Reset(vendorsim.Half), "body cut": vendorsim.Truncate(vendorsim.Half),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			vendor := harness.NewSmallTenable()
			sim := harness.StartVendors(t, harness.SmallCounts, vendor)
			ws := harness.NewWorkspace(t).UseVendors(sim)
			ws.Env["TIO_PARALLEL"], ws.Env["RUN_PATIENCE"] = "1", "1s"
			fault := sim.Hosts()[0].Inject(vendorsim.Fault{Path: "/vulns/export/*/chunks/2", Times: vendorsim.Forever, Do: do})
			ws.AssertResult(ws.Run("--once", "tenable_vulnerabilities"), harness.ExitPartial, "the export job is kept for the next run", "/chunks/2", "1 of 1 stream has no new snapshot")
			served := vendor.Jobs(vendorsim.TenableVulns)[0].Reads
			fault.Remove()
			ws.AssertResult(ws.Run("--once", "tenable_vulnerabilities"), harness.ExitOK, "continuing an export job that was cut off", "success")
			jobs := vendor.Jobs(vendorsim.TenableVulns)
			if len(jobs) != 1 {
				t.Fatalf("%d export jobs, want 1", len(jobs))
			}
			for _, chunk := range []int{1, 2, 4} {
				want := served[chunk]
				if want == 0 || chunk == 2 {
					want++
				}
				if got := jobs[0].Reads[chunk]; got != want {
					t.Errorf("chunk %d was requested %d times, want %d", chunk, got, want)
				}
			}
			if n := len(ws.StoredRecords("tenable_vulnerabilities")); n != harness.SmallCounts[vendorsim.TenableVulns] {
				t.Errorf("%d records stored", n)
			}
			if kept, err := filepath.Glob(filepath.Join(ws.Env["STATE_DIR"], "kept", "*", "*", "*", "*")); err != nil || len(kept) != 0 {
				t.Errorf("chunks are still kept: %q, error %v", kept, err)
			}
		})
	}
}

// TestALongWaitIsAnnounced checks that a wait that the vendor asks for is logged when it
// begins, and that one that is longer than the run ends the run at once.
func TestALongWaitIsAnnounced(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, map[string]int{vendorsim.OktaUsers: 20}, vendorsim.NewOkta(), harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	sim.Host("tenable").Inject(vendorsim.Fault{Path: "/assets/export", Times: vendorsim.Forever, Do: vendorsim.HTML(429, "Retry-After", "10800")})
	ws.Env["RUN_TIMEOUT"] = "2h"
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitPartial, "timeout", "POST /assets/export: 429 Too Many Requests", "the vendor asks to wait until", "RUN_TIMEOUT")
	ws.Env["RUN_TIMEOUT"] = "4h"
	s := ws.StartService()
	s.WaitForLog(`"ready"`)
	s.WaitForLog("waiting as long as the vendor asks", `"stream":"tenable_assets"`, `"until":"20`)
	s.Signal(syscall.SIGTERM)
	s.Signal(syscall.SIGTERM)
	_ = s.Wait()
}

// TestAKilledExportIsContinued checks that the run after a killed or stopped one fetches
// the missing chunks of the same job, fetches a damaged chunk again, and starts another
// job for other filters.
func TestAKilledExportIsContinued(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		signal       syscall.Signal
		between      func(t *testing.T, ws *harness.Workspace, chunk string)
		want         string
		chunks, jobs int
	}{
		"stopped": {syscall.SIGTERM, func(*testing.T, *harness.Workspace, string) {}, "continuing an export job that was cut off", 1, 1},
		"whole":   {syscall.SIGKILL, func(*testing.T, *harness.Workspace, string) {}, "continuing an export job that was cut off", 1, 1},
		"damaged": {syscall.SIGKILL, func(t *testing.T, _ *harness.Workspace, chunk string) {
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
		"other filters": {syscall.SIGKILL, func(_ *testing.T, ws *harness.Workspace, _ string) {
			ws.Env["TIO_VULNERABILITIES_FILTER"] = `{"since":2,"state":["OPEN","REOPENED","FIXED"]}`
		}, "an earlier run was cut off", 2, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
			ws := harness.NewWorkspace(t).UseVendors(sim)
			ws.Env["TIO_PARALLEL"] = "1"
			fault, requested := hangChunk(sim)
			first := countRequests(sim, "GET", "/vulns/export/*/chunks/1")
			jobs := countRequests(sim, "POST", "/vulns/export")
			cmd, wait := ws.Start("--once", "tenable_vulnerabilities")
			<-requested // chunk 1 has been received
			if err := cmd.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			_ = wait()
			pattern := filepath.Join(ws.Env["STATE_DIR"], "kept", "*", "*", "*", "*")
			kept, err := filepath.Glob(pattern)
			if err != nil || len(kept) != 1 {
				t.Fatalf("kept chunks: %q, error %v", kept, err)
			}
			c.between(t, ws, kept[0])
			fault.Remove()
			ws.AssertResult(ws.Run("--once", "tenable_vulnerabilities"), harness.ExitOK, c.want, "success")
			if first() != c.chunks || jobs() != c.jobs {
				t.Errorf("chunk 1 was fetched %d times in %d jobs, want %d in %d", first(), jobs(), c.chunks, c.jobs)
			}
			stored := ws.StoredRecords("tenable_vulnerabilities")
			if len(stored) != harness.SmallCounts[vendorsim.TenableVulns] {
				t.Errorf("%d records stored", len(stored))
			}
			ws.AssertNoPartialFiles()
			if kept, err := filepath.Glob(pattern); err != nil || len(kept) != 0 {
				t.Errorf("chunks are still kept: %q, error %v", kept, err)
			}
			// The next run starts a new job.
			ws.AssertResult(ws.Run("--once", "tenable_vulnerabilities"), harness.ExitOK, "success")
			if jobs() != c.jobs+1 {
				t.Errorf("%d jobs after the next run", jobs())
			}
			whole := ws.StoredRecords("tenable_vulnerabilities")
			slices.Sort(stored)
			slices.Sort(whole)
			if !slices.Equal(stored, whole) {
				t.Error("the continued run and a complete run have different records")
			}
		})
	}
}
