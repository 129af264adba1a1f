package crowdstrike

import (
	"errors"
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

// countRequests returns the number of requests for pages of vulnerabilities, by
// filter, and the number of requests for a total.
func (t *tenant) countRequests() (pages map[string]int, totals int) {
	pages = map[string]int{}
	for _, r := range t.Host.Stats().Log {
		if r.Path != vulnerabilitiesPath {
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
			t.Errorf("a page was requested with the facets %v", q["facet"])
		}
		pages[q.Get("filter")]++
	}
	return pages, totals
}

// assertSpans checks that the spans of the filters cover all times and do not
// overlap.
func (t *tenant) assertSpans(pages map[string]int) {
	t.Helper()
	ends := map[string]string{} // by start
	for filter := range pages {
		span := strings.TrimPrefix(filter, t.account.settings.Vulns)
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
	start, followed := "", 0
	for ; followed < len(pages); followed++ {
		end, ok := ends[start]
		if !ok {
			t.Fatalf("no span starts with %q", start)
		}
		if start = end; start == "" {
			break
		}
	}
	if followed != len(pages)-1 {
		t.Errorf("%d of %d spans are connected", followed+1, len(pages))
	}
}

func TestCrowdStrikeVulnerabilitiesRequests(t *testing.T) {
	for name, tc := range map[string]struct {
		vulns, page, split  int
		clean               bool
		maxSpans, maxTotals int
	}{
		"none":                  {vulns: 0, page: 400, split: 8, maxSpans: 1, maxTotals: 1},
		"one cursor":            {vulns: 1000, page: 80, split: 1, maxSpans: 1, maxTotals: 1},
		"one cursor, clean end": {vulns: 1000, page: 80, split: 1, clean: true, maxSpans: 1, maxTotals: 1},
		"too few to split":      {vulns: 320, page: 80, split: 8, maxSpans: 1, maxTotals: 1},
		"two cursors":           {vulns: 1000, page: 80, split: 2, maxSpans: 6, maxTotals: 40},
		"eight cursors":         {vulns: 4000, page: 80, split: 8, clean: true, maxSpans: 24, maxTotals: 70},
		"sixteen cursors":       {vulns: 8000, page: 50, split: 16, maxSpans: 48, maxTotals: 120},
	} {
		t.Run(name, func(t *testing.T) {
			o := vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeVulns: tc.vulns}}
			runTenant(t, o, func(s *Settings) { s.Page, s.Split = tc.page, tc.split }, func(t *tenant) {
				t.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) { c.CleanEnd = tc.clean })
				t.assertExtractsLawfully(vendorsim.CrowdStrikeVulns)
				pages, totals := t.countRequests()
				t.assertSpans(pages)
				if len(pages) > tc.maxSpans || tc.maxSpans > 1 && len(pages) < tc.split || totals > tc.maxTotals {
					t.Errorf("%d spans, %d totals, want at most %d and %d", len(pages), totals, tc.maxSpans, tc.maxTotals)
				}
				whole := len(t.expectedRecords(vendorsim.CrowdStrikeVulns))
				for filter, n := range pages {
					list, err := t.vendor.Select(filter)
					if err != nil {
						t.Fatal(err)
					}
					want := (len(list) + tc.page - 1) / tc.page
					if !tc.clean || want == 0 {
						want++ // the empty page
					}
					if len(list) == 0 {
						want = 1
					}
					if n != want {
						t.Errorf("%d pages for %d vulnerabilities, want %d", n, len(list), want)
					}
					if tc.maxSpans > 1 && len(list) > whole*2/(3*tc.split)+1 {
						t.Errorf("a span has %d of %d vulnerabilities", len(list), whole)
					}
				}
			})
		})
	}
}

