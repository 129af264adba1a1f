package cisakev

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
)

// openCatalogue opens the collector of the simulated catalogue.
func openCatalogue(h *collectortest.Harness) *collector.Collector {
	h.Helper()
	a, err := openAccount(&Settings{On: true, URL: h.Host.URL() + "/sites/default/files/feeds/known_exploited_vulnerabilities.json"}, collector.Options{Version: "test"})
	if err != nil {
		h.Fatal(err)
	}
	a.api.HTTP = h.HTTP
	return source.NewCollector("cisa_kev", a)
}

// catalogue returns the feed with a number of vulnerabilities.
func catalogue(records int) collectortest.Feed {
	return collectortest.Feed{
		Options: func() vendorsim.Options {
			return vendorsim.Options{
				Vendors: []vendorsim.Vendor{vendorsim.NewCISAKEV()}, Counts: map[string]int{vendorsim.CISAKEVVulnerabilities: records},
			}
		},
		Open: openCatalogue, Stream: "cisa_kev_vulnerabilities", Requests: 1,
		Path: "/sites/default/files/feeds/known_exploited_vulnerabilities.json", Setting: "CISA_KEV_URL",
	}
}

func TestCatalogue(t *testing.T) { catalogue(120).Test(t) }

func TestCatalogueUnderRandomFaults(t *testing.T) { catalogue(40).TestUnderRandomFaults(t) }

// TestCatalogueCount: a catalogue that does not declare the number of its
// vulnerabilities is not stored.
func TestCatalogueCount(t *testing.T) {
	for form, wantText := range map[string]string{
		vendorsim.CISAKEVCountWrong: `known_exploited_vulnerabilities.json: incomplete: the file has 10 vulnerabilities and declares 11 (count)`,
		vendorsim.CISAKEVNoCount:    `the file has no number of its vulnerabilities (count): check that CISA_KEV_URL`,
	} {
		collectortest.Run(t, catalogue(10).Options(), func(h *collectortest.Harness) {
			h.Host.Vendor().(*vendorsim.CISAKEV).ChangeBehaviour(func(b *vendorsim.FeedBehaviour) { b.Form = form })
			err := h.ExtractError(openCatalogue(h).Streams[0], time.Hour)
			if !errors.Is(err, collector.ErrIncomplete) || !strings.Contains(err.Error(), wantText) {
				t.Errorf("error %v, want %q", err, wantText)
			}
			h.AssertRequests(1)
		})
	}
}

func TestSettings(t *testing.T) {
	for address, want := range map[string]string{
		"https://mirror.example/kev.json": "", "mirror.example/kev.json": "", "ftp://mirror.example": "CISA_KEV_URL",
		"https://user:key@mirror.example/kev.json": "CISA_KEV_URL", "https://mirror.example/kev.json?key=1": "CISA_KEV_URL",
	} {
		collectortest.AssertProblem(t, (&Settings{URL: address}).Validate(), want)
	}
}
