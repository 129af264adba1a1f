package azureentra

import (
	"testing"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

func TestEntraOutage(t *testing.T) {
	collectortest.OutageTest{
		Stream: vendorsim.EntraUsers,
		Run: func(t *testing.T, test func(h *collectortest.Harness, s collector.Stream)) {
			collectortest.Run(t, simulateEntra(300, nil), func(h *collectortest.Harness) {
				test(h, collectortest.FindStream(h, openEntra(h, nil), vendorsim.EntraUsers))
			})
		},
		Want: func(h *collectortest.Harness) []string { return h.Records(vendorsim.EntraUsers) },
	}.Test(t)
}