// TestCrowdStrikeOneCursorReadsParts: with one cursor, a large table is read in
// parts, one after the other, because the ids of a part are in memory.
func TestCrowdStrikeOneCursorReadsParts(t *testing.T) {
	const partCount = 200
	o := vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeVulns: 1500}}
	runTenant(t, o, func(s *Settings) { s.Page, s.Split = 80, 1 }, func(t *tenant) {
		t.account.partCount = partCount
		t.assertExtracts(vendorsim.CrowdStrikeVulns)
		pages, _ := t.countRequests()
		t.assertSpans(pages)
		for filter := range pages {
			if list, err := t.vendor.Select(filter); err != nil || len(list) > partCount {
				t.Errorf("a part has %d vulnerabilities, want at most %d; error %v", len(list), partCount, err)
			}
		}
		var order []string // of the filters of pages
		for _, r := range t.Host.Stats().Log {
			q, _ := url.ParseQuery(r.Query) // countRequests has parsed it
			if filter := q.Get("filter"); r.Path == vulnerabilitiesPath && q.Get("limit") != "1" && (len(order) == 0 || order[len(order)-1] != filter) {
				order = append(order, filter)
			}
		}
		// A cursor is released before the empty page at the end of its part.
		if len(order) > 3*len(pages) || len(pages) < 1500*9/10/partCount {
			t.Errorf("%d parts were read in %d turns", len(pages), len(order))
		}
	})
}

// TestCrowdStrikeVulnerabilitiesWaitLittle: if every request takes 100 ms, the
// time spent waiting for responses is less than a thirtieth of that of one
// request at a time. The numbers are a quarter of those of 200,000
// vulnerabilities with pages of 400 and up to 5,000.
func TestCrowdStrikeVulnerabilitiesWaitLittle(t *testing.T) {
	o := vendorsim.Options{
		Counts:    map[string]int{vendorsim.CrowdStrikeVulns: 53_300},
		Latency:   100 * time.Millisecond,
		EdgeEvery: -1,
	}
	runTenant(t, o, func(s *Settings) { s.Page = 1250 }, func(t *tenant) {
		whole := len(t.expectedRecords(vendorsim.CrowdStrikeVulns))
		began := time.Now() // of the fake clock, which stops while any goroutine runs
		var out countingOutput
		if err := t.stream(vendorsim.CrowdStrikeVulns).Extract(t.Context(), &out); err != nil {
			t.Fatal(err)
		}
		if n := int(out.Load()); n != whole || n < 50_000 {
			t.Errorf("%d vulnerabilities, want %d", n, whole)
		}
		serial := time.Duration(2+(whole+99)/100) * o.Latency
		if took := time.Since(began); took > serial/32 {
			t.Errorf("waited %v; one request at a time waits %v", took, serial)
		}
		if n := t.Host.Stats().Total; n > 150 {
			t.Errorf("%d requests", n)
		}
		t.AssertNoViolations()
	})
}

// countingOutput is an Output that only counts records.
type countingOutput struct{ atomic.Int64 }

func (o *countingOutput) NewBatch() collector.Batch { return &countingBatch{output: o} }
func (o *countingOutput) Reset() error              { o.Store(0); return nil }

type countingBatch struct {
	output *countingOutput
	n      int64
}

func (c *countingBatch) Append([]byte) error { c.n++; return nil }
func (c *countingBatch) Commit() error       { c.output.Add(c.n); return nil }
func (c *countingBatch) Discard()            {}

// TestCrowdStrikeSpansThatDoNotAddUp: where filters by time do not work, one
// cursor reads everything.
func TestCrowdStrikeSpansThatDoNotAddUp(t *testing.T) {
	for name, change := range map[string]func(*vendorsim.CrowdStrikeConfig){
		"times are ignored":      func(c *vendorsim.CrowdStrikeConfig) { c.IgnoreTimes = true },
		"records without a time": func(c *vendorsim.CrowdStrikeConfig) { c.Untimed = 20 },
		"few of them":            func(c *vendorsim.CrowdStrikeConfig) { c.Untimed = 60 },
		"totals that change":     func(c *vendorsim.CrowdStrikeConfig) { c.Drift = 12 },
	} {
		t.Run(name, func(t *testing.T) {
			o := vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeVulns: 3000}}
			runTenant(t, o, func(s *Settings) { s.Page = 150 }, func(t *tenant) {
				t.vendor.Configure(change)
				t.assertExtractsLawfully(vendorsim.CrowdStrikeVulns)
			})
		})
	}
	for name, status := range map[string]int{"refused with 400": http.StatusBadRequest, "refused with 500": http.StatusInternalServerError} {
		t.Run(name, func(t *testing.T) {
			o := vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeVulns: 3000}}
			runTenant(t, o, func(s *Settings) { s.Page = 150 }, func(t *tenant) {
				t.Host.Inject(vendorsim.Fault{Path: vulnerabilitiesPath, Times: vendorsim.Forever, Do: vendorsim.Status(status, `{"errors":[{}]}`),
					When: func(r *http.Request) bool {
						return strings.Contains(r.URL.Query().Get("filter"), "created_timestamp")
					}})
				t.assertExtractsLawfully(vendorsim.CrowdStrikeVulns)
				if pages, _ := t.countRequests(); len(pages) != 1 {
					t.Errorf("pages by filter: %v", pages)
				}
			})
		})
	}
}

