package crowdstrike

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

func TestCrowdStrikeAssessments(t *testing.T) {
	for name, tc := range map[string]struct {
		hosts                   int
		configure               func(*vendorsim.CrowdStrikeConfig)
		listings, reads, totals int // expected requests
	}{
		"none":                       {hosts: 0, listings: 2},
		"few":                        {hosts: 60, listings: 1, reads: 1, totals: 1},
		"a full batch":               {hosts: 1000, listings: 1, reads: 2, totals: 1},
		"above 10,000":               {hosts: 10100, listings: 2, reads: 21, totals: 9},
		"errors for the unassessed":  {hosts: 1100, configure: func(c *vendorsim.CrowdStrikeConfig) { c.AssessmentErrors = true }, listings: 1, reads: 3, totals: 1},
		"by scroll":                  {hosts: 1100, configure: func(c *vendorsim.CrowdStrikeConfig) { c.NoCombined = true }, listings: 3, reads: 3, totals: 1},
		"at most 100 ids":            {hosts: 1500, configure: func(c *vendorsim.CrowdStrikeConfig) { c.MaxAssessments = 100 }, listings: 1, reads: 36, totals: 2},
		"addresses of at most 8 KiB": {hosts: 1500, configure: func(c *vendorsim.CrowdStrikeConfig) { c.MaxURL = 8 << 10 }, listings: 1, reads: 20, totals: 2},
		"a host that leaves":         {hosts: 1000, configure: func(c *vendorsim.CrowdStrikeConfig) { c.Gone = map[int]bool{0: true, 999: true} }, listings: 1, reads: 2, totals: 1},
		"404 for a batch of nothing": {hosts: 1, configure: func(c *vendorsim.CrowdStrikeConfig) { c.AssessmentNotFound, c.Gone = true, map[int]bool{0: true} }, listings: 1, reads: 3, totals: 1},
		"404 except for one host":    {hosts: 2, configure: func(c *vendorsim.CrowdStrikeConfig) { c.AssessmentNotFound = true }, listings: 1, reads: 1},
	} {
		t.Run(name, func(t *testing.T) {
			runTenant(t, vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeHosts: tc.hosts}}, nil, func(t *tenant) {
				var gone map[int]bool
				if tc.configure != nil {
					t.vendor.Configure(tc.configure)
					t.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) { gone = c.Gone })
				}
				var want []string
				for _, i := range t.vendor.Assessed() {
					if !gone[i] {
						want = append(want, string(t.Sim.Record(vendorsim.CrowdStrikeZTA, i)))
					}
				}
				t.AssertRecords(t.Extract(t.stream(vendorsim.CrowdStrikeZTA)), want)
				got := t.Host.Stats().Requests
				listings := got["GET "+hostsPath]
				if got["GET "+scrollPath] > 0 {
					listings = got["GET "+scrollPath] + 1 // the last page is empty
				}
				if listings > tc.listings || got["GET "+assessmentsPath] > tc.reads || got["GET "+scoresPath] != tc.totals {
					t.Errorf("requests %v, want at most %d for the listing and %d for assessments, and %d for the total", got, tc.listings, tc.reads, tc.totals)
				}
				t.AssertNoViolations()
			})
		})
	}
}

// TestCrowdStrikeAssessmentsNotFound: the extraction fails if the vendor responds
// with "not found" although the hosts have assessments.
func TestCrowdStrikeAssessmentsNotFound(t *testing.T) {
	notFound := vendorsim.Status(404, `{"errors":[{"code":404,"message":"no assessment found"}]}`)
	for name, filter := range map[string]string{"all hosts": "", "some hosts": "platform_name:'Windows'"} {
		t.Run(name, func(t *testing.T) {
			runTenant(t, smallTenant(), func(s *Settings) { s.Hosts, s.Page = filter, 50 }, func(t *tenant) {
				t.Host.Inject(vendorsim.Fault{Path: assessmentsPath, From: 2, Times: vendorsim.Forever, Do: notFound})
				if err := t.extractError(vendorsim.CrowdStrikeZTA); !errors.Is(err, collector.ErrIncomplete) || !strings.Contains(err.Error(), "404") {
					t.Errorf("error %v", err)
				}
			})
		})
	}
}

