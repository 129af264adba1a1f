package azureentra

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
)

// openEntra opens the collector of the simulated tenant. change may be nil.
func openEntra(h *collectortest.Harness, change func(*Settings)) *collector.Collector {
	h.Helper()
	address := h.Address()
	s := Settings{
		Tenant: vendorsim.MicrosoftTenant, ClientID: vendorsim.MicrosoftClientID, Secret: vendorsim.MicrosoftSecret,
		Authority: address, Graph: address, LogDays: 7, Activity: true,
	}
	if change != nil {
		change(&s)
	}
	a, err := openAccount(&s, collector.Options{Version: "test"})
	if err != nil {
		h.Fatal(err)
	}
	a.graph.SetTransport(h.HTTP)
	return source.NewCollector("azure_entra", a)
}

var streamNames = []string{
	vendorsim.EntraUsers, vendorsim.EntraGroups, vendorsim.EntraServicePrincipals, vendorsim.EntraPolicies,
	vendorsim.EntraMethods, vendorsim.EntraSignIns, vendorsim.EntraAuditLogs,
}

// tenant is the simulated tenant.
var tenant = collectortest.Tenant{
	New: func() collectortest.MicrosoftVendor { return vendorsim.NewAzureEntra() }, Lists: streamNames,
	Open: func(h *collectortest.Harness) *collector.Collector { return openEntra(h, nil) },
}

func TestEntraUnderFaults(t *testing.T) {
	for _, tc := range []struct {
		stream, path, permission string
		besides                  int // requests before the first page: for a token, and for one user
	}{
		{stream: vendorsim.EntraUsers, path: "/v1.0/users", permission: "User.Read.All of Microsoft Graph", besides: 2},
		{stream: vendorsim.EntraSignIns, path: "/v1.0/auditLogs/signIns", permission: "AuditLog.Read.All and Directory.Read.All", besides: 1},
	} {
		t.Run(tc.stream, func(t *testing.T) {
			p := collectortest.PagedStream{
				Options: func() vendorsim.Options { return tenant.Simulate(150, nil) },
				Open: func(h *collectortest.Harness) collector.Stream {
					return collectortest.FindStream(h, openEntra(h, nil), tc.stream)
				},
				Want:       func(h *collectortest.Harness) []string { return h.Records(tc.stream) },
				Requests:   4 + tc.besides,
				Path:       tc.path,
				Credential: "AZURE_CLIENT_ID",
				Permission: tc.permission,
				Secret:     vendorsim.MicrosoftSecret,
				Renews:     true,
			}
			p.TestPassing(t, map[string]vendorsim.Fault{
				"509":                 {Times: 2, Do: vendorsim.Status(509, `{"error":{"code":"BandwidthLimitExceeded"}}`)},
				"503 with a wait":     {Do: vendorsim.Status(503, `{"error":{"code":"ServiceUnavailable"}}`, "Retry-After", "40")},
				"429 without a wait ": {Do: vendorsim.Status(429, `{"error":{"code":"TooManyRequests"}}`)},
			})
			p.TestLasting(t)
		})
	}
}

// TestEntraStreams: each stream has the vendor's records, by the fewest requests, also
// with empty pages between others, without records, and with a last page that is full.
func TestEntraStreams(t *testing.T) {
	for _, stream := range streamNames {
		probe := 0
		if stream == vendorsim.EntraUsers {
			probe = 1
		}
		for _, tc := range []struct {
			name      string
			records   int
			configure func(*vendorsim.MicrosoftBehaviour)
			pages     int
		}{
			{name: "no records", records: 0, pages: 1},
			{name: "one record", records: 1, pages: 1},
			{name: "last page full", records: 120, pages: 3},
			{name: "several pages", records: 130, pages: 4},
			{name: "empty pages between", records: 130, configure: func(b *vendorsim.MicrosoftBehaviour) { b.EmptyBetween = true }, pages: 7},
		} {
			t.Run(stream+"/"+tc.name, func(t *testing.T) {
				collectortest.Run(t, tenant.Simulate(tc.records, tc.configure), func(h *collectortest.Harness) {
					s := collectortest.FindStream(h, openEntra(h, nil), stream)
					h.AssertRecords(h.Extract(s), h.Records(stream))
					h.AssertRequests(1 + probe + tc.pages)
					if doubts := h.Stats.Doubts(); len(doubts) > 0 {
						t.Errorf("doubts %v", doubts)
					}
				})
			})
		}
	}
}

