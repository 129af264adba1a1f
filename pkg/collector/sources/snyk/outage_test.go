package snyk

import (
	"testing"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

// TestSnykOutage tests that each stream survives an outage of ten minutes.
func TestSnykOutage(t *testing.T) {
	for _, name := range streamNames {
		t.Run(name, func(t *testing.T) {
			orgs, records := 4, 250
			if name == vendorsim.SnykOrganizations {
				orgs, records = 350, 1 // four pages
			}
			sim, _ := simulateSnyk(orgs, records)
			collectortest.OutageTest{
				Stream: name,
				Run: func(t *testing.T, test func(h *collectortest.Harness, s collector.Stream)) {
					current, o := simulateSnyk(orgs, records)
					sim = current
					collectortest.Run(t, o, func(h *collectortest.Harness) {
						test(h, collectortest.FindStream(h, openSnyk(h, nil, nil), name))
					})
				},
				Want: func(h *collectortest.Harness) []string { return expectedRecords(h, sim, name) },
			}.Test(t)
		})
	}
}
