package snyk

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

// TestSnykStreamChecks checks the requests of the streams' checks, and that a refusal of
// one stream leaves the checks of the others alone.
func TestSnykStreamChecks(t *testing.T) {
	requests := map[string]map[string]int{
		vendorsim.SnykOrganizations: {"GET /rest/orgs": 1},
		vendorsim.SnykMembers:       {"GET /rest/orgs": 1, "GET /v1/org/{org}/members": 1},
		vendorsim.SnykProjects:      {"GET /rest/orgs": 1, "GET /rest/orgs/{org}/projects": 1},
		vendorsim.SnykIssues:        {"GET /rest/orgs": 1, "GET /rest/orgs/{org}/issues": 1},
	}
	for _, tc := range []struct {
		name    string
		refused string
		found   bool // the response to a refused request is 403, not 404
	}{
		{name: "members", refused: vendorsim.SnykMembers, found: true},
		{name: "members with 404", refused: vendorsim.SnykMembers},
		{name: "projects", refused: vendorsim.SnykProjects, found: true},
		{name: "issues", refused: vendorsim.SnykIssues, found: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sim, o := simulateSnyk(3, 60)
			collectortest.Run(t, o, func(h *collectortest.Harness) {
				c := openSnyk(h, nil, nil)
				for _, s := range c.Streams {
					h.Host.ResetStats()
					if err := s.Check(h.Context()); err != nil {
						t.Error(err)
					}
					if diff := cmp.Diff(requests[s.Name], h.Host.Stats().Requests); diff != "" {
						t.Errorf("requests for %s (-want +got):\n%s", s.Name, diff)
					}
					h.AssertNoViolations()
				}
				sim.Forbid(tc.refused)
				sim.ChangeBehaviour(func(b *vendorsim.SnykBehaviour) { b.ForbiddenNotFound = !tc.found })
				for _, s := range c.Streams {
					err := s.Check(h.Context())
					switch {
					case s.Name != tc.refused && err != nil:
						t.Errorf("%s: %v", s.Name, err)
					case s.Name == tc.refused && (!errors.Is(err, collector.ErrForbidden) || !strings.Contains(err.Error(), "the owner of SNYK_TOKEN")):
						t.Errorf("the check of the refused stream: %v", err)
					}
				}
			})
		})
	}
}

// TestSnykCheckSkipsForbidden checks that with SNYK_SKIP_FORBIDDEN one organisation that
// can be read is enough, and without it the first that cannot be read is named.
func TestSnykCheckSkipsForbidden(t *testing.T) {
	sim, o := simulateSnyk(3, 60)
	collectortest.Run(t, o, func(h *collectortest.Harness) {
		sim.Forbid(vendorsim.SnykProjects, 0, 1)
		for _, skip := range []bool{false, true} {
			c := openSnyk(h, nil, func(s *Settings) { s.Skip = skip })
			err := collectortest.FindStream(h, c, vendorsim.SnykProjects).Check(h.Context())
			if skip != (err == nil) || !skip && (!errors.Is(err, collector.ErrForbidden) || !strings.Contains(err.Error(), "organisation ")) {
				t.Errorf("SNYK_SKIP_FORBIDDEN=%v: %v", skip, err)
			}
		}
		sim.Forbid(vendorsim.SnykProjects)
		c := openSnyk(h, nil, func(s *Settings) { s.Skip = true })
		if err := collectortest.FindStream(h, c, vendorsim.SnykProjects).Check(h.Context()); !errors.Is(err, collector.ErrForbidden) {
			t.Errorf("no organisation can be read: %v", err)
		}
	})
}