// TestEntraUsersAreWhole: the members of users are asked for by name, on each page.
func TestEntraUsersAreWhole(t *testing.T) {
	collectortest.Run(t, tenant.Simulate(100, nil), func(h *collectortest.Harness) {
		c := openEntra(h, func(s *Settings) { s.Members = []string{"customSecurityAttributes"} })
		h.AssertRecords(h.Extract(c.Streams[0]), h.Records(vendorsim.EntraUsers))
		for _, r := range h.Host.Stats().Log[2:] {
			q, err := url.ParseQuery(r.Query)
			if err != nil {
				t.Fatal(err)
			}
			selected := strings.Split(q.Get("$select"), ",")
			for _, member := range append([]string{"signInActivity", "customSecurityAttributes"}, userMembers...) {
				if !slices.Contains(selected, member) {
					t.Errorf("%s is not asked for: %s", member, r.Query)
				}
			}
			if q.Get("$top") != "500" {
				t.Errorf("$top is %q, want the most with signInActivity", q.Get("$top"))
			}
		}
	})
}

// TestEntraWithoutSignInActivity: where signInActivity is refused, users are stored
// without it, and that is a doubt unless it is switched off.
func TestEntraWithoutSignInActivity(t *testing.T) {
	for _, tc := range []struct {
		name       string
		change     func(*Settings)
		configure  func(*vendorsim.MicrosoftBehaviour)
		wantDoubts int
		requests   int
	}{
		{name: "no license", configure: func(b *vendorsim.MicrosoftBehaviour) { b.NoPremium = true }, wantDoubts: 1, requests: 5},
		{name: "no permission", configure: func(b *vendorsim.MicrosoftBehaviour) { b.Forbidden = map[string]bool{vendorsim.SignInActivity: true} }, wantDoubts: 1, requests: 5},
		{name: "switched off", change: func(s *Settings) { s.Activity = false }, requests: 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			collectortest.Run(t, tenant.Simulate(100, tc.configure), func(h *collectortest.Harness) {
				got := h.Extract(openEntra(h, tc.change).Streams[0])
				var want []string
				for _, r := range h.Records(vendorsim.EntraUsers) {
					want = append(want, withoutActivity(r))
				}
				h.AssertRecords(got, want)
				h.AssertRequests(tc.requests)
				if doubts := h.Stats.Doubts(); len(doubts) != tc.wantDoubts {
					t.Errorf("doubts %v, want %d", doubts, tc.wantDoubts)
				}
			})
		})
	}
}

// withoutActivity returns a user without the member signInActivity.
func withoutActivity(record string) string {
	before, rest, found := strings.Cut(record, `,"signInActivity":{`)
	if !found {
		return record
	}
	_, after, _ := strings.Cut(rest, "}")
	return before + after
}

// TestEntraWindow: a snapshot of events has those of the last days, as the setting says.
func TestEntraWindow(t *testing.T) {
	old := func(b *vendorsim.MicrosoftBehaviour) { b.OldEvents = 5 }
	for _, stream := range []string{vendorsim.EntraSignIns, vendorsim.EntraAuditLogs} {
		for _, tc := range []struct{ days, wantRecords int }{{7, 80}, {99, 80}, {101, 100}} {
			t.Run(fmt.Sprint(stream, " ", tc.days), func(t *testing.T) {
				collectortest.Run(t, tenant.Simulate(100, old), func(h *collectortest.Harness) {
					s := collectortest.FindStream(h, openEntra(h, func(s *Settings) { s.LogDays = tc.days }), stream)
					if got := h.Extract(s); len(got) != tc.wantRecords {
						t.Errorf("%d events, want %d", len(got), tc.wantRecords)
					}
					h.AssertNoViolations()
				})
			})
		}
	}
}

