package github

import (
	"math/rand/v2"
	"testing"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

func TestGitHubUnderRandomFaults(t *testing.T) {
	collectortest.FaultyVendor{
		Options: func(random *rand.Rand) vendorsim.Options {
			_, o := simulateGitHub(2+random.IntN(4), 10+random.IntN(30))
			o.Counts[vendorsim.GitHubRepositories] = 4 + random.IntN(10)
			o.EdgeEvery = -1
			return o
		},
		Open: func(h *collectortest.Harness, random *rand.Rand) *collector.Collector {
			if random.IntN(3) == 0 {
				return openGitHub(h, useApp)
			}
			return openGitHub(h, nil)
		},
		Record: func(h *collectortest.Harness, stream string, i int) string {
			return expectedRecord(h, h.Host.Vendor().(*vendorsim.GitHub), stream, i)
		},
		// An organisation is stored whole or not at all, and of rules each repository.
		Unit: func(h *collectortest.Harness, stream string, i int) []string {
			sim := h.Host.Vendor().(*vendorsim.GitHub)
			org := sim.Login(sim.Organization(stream, i))
			if stream != vendorsim.GitHubRules {
				return []string{org}
			}
			return []string{org, sim.RepositoryName(sim.Repository(stream, i))}
		},
		Doubts: map[string][]string{
			"an organisation was deleted while it was read, and was skipped":                         {"organisation deleted while it is read"},
			"a repository was deleted while it was read, and was skipped":                            {"organisation deleted while it is read"},
			"an organisation is left out because the token is not authorized for its single sign-on": {"organisations left out for single sign-on"},
		},
	}.TestRandomFaults(t)
}
