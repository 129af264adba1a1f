package tenable

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/state"
)

// expectedWebApps returns the records of the stream tenable_was.
func (t *tenant) expectedWebApps() (want []string) {
	for i := range t.Sim.RecordCount(vendorsim.TenableWAS) {
		want = append(want, string(t.vendor.WASRecord(i)))
	}
	return want
}

// TestTenableOutage tests that each stream survives an outage of ten minutes, and
// uses one export job.
func TestTenableOutage(t *testing.T) {
	for _, name := range []string{vendorsim.TenableVulns, vendorsim.TenableAssets, vendorsim.TenableFindings, vendorsim.TenableWAS} {
		t.Run(name, func(t *testing.T) {
			var current *tenant
			collectortest.OutageTest{
				Stream: name,
				Run: func(t *testing.T, test func(h *collectortest.Harness, s collector.Stream)) {
					runTenant(t, map[string]int{name: 200}, func(t *tenant) {
						current = t
						t.vendor.ConfigureStream(name, smallChunks)
						test(t.Harness, t.stream(name))
						if n := len(t.vendor.Jobs(name)); name != vendorsim.TenableWAS && n != 1 {
							t.Errorf("%d export jobs, want 1", n)
						}
					})
				},
				Want: func(h *collectortest.Harness) []string {
					if name == vendorsim.TenableWAS {
						return current.expectedWebApps()
					}
					return h.Records(name)
				},
			}.Test(t)
		})
	}
}

// TestTenableContinuesAfterOutage tests that a run fails whose outage lasts longer
// than the retry time, and that the next run continues the same job with the
// chunks that are missing.
func TestTenableContinuesAfterOutage(t *testing.T) {
	for name, tc := range map[string]struct {
		stream string
		fault  vendorsim.Fault
		wait   time.Duration // between the runs
		jobs   int           // in all
	}{
		"chunks": {stream: vendorsim.TenableVulns, fault: vendorsim.Fault{Path: "/vulns/export/*/chunks/*", From: 4, Do: vendorsim.HTML(503)}, wait: 5 * time.Minute, jobs: 1},
		"reset":  {stream: vendorsim.TenableFindings, fault: vendorsim.Fault{Path: "/compliance/export/*/chunks/*", From: 4, Do: abort}, wait: 5 * time.Minute, jobs: 1},
		"state":  {stream: vendorsim.TenableAssets, fault: vendorsim.Fault{Path: "/assets/export/*/status", From: 4, Do: vendorsim.Status(502, "")}, wait: 5 * time.Minute, jobs: 1},
		"state at once": {
			stream: vendorsim.TenableVulns, fault: vendorsim.Fault{Path: "/vulns/export/*/status", Do: vendorsim.Status(502, "")}, wait: 20 * time.Hour, jobs: 1,
		},
		"refused after it was accepted": {
			stream: vendorsim.TenableVulns, fault: vendorsim.Fault{Path: "/vulns/export/*/chunks/*", From: 4, Do: vendorsim.Status(401, `{"statusCode":401}`)}, wait: time.Hour, jobs: 1,
		},
		"the job has expired": {
			stream: vendorsim.TenableVulns, fault: vendorsim.Fault{Path: "/vulns/export/*/chunks/*", From: 4, Do: vendorsim.HTML(503)}, wait: 25 * time.Hour, jobs: 2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			runTenant(t, map[string]int{tc.stream: 200}, func(t *tenant) {
				t.vendor.ConfigureStream(tc.stream, smallChunks)
				runs := collectortest.OpenRuns(t)
				defer runs.Close()
				tc.fault.Times = vendorsim.Forever
				injected := t.Host.Inject(tc.fault)
				s := t.stream(tc.stream)
				if result := runs.RunStream(s); result.Outcome != state.Failed {
					t.Fatalf("outcome %s, error %v; want a failure", result.Outcome, result.Err)
				}
				time.Sleep(tc.wait) // the requests that the run has cancelled are over
				injected.Remove()
				if result := runs.RunStream(s); result.Outcome != state.Success {
					t.Fatalf("outcome %s, error %v; want a success", result.Outcome, result.Err)
				}
				t.AssertRecords(runs.LastRecords(tc.stream), t.Records(tc.stream))
				jobs := t.vendor.Jobs(tc.stream)
				if len(jobs) != tc.jobs {
					t.Fatalf("%d export jobs, want %d", len(jobs), tc.jobs)
				}
				for _, job := range jobs {
					for chunk, reads := range job.Reads {
						if reads != 1 {
							t.Errorf("chunk %d was fetched %d times", chunk, reads)
						}
					}
				}
				if slices.ContainsFunc(t.Host.Stats().Log, func(r vendorsim.Request) bool {
					return r.Method == http.MethodPost && strings.HasSuffix(r.Path, "/cancel")
				}) {
					t.Error("a job was cancelled")
				}
				// The job of a success is not continued.
				if result := runs.RunStream(s); result.Outcome != state.Success || len(t.vendor.Jobs(tc.stream)) != tc.jobs+1 {
					t.Errorf("outcome %s, %d jobs after the next run", result.Outcome, len(t.vendor.Jobs(tc.stream)))
				}
			})
		})
	}
}