// TestCrowdStrikeAssessmentsOfSomeHosts: with a filter of hosts, "not found"
// for a batch of hosts without assessments is no failure.
func TestCrowdStrikeAssessmentsOfSomeHosts(t *testing.T) {
	runTenant(t, vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeHosts: 650}}, nil, func(t *tenant) {
		t.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) { c.AssessmentNotFound = true })
		assessed := t.vendor.Assessed()
		var without []string // the ids of all hosts without an assessment
		for i := range 650 {
			if _, found := slices.BinarySearch(assessed, i); !found {
				without = append(without, t.Sim.RecordID(vendorsim.CrowdStrikeHosts, i))
			}
		}
		if len(without) < 50 {
			t.Fatalf("%d hosts have no assessment", len(without))
		}
		t.open(t.Host.URL(), "", nil, func(s *Settings) { s.Hosts = "device_id:['" + strings.Join(without, "','") + "']" })
		got, doubts := t.extractWithDoubts(vendorsim.CrowdStrikeZTA)
		if len(got) != 0 || len(doubts) != 0 {
			t.Errorf("%d records, doubts %v, want none", len(got), doubts)
		}
		if n := t.Host.Stats().Requests["GET "+scoresPath]; n != 1 {
			t.Errorf("%d requests for the vendor's list, want 1", n)
		}
	})
}

// TestCrowdStrikeAssessmentsByProxy: a proxy that refuses long requests in its
// own way gets smaller batches.
func TestCrowdStrikeAssessmentsByProxy(t *testing.T) {
	runTenant(t, vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeHosts: 600}}, nil, func(t *tenant) {
		t.Host.Inject(vendorsim.Fault{Path: assessmentsPath, Times: vendorsim.Forever, Do: vendorsim.HTML(431), When: func(r *http.Request) bool {
			return len(r.URL.RequestURI()) > 8<<10
		}})
		t.assertExtracts(vendorsim.CrowdStrikeZTA)
	})
}

// TestCrowdStrikeAssessmentsLeftOut: assessments that the vendor lists but does
// not return are a doubt if they are few, and an error if they are many.
func TestCrowdStrikeAssessmentsLeftOut(t *testing.T) {
	runTenant(t, vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeHosts: 8000}}, smallPages, func(t *tenant) {
		ids := make([]string, 8000)
		for i := range ids {
			ids[i] = t.Sim.RecordID(vendorsim.CrowdStrikeHosts, i)
		}
		slices.Sort(ids)
		leaveOut := func(batches int) {
			t.Host.Inject(vendorsim.Fault{Path: assessmentsPath, Times: batches, Do: vendorsim.Status(200, `{"resources":[],"errors":null}`),
				When: func(r *http.Request) bool { return r.URL.Query()["ids"][0] < ids[100*batches] }})
		}
		leaveOut(1)
		got, doubts := t.extractWithDoubts(vendorsim.CrowdStrikeZTA)
		var want []string
		missing := int64(0)
		for _, i := range t.vendor.Assessed() {
			switch {
			case t.Sim.RecordID(vendorsim.CrowdStrikeHosts, i) >= ids[100]:
				want = append(want, string(t.Sim.Record(vendorsim.CrowdStrikeZTA, i)))
			case t.vendor.HasScore(i):
				missing++
			}
		}
		t.AssertRecords(got, want)
		if text := "received fewer assessments than the vendor lists"; !slices.Equal(doubts, []collector.Doubt{{Text: text, Count: missing}}) || missing < 70 {
			t.Errorf("doubts %v, want %d missing", doubts, missing)
		}
		leaveOut(4)
		if err := t.extractError(vendorsim.CrowdStrikeZTA); !errors.Is(err, collector.ErrIncomplete) {
			t.Errorf("error %v", err)
		}
	})
	// Without the vendor's list there is nothing to compare with.
	runTenant(t, smallTenant(), nil, func(t *tenant) {
		t.Host.Inject(vendorsim.Fault{Path: scoresPath, Times: vendorsim.Forever, Do: vendorsim.Status(403, `{}`)})
		got, doubts := t.extractWithDoubts(vendorsim.CrowdStrikeZTA)
		want := t.expectedRecords(vendorsim.CrowdStrikeZTA)
		t.AssertRecords(got, want)
		text := "fewer assessments than hosts, not compared with the vendor's list"
		if !slices.Equal(doubts, []collector.Doubt{{Text: text, Count: int64(650 - len(want))}}) {
			t.Errorf("doubts %v", doubts)
		}
	})
}
