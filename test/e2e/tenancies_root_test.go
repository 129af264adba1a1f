package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/harness"
)

// postQuery sends a query to a service and returns the status and the result as CSV.
func postQuery(s *harness.Service, url, token, sql string) (int, string) {
	s.Helper()
	body, err := json.Marshal(map[string]string{"sql": sql, "format": "csv"})
	if err != nil {
		s.Fatal(err)
	}
	r, err := http.NewRequestWithContext(s.Context(), "POST", url+"/api/v1/query", strings.NewReader(string(body)))
	if err != nil {
		s.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// TestQueriesOverTenancies checks that a query at the root reads the tenancies of its token,
// also one whose file cannot be used any more, and nothing of others.
func TestQueriesOverTenancies(t *testing.T) {
	t.Parallel()
	const token, tokenOfAcme, tokenOfReader = "token-of-the-operator", "token-of-acme-alone", "token-of-a-reader-1"
	ws := newTenancies(t)
	ws.write("acme", ws.vendorLines(30)...)
	globex := ws.vendorLines(70)
	ws.write("globex", globex...)
	ws.AssertResult(ws.Run("--once"), harness.ExitOK)
	ws.write("globex", append(globex, "RUN_TIMEOUT=soon")...)
	tokens := filepath.Join(ws.Dir, "tokens.yml")
	harness.WriteFile(t, tokens, fmt.Sprintf(`
- {name: operator, token: %s, tenancies: "*", rights: [read, query]}
- {name: acme, token: %s, tenancies: [acme], rights: [read, query]}
- {name: reader, token: %s, tenancies: "*", rights: [read]}
`, token, tokenOfAcme, tokenOfReader))
	ws.Env["HTTP_TOKENS_FILE"], ws.Env["HTTP_QUERY"], ws.Env["SCHEDULE"], ws.Env["SCHEDULE_CATCHUP"] = tokens, "true", "off", "false"
	s := ws.StartService()
	base := s.BaseURL()
	s.WaitForLog(`"ready"`)
	const sql = "SELECT _tenancy, count(*) AS n FROM tenable_assets GROUP BY ALL ORDER BY 1"
	for name, want := range map[string]struct {
		status int
		text   string
	}{
		token:         {200, "_tenancy,n\nacme,30\nglobex,70\n"},
		tokenOfAcme:   {200, "_tenancy,n\nacme,30\n"},
		tokenOfReader: {403, "does not have the right to query"},
	} {
		if status, text := postQuery(s, base, name, sql); status != want.status || !strings.Contains(text, want.text) || status == 200 && text != want.text {
			t.Errorf("%s: %d %s, want %d %s", name, status, text, want.status, want.text)
		}
	}
	for _, path := range []string{"/", "/query"} {
		if status, page := s.Request("GET", base+path, tokenOfAcme); status != 200 || strings.Contains(page, "globex") || !strings.Contains(page, `href="/query"`) {
			t.Errorf("%s for acme: %d %s", path, status, page)
		}
	}
	s.Signal(syscall.SIGTERM)
	ws.AssertResult(s.Wait(), harness.ExitOK)
}

// TestRefusedDeliveriesOfATenancy checks that a tenancy whose deliveries are refused is not
// shown as fresh.
func TestRefusedDeliveriesOfATenancy(t *testing.T) {
	t.Parallel()
	ws := newTenancies(t)
	blocked := filepath.Join(ws.Dir, "blocked")
	harness.WriteFile(t, blocked, "a file in place of a directory")
	ws.write("acme", ws.vendorLines(30)...)
	ws.write("globex", append(ws.vendorLines(70), "STORE_FILE="+filepath.Join(blocked, "%TAG.json"))...)
	s := ws.StartService()
	base := s.BaseURL()
	s.WaitForLog("not stored; it stays queued", `"tenancy":"globex"`)
	waitForRecords(ws.Workspace, ws.file("tenable_assets", "acme"))
	_, text := s.Request("GET", base+"/api/v1/tenancies", "")
	var document struct {
		Tenancies []struct {
			Tenancy string
			Refused int `json:"refused_deliveries"`
		}
	}
	if err := json.Unmarshal([]byte(text), &document); err != nil || fmt.Sprint(document.Tenancies) != "[{acme 0} {globex 1}]" {
		t.Errorf("tenancies with refused deliveries: %v, %v", document.Tenancies, err)
	}
	_, page := s.Request("GET", base+"/", "")
	for tenancy, state := range map[string]string{"acme": "fresh", "globex": "refused"} {
		if want := `<td id="t.` + tenancy + `.state" data-live><span class="state ` + state + `">`; !strings.Contains(page, want) {
			t.Errorf("no %s in %s", want, page)
		}
	}
	if acme, globex := strings.Index(page, `id="t.acme"`), strings.Index(page, `id="t.globex"`); acme < globex {
		t.Error("the tenancy with refused deliveries is not the first one")
	}
	s.Signal(syscall.SIGTERM)
	ws.AssertResult(s.Wait(), harness.ExitOK)
}

// TestFilesWithOneName checks that two files with the same TENANCY have that name everywhere,
// at a start and at a reload, and that a file has the name that it sets while other settings of
// it cannot be used.
func TestFilesWithOneName(t *testing.T) {
	t.Parallel()
	const good = "collectord_config_last_reload_successful"
	ws := newTenancies(t)
	ws.Env["HTTP_TOKEN"], ws.Env["METRICS_TEXTFILE"] = "token-of-the-operator", ws.Path("all.prom")
	lines := append(ws.vendorLines(3), "SCHEDULE=0 0 1 1 *", "SCHEDULE_CATCHUP=false")
	with := func(more ...string) []string { return append(slices.Clone(lines), more...) }
	ws.write("one", with("TENANCY=acme")...)
	ws.write("two", with("TENANCY=acme")...)
	ws.write("three", with("TENANCY=beta", "RUN_TIMEOUT=soon")...)
	ws.write("works", with()...)
	names := func(text string) (list string) {
		var document struct{ Tenancies []struct{ Tenancy string } }
		if err := json.Unmarshal([]byte(text), &document); err != nil {
			t.Errorf("%v: %s", err, text)
		}
		return fmt.Sprint(document.Tenancies)
	}
	if got := names(ws.Run("tenancy", "list", "--json").Stdout); got != "[{acme} {acme} {beta} {works}]" {
		t.Errorf("tenancy list has %s", got)
	}
	ws.AssertResult(ws.Run("tenancy", "list"), harness.ExitOK, `tenancy acme: one.env: TENANCY: "acme" is also the name of two.env`, "tenancy beta: three.env: RUN_TIMEOUT")
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitSettings, "tenancy acme: two.env: TENANCY", "tenancy beta: three.env: RUN_TIMEOUT")
	requireSeries := func(text string, values ...string) {
		t.Helper()
		for _, value := range values {
			if strings.Count(text, good+"{tenancy="+value+"\n") != 1 {
				t.Errorf("no series %s{tenancy=%s", good, value)
			}
		}
		if got := strings.Count(text, "\n"+good+"{"); got != len(values) {
			t.Errorf("%d series %s, want %d", got, good, len(values))
		}
	}
	requireSeries(ws.Content(ws.Path("all.prom")), `""} 1`, `"acme"} 0`, `"beta"} 0`, `"works"} 1`)

	s := ws.StartService()
	s.WaitForLog("a tenancy cannot be used", "tenancy acme (one.env)", "two.env")
	s.WaitForLog("a tenancy cannot be used", "tenancy acme (two.env)", "one.env")
	s.WaitForLog("a tenancy cannot be used", "tenancy beta (three.env)")
	base := s.BaseURL()
	requireAPI := func(want string) {
		t.Helper()
		_, text := s.Request("GET", base+"/api/v1/tenancies", "")
		if got := names(text); got != want || strings.Contains(text, "one.env") || strings.Contains(text, "two.env") {
			t.Errorf("the API has %s, want %s: %s", got, want, text)
		}
	}
	requireAPI("[{acme} {beta} {works}]")
	_, text := s.Request("GET", base+"/metrics", "")
	requireSeries(text, `""} 1`, `"acme"} 0`, `"beta"} 0`, `"works"} 1`)
	if status, body := s.Request("GET", base+"/tenancies/acme/api/v1/status", ""); status != 503 || strings.Count(body, "another tenancy") != 1 {
		t.Errorf("the status of acme: %d %s", status, body)
	}

	ws.remove("two")
	ws.write("three", with("TENANCY=beta")...)
	s.Signal(syscall.SIGHUP)
	s.WaitForLog("a tenancy begins", `"tenancy":"acme"`)
	s.WaitForLog("a tenancy begins", `"tenancy":"beta"`)
	ws.write("two", with("TENANCY=acme", "RUN_TIMEOUT=soon")...)
	if status, body := s.Request("POST", base+"/-/reload", ws.Env["HTTP_TOKEN"]); status != 422 || !strings.Contains(body, "tenancy acme (two.env): RUN_TIMEOUT") {
		t.Errorf("the reload: %d %s", status, body)
	}
	requireAPI("[{acme} {beta} {works}]")
	_, text = s.Request("GET", base+"/metrics", "")
	requireSeries(text, `""} 1`, `"acme"} 0`, `"beta"} 1`, `"works"} 1`)
	if status, body := s.Request("GET", base+"/tenancies/acme/api/v1/status", ""); status != 200 || !strings.Contains(body, "another file with the name of this tenancy cannot be used") {
		t.Errorf("the status of acme, which works: %d %s", status, body)
	}
	s.Signal(syscall.SIGTERM)
	ws.AssertResult(s.Wait(), harness.ExitOK)

	// A command is for the file that can be used, and its metrics agree with those of the service.
	ws.remove("two")
	ws.write("another", with("TENANCY=acme", "RUN_TIMEOUT=soon")...)
	ws.AssertResult(ws.Run("check", "--tenancy", "acme"), harness.ExitOK, "settings are good")
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitSettings, "tenancy acme: another.env: RUN_TIMEOUT")
	requireSeries(ws.Content(ws.Path("all.prom")), `""} 1`, `"acme"} 0`, `"beta"} 1`, `"works"} 1`)
}