// TestCrowdStrikeMovingTotal: a total that changes neither ends the extraction
// early nor makes it fail.
func TestCrowdStrikeMovingTotal(t *testing.T) {
	runTenant(t, smallTenant(), smallPages, func(t *tenant) {
		t.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) { c.Drift = 3 })
		t.assertExtractsLawfully(vendorsim.CrowdStrikeVulns)
	})
}

// TestCrowdStrikeUpdatedWhileRead: the vendor lists a vulnerability again if it
// is updated after it was listed. It is stored once, as it was first listed.
func TestCrowdStrikeUpdatedWhileRead(t *testing.T) {
	for name, cursors := range map[string]int{"one cursor": 1, "eight cursors": 8} {
		t.Run(name, func(t *testing.T) {
			o := vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeVulns: 4000}}
			runTenant(t, o, func(s *Settings) { s.Page, s.Split = 80, cursors }, func(t *tenant) {
				want := t.expectedRecords(vendorsim.CrowdStrikeVulns)
				updated := map[string]bool{} // filters
				times := 0
				t.Host.Inject(vendorsim.Fault{Path: vulnerabilitiesPath, Times: vendorsim.Forever, Do: vendorsim.Slow(0), When: func(r *http.Request) bool {
					filter := r.URL.Query().Get("filter")
					if r.URL.Query().Get("after") == "" || updated[filter] {
						return false
					}
					updated[filter] = true
					list, err := t.vendor.VulnerabilitiesInOrder(filter)
					if err != nil {
						t.Error(err)
					} else if len(list) > 80 {
						t.vendor.UpdateVulnerabilities(list[:70]...)
						times += 70
					}
					return false
				}})
				got, doubts := t.extractWithDoubts(vendorsim.CrowdStrikeVulns)
				t.AssertRecords(got, want)
				if len(doubts) > 0 {
					t.Errorf("doubts %v", doubts)
				}
				if times < 70*cursors {
					t.Errorf("%d vulnerabilities were updated", times)
				}
				pages, _ := t.countRequests()
				if len(pages) != len(updated) && cursors == 1 || cursors > 1 && pages[t.account.settings.Vulns] > 0 {
					t.Errorf("pages by filter: %v", pages)
				}
				t.AssertNoViolations()
			})
		})
	}
}

// TestCrowdStrikeOneCursorExpires: if one of several cursors expires, only its
// span is read again.
func TestCrowdStrikeOneCursorExpires(t *testing.T) {
	const expired = `{"errors":[{"code":404,"message":"Search context expired, 'after' key no longer valid"}]}`
	o := vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeVulns: 4000}}
	countPages := func(expiries int) (total int) {
		runTenant(t, o, func(s *Settings) { s.Page = 80 }, func(t *tenant) {
			seen := map[string]int{} // pages by filter
			hits := 0
			t.Host.Inject(vendorsim.Fault{Path: vulnerabilitiesPath, Times: vendorsim.Forever, Do: vendorsim.Status(404, expired), When: func(r *http.Request) bool {
				filter := r.URL.Query().Get("filter")
				if r.URL.Query().Get("after") == "" {
					return false
				}
				if seen[filter]++; seen[filter] != 3 || hits >= expiries {
					return false
				}
				hits++
				return true
			}})
			t.assertDoubts(vendorsim.CrowdStrikeVulns)
			if hits != expiries {
				t.Errorf("%d cursors expired, want %d", hits, expiries)
			}
			pages, _ := t.countRequests()
			t.assertSpans(pages)
			for _, n := range pages {
				total += n
			}
		})
		return total
	}
	undisturbed := countPages(0)
	for _, expiries := range []int{1, 4} {
		// Three pages are requested once more, and one was requested in vain.
		if got, want := countPages(expiries), undisturbed+expiries*4; got != want {
			t.Errorf("%d expiries: %d pages, want %d", expiries, got, want)
		}
	}
}

