package azureentra

import (
	"math/rand/v2"
	"testing"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

func TestEntraUnderRandomFaults(t *testing.T) {
	collectortest.FaultyVendor{
		Options: func(random *rand.Rand) vendorsim.Options { return tenant.SimulateSmall(random, 60) },
		// The streams are alike: each run has some of them.
		Open: func(h *collectortest.Harness, random *rand.Rand) *collector.Collector {
			c := openEntra(h, nil)
			random.Shuffle(len(c.Streams), func(i, j int) { c.Streams[i], c.Streams[j] = c.Streams[j], c.Streams[i] })
			c.Streams = c.Streams[:3]
			return c
		},
		// A user may be stored without the member that was refused.
		Normalize: withoutActivity,
		Doubts: map[string][]string{
			"users are without signInActivity, which the vendor refuses": {"no premium license", "permission for signInActivity missing", "403"},
		},
	}.TestRandomFaults(t)
}
