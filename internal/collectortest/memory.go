package collectortest

import (
	"flag"
	"runtime"
	"sync"
	"testing"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

var memoryRecords = flag.Int("memory-records", 0, "the number of records in tests of memory; 0 for the usual number")

// A MemoryTest checks that the memory of a collector does not grow with the number of
// records.
type MemoryTest struct {
	// Options returns a simulated vendor with n records in a stream.
	Options func(stream string, n int) vendorsim.Options
	Open    func(h *Harness) *collector.Collector
	Streams []string
}

// usualMemoryRecords is enough for a few bytes a record to be seen.
func usualMemoryRecords() int {
	if raceEnabled {
		return 20_000
	}
	return 200_000
}

const (
	// memorySlack is what the memory in use may grow: buffers of parallel requests fill by
	// chance.
	memorySlack = 6 << 20
	// memoryPerRecord is what it may grow for each record, in bytes: a collector whose
	// vendor has only positions remembers the ids that it has seen, as hashes.
	memoryPerRecord = 12
)

// Test compares the memory in use with a quarter of the records and with all of them.
func (m MemoryTest) Test(t *testing.T) {
	n := *memoryRecords
	if n == 0 {
		n = usualMemoryRecords()
	}
	for _, stream := range m.Streams {
		t.Run(stream, func(t *testing.T) {
			few, many := m.measure(t, stream, n/4), m.measure(t, stream, n)
			t.Logf("%d KiB in use with %d records, %d KiB with %d", few>>10, n/4, many>>10, n)
			if many > few+memorySlack+memoryPerRecord*uint64(n) {
				t.Errorf("the memory in use grew from %d KiB with %d records to %d KiB with %d", few>>10, n/4, many>>10, n)
			}
		})
	}
}

// measure extracts a stream with n records, and returns the peak of the memory in use.
func (m MemoryTest) measure(t *testing.T, stream string, n int) (peak uint64) {
	t.Helper()
	o := m.Options(stream, n)
	o.EdgeEvery, o.Gzip = -1, vendorsim.GzipOff
	Run(t, o, func(h *Harness) {
		s := FindStream(h, m.Open(h), stream)
		out := &measuredOutput{Spool: NewSpool(h.T), every: n / 10}
		if err := s.Extract(h.withStats(h.Context()), out); err != nil {
			h.Fatal(err)
		}
		if got := out.RecordCount(); got != int64(n) {
			h.Errorf("%d records, want %d", got, n)
		}
		peak = out.peak
	})
	return peak
}

// A measuredOutput is a Spool that measures the memory in use at intervals.
type measuredOutput struct {
	*Spool
	mu       sync.Mutex
	every, n int
	peak     uint64
}

// NewBatch implements collector.Output.
func (m *measuredOutput) NewBatch() collector.Batch { return measuredBatch{m.Spool.NewBatch(), m} }

type measuredBatch struct {
	collector.Batch
	out *measuredOutput
}

// Append implements collector.Batch.
func (b measuredBatch) Append(record []byte) error {
	b.out.measure()
	return b.Batch.Append(record)
}

func (m *measuredOutput) measure() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.n++; m.n%m.every != 0 {
		return
	}
	runtime.GC()
	var now runtime.MemStats
	runtime.ReadMemStats(&now)
	m.peak = max(m.peak, now.HeapAlloc)
}
