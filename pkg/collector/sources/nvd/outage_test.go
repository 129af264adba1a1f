package nvd

import (
	"testing"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

// TestNVDOutage tests that a run survives an outage of ten minutes.
func TestNVDOutage(t *testing.T) {
	collectortest.OutageTest{
		Stream: vendorsim.NVDCVEs,
		Run: func(t *testing.T, test func(h *collectortest.Harness, s collector.Stream)) {
			_, o := simulateNVD(600)
			collectortest.Run(t, o, func(h *collectortest.Harness) { test(h, openCVEs(h)) })
		},
		Want: func(h *collectortest.Harness) []string { return h.Records(vendorsim.NVDCVEs) },
	}.Test(t)
}
