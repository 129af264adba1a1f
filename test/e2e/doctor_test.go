package e2e_test

import (
	"database/sql"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/doctor"
	"github.com/collectord/collectord/test/harness"
)

// runDoctor runs doctor and returns its findings.
func runDoctor(ws *harness.Workspace, code int) (all []doctor.Finding) {
	ws.Helper()
	e := ws.Run("doctor", "--json")
	ws.AssertResult(e, code)
	if strings.Contains(e.Output(), "canary") {
		ws.Errorf("a secret is shown:\n%s", e.Output())
	}
	var report struct{ Findings []doctor.Finding }
	if err := json.Unmarshal([]byte(e.Stdout), &report); err != nil {
		ws.Fatalf("%v: %s", err, e.Output())
	}
	return report.Findings
}

// assertFinding checks the finding of a group's check.
func assertFinding(ws *harness.Workspace, all []doctor.Finding, group, check string, result doctor.Result, want ...string) {
	ws.Helper()
	for _, f := range all {
		if f.Group != group || f.Check != check {
			continue
		}
		if f.Result != result {
			ws.Errorf("%s, %s is %s, want %s: %+v", group, check, f.Result, result, f)
		}
		for _, text := range want {
			if !strings.Contains(f.Text+" "+f.Advice, text) {
				ws.Errorf("%s, %s does not contain %q: %+v", group, check, text, f)
			}
		}
		return
	}
	ws.Errorf("no finding for %s, %s: %+v", group, check, all)
}

// makeDataOlder moves the time of all snapshots and runs into the past.
func makeDataOlder(ws *harness.Workspace, by time.Duration) {
	ws.Helper()
	db, err := sql.Open("sqlite", ws.Path("state", "collectord.db"))
	if err != nil {
		ws.Fatal(err)
	}
	defer db.Close()
	for _, statement := range []string{"UPDATE snapshots SET taken = taken - ?", "UPDATE counters SET ended = ended - ?"} {
		if _, err := db.Exec(statement, by.Milliseconds()); err != nil {
			ws.Fatal(err)
		}
	}
}

