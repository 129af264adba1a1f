package sources

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

// pulls are the requests for vulnerabilities by filter, without those that
// ask for a total.
func (t *falconTenant) pulls() (pages map[string]int, totals int) {
	pages = map[string]int{}
	for _, r := range t.host.Stats().Log {
		if r.Path != falconVulnsPath {
			continue
		}
		q, err := url.ParseQuery(r.Query)
		if err != nil {
			t.Fatal(err)
		}
		if q.Get("limit") == "1" {
			totals++
			continue
		}
		if !slices.Equal(q["facet"], []string{"cve", "host_info", "remediation"}) {
			t.Errorf("a page is asked for with the facets %v", q["facet"])
		}
		pages[q.Get("filter")]++
	}
	return pages, totals
}

// spanned checks that filters ask for spans that cover all of time without
// overlap.
func (t *falconTenant) spanned(pages map[string]int) {
	t.Helper()
	ends := map[string]string{} // by beginning
	for filter := range pages {
		span := strings.TrimPrefix(filter, t.f.Vulns)
		from, to := "", ""
		for part := range strings.SplitSeq(strings.TrimPrefix(span, "+"), "+") {
			switch {
			case strings.HasPrefix(part, "created_timestamp:>='"):
				from = part
			case strings.HasPrefix(part, "created_timestamp:<'"):
				to = strings.Replace(part, ":<'", ":>='", 1)
			case part != "":
				t.Errorf("filter %s", filter)
			}
		}
		ends[from] = to
	}
	at, met := "", 0
	for ; met < len(pages); met++ {
		to, ok := ends[at]
		if !ok {
			t.Fatalf("no span begins with %q", at)
		}
		if at = to; at == "" {
			break
		}
	}
	if met != len(pages)-1 {
		t.Errorf("%d of %d spans lead to the end of time", met+1, len(pages))
	}
}

func TestFalconVulnerabilitiesRequests(t *testing.T) {
	for name, tc := range map[string]struct {
		vulns, page, split int
		clean              bool
		spans, totals      int // at most
	}{
		"none":                  {vulns: 0, page: 400, split: 8, spans: 1, totals: 1},
		"one cursor":            {vulns: 1000, page: 80, split: 1, spans: 1},
		"one cursor, clean end": {vulns: 1000, page: 80, split: 1, clean: true, spans: 1},
		"too few to split":      {vulns: 320, page: 80, split: 8, spans: 1, totals: 1},
		"two cursors":           {vulns: 1000, page: 80, split: 2, spans: 6, totals: 40},
		"eight cursors":         {vulns: 4000, page: 80, split: 8, clean: true, spans: 24, totals: 70},
		"sixteen cursors":       {vulns: 8000, page: 50, split: 16, spans: 48, totals: 120},
	} {
		t.Run(name, func(t *testing.T) {
			o := vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeVulns: tc.vulns}}
			inFalcon(t, o, func(s *crowdstrikeSettings) { s.Page, s.Split = tc.page, tc.split }, func(t *falconTenant) {
				t.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) { c.CleanEnd = tc.clean })
				t.whole(vendorsim.CrowdStrikeVulns)
				pages, totals := t.pulls()
				t.spanned(pages)
				if len(pages) > tc.spans || tc.spans > 1 && len(pages) < tc.split || totals > tc.totals {
					t.Errorf("%d spans, %d totals, want at most %d and %d", len(pages), totals, tc.spans, tc.totals)
				}
				whole := len(t.want(vendorsim.CrowdStrikeVulns))
				for filter, n := range pages {
					list, err := t.vendor.Select(filter)
					if err != nil {
						t.Fatal(err)
					}
					want := (len(list) + tc.page - 1) / tc.page
					if !tc.clean || want == 0 {
						want++ // the empty one
					}
					if len(list) == 0 {
						want = 1
					}
					if n != want {
						t.Errorf("%d pages for %d vulnerabilities, want %d", n, len(list), want)
					}
					if tc.spans > 1 && len(list) > whole*2/(3*tc.split)+1 {
						t.Errorf("a span has %d of %d vulnerabilities", len(list), whole)
					}
				}
			})
		})
	}
}

// With 100 ms for every request, the time that is spent waiting for answers is
// less than a thirtieth of that of one request at a time. Numbers and pages
// are a quarter of those of 200,000 vulnerabilities with pages of 400 and up to
// 5,000.
func TestFalconVulnerabilitiesWaitLittle(t *testing.T) {
	o := vendorsim.Options{
		Counts:    map[string]int{vendorsim.CrowdStrikeVulns: 53_300},
		Latency:   100 * time.Millisecond,
		EdgeEvery: -1,
	}
	inFalcon(t, o, func(s *crowdstrikeSettings) { s.Page = 1250 }, func(t *falconTenant) {
		whole := len(t.want(vendorsim.CrowdStrikeVulns))
		began := time.Now() // of the fake clock, which stands while anything works
		var out counting
		if err := stream(t, t.c, vendorsim.CrowdStrikeVulns).Extract(t.Context(), &out); err != nil {
			t.Fatal(err)
		}
		if n := int(out.Load()); n != whole || n < 50_000 {
			t.Errorf("%d vulnerabilities, want %d", n, whole)
		}
		serial := time.Duration(2+(whole+99)/100) * o.Latency
		if took := time.Since(began); took > serial/32 {
			t.Errorf("%v of waiting, one at a time is %v", took, serial)
		}
		if n := t.host.Stats().Total; n > 150 {
			t.Errorf("%d requests", n)
		}
		t.lawful()
	})
}

