package tenable

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

// sharedNotes are notes that several streams use at once.
type sharedNotes struct {
	mu    sync.Mutex
	notes memoryNotes
}

func (s *sharedNotes) Note(ctx context.Context, key string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.notes.Note(ctx, key)
}

func (s *sharedNotes) SetNote(ctx context.Context, key, text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.notes.SetNote(ctx, key, text)
}

func TestTenableUnderRandomFaults(t *testing.T) {
	collectortest.FaultyVendor{
		Options: func(random *rand.Rand) vendorsim.Options {
			o := vendorsim.Options{
				Vendors: []vendorsim.Vendor{vendorsim.NewTenable()}, Counts: map[string]int{}, RecordBytes: map[string]int{}, EdgeEvery: -1,
			}
			for _, stream := range []string{vendorsim.TenableVulns, vendorsim.TenableAssets, vendorsim.TenableFindings, vendorsim.TenableWAS} {
				o.Counts[stream], o.RecordBytes[stream] = 10+random.IntN(110), 300
				o.Vendors[0].(*vendorsim.Tenable).ConfigureStream(stream, smallChunks)
			}
			return o
		},
		Open: func(h *collectortest.Harness, _ *rand.Rand) *collector.Collector {
			tenant := &tenant{Harness: h, vendor: h.Host.Vendor().(*vendorsim.Tenable), notes: &sharedNotes{notes: memoryNotes{}}}
			return tenant.open(nil)
		},
		Record: func(h *collectortest.Harness, stream string, i int) string {
			if stream == vendorsim.TenableWAS {
				return string(h.Host.Vendor().(*vendorsim.Tenable).WASRecord(i))
			}
			return string(h.Sim.Record(stream, i))
		},
		Unit: func(h *collectortest.Harness, stream string, i int) []string {
			if stream != vendorsim.TenableWAS {
				return nil
			}
			scan, parent, config := h.Host.Vendor().(*vendorsim.Tenable).WASOrigin(i)
			return []string{scan, parent, config}
		},
		Doubts: map[string][]string{
			doubtGone:           nil,
			doubtNoReport:       nil,
			doubtUnreadable:     nil,
			doubtNoTargets:      {"500"},
			doubtMiscounted:     {"findings miscounted"},
			doubtUncounted:      {"findings not counted"},
			doubtNoFinishedScan: nil, // the simulator has such configurations
			doubtNoHistory:      nil,
			"exports whose number of chunks cannot be read":               {"403", "404", "404 with HTML", "permission missing"},
			"exports that are not finished in the list of recent exports": {"lagging list of exports"},
		},
	}.TestRandomFaults(t)
}
