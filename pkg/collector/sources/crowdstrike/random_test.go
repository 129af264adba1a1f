package crowdstrike

import (
	"math/rand/v2"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

// updateTimes are the members of a vulnerability that an update changes.
var updateTimes = regexp.MustCompile(`"(updated|closed)_timestamp":"[^"]*",`)

func TestCrowdStrikeUnderRandomFaults(t *testing.T) {
	notFound := []string{"404", "404 with HTML", "410"}
	collectortest.FaultyVendor{
		Options: func(random *rand.Rand) vendorsim.Options {
			return vendorsim.Options{
				Vendors:   []vendorsim.Vendor{vendorsim.NewCrowdStrike()},
				Base:      time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), // the start of the fake clock
				EdgeEvery: -1,
				Counts: map[string]int{
					vendorsim.CrowdStrikeHosts: 10 + random.IntN(120), vendorsim.CrowdStrikeVulns: 10 + random.IntN(450),
				},
				RecordBytes: map[string]int{vendorsim.CrowdStrikeHosts: 300, vendorsim.CrowdStrikeVulns: 300, vendorsim.CrowdStrikeZTA: 300},
				PageLimits:  map[string]int{vendorsim.CrowdStrikeHosts: 20, vendorsim.CrowdStrikeVulns: 40},
			}
		},
		Open: func(h *collectortest.Harness, random *rand.Rand) *collector.Collector {
			tenant := &tenant{Harness: h, vendor: h.Host.Vendor().(*vendorsim.CrowdStrike)}
			split := 1 + random.IntN(6)
			tenant.open(h.Host.URL(), "", nil, func(s *Settings) { s.Split, s.Page = split, 50 })
			tenant.account.assessmentBatch, tenant.account.partCount = 50, 100+random.IntN(400)
			return tenant.collector
		},
		Indices: func(h *collectortest.Harness, stream string) []int {
			vendor := h.Host.Vendor().(*vendorsim.CrowdStrike)
			switch stream {
			case vendorsim.CrowdStrikeVulns:
				list, err := vendor.Select(defaultSettings(h).Vulns)
				if err != nil {
					h.Fatal(err)
				}
				return list
			case vendorsim.CrowdStrikeZTA:
				return vendor.Assessed()
			}
			return nil
		},
		Normalize: func(record string) string { return updateTimes.ReplaceAllString(record, "") },
		Unit: func(h *collectortest.Harness, stream string, i int) []string {
			if stream == vendorsim.CrowdStrikeVulns {
				return nil
			}
			return []string{h.Sim.RecordID(stream, i)}
		},
		Doubts: map[string][]string{
			"received fewer hosts than declared":                                {"totals drift", "hidden hosts are counted"},
			"received more hosts than declared":                                 {"totals drift"},
			"received fewer hosts than ids were listed":                         {"hosts removed while they are read"},
			"received fewer vulnerabilities than declared":                      {"totals drift", "hidden vulnerabilities are counted"},
			"received more vulnerabilities than declared":                       {"totals drift"},
			"received fewer assessments than the vendor lists":                  slices.Concat(notFound, []string{"hosts removed while they are read"}),
			"fewer assessments than hosts, not compared with the vendor's list": nil,
		},
	}.TestRandomFaults(t)
}
