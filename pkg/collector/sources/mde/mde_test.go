package mde

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
)

// defaultScope is the default of MDE_SCOPE.
const defaultScope = "https://api.securitycenter.windows.com/.default"

// openMDE opens the collector of the simulated tenant. change may be nil.
func openMDE(h *collectortest.Harness, change func(*Settings)) *collector.Collector {
	h.Helper()
	address := h.Address()
	s := Settings{
		Tenant: vendorsim.MicrosoftTenant, ClientID: vendorsim.MicrosoftClientID, Secret: vendorsim.MicrosoftSecret,
		Authority: address, Endpoint: address, Scope: defaultScope, Page: 10_000,
	}
	if change != nil {
		change(&s)
	}
	a, err := openAccount(&s, collector.Options{Version: "test"})
	if err != nil {
		h.Fatal(err)
	}
	a.api.SetTransport(h.HTTP)
	return source.NewCollector("mde", a)
}

var streamNames = []string{vendorsim.MDEMachines, vendorsim.MDEMachineVulnerabilities, vendorsim.MDEVulnerabilities}

// tenant is the simulated tenant.
var tenant = collectortest.Tenant{
	New: func() collectortest.MicrosoftVendor { return vendorsim.NewMDE() }, Lists: streamNames,
	Open: func(h *collectortest.Harness) *collector.Collector { return openMDE(h, nil) },
}

func TestMDEUnderFaults(t *testing.T) {
	for _, tc := range []struct {
		stream, path, permission string
		requests                 int
	}{
		{stream: vendorsim.MDEMachines, path: "/api/machines", permission: "Machine.Read.All of WindowsDefenderATP", requests: 1 + 5 + 5},
		{
			stream: vendorsim.MDEMachineVulnerabilities, path: "/api/machines/SoftwareVulnerabilitiesByMachine",
			permission: "Vulnerability.Read.All of WindowsDefenderATP", requests: 1 + 4,
		},
	} {
		t.Run(tc.stream, func(t *testing.T) {
			p := collectortest.PagedStream{
				Options: func() vendorsim.Options { return tenant.Simulate(150, nil) },
				Open: func(h *collectortest.Harness) collector.Stream {
					return collectortest.FindStream(h, openMDE(h, nil), tc.stream)
				},
				Want:       func(h *collectortest.Harness) []string { return h.Records(tc.stream) },
				Requests:   tc.requests,
				Path:       tc.path,
				Credential: "MDE_CLIENT_ID",
				Permission: tc.permission,
				Secret:     vendorsim.MicrosoftSecret,
				Renews:     true,
			}
			p.TestPassing(t, nil)
			p.TestLasting(t)
		})
	}
}

// TestMDEStreams: each stream has the vendor's records, by the fewest requests. A
// listing by position is read twice.
func TestMDEStreams(t *testing.T) {
	for _, tc := range []struct {
		name             string
		records          int
		configure        func(*vendorsim.MicrosoftBehaviour)
		skipped, exports int // requests of a listing by position, and of one by links
	}{
		{name: "no records", records: 0, skipped: 1, exports: 1},
		{name: "one record", records: 1, skipped: 4, exports: 1},
		{name: "one page", records: 40, skipped: 4, exports: 1},
		{name: "last page full", records: 120, skipped: 8, exports: 3},
		{name: "several pages", records: 130, skipped: 10, exports: 4},
		{name: "empty pages between", records: 130, configure: func(b *vendorsim.MicrosoftBehaviour) { b.EmptyBetween = true }, skipped: 10, exports: 7},
	} {
		for _, stream := range streamNames {
			t.Run(stream+"/"+tc.name, func(t *testing.T) {
				requests := 1 + tc.skipped
				if stream == vendorsim.MDEMachineVulnerabilities {
					requests = 1 + tc.exports
				}
				collectortest.Run(t, tenant.Simulate(tc.records, tc.configure), func(h *collectortest.Harness) {
					s := collectortest.FindStream(h, openMDE(h, nil), stream)
					h.AssertRecords(h.Extract(s), h.Records(stream))
					h.AssertRequests(requests)
					if doubts := h.Stats.Doubts(); len(doubts) > 0 {
						t.Errorf("doubts %v", doubts)
					}
				})
			})
		}
	}
}

// TestMDEShrinksWhileRead: machines that are removed while they are read move others to
// pages that were already read; none of those is lost.
func TestMDEShrinksWhileRead(t *testing.T) {
	for _, removed := range []int{1, 30, 41} {
		collectortest.Run(t, tenant.Simulate(200, nil), func(h *collectortest.Harness) {
			sim := h.Host.Vendor().(*vendorsim.MDE)
			h.Host.Inject(vendorsim.Fault{Path: "/api/machines", From: 3, Do: vendorsim.Before(func() { sim.RemoveMachines(removed) })})
			s := collectortest.FindStream(h, openMDE(h, nil), vendorsim.MDEMachines)
			h.AssertRecords(h.Extract(s), h.Records(vendorsim.MDEMachines))
		})
	}
}

