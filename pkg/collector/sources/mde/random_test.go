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
		Options: func(random *rand.Rand) vendorsim.Options { return tenant.SimulateSmall(random, 80) },
		Open:    func(h *collectortest.Harness, _ *rand.Rand) *collector.Collector { return openMDE(h, nil) },
	}.TestRandomFaults(t)
}