// TestTenancyNamesInShells checks what shells offer for names of tenancies, and the error of a
// name that does not exist.
func TestTenancyNamesInShells(t *testing.T) {
	t.Parallel()
	ws := newTenancies(t)
	ws.write("acme", ws.vendorLines(3)...)
	ws.write("globex", ws.vendorLines(3)...)
	ws.AssertResult(ws.Run("--once"), harness.ExitOK)
	ws.remove("globex")
	ws.write("umbrella", oktaLines()...)
	for _, tc := range []struct{ line, want string }{
		{"status --tenancy ", "acme\numbrella\n:4\n"},
		{"status --tenancy um", "umbrella\n:4\n"},
		{"status --tenancy=a", "acme\n:4\n"},
		{"query --without ", "acme\numbrella\n:4\n"},
		{"tenancy forget ", "globex\n:4\n"},
		{"tenancy forget globex ", ":4\n"},
		{"--tenancy nosuch --once tenable_as", "tenable_assets\tan asset (export version 1)\n:4\n"},
	} {
		if r := ws.Run(append([]string{"__complete"}, strings.Split(tc.line, " ")...)...); r.Code != harness.ExitOK || r.Stdout != tc.want {
			t.Errorf("%q offers %q, want %q: %s", tc.line, r.Stdout, tc.want, r.Stderr)
		}
	}
	for _, command := range []string{"status", "check", "doctor", "query SELECT", "deliver", "list", "--once"} {
		ws.AssertResult(ws.Run(append(strings.Fields(command), "--tenancy", "acmee")...), harness.ExitUsage,
			`--tenancy: there is no tenancy "acmee": did you mean acme?; the tenancies in `+ws.dir+" are acme, umbrella")
	}
	ws.AssertResult(ws.Run("query", "--without", "nosuch", "SELECT 1"), harness.ExitUsage, `--without: there is no tenancy "nosuch"; the tenancies in `, "are acme, umbrella")
	ws.AssertResult(ws.Run("completion", "bash", "--tenancy", "nosuch"), harness.ExitUsage, "--tenancy has no effect here: completion prints the script of a shell")
}

