package sources

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

// Pages of 1,000, 4,000 and then 10,000 bring any number of
// hosts, far past the 10,000 at which the plain listing ends.
func TestFalconHostsRequests(t *testing.T) {
	for name, tc := range map[string]struct {
		hosts, requests int
		sim             func(*vendorsim.CrowdStrikeConfig)
	}{
		"none":                {0, 1, nil},
		"one":                 {1, 1, nil},
		"a full page":         {1000, 1, nil},
		"full pages":          {3000, 2, nil},
		"full, then an empty": {3000, 3, func(c *vendorsim.CrowdStrikeConfig) { c.EmptyLast = true }},
		"past the ceiling":    {10100, 3, nil},
		"a moving total":      {5001, 3, func(c *vendorsim.CrowdStrikeConfig) { c.Drift = 9 }},
	} {
		t.Run(name, func(t *testing.T) {
			inFalcon(t, vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeHosts: tc.hosts}}, nil, func(t *falconTenant) {
				if tc.sim != nil {
					t.vendor.Configure(tc.sim)
				}
				t.same(t.extract(stream(t, t.c, vendorsim.CrowdStrikeHosts)), t.want(vendorsim.CrowdStrikeHosts))
				t.asked(1 + tc.requests)
			})
		})
	}
}

func TestFalconHostsFilter(t *testing.T) {
	linux := func(s *crowdstrikeSettings) { s.Hosts = "platform_name:'Linux'" }
	inFalcon(t, vendorsim.Options{}, linux, func(t *falconTenant) {
		got := t.extract(stream(t, t.c, vendorsim.CrowdStrikeHosts))
		want := slices.DeleteFunc(t.records(vendorsim.CrowdStrikeHosts), func(record string) bool {
			return !strings.Contains(record, `"platform_name":"Linux"`)
		})
		if len(want) == 0 || len(want) == t.sim.Count(vendorsim.CrowdStrikeHosts) {
			t.Fatalf("%d hosts run Linux", len(want))
		}
		t.same(got, want)
	})
}

// An answer that has only a numeric offset leads nowhere: what is missing is
// told, not stored.
func TestFalconHostsWithoutNext(t *testing.T) {
	inFalcon(t, falconSmall(), nil, func(t *falconTenant) {
		t.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) { c.NumericOffset = true })
		if err := t.fails(vendorsim.CrowdStrikeHosts); !errors.Is(err, collector.ErrIncomplete) || !strings.Contains(err.Error(), "650") {
			t.Errorf("error %v", err)
		}
	})
}

// A tenant without the combined listing is read by scroll and entities. A lost
// answer of the scroll, which cannot be asked for again, loses no host.
func TestFalconWithoutCombined(t *testing.T) {
	path := falconScrollPath
	o := vendorsim.Options{
		Counts:     map[string]int{vendorsim.CrowdStrikeHosts: 600},
		PageLimits: map[string]int{vendorsim.CrowdStrikeHosts: 200},
	}
	for name, tc := range map[string]struct {
		fault   *vendorsim.Fault
		scrolls int
	}{
		"no fault":  {nil, 4},
		"truncated": {&vendorsim.Fault{Path: path, From: 2, Do: vendorsim.Truncate(vendorsim.Half)}, 2 + 4},
		"lost":      {&vendorsim.Fault{Path: path, From: 3, Do: vendorsim.Worked(504, "")}, 3 + 4},
		"hangs":     {&vendorsim.Fault{Path: path, From: 2, Do: vendorsim.HangAfter(vendorsim.Half)}, 2 + 4},
		"limited": {&vendorsim.Fault{Path: path, From: 2, Do: later(func() vendorsim.Effect {
			return vendorsim.Status(429, `{}`, "X-Ratelimit-Retryafter", epoch(20*time.Second))
		})}, 1 + 4},
		"forgotten": {&vendorsim.Fault{Path: path, From: 2, Do: later(func() vendorsim.Effect {
			return vendorsim.Status(429, `{}`, "X-Ratelimit-Retryafter", epoch(200*time.Second))
		})}, 3 + 4},
		"token refused": {&vendorsim.Fault{Path: path, From: 2, Do: vendorsim.Status(401, `{}`)}, 1 + 4},
	} {
		t.Run(name, func(t *testing.T) {
			inFalcon(t, o, nil, func(t *falconTenant) {
				t.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) { c.NoCombined = true })
				if tc.fault != nil {
					t.host.Inject(*tc.fault)
				}
				t.same(t.extract(stream(t, t.c, vendorsim.CrowdStrikeHosts)), t.want(vendorsim.CrowdStrikeHosts))
				got := t.host.Stats().Requests
				if got["GET "+path] != tc.scrolls || got["POST "+falconDevicesPath] != 1 || got["GET "+falconHostsPath] != 3 {
					t.Errorf("requests %v, want %d of the scroll, 1 of entities, 3 of the combined listing", got, tc.scrolls)
				}
			})
		})
	}
}

// More hosts than one request for entities takes.
func TestFalconHostEntities(t *testing.T) {
	inFalcon(t, vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeHosts: 5001}}, nil, func(t *falconTenant) {
		t.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) { c.NoCombined = true })
		t.same(t.extract(stream(t, t.c, vendorsim.CrowdStrikeHosts)), t.want(vendorsim.CrowdStrikeHosts))
		t.asked(1 + 3 + 2 + 2)
	})
}

// A host that leaves between listing and fetch is no failure; many are.
func TestFalconHostsThatLeave(t *testing.T) {
	for name, leaving := range map[string]int{"some": 5, "many": 50} {
		t.Run(name, func(t *testing.T) {
			inFalcon(t, falconSmall(), nil, func(t *falconTenant) {
				gone := map[int]bool{}
				for i := range leaving {
					gone[7*i] = true
				}
				t.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) { c.NoCombined, c.Gone = true, gone })
				if name == "many" {
					if err := t.fails(vendorsim.CrowdStrikeHosts); !errors.Is(err, collector.ErrIncomplete) {
						t.Errorf("error %v", err)
					}
					return
				}
				var want []string
				for i, record := range t.records(vendorsim.CrowdStrikeHosts) {
					if !gone[i] {
						want = append(want, record)
					}
				}
				t.same(t.extract(stream(t, t.c, vendorsim.CrowdStrikeHosts)), want)
			})
		})
	}
}
