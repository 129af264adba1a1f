package intune

import (
	"math/rand/v2"
	"testing"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

func TestIntuneUnderRandomFaults(t *testing.T) {
	collectortest.FaultyVendor{
		Options: func(random *rand.Rand) vendorsim.Options { return tenant.SimulateSmall(random, 80) },
		Open:    func(h *collectortest.Harness, _ *rand.Rand) *collector.Collector { return openIntune(h, nil) },
		Record: func(h *collectortest.Harness, stream string, i int) string {
			if stream == vendorsim.IntuneDetectedApps {
				return h.Host.Vendor().(*vendorsim.Intune).DetectedApp(i, reportColumns)
			}
			return string(h.Sim.Record(stream, i))
		},
	}.TestRandomFaults(t)
}
