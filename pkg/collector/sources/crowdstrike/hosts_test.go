package crowdstrike

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

// TestCrowdStrikeHostsRequests: with pages of 1,000, 4,000 and then 10,000 hosts
// the listing has no upper limit, unlike the plain listing with its 10,000.
func TestCrowdStrikeHostsRequests(t *testing.T) {
	for name, tc := range map[string]struct {
		hosts     int
		requests  int
		configure func(*vendorsim.CrowdStrikeConfig)
	}{
		"none":                 {hosts: 0, requests: 2}, // no hosts are looked at twice
		"one":                  {hosts: 1, requests: 1},
		"a full page":          {hosts: 1000, requests: 1},
		"full pages":           {hosts: 3000, requests: 2},
		"an empty last page":   {hosts: 3000, requests: 3, configure: func(c *vendorsim.CrowdStrikeConfig) { c.EmptyLast = true }},
		"above 10,000":         {hosts: 10100, requests: 3},
		"a total that changes": {hosts: 5001, requests: 3, configure: func(c *vendorsim.CrowdStrikeConfig) { c.Drift = 9 }},
	} {
		t.Run(name, func(t *testing.T) {
			runTenant(t, vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeHosts: tc.hosts}}, nil, func(t *tenant) {
				if tc.configure != nil {
					t.vendor.Configure(tc.configure)
				}
				t.assertExtracts(vendorsim.CrowdStrikeHosts)
				t.AssertRequests(1 + tc.requests)
			})
		})
	}
}

func TestCrowdStrikeHostsFilter(t *testing.T) {
	linux := func(s *Settings) { s.Hosts = "platform_name:'Linux'" }
	runTenant(t, vendorsim.Options{}, linux, func(t *tenant) {
		got := t.Extract(t.stream(vendorsim.CrowdStrikeHosts))
		want := slices.DeleteFunc(t.Records(vendorsim.CrowdStrikeHosts), func(record string) bool {
			return !strings.Contains(record, `"platform_name":"Linux"`)
		})
		if len(want) == 0 || len(want) == t.Sim.RecordCount(vendorsim.CrowdStrikeHosts) {
			t.Fatalf("%d hosts run Linux", len(want))
		}
		t.AssertRecords(got, want)
	})
}

// TestCrowdStrikeHostsWithoutNext: if a response has only a numeric offset, the
// next page cannot be requested, so the extraction must fail, also if few hosts
// would be missing.
func TestCrowdStrikeHostsWithoutNext(t *testing.T) {
	for _, hosts := range []int{650, 24} {
		o := vendorsim.Options{
			Counts: map[string]int{vendorsim.CrowdStrikeHosts: hosts}, PageLimits: map[string]int{vendorsim.CrowdStrikeHosts: 20},
		}
		runTenant(t, o, nil, func(t *tenant) {
			t.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) { c.NumericOffset = true })
			want := fmt.Sprintf("20 of %d hosts were read, and the page has the offset 20 but no cursor for the next page", hosts)
			for _, stream := range []string{vendorsim.CrowdStrikeHosts, vendorsim.CrowdStrikeZTA} {
				if err := t.extractError(stream); !errors.Is(err, collector.ErrIncomplete) || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want %q", err, want)
				}
			}
		})
	}
}

// TestCrowdStrikeWithoutCombined: a tenant without the combined listing is read
// by scroll and entities. A request of the scroll cannot be repeated, but no host
// is lost when its response is lost.
func TestCrowdStrikeWithoutCombined(t *testing.T) {
	o := vendorsim.Options{
		Counts:     map[string]int{vendorsim.CrowdStrikeHosts: 600},
		PageLimits: map[string]int{vendorsim.CrowdStrikeHosts: 200},
	}
	for name, tc := range map[string]struct {
		fault   *vendorsim.Fault
		scrolls int
	}{
		"no fault":  {scrolls: 4},
		"truncated": {fault: &vendorsim.Fault{From: 2, Do: vendorsim.Truncate(vendorsim.Half)}, scrolls: 2 + 4},
		"lost":      {fault: &vendorsim.Fault{From: 3, Do: vendorsim.LoseResponse(504, "")}, scrolls: 3 + 4},
		"hangs":     {fault: &vendorsim.Fault{From: 2, Do: vendorsim.HangAfter(vendorsim.Half)}, scrolls: 2 + 4},
		"rate limit": {fault: &vendorsim.Fault{From: 2, Do: collectortest.Later(func() vendorsim.Effect {
			return vendorsim.Status(429, `{}`, "X-Ratelimit-Retryafter", epochAfter(20*time.Second))
		})}, scrolls: 1 + 4},
		"expired": {fault: &vendorsim.Fault{From: 2, Do: collectortest.Later(func() vendorsim.Effect {
			return vendorsim.Status(429, `{}`, "X-Ratelimit-Retryafter", epochAfter(200*time.Second))
		})}, scrolls: 3 + 4},
		"token refused": {fault: &vendorsim.Fault{From: 2, Do: vendorsim.Status(401, `{}`)}, scrolls: 1 + 4},
	} {
		t.Run(name, func(t *testing.T) {
			runTenant(t, o, nil, func(t *tenant) {
				t.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) { c.NoCombined = true })
				if tc.fault != nil {
					tc.fault.Path = scrollPath
					t.Host.Inject(*tc.fault)
				}
				t.assertExtracts(vendorsim.CrowdStrikeHosts)
				got := t.Host.Stats().Requests
				if got["GET "+scrollPath] != tc.scrolls || got["POST "+devicesPath] != 1 || got["GET "+hostsPath] != 3 {
					t.Errorf("requests %v, want %d for the scroll, 1 for entities, 3 for the combined listing", got, tc.scrolls)
				}
			})
		})
	}
}

