package knowbe4

import (
	"math/rand/v2"
	"testing"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

func TestKnowBe4UnderRandomFaults(t *testing.T) {
	collectortest.FaultyVendor{
		Options: func(random *rand.Rand) vendorsim.Options {
			o := simulateKnowBe4(20+random.IntN(100), nil)
			o.RecordBytes, o.EdgeEvery = map[string]int{vendorsim.KnowBe4Enrollments: 300}, -1
			o.PageLimits[vendorsim.KnowBe4Enrollments] = 10
			return o
		},
		Open: func(h *collectortest.Harness, _ *rand.Rand) *collector.Collector { return openKnowBe4(h, nil) },
	}.TestRandomFaults(t)
}
