package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gofrs/flock"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/harness"
)

// waitForRecords waits until a file has records. Its log line may precede that of the
// reload that has caused it.
func waitForRecords(ws *harness.Workspace, path string) {
	ws.Helper()
	for deadline := time.Now().Add(harness.HangLimit); !strings.HasPrefix(ws.Content(path), "["); {
		if time.Now().After(deadline) {
			ws.Fatalf("%s has no records: %.80s", path, ws.Content(path))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestReloadAppliesWhatItCan checks that a key that was fixed is used at once, although a
// setting that takes a restart was changed with it and a setting of another collector is
// not valid, and that log, metrics, status page and `status` name both.
func TestReloadAppliesWhatItCan(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	key := "TIO_SECRET_KEY=" + ws.Env["TIO_SECRET_KEY"]
	delete(ws.Env, "TIO_SECRET_KEY") // a reload cannot change the environment
	delete(ws.Env, "HTTP_LISTEN")
	ws.WriteEnvFile("TIO_SECRET_KEY=a-wrong-key-with-a-typo", "HTTP_LISTEN=127.0.0.1:0")
	s := ws.StartService()
	base := s.BaseURL()
	for range harness.SmallCounts {
		s.WaitForLog("stream failed", "401 Unauthorized")
	}
	s.WaitForLog("retry scheduled")
	ws.AssertResult(ws.Run("status"), harness.ExitOK, "(retry)", "401 Unauthorized")

	ws.WriteEnvFile(key, "HTTP_LISTEN=127.0.0.1:1", "OKTA_COMPAT_FIELDS=maybe")
	s.Signal(syscall.SIGHUP)
	s.WaitForLog(`"settings reloaded"`, "TIO_SECRET_KEY")
	s.WaitForLog("some settings were not applied", "HTTP_LISTEN: was changed, which takes a restart", "OKTA_COMPAT_FIELDS")
	for stream := range harness.SmallCounts {
		waitForRecords(ws, ws.SourceFile(stream))
	}
	if n := len(ws.StoredRecords("tenable_assets")); n != harness.SmallCounts[vendorsim.TenableAssets] {
		t.Errorf("%d records stored", n)
	}
	_, text := s.Request("GET", base+"/metrics", "")
	for _, line := range []string{
		`collectord_config_last_reload_successful{tenancy="default"} 0`,
		`collectord_credentials_refused{collector="tenable",stream="tenable_assets",tenancy="default"} 0`,
		`collectord_last_run_success{collector="tenable",stream="tenable_assets",tenancy="default"} 1`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	if _, text := s.Request("GET", base+"/", ""); !strings.Contains(text, "some settings were not applied") || !strings.Contains(text, "HTTP_LISTEN") {
		t.Error("the status page does not name the settings that were not applied")
	}
	ws.WriteEnvFile(key, "HTTP_LISTEN=127.0.0.1:0") // commands refuse settings that are not valid
	ws.AssertResult(ws.Run("status"), harness.ExitOK, "the last reload of the service", "HTTP_LISTEN: was changed, which takes a restart")

	s.Signal(syscall.SIGHUP)
	s.WaitForLog(`"settings reloaded"`, `"changed":[]`)
	s.Signal(syscall.SIGTERM)
	e := s.Wait()
	ws.AssertResult(e, harness.ExitOK)
	if n := strings.Count(e.Stderr, `"run starts"`); n != 2 {
		t.Errorf("%d runs, want 2:\n%s", n, e.Stderr)
	}
	if r := ws.Run("status"); strings.Contains(r.Stdout, "reload") || strings.Contains(r.Stdout, "(retry)") {
		t.Errorf("status after a good reload:\n%s", r.Stdout)
	}
}

// TestReloadSwitchesOn checks that a collector that a reload switches on is collected at
// once, and that those that are up to date do not run.
func TestReloadSwitchesOn(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable(), newOkta())
	sim.SetCount(vendorsim.OktaUsers, 30)
	ws := harness.NewWorkspace(t).UseVendors(sim)
	ws.WriteEnvFile("COLLECTORS=tenable")
	s := ws.StartService()
	for range harness.SmallCounts {
		s.WaitForLog("stream done")
	}
	ws.WriteEnvFile("COLLECTORS=tenable,okta")
	s.Signal(syscall.SIGHUP)
	s.WaitForLog(`"stored"`, "okta_users", `"records":30`)
	s.Signal(syscall.SIGTERM)
	e := s.Wait()
	ws.AssertResult(e, harness.ExitOK)
	if n := strings.Count(e.Stderr, `"run starts","collector":"tenable"`); n != 1 {
		t.Errorf("%d runs of a collector that is up to date:\n%s", n, e.Stderr)
	}
	if n := len(ws.StoredRecords("okta_users")); n != 30 {
		t.Errorf("%d records stored", n)
	}
}

// TestReloadRestores checks that a collector that a reload switches on is restored from its
// backup, and does not run while that is up to date.
func TestReloadRestores(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable(), newOkta())
	sim.SetCount(vendorsim.OktaUsers, 30)
	ws := harness.NewWorkspace(t).UseVendors(sim)
	ws.UseS3()
	ws.AssertResult(ws.Run("--once", "okta"), harness.ExitOK, "BACKUP", "stored")
	ws.RemoveData()
	ws.WriteEnvFile("COLLECTORS=tenable")
	s := ws.StartService()
	for range harness.SmallCounts {
		s.WaitForLog("stream done")
	}
	ws.WriteEnvFile("COLLECTORS=tenable,okta")
	s.Signal(syscall.SIGHUP)
	s.WaitForLog("restored from the backup", "okta_users")
	waitForRecords(ws, ws.SourceFile("okta_users")) // by the restore or by the delivery, whichever is first
	if n := len(ws.StoredRecords("okta_users")); n != 30 {
		t.Errorf("%d records restored", n)
	}
	s.Signal(syscall.SIGTERM)
	if e := s.Wait(); e.Code != harness.ExitOK || strings.Contains(e.Stderr, `"run starts","collector":"okta"`) {
		t.Errorf("exit code %d; data that is up to date was collected:\n%s", e.Code, e.Stderr)
	}
}

// TestReloadRestoresFromAFixedBackup checks that a reload with the right key of the backup
// restores what a start could not.
func TestReloadRestoresFromAFixedBackup(t *testing.T) {
	t.Parallel()
	okta := vendorsim.NewOkta()
	sim := harness.StartVendors(t, map[string]int{vendorsim.OktaUsers: 30}, okta)
	ws := harness.NewWorkspace(t).UseVendors(sim)
	ws.UseS3()
	ws.AssertResult(ws.Run("--once", "okta"), harness.ExitOK, "BACKUP", "stored")
	ws.RemoveData()
	okta.ChangeBehaviour(func(b *vendorsim.OktaBehaviour) { b.Forbidden = true })
	key := "AWS_SECRET_ACCESS_KEY=" + ws.Env["AWS_SECRET_ACCESS_KEY"]
	delete(ws.Env, "AWS_SECRET_ACCESS_KEY")
	ws.WriteEnvFile("AWS_SECRET_ACCESS_KEY=a-wrong-key-with-a-typo")
	s := ws.StartService()
	s.WaitForLog("not restored", "okta_users")
	s.WaitForLog("stream failed", "okta_users")
	ws.WriteEnvFile(key)
	s.Signal(syscall.SIGHUP)
	s.WaitForLog("restored from the backup", "okta_users", `"records":30`)
	waitForRecords(ws, ws.SourceFile("okta_users"))
	s.Signal(syscall.SIGTERM)
	ws.AssertResult(s.Wait(), harness.ExitOK)
}

// TestReloadDropsQueuedRuns checks that a queued run is shown as queued, and does not take
// place when its collector is switched off.
func TestReloadDropsQueuedRuns(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable(), newOkta())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	ws.Env["MAX_PARALLEL_RUNS"] = "1"
	release, requested := holdChunk(sim)
	ws.WriteEnvFile("COLLECTORS=tenable")
	s := ws.StartService()
	base := s.BaseURL()
	<-requested
	ws.WriteEnvFile("COLLECTORS=tenable,okta")
	s.Signal(syscall.SIGHUP)
	s.WaitForLog("settings reloaded")
	var okta struct{ Running, Queued bool }
	for deadline := time.Now().Add(harness.HangLimit); !okta.Queued; {
		if time.Now().After(deadline) {
			t.Fatal("the run is not queued")
		}
		_, text := s.Request("GET", base+"/api/v1/collectors", "")
		var body struct {
			Collectors []struct {
				Collector       string
				Running, Queued bool
			}
		}
		if err := json.Unmarshal([]byte(text), &body); err != nil {
			t.Fatal(err)
		}
		for _, c := range body.Collectors {
			if c.Collector == "okta" {
				okta.Running, okta.Queued = c.Running, c.Queued
			}
		}
	}
	if okta.Running {
		t.Error("a queued run is shown as running")
	}
	ws.WriteEnvFile("COLLECTORS=tenable")
	s.Signal(syscall.SIGHUP)
	s.WaitForLog("a queued run is dropped", "okta_users")
	release()
	s.WaitForLog("stream done", "tenable_vulnerabilities")
	_, text := s.Request("GET", base+"/metrics", "")
	if strings.Contains(text, `collector="okta"`) && !strings.Contains(text, `collectord_stream_enabled{collector="okta",stream="okta_users"} 0`) {
		t.Error("metrics of a collector that is off")
	}
	s.Signal(syscall.SIGTERM)
	if e := s.Wait(); strings.Contains(e.Stderr, `"run starts","collector":"okta"`) {
		t.Errorf("the dropped run took place:\n%s", e.Stderr)
	}
}

// TestSystemctlReload checks under a real systemd that a reload with a setting that cannot
// be used fails, and that the service goes on with all others.
func TestSystemctlReload(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	ws.Env["SCHEDULE"], ws.Env["SHUTDOWN_GRACE"] = "15 6 1 1 *", "1s"
	m := harness.StartSystemd(ws)
	m.InstallUnit()
	m.MustSystemctl("start", harness.Unit)
	ws.WriteEnvFile("GUARD_DROP=200", "STATE_KEEP=10d")
	if out, err := m.Systemctl("reload", harness.Unit); err == nil {
		t.Errorf("a reload with a bad setting succeeds: %s", out)
	}
	m.WaitUntil("the log names the setting", func() bool {
		return slices.ContainsFunc(strings.Split(ws.Content(m.LogFile), "\n"), func(line string) bool {
			return strings.Contains(line, "some settings were not applied") && strings.Contains(line, "GUARD_DROP")
		})
	})
	if !strings.Contains(ws.Content(m.LogFile), `"changed":["STATE_KEEP"]`) {
		t.Error("the valid setting was not applied")
	}
	m.WaitUntil("the service is active after a failed reload", func() bool { return m.Property("ActiveState") == "active" })
	ws.WriteEnvFile("GUARD_DROP=20", "STATE_KEEP=10d")
	m.MustSystemctl("reload", harness.Unit)
	m.WaitUntil("the setting is applied", func() bool { return strings.Contains(ws.Content(m.LogFile), `"changed":["GUARD_DROP"]`) })
	if n := m.Property("NRestarts"); n != "0" {
		t.Errorf("%s restarts", n)
	}
}

// TestLongStartUnderSystemd checks that systemd does not end a start that takes longer than
// TimeoutStartSec, here because another process holds the state directory.
func TestLongStartUnderSystemd(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	ws.Env["SCHEDULE"], ws.Env["SHUTDOWN_GRACE"] = "15 6 1 1 *", "1s"
	lockPath := filepath.Join(ws.Env["STATE_DIR"], "locks", "open")
	if err := os.MkdirAll(filepath.Dir(lockPath), 0o700); err != nil {
		t.Fatal(err)
	}
	lock := flock.New(lockPath, flock.SetPermissions(0o600))
	if err := lock.Lock(); err != nil {
		t.Fatal(err)
	}
	m := harness.StartSystemd(ws)
	m.InstallUnit("TimeoutStartSec=5s")
	began := time.Now()
	m.MustSystemctl("start", "--no-block", harness.Unit)
	m.WaitUntil("the service starts", func() bool { return m.Property("StatusText") == "starting" })
	m.WaitUntil("the timeout is over", func() bool { return time.Since(began) > 15*time.Second })
	if got := m.Property("ActiveState") + " " + m.Property("NRestarts"); got != "activating 0" {
		t.Errorf("after the timeout the service is %s", got)
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	m.WaitUntil("the service is active", func() bool { return m.Property("ActiveState") == "active" })
	if n := m.Property("NRestarts"); n != "0" {
		t.Errorf("%s restarts", n)
	}
}
