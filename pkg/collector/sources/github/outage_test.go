package github

import (
	"testing"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

// TestGitHubOutage tests that streams survive an outage of ten minutes.
func TestGitHubOutage(t *testing.T) {
	for _, name := range []string{vendorsim.GitHubMembers, vendorsim.GitHubCode, vendorsim.GitHubRules} {
		t.Run(name, func(t *testing.T) {
			sim, _ := simulateGitHub(3, 40)
			collectortest.OutageTest{
				Stream: name,
				Run: func(t *testing.T, test func(h *collectortest.Harness, s collector.Stream)) {
					current, o := simulateGitHub(3, 40)
					sim = current
					collectortest.Run(t, o, func(h *collectortest.Harness) {
						test(h, collectortest.FindStream(h, openGitHub(h, nil), name))
					})
				},
				Want: func(h *collectortest.Harness) []string { return expectedRecords(h, sim, name) },
			}.Test(t)
		})
	}
}
