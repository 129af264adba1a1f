package harness

import (
	"testing"

	"github.com/collectord/collectord/internal/vendorsim"
)

// StartVendors starts simulated vendors with the given number of records for
// each stream.
func StartVendors(t *testing.T, counts map[string]int, vendors ...vendorsim.Vendor) *vendorsim.Server {
	t.Helper()
	sim, err := vendorsim.Start(vendorsim.Options{Vendors: vendors, Counts: counts})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	return sim
}

// NewSmallTenable returns a Tenable tenant whose exports are finished at once.
func NewSmallTenable() *vendorsim.Tenable {
	v := vendorsim.NewTenable()
	for _, stream := range []string{vendorsim.TenableVulns, vendorsim.TenableAssets, vendorsim.TenableFindings} {
		v.ConfigureStream(stream, func(s *vendorsim.TenableStream) { s.QueuedPolls, s.GrowPolls, s.ChunkRecords = 0, 0, 40 })
	}
	return v
}

// SmallCounts are numbers of records for the streams of NewSmallTenable.
var SmallCounts = map[string]int{
	vendorsim.TenableVulns: 120, vendorsim.TenableAssets: 80, vendorsim.TenableFindings: 60, vendorsim.TenableWAS: 30,
}
