package e2e_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/harness"
)

// TestServiceCollectsAndStops checks that a service without data collects at once,
// and ends with exit code 0 on SIGTERM.
func TestServiceCollectsAndStops(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	s := ws.StartService()
	s.WaitForLog(`"ready"`)
	for range harness.SmallCounts {
		s.WaitForLog(`"msg":"stored"`)
	}
	s.Signal(syscall.SIGTERM)
	ws.AssertResult(s.Wait(), harness.ExitOK, `"trigger":"catch-up"`, `"stopped"`)
	if n := len(ws.StoredRecords("tenable_assets")); n != harness.SmallCounts[vendorsim.TenableAssets] {
		t.Errorf("%d records stored", n)
	}
	ws.AssertNoPartialFiles()
	again := ws.StartService() // recent data is not collected again
	again.WaitForLog(`"ready"`)
	again.Signal(syscall.SIGHUP)
	again.WaitForLog("settings reloaded")
	again.Signal(syscall.SIGINT)
	if e := again.Wait(); e.Code != 0 || strings.Contains(e.Stderr, "run starts") {
		t.Errorf("exit code %d:\n%s", e.Code, e.Stderr)
	}
}

// TestServiceRunsByItsTicks checks a schedule of one collector, and that SIGUSR1 runs
// a collector without a schedule.
func TestServiceRunsByItsTicks(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	ws.Env["SCHEDULE"], ws.Env["SCHEDULE_TENABLE"], ws.Env["SCHEDULE_CATCHUP"] = "off", "@every 1s", "no"
	s := ws.StartService()
	s.WaitForLog("run starts", `"tenable"`, `"trigger":"schedule"`)
	s.WaitForLog("run starts", `"tenable"`, `"trigger":"schedule"`)
	s.Signal(syscall.SIGTERM)
	ws.AssertResult(s.Wait(), harness.ExitOK)
	ws.Env["SCHEDULE_TENABLE"] = "off"
	s = ws.StartService()
	s.WaitForLog(`"ready"`)
	s.Signal(syscall.SIGUSR1)
	s.WaitForLog("run starts", `"trigger":"manual"`)
	s.Signal(syscall.SIGTERM)
	ws.AssertResult(s.Wait(), harness.ExitOK)
}

// TestServiceGivesRunsTime checks that a run may end within the grace period, and is
// cancelled after it or by a second signal.
func TestServiceGivesRunsTime(t *testing.T) {
	for name, tc := range map[string]struct {
		grace string
		then  func(s *harness.Service, release func())
		want  string
	}{
		"run ends in time": {
			grace: "30s",
			then:  func(_ *harness.Service, release func()) { release() },
			want:  `"outcome":"success"`,
		},
		"grace period ends": {
			grace: "1s",
			then:  func(*harness.Service, func()) {},
			want:  "SHUTDOWN_GRACE, 1s, is over",
		},
		"second signal": {
			grace: "10m",
			then:  func(s *harness.Service, _ func()) { s.Signal(syscall.SIGTERM) },
			want:  "a second signal arrived",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
			ws := harness.NewWorkspace(t).UseVendors(sim)
			ws.Env["SHUTDOWN_GRACE"] = tc.grace
			gate, requested := holdChunk(sim)
			s := ws.StartService()
			<-requested
			s.Signal(syscall.SIGTERM)
			s.WaitForLog(`"stopping`)
			tc.then(s, gate)
			sent := time.Now()
			e := s.Wait()
			ws.AssertResult(e, harness.ExitOK, tc.want, `"stopped"`)
			if elapsed := time.Since(sent); elapsed > harness.HangLimit {
				t.Errorf("it ended after %v", elapsed)
			}
			gate()
			ws.AssertNoPartialFiles()
		})
	}
}

// TestServiceReloads checks that a run continues during a reload, that good settings
// are in force afterwards, that bad ones stay as they were, and that nothing is changed
// when no collector would be on.
func TestServiceReloads(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable(), newOkta())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	gate, requested := holdChunk(sim)
	delete(ws.Env, "STORE_FILE")
	ws.WriteEnvFile("STORE_FILE="+ws.Path("one", "%TAG.json"), "SCHEDULE=0 0 1 1 *", "COLLECTORS=tenable")
	s := ws.StartService()
	<-requested
	ws.WriteEnvFile("STORE_FILE="+ws.Path("two", "%TAG.json"), "SCHEDULE=0 0 30 2 *", "COLLECTORS=tenable")
	s.Signal(syscall.SIGHUP)
	s.WaitForLog("settings reloaded", `"changed":["STORE_FILE"]`)
	s.WaitForLog("some settings were not applied", "SCHEDULE", "never comes")
	ws.WriteEnvFile("STORE_FILE="+ws.Path("three", "%TAG.json"), "COLLECTORS=-tenable,-okta")
	s.Signal(syscall.SIGHUP)
	s.WaitForLog("the old settings stay in force", "no collector is switched on")
	ws.WriteEnvFile("STORE_FILE="+ws.Path("two", "%TAG.json"), "STATE_KEEP=10d", "TENANCY=other", "COLLECTORS=tenable")
	s.Signal(syscall.SIGHUP)
	s.WaitForLog("some settings were not applied", "TENANCY", "restart")
	ws.WriteEnvFile("STORE_FILE="+ws.Path("two", "%TAG.json"), "SCHEDULE=@every 1s", "COLLECTORS=okta")
	s.Signal(syscall.SIGHUP)
	s.WaitForLog("settings reloaded")
	gate()
	s.WaitForLog(`"stream done"`, "tenable_vulnerabilities")
	s.WaitForLog("run starts", `"okta"`)
	s.Signal(syscall.SIGTERM)
	e := s.Wait()
	ws.AssertResult(e, harness.ExitOK, `"stopped"`)
	if strings.Count(e.Stderr, `"run starts"`) != 1+strings.Count(e.Stderr, `"run starts","collector":"okta"`) {
		t.Errorf("unexpected runs:\n%s", e.Stderr)
	}
	if text := ws.Content(ws.Path("two", "tenable_vulnerabilities.json")); !strings.HasPrefix(text, "[") {
		t.Errorf("the new STORE_FILE was not used: %.80s", text)
	}
}

// TestServiceWithoutCollectors checks that the error names the settings that switch a
// collector on.
func TestServiceWithoutCollectors(t *testing.T) {
	ws := harness.NewWorkspace(t)
	ws.AssertResult(ws.Run(), harness.ExitSettings, "no collector is switched on", "OKTA_DOMAIN")
	ws.Env["SCHEDULE_TENABLE"], ws.Env["SCHEDULE_TZ"] = "0 0 0 * * *", "Mars/North"
	ws.AssertResult(ws.Run(), harness.ExitSettings, "SCHEDULE_TENABLE", "none for seconds", "SCHEDULE_TZ", "is not a time zone")
}