// TestMDENoMachines: a status 404 with an error of the API is an empty table; any other
// one, and one after the first page, is a failure.
func TestMDENoMachines(t *testing.T) {
	for _, tc := range []struct {
		name    string
		records int
		fault   vendorsim.Fault
		want    bool // it succeeds
	}{
		{name: "none", records: 0, fault: vendorsim.Fault{Path: "/none", Do: vendorsim.Status(404, "")}, want: true},
		{name: "another 404", records: 10, fault: vendorsim.Fault{Path: "/api/machines", Times: vendorsim.Forever, Do: vendorsim.Status(404, `{"message":"no route"}`)}},
		{
			name: "after the first page", records: 100,
			fault: vendorsim.Fault{Path: "/api/machines", From: 2, Times: vendorsim.Forever, Do: vendorsim.Status(404, `{"error":{"code":"ResourceNotFound","message":"none"}}`)},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			collectortest.Run(t, tenant.Simulate(tc.records, nil), func(h *collectortest.Harness) {
				h.Host.Inject(tc.fault)
				c := openMDE(h, nil)
				if tc.want {
					if got := h.Extract(c.Streams[0]); len(got) != 0 {
						t.Errorf("%d records, want none", len(got))
					}
					if err := c.Streams[0].Check(h.Context()); err != nil {
						t.Error(err)
					}
					return
				}
				if err := h.ExtractError(c.Streams[0], time.Hour); !strings.Contains(err.Error(), "404") {
					t.Errorf("error %v", err)
				}
			})
		})
	}
}

// TestMDEKeepsTheCredential: the links of the vendor have another host. The requests
// go to the configured one.
func TestMDEKeepsTheCredential(t *testing.T) {
	collectortest.Run(t, tenant.Simulate(100, nil), func(h *collectortest.Harness) {
		hosts := map[string]int{}
		inner, counted := h.HTTP.Transport, *h.HTTP
		counted.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			hosts[r.URL.Host]++
			return inner.RoundTrip(r)
		})
		h.HTTP = &counted
		s := collectortest.FindStream(h, openMDE(h, nil), vendorsim.MDEMachineVulnerabilities)
		h.AssertRecords(h.Extract(s), h.Records(vendorsim.MDEMachineVulnerabilities))
		if len(hosts) != 1 || hosts["mde.localhost"] != 4 {
			t.Errorf("requests by host: %v, want 4 to mde.localhost", hosts)
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (r roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return r(req) }

// TestMDEPaces: 250 pages take two minutes and no request exceeds a limit.
func TestMDEPaces(t *testing.T) {
	o := tenant.Simulate(100, nil)
	o.Counts[vendorsim.MDEMachines], o.PageLimits[vendorsim.MDEMachines] = 124, 1
	collectortest.Run(t, o, func(h *collectortest.Harness) {
		began := time.Now()
		h.AssertRecords(h.Extract(openMDE(h, nil).Streams[0]), h.Records(vendorsim.MDEMachines))
		h.AssertRequests(1 + 125 + 125)
		if took := time.Since(began); took < 2*time.Minute || h.Host.Stats().Throttled > 0 {
			t.Errorf("250 requests took %v, %d were refused", took, h.Host.Stats().Throttled)
		}
	})
}

func TestMDEPermissions(t *testing.T) {
	tenant.TestPermissions(t, map[string]string{
		vendorsim.MDEMachines:               "MDE_CLIENT_ID needs the application permission Machine.Read.All of WindowsDefenderATP",
		vendorsim.MDEMachineVulnerabilities: "permission Vulnerability.Read.All",
		vendorsim.MDEVulnerabilities:        "permission Vulnerability.Read.All",
	}, nil)
}

func TestMDERefusals(t *testing.T) {
	collectortest.Run(t, tenant.Simulate(10, nil), func(h *collectortest.Harness) {
		c := openMDE(h, func(s *Settings) { s.Secret = "a-wrong-secret" })
		err := c.Check(h.Context())
		if !errors.Is(err, collector.ErrRefused) || !strings.Contains(err.Error(), "check MDE_TENANT_ID, MDE_CLIENT_ID and MDE_CLIENT_SECRET") || strings.Contains(err.Error(), "a-wrong-secret") {
			t.Errorf("error %v", err)
		}
		h.AssertRequests(1)
		if err := openMDE(h, nil).Check(h.Context()); err != nil {
			t.Error(err)
		}
		// A token for another API is refused; the address or the scope is wrong.
		err = h.ExtractError(openMDE(h, func(s *Settings) { s.Scope = "https://graph.microsoft.com/.default" }).Streams[0], time.Hour)
		if !errors.Is(err, collector.ErrRefused) || !strings.Contains(err.Error(), "Invalid audience") {
			t.Errorf("error %v", err)
		}
	})
}
