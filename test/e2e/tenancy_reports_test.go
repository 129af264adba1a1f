package e2e_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/harness"
)

// documentOf decodes the only JSON document of a command about several tenancies, and returns
// the element of each.
func documentOf(t *testing.T, r harness.Result, names ...string) map[string]map[string]any {
	t.Helper()
	var document struct {
		Tenancies []map[string]any
	}
	if err := json.Unmarshal([]byte(r.Stdout), &document); err != nil {
		t.Fatalf("%v: %s", err, r.Output())
	}
	byName := map[string]map[string]any{}
	var got []string
	for _, one := range document.Tenancies {
		name, _ := one["tenancy"].(string)
		byName[name] = one
		got = append(got, name)
	}
	if strings.Join(got, " ") != strings.Join(names, " ") {
		t.Errorf("the document has %q, want %q", got, names)
	}
	return byName
}

// requireTenancyIn checks that the log lines that contain part have the field tenancy.
func requireTenancyIn(t *testing.T, r harness.Result, part string) {
	t.Helper()
	lines := 0
	for line := range strings.Lines(r.Stderr) {
		if strings.Contains(line, part) {
			lines++
			if !strings.Contains(line, `"tenancy":"`) {
				t.Errorf("a line without its tenancy: %s", line)
			}
		}
	}
	if lines == 0 {
		t.Errorf("no line has %s: %s", part, r.Stderr)
	}
}

