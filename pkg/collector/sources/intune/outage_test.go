package intune

import (
	"testing"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

func TestIntuneOutage(t *testing.T) {
	collectortest.OutageTest{
		Stream: vendorsim.IntuneDevices,
		Run: func(t *testing.T, test func(h *collectortest.Harness, s collector.Stream)) {
			collectortest.Run(t, simulateIntune(300, nil), func(h *collectortest.Harness) {
				test(h, collectortest.FindStream(h, openIntune(h, nil), vendorsim.IntuneDevices))
			})
		},
		Want: func(h *collectortest.Harness) []string { return h.Records(vendorsim.IntuneDevices) },
	}.Test(t)
}
