package crowdstrike

import (
	"net/url"
	"testing"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

// TestCrowdStrikeOutage tests that each stream survives an outage of ten minutes.
// The cursors of listings expire after two minutes, so the listings that are read
// when the outage begins start again, those of vulnerabilities in their range.
func TestCrowdStrikeOutage(t *testing.T) {
	for name := range streamPaths {
		t.Run(name, func(t *testing.T) {
			var current *tenant
			collectortest.OutageTest{
				Stream: name,
				Run: func(t *testing.T, test func(h *collectortest.Harness, s collector.Stream)) {
					o := smallTenant()
					o.Counts[vendorsim.CrowdStrikeVulns] = 2500
					runTenant(t, o, smallPages, func(t *tenant) {
						current = t
						test(t.Harness, t.stream(name))
					})
				},
				Want:          func(*collectortest.Harness) []string { return current.expectedRecords(name) },
				CursorsExpire: true,
			}.Test(t)
		})
	}
}

// TestCrowdStrikeStalledBody tests that the page of a response that stalls is
// requested again before its cursor expires, so that the listing does not start
// again.
func TestCrowdStrikeStalledBody(t *testing.T) {
	o := smallTenant()
	runTenant(t, o, func(s *Settings) { s.Page, s.Split = 50, 1 }, func(t *tenant) {
		injected := t.Host.Inject(vendorsim.Fault{Path: vulnerabilitiesPath, From: 4, Do: vendorsim.HangAfter(vendorsim.Half)})
		t.assertExtracts(vendorsim.CrowdStrikeVulns)
		first := 0
		for _, r := range t.Host.Stats().Log {
			if q, _ := url.ParseQuery(r.Query); r.Path == vulnerabilitiesPath && !q.Has("after") && q.Get("limit") != "1" {
				first++
			}
		}
		if injected.Hits() != 1 || first != 1 {
			t.Errorf("the first page was requested %d times, want once; %d bodies stalled", first, injected.Hits())
		}
	})
}
