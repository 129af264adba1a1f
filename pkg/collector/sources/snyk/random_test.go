package snyk

import (
	"math/rand/v2"
	"testing"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

func TestSnykUnderRandomFaults(t *testing.T) {
	collectortest.FaultyVendor{
		Options: func(random *rand.Rand) vendorsim.Options {
			_, o := simulateSnyk(2+random.IntN(10), 20+random.IntN(60))
			o.EdgeEvery = -1
			return o
		},
		Open: func(h *collectortest.Harness, random *rand.Rand) *collector.Collector {
			skip, oauth := random.IntN(2) == 0, random.IntN(2) == 0
			return openSnyk(h, nil, func(s *Settings) {
				s.Skip = skip
				if oauth {
					useClientCredentials(s)
				}
			})
		},
		Record: func(h *collectortest.Harness, stream string, i int) string {
			record := string(h.Sim.Record(stream, i))
			if stream == vendorsim.SnykMembers {
				record = record[:len(record)-1] + `,"_org_id":"` + organizationOf(h, stream, i) + `"}`
			}
			return record
		},
		Unit: func(h *collectortest.Harness, stream string, i int) []string {
			return []string{organizationOf(h, stream, i)}
		},
		Doubts: map[string][]string{
			"an empty page led to itself and was taken as the end of a listing": {"empty last page that leads to itself"},
			"an organisation was deleted while it was read, and was skipped":    {"organisation deleted while it is read"},
			"an organisation that the token may not read was skipped":           {"403 for lack of permission", "404 for lack of permission", "403", "404"},
		},
	}.TestRandomFaults(t)
}

// organizationOf returns the id of the organisation that record i belongs to.
func organizationOf(h *collectortest.Harness, stream string, i int) string {
	sim := h.Host.Vendor().(*vendorsim.Snyk)
	return h.Sim.RecordID(vendorsim.SnykOrganizations, sim.Organization(stream, i))
}
