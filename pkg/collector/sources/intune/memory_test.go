package intune

import (
	"testing"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

func TestMemoryDoesNotGrow(t *testing.T) {
	collectortest.MemoryTest{
		Options: func(stream string, n int) vendorsim.Options {
			return vendorsim.Options{
				Vendors: []vendorsim.Vendor{vendorsim.NewIntune()}, Counts: map[string]int{stream: n}, RecordBytes: map[string]int{stream: 300},
			}
		},
		Open:    func(h *collectortest.Harness) *collector.Collector { return openIntune(h, nil) },
		Streams: []string{vendorsim.IntuneDevices, vendorsim.IntuneDetectedApps},
	}.Test(t)
}
