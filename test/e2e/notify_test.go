package e2e_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/harness"
)

// startWebhook starts a server that receives notifications, and returns its URL and
// the bodies of the requests.
func startWebhook(t *testing.T) (url string, bodies <-chan string) {
	t.Helper()
	received := make(chan string, 100)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		received <- string(body)
	}))
	t.Cleanup(server.Close)
	return server.URL + "/services/T0/B0/secret-of-the-webhook", received
}

// refuseCredentials makes the vendor refuse all credentials.
func refuseCredentials(sim *vendorsim.Server) *vendorsim.Injection {
	return sim.Hosts()[0].Inject(vendorsim.Fault{Times: vendorsim.Forever, Do: vendorsim.Status(401, `{"error":"Invalid Credentials"}`)})
}

// assertNotified waits for the next notification and checks that it contains the texts.
func assertNotified(ws *harness.Workspace, bodies <-chan string, texts ...string) {
	ws.Helper()
	select {
	case body := <-bodies:
		for _, text := range texts {
			if !strings.Contains(body, text) {
				ws.Errorf("the notification does not contain %q: %s", text, body)
			}
		}
		ws.AssertNoSecrets(body)
	case <-time.After(harness.HangLimit):
		ws.Fatalf("no notification was sent; want %q", texts)
	}
}

// TestOnceNotifies checks the notifications of a failure and of its end, over several
// calls of the program.
func TestOnceNotifies(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	url, bodies := startWebhook(t)
	ws.Env["SLACK_WEBHOOK"] = url
	ws.AssertResult(ws.Run("check"), harness.ExitOK, "notification SLACK_WEBHOOK")
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitOK)
	fault := refuseCredentials(sim)
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitPartial)
	assertNotified(ws, bodies, "tenable_assets failed", "401", "check TIO_ACCESS_KEY", "Renew the credentials", "The last good data stay: 20")
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitPartial)
	fault.Remove()
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitOK)
	assertNotified(ws, bodies, "tenable_assets works again: 80 records")
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitOK)
	if len(bodies) > 0 {
		t.Errorf("unexpected notification: %s", <-bodies)
	}
	ws.Env["SLACK_WEBHOOK"] = "http://127.0.0.1:1/secret-of-the-webhook"
	refuseCredentials(sim)
	e := ws.Run("--once", "tenable_assets")
	ws.AssertResult(e, harness.ExitPartial, "a notification was not delivered", "connection refused")
	if strings.Contains(e.Output(), "secret-of-the-webhook") {
		t.Errorf("the URL is shown:\n%s", e.Output())
	}
	ws.Env["SLACK_WEBHOOK"], ws.Env["NOTIFY_URLS"] = "secret-of-the-webhook", "nothing://secret-of-the-webhook"
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitSettings, "SLACK_WEBHOOK", "NOTIFY_URLS")
}

// TestServiceNotifies checks the notifications over a restart, and that a reload changes
// the target.
func TestServiceNotifies(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	first, bodies := startWebhook(t)
	ws.Env["COLLECTORS"], ws.Env["SCHEDULE"] = "tenable", "off"
	ws.WriteEnvFile("NOTIFY_URLS=generic+" + first)
	fault := refuseCredentials(sim)
	s := ws.StartService()
	s.WaitForLog(`"ready"`)
	s.Signal(syscall.SIGUSR1)
	assertNotified(ws, bodies, "tenable_assets failed", "tenable_vulnerabilities failed", "There are no earlier data.")
	s.Signal(syscall.SIGUSR1)
	for range harness.SmallCounts {
		s.WaitForLog("stream failed")
	}
	s.Signal(syscall.SIGTERM)
	ws.AssertResult(s.Wait(), harness.ExitOK)
	s = ws.StartService()
	s.WaitForLog(`"ready"`)
	fault.Remove()
	second, others := startWebhook(t)
	ws.WriteEnvFile("NOTIFY_URLS=generic+" + second)
	s.Signal(syscall.SIGHUP)
	s.WaitForLog("settings reloaded")
	s.Signal(syscall.SIGUSR1)
	assertNotified(ws, others, "tenable_assets works again", "tenable_vulnerabilities works again")
	s.Signal(syscall.SIGTERM)
	ws.AssertResult(s.Wait(), harness.ExitOK)
	if len(bodies)+len(others) > 0 {
		t.Error("unexpected notifications")
	}
}
