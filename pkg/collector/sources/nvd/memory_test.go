package nvd

import (
	"testing"
	"time"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

func TestMemoryDoesNotGrow(t *testing.T) {
	collectortest.MemoryTest{
		Options: func(stream string, n int) vendorsim.Options {
			return vendorsim.Options{
				Vendors: []vendorsim.Vendor{vendorsim.NewNVD()}, Counts: map[string]int{stream: n}, RecordBytes: map[string]int{stream: 300},
			}
		},
		Open: func(h *collectortest.Harness) *collector.Collector {
			c := openNVD(h, vendorsim.NVDKey)
			time.Sleep(30 * 24 * time.Hour) // the ids of CVEs that were modified lately are in memory
			return c
		},
		Streams: []string{vendorsim.NVDCVEs},
	}.Test(t)
}
