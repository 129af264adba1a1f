package mde

import (
	"math/rand/v2"
	"testing"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

func TestMDEUnderRandomFaults(t *testing.T) {
	collectortest.FaultyVendor{
		Options: func(random *rand.Rand) vendorsim.Options {
			o := simulateMDE(20+random.IntN(60), nil)
			o.EdgeEvery, o.RecordBytes = -1, map[string]int{}
			for _, stream := range streamNames {
				o.PageLimits[stream], o.RecordBytes[stream] = 12, 300
			}
			return o
		},
		Open: func(h *collectortest.Harness, _ *rand.Rand) *collector.Collector { return openMDE(h, nil) },
	}.TestRandomFaults(t)
}