// TestEntraPaces: the reports share one limit, and no request exceeds it.
func TestEntraPaces(t *testing.T) {
	collectortest.Run(t, tenant.Simulate(400, nil), func(h *collectortest.Harness) {
		c := openEntra(h, nil)
		done := make(chan error)
		streams := []string{vendorsim.EntraMethods, vendorsim.EntraSignIns, vendorsim.EntraAuditLogs, vendorsim.EntraPolicies}
		for _, name := range streams {
			s := collectortest.FindStream(h, c, name)
			go func() { done <- s.Extract(h.Context(), collectortest.NewSpool(h.T)) }()
		}
		for range streams {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		stats := h.Host.Stats()
		if stats.Throttled > 0 || stats.Total != 1+40 {
			t.Errorf("%d of %d requests were refused", stats.Throttled, stats.Total)
		}
		h.AssertNoViolations()
	})
}

func TestEntraPermissions(t *testing.T) {
	tenant.TestPermissions(t, map[string]string{
		vendorsim.EntraUsers:             "AZURE_CLIENT_ID needs the application permission User.Read.All of Microsoft Graph",
		vendorsim.EntraGroups:            "permission Group.Read.All",
		vendorsim.EntraServicePrincipals: "permission Application.Read.All",
		vendorsim.EntraPolicies:          "permission Policy.Read.All",
		vendorsim.EntraMethods:           "permission AuditLog.Read.All of Microsoft Graph, with the consent of an administrator; the tenant needs a license for Entra ID P1",
		vendorsim.EntraSignIns:           "permission AuditLog.Read.All and Directory.Read.All of Microsoft Graph, with the consent of an administrator; the tenant needs",
		vendorsim.EntraAuditLogs:         "permission AuditLog.Read.All and Directory.Read.All",
	}, nil)
}

// TestEntraRefusals: wrong credentials are named, without the secret, and no request
// for data is made.
func TestEntraRefusals(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Settings)
	}{
		{name: "secret", change: func(s *Settings) { s.Secret = "a-wrong-secret" }},
		{name: "client", change: func(s *Settings) { s.ClientID = "b0000000-0000-4000-8000-000000000000" }},
		{name: "tenant", change: func(s *Settings) { s.Tenant = "other.example" }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			collectortest.Run(t, tenant.Simulate(10, nil), func(h *collectortest.Harness) {
				c := openEntra(h, tc.change)
				checkErr := c.Check(h.Context())
				h.AssertRequests(1)
				h.Host.ResetStats()
				for _, err := range []error{checkErr, h.ExtractError(c.Streams[1], time.Hour)} {
					if !errors.Is(err, collector.ErrRefused) || !strings.Contains(err.Error(), "check AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET") ||
						!strings.Contains(err.Error(), "AADSTS") || strings.Contains(err.Error(), "a-wrong-secret") {
						t.Errorf("error %v", err)
					}
				}
				h.AssertRequests(1)
			})
		})
	}
	collectortest.Run(t, tenant.Simulate(10, nil), func(h *collectortest.Harness) {
		if err := openEntra(h, nil).Check(h.Context()); err != nil {
			t.Error(err)
		}
		h.AssertRequests(1)
	})
}

// TestEntraTokens: one token for all streams, renewed before it expires and after it
// was revoked.
func TestEntraTokens(t *testing.T) {
	collectortest.Run(t, tenant.Simulate(100, nil), func(h *collectortest.Harness) {
		c := openEntra(h, nil)
		sim := h.Host.Vendor().(*vendorsim.AzureEntra)
		tokens := func() int { return h.Host.Stats().Requests["POST /{tenant}/oauth2/v2.0/token"] }
		for i, want := range []int{1, 1, 2, 3} {
			switch i {
			case 2:
				time.Sleep(56 * time.Minute)
			case 3:
				sim.Revoke()
			}
			for _, s := range c.Streams {
				h.AssertRecords(h.Extract(s), h.Records(s.Name))
			}
			if tokens() != want {
				t.Errorf("step %d: %d requests for tokens, want %d", i, tokens(), want)
			}
		}
		h.AssertNoViolations()
	})
}

func TestEntraSettings(t *testing.T) {
	for _, tc := range []struct {
		name, tenant string
		members      []string
		wantProblem  string
	}{
		{name: "id", tenant: vendorsim.MicrosoftTenant},
		{name: "domain", tenant: "contoso.onmicrosoft.com"},
		{name: "address", tenant: "https://login.microsoftonline.com/contoso", wantProblem: "AZURE_TENANT_ID"},
		{name: "members", tenant: "t", members: []string{"customSecurityAttributes", "extension_0_x"}},
		{name: "no member", tenant: "t", members: []string{"manager($select=id)"}, wantProblem: "AZURE_USER_MEMBERS"},
	} {
		s := &Settings{Tenant: tc.tenant, Members: tc.members}
		collectortest.AssertProblem(t, s.Validate(), tc.wantProblem)
	}
}
