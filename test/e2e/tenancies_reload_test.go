package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/collectord/collectord/test/harness"
)

// oktaLines are the settings of a tenancy that collects nothing by itself.
func oktaLines(more ...string) []string {
	return append([]string{"OKTA_DOMAIN=acme.okta.com", "OKTA_TOKEN=s3cr3t-of-okta", "SCHEDULE=off"}, more...)
}

// requireMetrics checks that the metrics have lines.
func requireMetrics(s *harness.Service, base string, lines ...string) {
	s.Helper()
	_, text := s.Request("GET", base+"/metrics", "")
	for _, line := range lines {
		if !strings.Contains(text, line+"\n") {
			s.Errorf("no line %s", line)
		}
	}
}

// TestUnusableTenancies checks what the operator learns about tenancies and shared settings
// that cannot be used, and that a reload without any tenancy changes nothing.
func TestUnusableTenancies(t *testing.T) {
	t.Parallel()
	const good = "collectord_config_last_reload_successful"
	ws := newTenancies(t)
	webhook, bodies := startWebhook(t)
	ws.Env["NOTIFY_URLS"], ws.Env["HTTP_TOKEN"] = "generic+"+webhook, "token-of-the-operator"
	s := ws.StartService()
	s.WaitForLog("there is no tenancy yet", "has no file NAME.env")
	base := s.BaseURL()
	requireMetrics(s, base, good+`{tenancy=""} 0`)
	if status, body := s.Request("GET", base+"/-/data", ""); status != 503 || !strings.Contains(body, "TENANCIES_DIR has no tenancy") {
		t.Errorf("the check of the data without a tenancy: %d %s", status, body)
	}
	ws.write("acme", oktaLines()...)
	ws.write("bad", oktaLines("SCHEDULE=s3cr3t-of-okta")...)
	twins := filepath.Join(ws.Dir, "twins", "%TAG.json")
	ws.write("twin", oktaLines("STORE_FILE="+twins)...)
	ws.write("other", oktaLines("STORE_FILE="+twins)...)
	if err := syscall.Mkfifo(filepath.Join(ws.dir, "pipe.env"), 0o600); err != nil {
		t.Fatal(err)
	}
	reload := func(want string) {
		t.Helper()
		if status, body := s.Request("POST", base+"/-/reload", ws.Env["HTTP_TOKEN"]); status != 422 || !strings.Contains(body, want) {
			t.Errorf("the reload: %d %s", status, body)
		}
	}
	reload("pipe.env: not a regular file")
	s.WaitForLog("a tenancy begins", `"tenancy":"acme"`)
	requireMetrics(s, base, good+`{tenancy=""} 1`, good+`{tenancy="acme"} 1`, good+`{tenancy="bad"} 0`, good+`{tenancy="pipe"} 0`, good+`{tenancy="twin"} 0`)
	if _, body := s.Request("GET", base+"/tenancies/twin/api/v1/status", ""); !strings.Contains(body, "another tenancy") || strings.Contains(body, "other.env") {
		t.Errorf("the status of twin: %s", body)
	}

	kept := filepath.Join(ws.Dir, "unmounted")
	if err := os.Rename(ws.dir, kept); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(ws.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	reload("the old settings stay in force: TENANCIES_DIR: ")
	requireMetrics(s, base, good+`{tenancy=""} 0`, good+`{tenancy="acme"} 1`)
	s.Signal(syscall.SIGTERM)
	ws.AssertResult(s.Wait(), harness.ExitOK)
	assertNotified(ws.Workspace, bodies, "The tenancy bad cannot be used", "The tenancy twin cannot be used", "other.env", "The settings were not all reloaded", "check whether it is mounted")
}

// TestTokensAreKept checks that a reload with tokens that cannot be used keeps those before, and
// that a metric shows it.
func TestTokensAreKept(t *testing.T) {
	t.Parallel()
	const token = "a-token-of-the-operator"
	ws := newTenancies(t)
	ws.write("acme", oktaLines()...)
	tokens := filepath.Join(ws.Dir, "tokens.yml")
	ws.Env["HTTP_TOKENS_FILE"] = tokens
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(tokens, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("- {name: ops, token: " + token + `, tenancies: "*", rights: [read, run]}`)
	s := ws.StartService()
	base := s.BaseURL()
	s.WaitForLog(`"ready"`)
	write("- nothing")
	if status, body := s.Request("POST", base+"/-/reload", token); status != 422 || !strings.Contains(body, "HTTP_TOKENS_FILE") {
		t.Errorf("the reload: %d %s", status, body)
	}
	_, text := s.Request("GET", base+"/metrics", token)
	for _, line := range []string{`collectord_config_last_reload_successful{tenancy=""} 0`, `collectord_config_last_reload_successful{tenancy="acme"} 1`} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	s.Signal(syscall.SIGTERM)
	ws.AssertResult(s.Wait(), harness.ExitOK)
}