// TestTenancyRemovedDuringARun checks that a run of a tenancy whose file was removed may finish
// within SHUTDOWN_GRACE, is then stored, and otherwise ends with a reason that is recorded.
func TestTenancyRemovedDuringARun(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, grace string
		finishes    bool
	}{{"finishes", "10m", true}, {"is cancelled", "100ms", false}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			ws := newTenancies(t)
			ws.Env["SHUTDOWN_GRACE"] = tc.grace
			sim := harness.StartVendors(t, map[string]int{vendorsim.OktaUsers: 5}, vendorsim.NewOkta())
			requested, proceed := make(chan struct{}), make(chan struct{})
			release, request := sync.OnceFunc(func() { close(proceed) }), sync.OnceFunc(func() { close(requested) })
			t.Cleanup(release)
			sim.Hosts()[0].Inject(vendorsim.Fault{Times: vendorsim.Forever, Do: vendorsim.Before(func() { request(); <-proceed })})
			lines := append(sim.Hosts()[0].Env(), "COLLECTORS=okta_users")
			ws.write("acme", lines...)
			ws.write("globex", oktaLines()...)
			s := ws.StartService()
			base := s.BaseURL()
			<-requested
			ws.remove("acme")
			s.Signal(syscall.SIGHUP)
			s.WaitForLog("the tenancy ends, since its file is gone", `"tenancy":"acme"`, `"runs":1`)
			if tc.finishes {
				release()
				s.WaitForLog("the tenancy has ended", `"tenancy":"acme"`)
				if got := strings.Count(ws.Content(ws.file("okta_users", "acme")), `"_tenancy":"acme"`); got != 5 {
					t.Errorf("%d records are stored, want 5", got)
				}
			} else {
				s.WaitForLog("the tenancy has ended", `"tenancy":"acme"`)
				ws.write("acme", append(lines, "SCHEDULE=off", "SCHEDULE_CATCHUP=false")...)
				s.Signal(syscall.SIGHUP)
				s.WaitForLog("a tenancy begins", `"tenancy":"acme"`)
				_, text := s.Request("GET", base+"/tenancies/acme/api/v1/runs", "")
				if !strings.Contains(text, `"outcome":"cancelled"`) || !strings.Contains(text, "the tenancy was removed: its file in TENANCIES_DIR is gone: SHUTDOWN_GRACE, 100ms, is over") {
					t.Errorf("the runs are %s", text)
				}
			}
			s.Signal(syscall.SIGTERM)
			ws.AssertResult(s.Wait(), harness.ExitOK)
		})
	}
}