// TestCrowdStrikeHostEntities: there are more hosts than one request for
// entities may contain.
func TestCrowdStrikeHostEntities(t *testing.T) {
	runTenant(t, vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeHosts: 5001}}, nil, func(t *tenant) {
		t.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) { c.NoCombined = true })
		t.assertExtracts(vendorsim.CrowdStrikeHosts)
		t.AssertRequests(1 + 3 + 2 + 2)
	})
}

// TestCrowdStrikeHostsThatLeave: a few hosts may be removed between the listing
// and the request for entities, but not many.
func TestCrowdStrikeHostsThatLeave(t *testing.T) {
	for name, leaving := range map[string]int{"some": 5, "more than usual": 10, "many": 50} {
		t.Run(name, func(t *testing.T) {
			runTenant(t, smallTenant(), nil, func(t *tenant) {
				gone := map[int]bool{}
				for i := range leaving {
					gone[7*i] = true
				}
				t.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) { c.NoCombined, c.Gone = true, gone })
				if name == "many" {
					if err := t.extractError(vendorsim.CrowdStrikeHosts); !errors.Is(err, collector.ErrIncomplete) {
						t.Errorf("error %v", err)
					}
					return
				}
				var want []string
				for i, record := range t.Records(vendorsim.CrowdStrikeHosts) {
					if !gone[i] {
						want = append(want, record)
					}
				}
				t.AssertRecords(t.Extract(t.stream(vendorsim.CrowdStrikeHosts)), want)
				wantDoubts := []collector.Doubt{{Text: "received fewer hosts than ids were listed", Count: int64(leaving)}}
				if got := t.Stats.Doubts(); !slices.Equal(got, wantDoubts) {
					t.Errorf("doubts %v, want %v", got, wantDoubts)
				}
			})
		})
	}
}

// TestCrowdStrikeHostsLeftOutOnce: hosts that a response leaves out once are
// requested again, alone.
func TestCrowdStrikeHostsLeftOutOnce(t *testing.T) {
	runTenant(t, smallTenant(), nil, func(t *tenant) {
		t.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) { c.NoCombined = true })
		t.Host.Inject(vendorsim.Fault{Path: devicesPath, Do: vendorsim.Status(200, `{"resources":[],"errors":null}`)})
		t.assertDoubts(vendorsim.CrowdStrikeHosts)
		if n := t.Host.Stats().Requests["POST "+devicesPath]; n != 2 {
			t.Errorf("%d requests for hosts, want 2", n)
		}
	})
}

// TestCrowdStrikeHostTotals: a total that includes a few more hosts than are
// listed is a doubt. If it is more than a few, the hosts are read again, and two
// reads that agree are accepted, but not if a large part is missing.
func TestCrowdStrikeHostTotals(t *testing.T) {
	for name, tc := range map[string]struct {
		hosts, hidden int
		noCombined    bool
		listings      int // expected requests for the listing, of one page each
		fails         bool
	}{
		"none hidden":               {hosts: 60, listings: 1},
		"one of few":                {hosts: 60, hidden: 1, listings: 1},
		"one of two":                {hosts: 1, hidden: 1, listings: 1},
		"several of few":            {hosts: 60, hidden: 5, listings: 2},
		"a share of many":           {hosts: 990, hidden: 9, listings: 1},
		"a larger share of many":    {hosts: 900, hidden: 15, listings: 2},
		"too large a share of many": {hosts: 900, hidden: 50, listings: 3, fails: true},
		"too many":                  {hosts: 60, hidden: 20, listings: 3, fails: true},
		"all":                       {hidden: 1, listings: 3, fails: true},
		"one of few, by scroll":     {hosts: 60, hidden: 1, noCombined: true, listings: 2},
		"several of few, by scroll": {hosts: 60, hidden: 5, noCombined: true, listings: 4},
	} {
		t.Run(name, func(t *testing.T) {
			runTenant(t, vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeHosts: tc.hosts}}, nil, func(t *tenant) {
				t.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) { c.HiddenHosts, c.NoCombined = tc.hidden, tc.noCombined })
				if tc.fails {
					if err := t.extractError(vendorsim.CrowdStrikeHosts); !errors.Is(err, collector.ErrIncomplete) {
						t.Errorf("error %v", err)
					}
				} else {
					var want []collector.Doubt
					if tc.hidden > 0 {
						want = append(want, collector.Doubt{Text: "received fewer hosts than declared", Count: int64(tc.hidden)})
					}
					t.assertDoubts(vendorsim.CrowdStrikeHosts, want...)
				}
				path := hostsPath
				if tc.noCombined {
					path = scrollPath
				}
				if n := t.Host.Stats().Requests["GET "+path]; n != tc.listings {
					t.Errorf("%d requests for the listing, want %d", n, tc.listings)
				}
			})
		})
	}
}

// TestCrowdStrikeShortHostListing: a listing that ends early once is read
// again, without a doubt.
func TestCrowdStrikeShortHostListing(t *testing.T) {
	runTenant(t, smallTenant(), nil, func(t *tenant) {
		end := vendorsim.Status(200, `{"meta":{"pagination":{"total":650,"next":""}},"resources":[],"errors":[]}`)
		t.Host.Inject(vendorsim.Fault{Path: hostsPath, From: 3, Do: end})
		t.assertDoubts(vendorsim.CrowdStrikeHosts)
		t.AssertRequests(1 + 3 + 7)
	})
}
