package sources

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

// serialVulnerabilities is what one request at a time with pages of 400 takes;
// it is measured once, because it takes a minute.
var serialVulnerabilities = struct {
	sync.Once
	took time.Duration
}{}

// BenchmarkVulnerabilities200k extracts 200,000 vulnerabilities from a vendor
// that answers after 100 ms, with the default settings, and reports how many
// times faster that is than one request at a time with pages of 400.
func BenchmarkVulnerabilities200k(b *testing.B) {
	vendor := vendorsim.NewCrowdStrike()
	sim, err := vendorsim.Start(vendorsim.Options{
		Vendors:     []vendorsim.Vendor{vendor},
		Counts:      map[string]int{vendorsim.CrowdStrikeVulns: 213_000}, // some are not selected
		Latency:     100 * time.Millisecond,
		RecordBytes: map[string]int{vendorsim.CrowdStrikeVulns: 1300},
		Gzip:        vendorsim.GzipOff,
	})
	if err != nil {
		b.Fatal(err)
	}
	defer sim.Close()
	extract := func(change func(*crowdstrikeSettings)) time.Duration {
		s := falconSettings(b)
		s.BaseURL = falconURL(b, sim.URL("crowdstrike"))
		if change != nil {
			change(s)
		}
		f := newFalcon(s, collector.Options{Version: "test"}, "", nil)
		defer f.api.HTTP.Transport.(*http.Transport).CloseIdleConnections()
		want, err := vendor.Select(s.Vulns)
		if err != nil {
			b.Fatal(err)
		}
		if len(want) < 200_000 {
			b.Fatalf("%d vulnerabilities", len(want))
		}
		out := newSpool(b)
		began := time.Now()
		if err := f.vulnerabilities(b.Context(), out); err != nil {
			b.Fatal(err)
		}
		took := time.Since(began)
		if n := out.w.Read().Records; n != int64(len(want)) {
			b.Fatalf("%d records, want %d", n, len(want))
		}
		return took
	}
	serialVulnerabilities.Do(func() {
		serialVulnerabilities.took = extract(func(s *crowdstrikeSettings) { s.Split, s.Parallel, s.Page = 1, 1, 400 })
	})
	serial := serialVulnerabilities.took
	b.ResetTimer()
	sim.Host("crowdstrike").ResetStats()
	var took time.Duration
	for b.Loop() {
		took += extract(nil)
	}
	stats := sim.Host("crowdstrike").Stats()
	if len(stats.Violations) > 0 {
		b.Errorf("rules broken: %v", stats.Violations)
	}
	b.ReportMetric(serial.Seconds(), "serial-s")
	b.ReportMetric(serial.Seconds()/(took.Seconds()/float64(b.N)), "times-faster")
	b.ReportMetric(float64(stats.Total)/float64(b.N), "requests/op")
}
