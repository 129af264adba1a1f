package mde

import (
	"testing"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

func TestMDEOutage(t *testing.T) {
	collectortest.OutageTest{
		Stream: vendorsim.MDEMachineVulnerabilities,
		Run: func(t *testing.T, test func(h *collectortest.Harness, s collector.Stream)) {
			collectortest.Run(t, simulateMDE(300, nil), func(h *collectortest.Harness) {
				test(h, collectortest.FindStream(h, openMDE(h, nil), vendorsim.MDEMachineVulnerabilities))
			})
		},
		Want: func(h *collectortest.Harness) []string { return h.Records(vendorsim.MDEMachineVulnerabilities) },
	}.Test(t)
}
