package crowdstrike

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

// TestCrowdStrikeStreamChecks checks the requests of the streams' checks, and which
// checks fail when one scope is missing.
func TestCrowdStrikeStreamChecks(t *testing.T) {
	const hosts, vulnerabilities, assessments = "crowdstrike_hosts", "crowdstrike_vulnerabilities", "crowdstrike_zero_trust_assessment"
	requests := map[string]map[string]int{
		hosts:           {"GET /devices/combined/devices/v1": 1},
		vulnerabilities: {"GET /spotlight/combined/vulnerabilities/v1": 1},
		assessments:     {"GET /devices/combined/devices/v1": 1, "GET /zero-trust-assessment/queries/assessments/v1": 1},
	}
	for _, tc := range []struct {
		missing string
		scope   string
		failing []string
	}{
		{missing: vendorsim.CrowdStrikeHosts, scope: hostsScope, failing: []string{hosts, assessments}},
		{missing: vendorsim.CrowdStrikeVulns, scope: vulnerabilitiesScope, failing: []string{vulnerabilities}},
		{missing: vendorsim.CrowdStrikeZTA, scope: assessmentsScope, failing: []string{assessments}},
	} {
		t.Run(tc.missing, func(t *testing.T) {
			runTenant(t, vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeHosts: 30, vendorsim.CrowdStrikeVulns: 30}}, nil, func(t *tenant) {
				if err := t.collector.Check(t.Context()); err != nil {
					t.Fatal(err)
				}
				for _, s := range t.collector.Streams {
					t.Host.ResetStats()
					if err := s.Check(t.Context()); err != nil {
						t.Error(err)
					}
					got := maps.Clone(t.Host.Stats().Requests)
					delete(got, "POST /oauth2/token")
					if diff := cmp.Diff(requests[s.Name], got); diff != "" {
						t.Errorf("requests for %s (-want +got):\n%s", s.Name, diff)
					}
				}
				t.AssertNoViolations()
				t.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) { c.Forbidden = map[string]bool{tc.missing: true} })
				var failing []string
				for _, s := range t.collector.Streams {
					err := s.Check(t.Context())
					if err == nil {
						continue
					}
					failing = append(failing, s.Name)
					if !errors.Is(err, collector.ErrForbidden) || !strings.Contains(err.Error(), "the scope "+tc.scope) {
						t.Errorf("the check of %s: %v", s.Name, err)
					}
				}
				if diff := cmp.Diff(tc.failing, failing); diff != "" {
					t.Errorf("failing checks (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestCrowdStrikeCheckByScroll checks the check of hosts where the combined listing does
// not exist.
func TestCrowdStrikeCheckByScroll(t *testing.T) {
	runTenant(t, vendorsim.Options{Counts: map[string]int{vendorsim.CrowdStrikeHosts: 30}}, nil, func(t *tenant) {
		t.Host.Inject(vendorsim.Fault{Path: "/devices/combined/**", Times: vendorsim.Forever, Do: vendorsim.Status(404, `{"errors":[{"code":404,"message":"404: Page Not Found"}]}`)})
		if err := t.stream("crowdstrike_hosts").Check(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestCrowdStrikeCheckOfFilter checks that an invalid filter is found before a run.
func TestCrowdStrikeCheckOfFilter(t *testing.T) {
	runTenant(t, vendorsim.Options{}, func(s *Settings) { s.Vulns = "nonsense" }, func(t *tenant) {
		if err := t.stream("crowdstrike_vulnerabilities").Check(t.Context()); err == nil || !strings.Contains(err.Error(), "check FALCON_VULNERABILITIES_FILTER") {
			t.Errorf("error %v", err)
		}
	})
}
