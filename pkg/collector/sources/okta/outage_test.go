package okta

import (
	"testing"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

// TestOktaOutage tests that the users survive an outage of ten minutes.
func TestOktaOutage(t *testing.T) {
	collectortest.OutageTest{
		Stream: vendorsim.OktaUsers,
		Run: func(t *testing.T, test func(h *collectortest.Harness, s collector.Stream)) {
			_, o := simulateOkta(300)
			collectortest.Run(t, o, func(h *collectortest.Harness) { test(h, openUsers(h, nil)) })
		},
		Want: func(h *collectortest.Harness) []string { return h.Records(vendorsim.OktaUsers) },
	}.Test(t)
}
