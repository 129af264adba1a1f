package e2e_test

import (
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/harness"
)

// hangChunk makes responses with the tenant's chunk 2 stop in the middle. The channel
// receives a value for each request of it.
func hangChunk(sim *vendorsim.Server) (*vendorsim.Injection, <-chan struct{}) {
	requested := make(chan struct{}, 100)
	half := vendorsim.HangAfter(vendorsim.Half)
	return sim.Hosts()[0].Inject(vendorsim.Fault{
		Path: "/vulns/export/*/chunks/2", Times: vendorsim.Forever, Do: notifyEach(requested, half),
	}), requested
}

// TestSignalsEndARun checks that a signal ends a run within seconds, leaves no partial
// file, and keeps the last snapshot.
func TestSignalsEndARun(t *testing.T) {
	t.Parallel()
	for signal, code := range map[syscall.Signal]int{
		syscall.SIGINT:  harness.ExitInterrupted,
		syscall.SIGTERM: harness.ExitTerminated,
	} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
			ws := harness.NewWorkspace(t).UseVendors(sim)
			ws.AssertResult(ws.Run("--once", "tenable_vulnerabilities"), harness.ExitOK)
			before := ws.Content(ws.SourceFile("tenable_vulnerabilities"))
			_, requested := hangChunk(sim)
			cmd, wait := ws.Start("--once", "tenable_vulnerabilities")
			<-requested
			sent := time.Now()
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			ws.AssertResult(wait(), code, "stopped by")
			if elapsed := time.Since(sent); elapsed > harness.HangLimit {
				t.Errorf("it ended after %v", elapsed)
			}
			if ws.Content(ws.SourceFile("tenable_vulnerabilities")) != before {
				t.Error("the file has changed")
			}
			ws.AssertNoPartialFiles()
			if n := sim.Hosts()[0].Stats().Requests["POST /vulns/export/{uuid}/cancel"]; n != 0 {
				t.Errorf("%d exports were cancelled, want none: the next run continues them", n)
			}
		})
	}
}

// TestOneRunAtATime checks that a second process names the one that is running.
func TestOneRunAtATime(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	_, requested := hangChunk(sim)
	cmd, wait := ws.Start("--once", "tenable_vulnerabilities")
	<-requested
	ws.AssertResult(ws.Run("--once", "tenable"), harness.ExitLocked, "is being collected by process", "--once tenable_vulnerabilities")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ws.AssertResult(wait(), harness.ExitTerminated)
}

// TestAKilledRunLeavesNothingHalf checks that the run after a killed one succeeds, and
// that no partial file is left.
func TestAKilledRunLeavesNothingHalf(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	ws.AssertResult(ws.Run("--once", "tenable_vulnerabilities"), harness.ExitOK)
	before := ws.Content(ws.SourceFile("tenable_vulnerabilities"))
	fault, requested := hangChunk(sim)
	cmd, wait := ws.Start("--once", "tenable_vulnerabilities")
	<-requested
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = wait()
	if ws.Content(ws.SourceFile("tenable_vulnerabilities")) != before {
		t.Error("the file has changed")
	}
	fault.Remove()
	ws.AssertResult(ws.Run("--once", "tenable_vulnerabilities"), harness.ExitOK, "an earlier run was cut off", "success")
	ws.AssertNoPartialFiles()
	if n := len(ws.StoredRecords("tenable_vulnerabilities")); n != harness.SmallCounts[vendorsim.TenableVulns] {
		t.Errorf("%d records stored", n)
	}
}

// TestIdleRunEndsAndNamesTheStep checks the timeout of a run that receives nothing.
func TestIdleRunEndsAndNamesTheStep(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	ws.Env["RUN_IDLE_TIMEOUT"] = "10s"
	hangChunk(sim)
	ws.AssertResult(ws.Run("--once", "tenable_vulnerabilities"), harness.ExitPartial, "timeout", "no progress for 10s (RUN_IDLE_TIMEOUT)", "/chunks/2")
}

// holdChunk delays the response with the tenant's chunk 2 until release is called. The
// channel receives a value for each request of it.
func holdChunk(sim *vendorsim.Server) (release func(), requested <-chan struct{}) {
	arrived, gate := make(chan struct{}, 100), make(chan struct{})
	wait := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-gate:
			case <-r.Context().Done():
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	sim.Hosts()[0].Inject(vendorsim.Fault{Path: "/vulns/export/*/chunks/2", Times: vendorsim.Forever, Do: notifyEach(arrived, wait)})
	return sync.OnceFunc(func() { close(gate) }), arrived
}