// TestCrowdStrikeVulnerabilityTotals: a total that includes a few more
// vulnerabilities than are listed is a doubt. If it is more than a few, they are
// read again, and two reads that agree are accepted, but not if a large part is
// missing.
func TestCrowdStrikeVulnerabilityTotals(t *testing.T) {
	for name, tc := range map[string]struct {
		hidden, reads int
		fails         bool
	}{
		"none":     {reads: 1},
		"few":      {hidden: 3, reads: 1},
		"several":  {hidden: 10, reads: 2},
		"too many": {hidden: 30, reads: 3, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			o := vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeVulns: 600}}
			runTenant(t, o, func(s *Settings) { s.Page, s.Split = 5000, 1 }, func(t *tenant) {
				t.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) { c.HiddenVulns, c.CleanEnd = tc.hidden, true })
				if tc.fails {
					if err := t.extractError(vendorsim.CrowdStrikeVulns); !errors.Is(err, collector.ErrIncomplete) {
						t.Errorf("error %v", err)
					}
				} else {
					var want []collector.Doubt
					if tc.hidden > 0 {
						want = append(want, collector.Doubt{Text: "received fewer vulnerabilities than declared", Count: int64(tc.hidden)})
					}
					t.assertDoubts(vendorsim.CrowdStrikeVulns, want...)
				}
				firstPages := 0
				for _, r := range t.Host.Stats().Log {
					if r.Path == vulnerabilitiesPath && !strings.Contains(r.Query, "after=") && !strings.HasSuffix(r.Query, "limit=1") {
						firstPages++
					}
				}
				if firstPages != tc.reads {
					t.Errorf("the listing was read %d times, want %d", firstPages, tc.reads)
				}
			})
		})
	}
}

// TestCrowdStrikeSpanFallsShort: a span whose listing ends early is read again,
// and the other spans are not.
func TestCrowdStrikeSpanFallsShort(t *testing.T) {
	o := vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeVulns: 4000}}
	runTenant(t, o, func(s *Settings) { s.Page = 80 }, func(t *tenant) {
		short := ""
		t.Host.Inject(vendorsim.Fault{Path: vulnerabilitiesPath, Do: vendorsim.Status(200, `{"meta":{"pagination":{"total":0,"after":""}},"resources":[]}`),
			When: func(r *http.Request) bool {
				q := r.URL.Query()
				if q.Get("after") == "" || short != "" {
					return false
				}
				short = q.Get("filter")
				return true
			}})
		t.assertDoubts(vendorsim.CrowdStrikeVulns)
		firstPages := map[string]int{}
		for _, r := range t.Host.Stats().Log {
			q, err := url.ParseQuery(r.Query)
			if err == nil && r.Path == vulnerabilitiesPath && q.Get("after") == "" && q.Get("limit") != "1" {
				firstPages[q.Get("filter")]++
			}
		}
		if len(firstPages) < 9 {
			t.Errorf("%d spans", len(firstPages))
		}
		for filter, n := range firstPages {
			if want := map[bool]int{true: 2, false: 1}[filter == short]; n != want {
				t.Errorf("%s was read %d times, want %d", filter, n, want)
			}
		}
	})
}

