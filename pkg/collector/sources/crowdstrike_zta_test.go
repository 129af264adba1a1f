package sources

import (
	"errors"
	"strings"
	"testing"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

func TestFalconAssessments(t *testing.T) {
	for name, tc := range map[string]struct {
		hosts                   int
		sim                     func(*vendorsim.CrowdStrikeConfig)
		listings, reads, totals int
	}{
		"none":                        {hosts: 0, listings: 1},
		"few":                         {hosts: 60, listings: 1, reads: 1},
		"a full batch":                {hosts: 1000, listings: 1, reads: 2},
		"past the plain query's end":  {hosts: 10100, listings: 2, reads: 21},
		"errors for the unassessed":   {hosts: 1100, sim: func(c *vendorsim.CrowdStrikeConfig) { c.AssessmentErrors = true }, listings: 1, reads: 3},
		"by scroll":                   {hosts: 1100, sim: func(c *vendorsim.CrowdStrikeConfig) { c.NoCombined = true }, listings: 3, reads: 3},
		"at most 100 ids":             {hosts: 1500, sim: func(c *vendorsim.CrowdStrikeConfig) { c.MaxAssessments = 100 }, listings: 1, reads: 36},
		"addresses of at most 8 KiB":  {hosts: 1500, sim: func(c *vendorsim.CrowdStrikeConfig) { c.MaxURL = 8 << 10 }, listings: 1, reads: 20},
		"a host that leaves":          {hosts: 1000, sim: func(c *vendorsim.CrowdStrikeConfig) { c.Gone = map[int]bool{0: true, 999: true} }, listings: 1, reads: 2},
		"404 for a batch of nothing":  {hosts: 1, sim: func(c *vendorsim.CrowdStrikeConfig) { c.AssessmentNotFound, c.Gone = true, map[int]bool{0: true} }, listings: 1, reads: 3, totals: 1},
		"404 but for an existing one": {hosts: 2, sim: func(c *vendorsim.CrowdStrikeConfig) { c.AssessmentNotFound = true }, listings: 1, reads: 1},
	} {
		t.Run(name, func(t *testing.T) {
			inFalcon(t, vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeHosts: tc.hosts}}, nil, func(t *falconTenant) {
				var gone map[int]bool
				if tc.sim != nil {
					t.vendor.Configure(tc.sim)
					t.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) { gone = c.Gone })
				}
				var want []string
				for _, i := range t.vendor.Assessed() {
					if !gone[i] {
						want = append(want, string(t.sim.Record(vendorsim.CrowdStrikeZTA, i)))
					}
				}
				t.same(t.extract(stream(t, t.c, vendorsim.CrowdStrikeZTA)), want)
				got := t.host.Stats().Requests
				listings := got["GET "+falconHostsPath]
				if got["GET "+falconScrollPath] > 0 {
					listings = got["GET "+falconScrollPath] + 1 // the last is empty
				}
				if listings > tc.listings || got["GET "+falconAssessments] > tc.reads || got["GET "+falconScorePath] != tc.totals {
					t.Errorf("requests %v, want at most %d listings, %d reads, %d totals", got, tc.listings, tc.reads, tc.totals)
				}
				t.lawful()
			})
		})
	}
}

// "Not found" for hosts that do have assessments is a failure of the vendor.
func TestFalconAssessmentsNotFound(t *testing.T) {
	notFound := vendorsim.Status(404, `{"errors":[{"code":404,"message":"no assessment found"}]}`)
	for name, filter := range map[string]string{"all hosts": "", "some hosts": "platform_name:'Windows'"} {
		t.Run(name, func(t *testing.T) {
			inFalcon(t, falconSmall(), func(s *crowdstrikeSettings) { s.Hosts, s.Page = filter, 50 }, func(t *falconTenant) {
				t.host.Inject(vendorsim.Fault{Path: falconAssessments, From: 2, Times: vendorsim.Forever, Do: notFound})
				if err := t.fails(vendorsim.CrowdStrikeZTA); !errors.Is(err, collector.ErrIncomplete) || !strings.Contains(err.Error(), "404") {
					t.Errorf("error %v", err)
				}
			})
		})
	}
}
