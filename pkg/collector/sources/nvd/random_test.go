package nvd

import (
	"math/rand/v2"
	"testing"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

func TestNVDUnderRandomFaults(t *testing.T) {
	collectortest.FaultyVendor{
		Options: func(random *rand.Rand) vendorsim.Options {
			_, o := simulateNVD(20 + random.IntN(200))
			o.RecordBytes[vendorsim.NVDCVEs], o.EdgeEvery = 300, -1
			o.PageLimits[vendorsim.NVDCVEs] = 5
			return o
		},
		Open: func(h *collectortest.Harness, _ *rand.Rand) *collector.Collector { return openNVD(h, vendorsim.NVDKey) },
	}.TestRandomFaults(t)
}
