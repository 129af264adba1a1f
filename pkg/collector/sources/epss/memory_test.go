package epss

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
				Vendors: []vendorsim.Vendor{vendorsim.NewEPSS()}, Counts: map[string]int{stream: n}, RecordBytes: map[string]int{stream: 300},
			}
		},
		Open:    func(h *collectortest.Harness) *collector.Collector { return openScores(h) },
		Streams: []string{vendorsim.EPSSScores},
	}.Test(t)
}