// TestCrowdStrikeCreatedWhileRead: vulnerabilities that are created while the
// spans are read belong to a span of their own, so that no other span grows.
func TestCrowdStrikeCreatedWhileRead(t *testing.T) {
	o := vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeVulns: 4000}}
	runTenant(t, o, func(s *Settings) { s.Page = 80 }, func(t *tenant) {
		pages := 0
		t.Host.Inject(vendorsim.Fault{Path: vulnerabilitiesPath, Times: vendorsim.Forever, Do: vendorsim.Slow(0), When: func(r *http.Request) bool {
			if r.URL.Query().Get("after") == "" {
				return false
			}
			if pages++; pages == 10 {
				t.Sim.SetCount(vendorsim.CrowdStrikeVulns, 4500)
			}
			return false
		}})
		t.assertDoubts(vendorsim.CrowdStrikeVulns)
		requested, _ := t.countRequests()
		t.assertSpans(requested)
		newest := t.account.settings.Vulns + "+created_timestamp:>='2000-01-01T00:00:00Z'"
		list, err := t.vendor.Select(newest)
		if err != nil || len(list) < 400 || len(list) > 500 {
			t.Fatalf("%d new vulnerabilities, %v", len(list), err)
		}
		if want := (len(list)+79)/80 + 1; requested[newest] != want {
			t.Errorf("%d pages of new vulnerabilities, want %d", requested[newest], want)
		}
	})
}

// TestCrowdStrikePagesShrink: if the vendor cannot serve large pages, the
// collector requests smaller ones.
func TestCrowdStrikePagesShrink(t *testing.T) {
	for name, tc := range map[string]struct {
		largest int
		do      vendorsim.Effect // on larger pages
	}{
		"504":                   {largest: 1000, do: vendorsim.Status(504, "upstream request timeout")},
		"hangs":                 {largest: 1000, do: vendorsim.Hang()},
		"below the first size":  {largest: 120, do: vendorsim.Status(503, "")},
		"closes the connection": {largest: 600, do: vendorsim.Truncate(5000)},
	} {
		t.Run(name, func(t *testing.T) {
			o := vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeVulns: 6000}}
			runTenant(t, o, nil, func(t *tenant) {
				injected := t.Host.Inject(vendorsim.Fault{Path: vulnerabilitiesPath, Times: vendorsim.Forever, Do: tc.do, When: func(r *http.Request) bool {
					n, err := strconv.Atoi(r.URL.Query().Get("limit"))
					return err == nil && n > tc.largest
				}})
				t.assertExtractsLawfully(vendorsim.CrowdStrikeVulns)
				if n := injected.Hits(); n == 0 || n > 12 {
					t.Errorf("%d pages were too large, want 1 to 12", n)
				}
			})
		})
	}
}

// TestCrowdStrikeFilterWithAlternatives: the alternatives of a filter are
// enclosed in parentheses when a span is added.
func TestCrowdStrikeFilterWithAlternatives(t *testing.T) {
	filter := "status:'open',status:'reopen'"
	o := vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeVulns: 2500}}
	runTenant(t, o, func(s *Settings) { s.Vulns, s.Page = filter, 60 }, func(t *tenant) {
		t.assertExtractsLawfully(vendorsim.CrowdStrikeVulns)
		if pages, _ := t.countRequests(); len(pages) < 8 {
			t.Errorf("pages by filter: %v", pages)
		}
	})
	for _, tc := range []struct {
		filter string
		want   bool
	}{
		{filter: "a:'1'", want: false},
		{filter: "a:['1','2']+b:'3'", want: false},
		{filter: "(a:'1',b:'2')+c:'3'", want: false},
		{filter: "a:'x,y'", want: false},
		{filter: "a:'1',b:'2'", want: true},
		{filter: "a:['1','2'],b:'3'", want: true},
	} {
		if got := hasAlternatives(tc.filter); got != tc.want {
			t.Errorf("alternatives in %s: %t, want %t", tc.filter, got, tc.want)
		}
	}
}

// TestCrowdStrikeDefaultFilter: the default is the filter of earlier clients.
func TestCrowdStrikeDefaultFilter(t *testing.T) {
	if got := defaultSettings(t).Vulns; got != "cve.id:!['']+last_seen_within:'14'" {
		t.Errorf("default filter %s", got)
	}
}
