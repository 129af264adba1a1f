package main

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
)

// examined runs doctor and returns what it found.
func (p *place) examined(code int) (all []doctor.Finding) {
	p.Helper()
	e := p.run("doctor", "--json")
	p.want(e, code)
	if strings.Contains(e.all(), "canary") {
		p.Errorf("a secret is shown:\n%s", e.all())
	}
	var report struct{ Findings []doctor.Finding }
	if err := json.Unmarshal([]byte(e.stdout), &report); err != nil {
		p.Fatalf("%v: %s", err, e.all())
	}
	return report.Findings
}

// found checks what was found under a group's check.
func (p *place) found(all []doctor.Finding, group, check string, result doctor.Result, says ...string) {
	p.Helper()
	for _, f := range all {
		if f.Group != group || f.Check != check {
			continue
		}
		if f.Result != result {
			p.Errorf("%s, %s is %s, want %s: %+v", group, check, f.Result, result, f)
		}
		for _, text := range says {
			if !strings.Contains(f.Text+" "+f.Advice, text) {
				p.Errorf("%s, %s does not say %q: %+v", group, check, text, f)
			}
		}
		return
	}
	p.Errorf("nothing is said of %s, %s: %+v", group, check, all)
}

// age makes all that is known older.
func (p *place) age(by time.Duration) {
	p.Helper()
	db, err := sql.Open("sqlite", p.file("state", "collectord.db"))
	if err != nil {
		p.Fatal(err)
	}
	defer db.Close()
	for _, statement := range []string{"UPDATE snapshots SET taken = taken - ?", "UPDATE counters SET ended = ended - ?"} {
		if _, err := db.Exec(statement, by.Milliseconds()); err != nil {
			p.Fatal(err)
		}
	}
}

// TestDoctor has all in order, and then one thing after the other not.
func TestDoctor(t *testing.T) {
	t.Parallel()
	sim := startVendors(t, smallCounts, smallTenant(), vendorsim.NewOkta())
	p := newPlace(t).with(sim)
	s3 := testserver.StartS3(t)
	for name, value := range s3.Env() {
		p.env[name] = value
	}
	if err := os.MkdirAll(s3.Object("doctor", ""), 0o755); err != nil {
		t.Fatal(err)
	}
	p.env["STORE_AWS_S3_BUCKET"] = "doctor"
	p.env["STORE_POSTGRES_URL"] = testserver.StartPostgres(t).URL(testserver.Owner, testserver.Password)
	p.env["STORE_POSTGRES_SCHEMA"] = "doctor"

	all := p.examined(0)
	p.found(all, "settings", "collectors", doctor.OK, "okta, tenable on")
	p.found(all, "state", "folder", doctor.OK, "can be made")
	p.found(all, "state", "data", doctor.OK, "nothing has been collected")
	p.found(all, "machine", "disk of STATE_DIR", doctor.OK)
	for _, group := range []string{"collector okta", "collector tenable", "destination backup"} {
		p.found(all, group, "network", doctor.OK, "127.0.0.1:")
		p.found(all, group, "access", doctor.OK)
	}
	p.found(all, "destination postgres", "access", doctor.OK)
	p.found(all, "clock", "this machine's", doctor.OK)
	if _, err := os.Stat(p.file("state")); err == nil {
		t.Error("doctor has made the state folder")
	}
	p.want(p.run("doctor"), 0, "collector okta\n", "takes the credentials")

	p.want(p.run("--once", "tenable_assets"), 0)
	token := p.env["OKTA_TOKEN"]
	p.env["OKTA_TOKEN"], p.env["STORE_AWS_S3_BUCKET"] = "00wrong-canary-77", "missing-bucket"
	p.env["STORE_POSTGRES_URL"] = "postgres://someone:pw-canary-88@127.0.0.1:1/x"
	all = p.examined(3)
	p.found(all, "state", "database", doctor.OK)
	p.found(all, "state", "tenable_assets", doctor.OK, "80 records")
	p.found(all, "collector okta", "network", doctor.OK)
	p.found(all, "collector okta", "access", doctor.Failed, "401", "OKTA_TOKEN")
	p.found(all, "collector tenable", "access", doctor.OK)
	p.found(all, "destination backup", "access", doctor.Failed, "missing-bucket")
	p.found(all, "destination postgres", "access", doctor.Failed, "connection refused")
	p.env["OKTA_TOKEN"] = token
	delete(p.env, "STORE_AWS_S3_BUCKET")

	// What waits for a destination that is gone, and data that are too old.
	p.env["STORE_ONCE_TIMEOUT"] = "1s"
	p.want(p.run("--once", "tenable_assets"), 3)
	p.found(p.examined(3), "state", "undelivered", doctor.Warning, "1 snapshots wait for postgres: ", "connection refused")
	delete(p.env, "STORE_POSTGRES_URL")
	p.found(p.examined(0), "state", "undelivered", doctor.Warning, "collectord drop postgres")
	file := p.env["STORE_FILE"]
	p.env["STORE_FILE"] = "off" // no destination at all
	p.found(p.examined(0), "state", "undelivered", doctor.Warning, "collectord drop postgres")
	p.env["STORE_FILE"] = file
	p.age(8 * 24 * time.Hour)
	p.found(p.examined(0), "state", "tenable_assets", doctor.Warning, "80 records", "1 week ago", "older than its schedule allows", "--once tenable_assets")
	p.found(p.examined(0), "state", "okta_users", doctor.OK, "no data yet")

	// A proxy that lets nothing through: it is named, its password is not.
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer proxy.Close()
	p.env["HTTPS_PROXY"] = strings.Replace(proxy.URL, "http://", "http://someone:pw-canary-99@", 1)
	p.env["OKTA_DOMAIN"] = "acme.okta.invalid"
	all = p.examined(3)
	p.found(all, "collector okta", "network", doctor.Failed, "by the proxy http://someone:xxxxx@127.0.0.1:", "failed to get through the proxy")
	if err := os.WriteFile(p.file("state", "collectord.db"), []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	p.found(p.examined(3), "state", "database", doctor.Failed, "damaged")
	// What only opening a destination or a notification tells is a finding, too.
	p.env["STORE_FILE"] = p.file("one.json")
	all = p.examined(78)
	p.found(all, "settings", "settings", doctor.Failed, "STORE_FILE", "%TAG")
	p.found(all, "state", "database", doctor.Failed)
	p.env["STORE_FILE"], p.env["NOTIFY_URLS"] = file, "nonsense"
	p.found(p.examined(78), "settings", "settings", doctor.Failed, "NOTIFY_URLS")
	delete(p.env, "NOTIFY_URLS")
	p.env["STATE_KEEP"] = "for ever"
	all = p.examined(78)
	p.found(all, "settings", "settings", doctor.Failed, "STATE_KEEP")
	p.found(all, "machine", "memory", doctor.OK)
}

// TestDoctorBesideTheService looks while the service runs, and disturbs it not.
func TestDoctorBesideTheService(t *testing.T) {
	t.Parallel()
	p := newPlace(t).with(startVendors(t, smallCounts, smallTenant()))
	p.env["SCHEDULE"], p.env["SCHEDULE_CATCHUP"] = "15 6 1 1 *", "false"
	s := p.serve()
	p.env["HTTP_LISTEN"] = strings.TrimPrefix(s.address(), "http://")
	s.until(`"ready"`)
	all := p.examined(0)
	p.found(all, "state", "service", doctor.OK, "is ready")
	p.found(all, "state", "database", doctor.OK)
	s.signal(syscall.SIGTERM)
	p.want(s.ended(), 0, `"stopped"`)
}