// TestReportsOfTenancies checks what commands print about several tenancies, of which one
// cannot be used, one has undelivered snapshots, and one has another collector.
func TestReportsOfTenancies(t *testing.T) {
	t.Parallel()
	ws := newTenancies(t)
	ws.Env["METRICS_TEXTFILE"] = ws.Path("all.prom")
	ws.Env["STORE_ONCE_TIMEOUT"] = "1s"
	okta := harness.StartVendors(t, map[string]int{vendorsim.OktaUsers: 5}, vendorsim.NewOkta())
	blocked := filepath.Join(ws.Dir, "blocked")
	harness.WriteFile(t, blocked, "a file in place of a directory")
	ws.write("acme", ws.vendorLines(30)...)
	ws.write("bad", "TIO_ACCESS_KEY=x")
	ws.write("globex", append(ws.vendorLines(70), "STORE_FILE="+filepath.Join(blocked, "%TAG.json"))...)
	ws.write("initech", append(okta.Hosts()[0].Env(), "COLLECTORS=okta_users")...)
	all := []string{"acme", "bad", "globex", "initech"}

	r := ws.Run("--once", "--json")
	ws.AssertResult(r, harness.ExitSettings, "tenancy bad: bad.env: no collector is switched on", "tenancy globex: 1 delivery stays queued")
	requireTenancyIn(t, r, `"run starts"`)
	once := documentOf(t, r, all...)
	if text := once["bad"]["error"]; text == nil || len(once["acme"]["streams"].([]any)) != 1 || once["acme"]["error"] != nil {
		t.Errorf("bad has the error %v, acme %v", text, once["acme"])
	}
	for _, series := range []string{`stream="tenable_assets",tenancy="acme"} 30`, `stream="tenable_assets",tenancy="globex"} 70`, `stream="okta_users",tenancy="initech"} 5`,
		`collectord_config_last_reload_successful{tenancy="bad"} 0`, `collectord_config_last_reload_successful{tenancy="acme"} 1`, `collectord_config_last_reload_successful{tenancy=""} 1`} {
		if !strings.Contains(ws.Content(ws.Path("all.prom")), series) {
			t.Errorf("the metrics do not have %s", series)
		}
	}
	for _, command := range []string{"status", "list", "check", "doctor"} {
		documentOf(t, ws.Run(command, "--json"), all...)
	}
	documentOf(t, ws.Run("tenancy", "list", "--json"), all...)

	r = ws.Run("status")
	ws.AssertResult(r, harness.ExitSettings, "tenancy bad: bad.env: no collector", "tenancy globex: tenable_assets to file, ")
	if n := strings.Count(r.Stdout, "\ntenable_assets "); n != 2 || strings.Count(r.Stdout, "\nokta_users ") != 1 {
		t.Errorf("tenable_assets has %d rows, want one for each tenancy:\n%s", n, r.Stdout)
	}
	r = ws.Run("status", "--tenancy", "acme")
	ws.AssertResult(r, harness.ExitOK, "tenable_assets")
	if strings.Contains(r.Stdout, "globex") || strings.Contains(r.Stdout, "initech") {
		t.Errorf("the status of acme has others: %s", r.Stdout)
	}
	r = ws.Run("check")
	if strings.Contains(r.Output(), "FALCON_CLIENT_ID") || strings.Contains(r.Output(), "in .env") {
		t.Errorf("the error of a file lists all collectors: %s", r.Output())
	}
	ws.AssertResult(r, harness.ExitSettings, "# tenancy bad\nsettings cannot be used\n  error        bad.env: no collector is switched on",
		"# all tenancies\n4 tenancies: 2 good, 1 with warnings, 1 unusable\n  unusable     bad\n", "tenancy bad: its settings cannot be used")
	if n := strings.Count(r.Stdout, "  state  "); n != 1 {
		t.Errorf("the state directory is named %d times: %s", n, r.Stdout)
	}
	ws.AssertResult(ws.Run("doctor"), harness.ExitSettings, "machine\n", "# tenancy acme\nsettings\n", "FAILED  settings  bad.env: no collector", "1 snapshot waits for file")
	ws.AssertResult(ws.Run("doctor", "--tenancy", "acme"), harness.ExitOK, "tenable_assets", "30 records")
	ws.AssertResult(ws.Run("doctor", "--tenancy", "none"), harness.ExitUsage, `there is no tenancy "none"`)
	r = ws.Run("deliver", "--tenancy", "globex", "--json")
	ws.AssertResult(r, harness.ExitPartial, `"tenancy": "globex"`, `"status": "refused"`, `"queued_deliveries": 1`)
	requireTenancyIn(t, r, `"sink":"file"`)

	ws.remove("bad")
	r = ws.Run("--once", "okta_users")
	ws.AssertResult(r, harness.ExitOK, "# tenancy acme\nnothing to run", "okta_users  success")
	if strings.Contains(r.Stderr, "queued snapshots of another tenancy") {
		t.Errorf("a tenancy of the settings counts as foreign: %s", r.Stderr)
	}
	ws.AssertResult(ws.Run("--once", "snyk"), harness.ExitSettings, "snyk: it is on in none of the tenancies")
	ws.AssertResult(ws.Run("--once", "snyc"), harness.ExitUsage, `"snyc" is neither a collector nor a stream`)
}

// TestTenanciesRunTogether checks that --once runs tenancies at the same time: the vendor of
// each responds when the other one was requested, too.
func TestTenanciesRunTogether(t *testing.T) {
	t.Parallel()
	ws := newTenancies(t)
	var requested sync.WaitGroup
	for _, tenancy := range []string{"acme", "globex"} {
		requested.Add(1)
		once := sync.OnceFunc(requested.Done)
		vendor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			once()
			both := make(chan struct{})
			go func() { requested.Wait(); close(both) }()
			select {
			case <-both:
			case <-time.After(time.Minute):
				t.Errorf("only the vendor of %s was requested", tenancy)
			}
			w.WriteHeader(http.StatusUnauthorized)
		}))
		t.Cleanup(vendor.Close)
		ws.write(tenancy, "TIO_URL="+vendor.URL, "TIO_ACCESS_KEY="+strings.Repeat("a", 64), "TIO_SECRET_KEY="+strings.Repeat("b", 64), "COLLECTORS=tenable_assets")
	}
	ws.AssertResult(ws.Run("--once"), harness.ExitPartial, "# tenancy acme\n", "# tenancy globex\n", "tenancy acme: 1 of 1 stream has no new snapshot")
}
