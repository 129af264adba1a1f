package tenable

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

// TestTenableStreamChecks checks that the check of a stream makes one request that
// starts no export, and that a refusal of one stream leaves the checks of the others
// alone.
func TestTenableStreamChecks(t *testing.T) {
	requests := map[string]string{
		"tenable_vulnerabilities": "GET /vulns/export/status",
		"tenable_assets":          "GET /assets/export/status",
		"tenable_findings":        "GET /compliance/export/status",
		"tenable_was":             "POST /was/v2/configs/search",
	}
	refusals := map[string]struct{ config, hint string }{
		"tenable_vulnerabilities": {config: vendorsim.TenableVulns, hint: "role Basic [16]"},
		"tenable_assets":          {config: vendorsim.TenableAssets, hint: "role Basic [16]"},
		"tenable_findings":        {config: vendorsim.TenableFindings, hint: "role Basic [16]"},
		"tenable_was":             {config: vendorsim.TenableWAS, hint: "the license must include Web App Scanning"},
	}
	for refused, refusal := range refusals {
		t.Run(refused, func(t *testing.T) {
			runTenant(t, map[string]int{vendorsim.TenableVulns: 100}, func(t *tenant) {
				c := t.open(nil)
				for _, s := range c.Streams {
					t.Host.ResetStats()
					if err := s.Check(t.Context()); err != nil {
						t.Error(err)
					}
					if diff := cmp.Diff(map[string]int{requests[s.Name]: 1}, t.Host.Stats().Requests); diff != "" {
						t.Errorf("requests for %s (-want +got):\n%s", s.Name, diff)
					}
				}
				t.vendor.ConfigureStream(refusal.config, func(s *vendorsim.TenableStream) { s.Forbidden = true })
				for _, s := range c.Streams {
					err := s.Check(t.Context())
					if s.Name != refused {
						if err != nil {
							t.Errorf("%s: %v", s.Name, err)
						}
						continue
					}
					if !errors.Is(err, collector.ErrForbidden) || !strings.Contains(err.Error(), refusal.hint) ||
						!strings.Contains(err.Error(), requests[s.Name]) {
						t.Errorf("the check of the refused stream: %v", err)
					}
				}
				for request, n := range t.Host.Stats().Requests {
					if strings.HasSuffix(request, "/export") && n > 0 {
						t.Errorf("an export was started: %s", request)
					}
				}
			})
		})
	}
}

// TestTenableStreamCheckWithoutList checks that a list of recent jobs that is refused
// does not count as a missing permission for the export itself.
func TestTenableStreamCheckWithoutList(t *testing.T) {
	runTenant(t, nil, func(t *tenant) {
		t.Host.Inject(vendorsim.Fault{
			Path: "/assets/export/status", Times: vendorsim.Forever, Do: vendorsim.Status(403, `{"statusCode":403,"error":"Forbidden"}`),
		})
		if err := t.stream("tenable_assets").Check(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestTenableBulkCheck checks the check of web applications that are read by the bulk
// export.
func TestTenableBulkCheck(t *testing.T) {
	runTenant(t, nil, func(t *tenant) {
		c := t.open(func(s *Settings) { s.WASExport = "v1" })
		s := c.Streams[len(c.Streams)-1]
		if err := s.Check(t.Context()); err != nil || t.Host.Stats().Requests["GET /was/v1/export/vulns/status"] != 1 {
			t.Errorf("%v, requests %v", err, t.Host.Stats().Requests)
		}
		t.vendor.ConfigureStream(vendorsim.TenableWASBulk, func(s *vendorsim.TenableStream) { s.Forbidden = true })
		if err := s.Check(t.Context()); !errors.Is(err, collector.ErrForbidden) || !strings.Contains(err.Error(), "Web App Scanning") {
			t.Errorf("error %v", err)
		}
	})
}
