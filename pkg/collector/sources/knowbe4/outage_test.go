package knowbe4

import (
	"testing"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

// TestKnowBe4Outage tests that the enrollments survive an outage of ten minutes,
// by cursor and by page number.
func TestKnowBe4Outage(t *testing.T) {
	for name, configure := range map[string]func(*vendorsim.KnowBe4Behaviour){
		"by cursor": nil, "by page number": func(b *vendorsim.KnowBe4Behaviour) { b.Older = true },
	} {
		t.Run(name, func(t *testing.T) {
			collectortest.OutageTest{
				Stream: vendorsim.KnowBe4Enrollments,
				Run: func(t *testing.T, test func(h *collectortest.Harness, s collector.Stream)) {
					collectortest.Run(t, simulateKnowBe4(300, configure), func(h *collectortest.Harness) {
						test(h, collectortest.FindStream(h, openKnowBe4(h, nil), vendorsim.KnowBe4Enrollments))
					})
				},
				Want: func(h *collectortest.Harness) []string { return h.Records(vendorsim.KnowBe4Enrollments) },
			}.Test(t)
		})
	}
}