// TestDoctor examines a working setup, and then one problem after the other.
func TestDoctor(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable(), vendorsim.NewOkta())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	s3 := testserver.StartS3(t)
	for name, value := range s3.Env() {
		ws.Env[name] = value
	}
	if err := os.MkdirAll(s3.Object("doctor", ""), 0o755); err != nil {
		t.Fatal(err)
	}
	ws.Env["STORE_AWS_S3_BUCKET"] = "doctor"
	ws.Env["STORE_POSTGRES_URL"] = testserver.StartPostgres(t).URL(testserver.Owner, testserver.Password)
	ws.Env["STORE_POSTGRES_SCHEMA"] = "doctor"

	all := runDoctor(ws, 0)
	assertFinding(ws, all, "settings", "collectors", doctor.OK, "okta, tenable on")
	assertFinding(ws, all, "state", "folder", doctor.OK, "can be created")
	assertFinding(ws, all, "state", "data", doctor.OK, "nothing has been collected")
	assertFinding(ws, all, "machine", "disk of STATE_DIR", doctor.OK)
	for _, group := range []string{"collector okta", "collector tenable", "destination backup"} {
		assertFinding(ws, all, group, "network", doctor.OK, "127.0.0.1:")
		assertFinding(ws, all, group, "access", doctor.OK)
	}
	assertFinding(ws, all, "destination backup", "access", doctor.OK, "VERSITYGW: path style, ACL bucket-owner-full-control, no checksums")
	assertFinding(ws, all, "destination postgres", "access", doctor.OK)
	assertFinding(ws, all, "clock", "this machine's", doctor.OK)
	if _, err := os.Stat(ws.Path("state")); err == nil {
		t.Error("doctor created the state directory")
	}
	ws.AssertResult(ws.Run("doctor"), harness.ExitOK, "collector okta\n", "accepts the credentials")
	ws.AssertResult(ws.Run("check", "--connect"), harness.ExitOK, "ok (VERSITYGW: path style")

	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitOK)
	token := ws.Env["OKTA_TOKEN"]
	ws.Env["OKTA_TOKEN"], ws.Env["STORE_AWS_S3_BUCKET"] = "00wrong-canary-77", "missing-bucket"
	ws.Env["STORE_POSTGRES_URL"] = "postgres://someone:pw-canary-88@127.0.0.1:1/x"
	all = runDoctor(ws, 3)
	assertFinding(ws, all, "state", "database", doctor.OK)
	assertFinding(ws, all, "state", "tenable_assets", doctor.OK, "80 records")
	assertFinding(ws, all, "collector okta", "network", doctor.OK)
	assertFinding(ws, all, "collector okta", "access", doctor.Failed, "401", "OKTA_TOKEN")
	assertFinding(ws, all, "collector tenable", "access", doctor.OK)
	assertFinding(ws, all, "destination backup", "access", doctor.Failed, "missing-bucket")
	assertFinding(ws, all, "destination postgres", "access", doctor.Failed, "connection refused")
	ws.Env["OKTA_TOKEN"] = token
	delete(ws.Env, "STORE_AWS_S3_BUCKET")

	// Deliveries to a destination that is gone, and data that is too old. The last-known
	// snapshot is queued as well, since the address of the database has changed.
	ws.Env["STORE_ONCE_TIMEOUT"] = "5s"
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitPartial)
	assertFinding(ws, runDoctor(ws, 3), "state", "undelivered", doctor.Warning, "2 snapshots wait for postgres: ", "connection refused")
	delete(ws.Env, "STORE_POSTGRES_URL")
	assertFinding(ws, runDoctor(ws, 0), "state", "undelivered", doctor.Warning, "collectord drop postgres")
	file := ws.Env["STORE_FILE"]
	ws.Env["STORE_FILE"] = "off" // no destination at all
	assertFinding(ws, runDoctor(ws, 0), "state", "undelivered", doctor.Warning, "collectord drop postgres")
	ws.Env["STORE_FILE"] = file
	makeDataOlder(ws, 8*24*time.Hour)
	assertFinding(ws, runDoctor(ws, 0), "state", "tenable_assets", doctor.Warning, "80 records", "1 week ago", "older than DATA_MAX_AGE or its schedule allows", "--once tenable_assets")
	assertFinding(ws, runDoctor(ws, 0), "state", "okta_users", doctor.OK, "no data yet")

	// A proxy that refuses all connections: it is named, its password is not.
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer proxy.Close()
	ws.Env["HTTPS_PROXY"] = strings.Replace(proxy.URL, "http://", "http://someone:pw-canary-99@", 1)
	ws.Env["OKTA_DOMAIN"] = "acme.okta.invalid"
	all = runDoctor(ws, 3)
	assertFinding(ws, all, "collector okta", "network", doctor.Failed, "through the proxy http://someone:xxxxx@127.0.0.1:", "failed to get through the proxy")
	if err := os.WriteFile(ws.Path("state", "collectord.db"), []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	assertFinding(ws, runDoctor(ws, 3), "state", "database", doctor.Failed, "damaged")
	// Errors that appear only when a destination or a notification target is opened
	// are findings as well.
	ws.Env["STORE_FILE"] = ws.Path("%TENANCY.json")
	all = runDoctor(ws, 78)
	assertFinding(ws, all, "settings", "settings", doctor.Failed, "STORE_FILE", "%TAG")
	assertFinding(ws, all, "state", "database", doctor.Failed)
	ws.Env["STORE_FILE"], ws.Env["NOTIFY_URLS"] = file, "nonsense"
	assertFinding(ws, runDoctor(ws, 78), "settings", "settings", doctor.Failed, "NOTIFY_URLS")
	delete(ws.Env, "NOTIFY_URLS")
	ws.Env["STATE_KEEP"] = "for ever"
	all = runDoctor(ws, 78)
	assertFinding(ws, all, "settings", "settings", doctor.Failed, "STATE_KEEP")
	assertFinding(ws, all, "machine", "memory", doctor.OK)
}

// TestDoctorBesideTheService checks that doctor works while the service runs, and does
// not disturb it.
func TestDoctorBesideTheService(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t).UseVendors(harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable()))
	ws.Env["SCHEDULE"], ws.Env["SCHEDULE_CATCHUP"] = "15 6 1 1 *", "false"
	s := ws.StartService()
	ws.Env["HTTP_LISTEN"] = strings.TrimPrefix(s.BaseURL(), "http://")
	s.WaitForLog(`"ready"`)
	all := runDoctor(ws, 0)
	assertFinding(ws, all, "state", "service", doctor.OK, "is ready")
	assertFinding(ws, all, "state", "database", doctor.OK)
	s.Signal(syscall.SIGTERM)
	ws.AssertResult(s.Wait(), harness.ExitOK, `"stopped"`)
}
