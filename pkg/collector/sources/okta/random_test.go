package okta

import (
	"math/rand/v2"
	"testing"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

func TestOktaUnderRandomFaults(t *testing.T) {
	collectortest.FaultyVendor{
		Options: func(random *rand.Rand) vendorsim.Options {
			_, o := simulateOkta(20 + random.IntN(100))
			o.RecordBytes[vendorsim.OktaUsers], o.EdgeEvery = 300, -1
			o.PageLimits[vendorsim.OktaUsers] = 10
			return o
		},
		Open: func(h *collectortest.Harness, _ *rand.Rand) *collector.Collector { return openOkta(h, nil, nil) },
	}.TestRandomFaults(t)
}