// counting is an Output that only counts.
type counting struct{ atomic.Int64 }

func (c *counting) Page() collector.Page { return &countingPage{all: c} }
func (c *counting) Reset() error         { c.Store(0); return nil }

type countingPage struct {
	all *counting
	n   int64
}

func (p *countingPage) Append([]byte) error { p.n++; return nil }
func (p *countingPage) Commit() error       { p.all.Add(p.n); return nil }
func (p *countingPage) Discard()            {}

// Where time ranges do not do what they should, one cursor reads all.
func TestFalconSpansThatDoNotAddUp(t *testing.T) {
	for name, change := range map[string]func(*vendorsim.CrowdStrikeConfig){
		"ranges are passed over": func(c *vendorsim.CrowdStrikeConfig) { c.IgnoreTimes = true },
		"records without a time": func(c *vendorsim.CrowdStrikeConfig) { c.Untimed = 20 },
		"few of them":            func(c *vendorsim.CrowdStrikeConfig) { c.Untimed = 60 },
		"totals that waver":      func(c *vendorsim.CrowdStrikeConfig) { c.Drift = 12 },
	} {
		t.Run(name, func(t *testing.T) {
			o := vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeVulns: 3000}}
			inFalcon(t, o, func(s *crowdstrikeSettings) { s.Page = 150 }, func(t *falconTenant) {
				t.vendor.Configure(change)
				t.whole(vendorsim.CrowdStrikeVulns)
			})
		})
	}
	for name, status := range map[string]int{"refused with 400": http.StatusBadRequest, "refused with 500": http.StatusInternalServerError} {
		t.Run(name, func(t *testing.T) {
			o := vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeVulns: 3000}}
			inFalcon(t, o, func(s *crowdstrikeSettings) { s.Page = 150 }, func(t *falconTenant) {
				t.host.Inject(vendorsim.Fault{Path: falconVulnsPath, Times: vendorsim.Forever, Do: vendorsim.Status(status, `{"errors":[{}]}`),
					When: func(r *http.Request) bool {
						return strings.Contains(r.URL.Query().Get("filter"), "created_timestamp")
					}})
				t.whole(vendorsim.CrowdStrikeVulns)
				if pages, _ := t.pulls(); len(pages) != 1 {
					t.Errorf("pages by filter: %v", pages)
				}
			})
		})
	}
}

// A moving total ends nothing early and fails nothing.
func TestFalconMovingTotal(t *testing.T) {
	inFalcon(t, falconSmall(), falconSmallPages, func(t *falconTenant) {
		t.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) { c.Drift = 3 })
		t.whole(vendorsim.CrowdStrikeVulns)
	})
}

// A vendor that cannot serve large pages gets smaller ones.
func TestFalconPagesShrink(t *testing.T) {
	for name, tc := range map[string]struct {
		largest int
		do      vendorsim.Effect
	}{
		"504":                 {1000, vendorsim.Status(504, "upstream request timeout")},
		"hangs":               {1000, vendorsim.Hang()},
		"below the first":     {120, vendorsim.Status(503, "")},
		"cuts the connection": {600, vendorsim.Truncate(5000)},
	} {
		t.Run(name, func(t *testing.T) {
			o := vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeVulns: 6000}}
			inFalcon(t, o, nil, func(t *falconTenant) {
				hit := t.host.Inject(vendorsim.Fault{Path: falconVulnsPath, Times: vendorsim.Forever, Do: tc.do, When: func(r *http.Request) bool {
					n, err := strconv.Atoi(r.URL.Query().Get("limit"))
					return err == nil && n > tc.largest
				}})
				t.whole(vendorsim.CrowdStrikeVulns)
				if n := hit.Hits(); n == 0 || n > 12 {
					t.Errorf("%d pages were too large, want a few", n)
				}
			})
		})
	}
}

// Alternatives in a filter stay together when a span is added.
func TestFalconFilterWithAlternatives(t *testing.T) {
	filter := "status:'open',status:'reopen'"
	o := vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeVulns: 2500}}
	inFalcon(t, o, func(s *crowdstrikeSettings) { s.Vulns, s.Page = filter, 60 }, func(t *falconTenant) {
		t.whole(vendorsim.CrowdStrikeVulns)
		if pages, _ := t.pulls(); len(pages) < 8 {
			t.Errorf("pages by filter: %v", pages)
		}
	})
	for filter, want := range map[string]bool{
		"a:'1'": false, "a:['1','2']+b:'3'": false, "(a:'1',b:'2')+c:'3'": false, "a:'x,y'": false, "a:'1',b:'2'": true, "a:['1','2'],b:'3'": true,
	} {
		if falconHasOr(filter) != want {
			t.Errorf("alternatives in %s: %t, want %t", filter, !want, want)
		}
	}
}

// The default is the filter that users have today.
func TestFalconDefaultFilter(t *testing.T) {
	if got := falconSettings(t).Vulns; got != "cve.id:!['']+last_seen_within:'14'" {
		t.Errorf("default filter %s", got)
	}
}