// TestImportRemovesSecrets checks that errors which another instance has kept are imported
// without the secrets that these settings know, such as those of another tenancy.
func TestImportRemovesSecrets(t *testing.T) {
	t.Parallel()
	const secret = "00secret-of-globex-alone"
	sim := harness.StartVendors(t, map[string]int{vendorsim.OktaUsers: 5}, vendorsim.NewOkta())
	sim.Hosts()[0].Inject(vendorsim.Fault{
		Times: vendorsim.Forever, Do: vendorsim.Status(http.StatusForbidden, `{"errorSummary":"want a role, not `+secret+`"}`),
	})
	old := harness.NewWorkspace(t).UseVendors(sim)
	old.Env["TENANCY"], old.Env["COLLECTORS"] = "acme", "okta_users"
	old.AssertResult(old.Run("--once"), harness.ExitPartial, secret)

	ws := newTenancies(t)
	globex := harness.StartVendors(t, map[string]int{vendorsim.OktaUsers: 5}, vendorsim.NewOkta()).Hosts()[0]
	globex.AcceptKey(secret)
	ws.write("globex", "OKTA_DOMAIN="+globex.URL(), "OKTA_TOKEN="+secret, "COLLECTORS=okta_users")
	ws.AssertResult(ws.Run("--once"), harness.ExitOK)
	ws.AssertResult(ws.Run("tenancy", "import", old.Path("state")), harness.ExitOK, "# tenancy acme\n")
	ws.write("acme", append(sim.Hosts()[0].Env(), "COLLECTORS=okta_users")...)
	r := ws.Run("status", "--tenancy", "acme", "--json")
	ws.AssertResult(r, harness.ExitOK, "want a role, not [redacted]")
	if strings.Contains(r.Output(), secret) {
		t.Errorf("the status has the secret: %s", r.Stdout)
	}
}
