package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
)

// channel starts a server that takes notifications.
func channel(t *testing.T) (url string, bodies <-chan string) {
	t.Helper()
	took := make(chan string, 100)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		took <- string(body)
	}))
	t.Cleanup(server.Close)
	return server.URL + "/services/T0/B0/secret-of-the-webhook", took
}

// refuse makes the vendor refuse all credentials.
func refuse(sim *vendorsim.Server) *vendorsim.Injection {
	return sim.Hosts()[0].Inject(vendorsim.Fault{Times: vendorsim.Forever, Do: vendorsim.Status(401, `{"error":"Invalid Credentials"}`)})
}

// wantTold holds the next notification against the texts.
func (p *place) wantTold(bodies <-chan string, texts ...string) {
	p.Helper()
	select {
	case body := <-bodies:
		for _, text := range texts {
			if !strings.Contains(body, text) {
				p.Errorf("no %q in %s", text, body)
			}
		}
		p.noSecrets(body)
	case <-time.After(30 * time.Second):
		p.Fatalf("nothing was told; want %q", texts)
	}
}

// TestOnceNotifies of a failure and of its end, over several calls.
func TestOnceNotifies(t *testing.T) {
	t.Parallel()
	sim := startVendors(t, smallCounts, smallTenant())
	p := newPlace(t).with(sim)
	url, bodies := channel(t)
	p.env["SLACK_WEBHOOK"] = url
	p.want(p.run("check"), 0, "notification SLACK_WEBHOOK")
	p.want(p.run("--once", "tenable_assets"), 0)
	trouble := refuse(sim)
	p.want(p.run("--once", "tenable_assets"), 3)
	p.wantTold(bodies, "tenable_assets failed", "401", "check TIO_ACCESS_KEY", "Renew the credentials", "The last good data stay: 20")
	p.want(p.run("--once", "tenable_assets"), 3)
	trouble.Remove()
	p.want(p.run("--once", "tenable_assets"), 0)
	p.wantTold(bodies, "tenable_assets works again: 80 records")
	p.want(p.run("--once", "tenable_assets"), 0)
	if len(bodies) > 0 {
		t.Errorf("told more: %s", <-bodies)
	}
	p.env["SLACK_WEBHOOK"] = "http://127.0.0.1:1/secret-of-the-webhook"
	refuse(sim)
	e := p.run("--once", "tenable_assets")
	p.want(e, 3, "a notification was not delivered", "connection refused")
	if strings.Contains(e.all(), "secret-of-the-webhook") {
		t.Errorf("the URL is shown:\n%s", e.all())
	}
	p.env["SLACK_WEBHOOK"], p.env["NOTIFY_URLS"] = "secret-of-the-webhook", "nothing://secret-of-the-webhook"
	p.want(p.run("--once", "tenable_assets"), exitSettings, "SLACK_WEBHOOK", "NOTIFY_URLS")
}

// TestServiceNotifies across a restart; a reload puts another service in
// force.
func TestServiceNotifies(t *testing.T) {
	t.Parallel()
	sim := startVendors(t, smallCounts, smallTenant())
	p := newPlace(t).with(sim)
	first, bodies := channel(t)
	p.env["COLLECTORS"], p.env["SCHEDULE"] = "tenable", "off"
	p.set("NOTIFY_URLS=generic+" + first)
	trouble := refuse(sim)
	s := p.serve()
	s.until(`"ready"`)
	s.signal(syscall.SIGUSR1)
	p.wantTold(bodies, "tenable_assets failed", "tenable_vulnerabilities failed", "There are no earlier data.")
	s.signal(syscall.SIGUSR1)
	for range smallCounts {
		s.until("stream failed")
	}
	s.signal(syscall.SIGTERM)
	p.want(s.ended(), 0)
	s = p.serve()
	s.until(`"ready"`)
	trouble.Remove()
	second, others := channel(t)
	p.set("NOTIFY_URLS=generic+" + second)
	s.signal(syscall.SIGHUP)
	s.until("settings were read anew")
	s.signal(syscall.SIGUSR1)
	p.wantTold(others, "tenable_assets works again", "tenable_vulnerabilities works again")
	s.signal(syscall.SIGTERM)
	p.want(s.ended(), 0)
	if len(bodies)+len(others) > 0 {
		t.Error("more was told")
	}
}
