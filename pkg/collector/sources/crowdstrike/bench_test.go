package crowdstrike

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

// serialVulnerabilities is the time that one request at a time with pages of
// 400 takes. It is measured once, because that takes a minute.
var serialVulnerabilities = struct {
	sync.Once
	took time.Duration
}{}

// BenchmarkVulnerabilities200k extracts 200,000 vulnerabilities with the default
// settings from a vendor that responds after 100 ms. It reports how many times
// faster that is than one request at a time with pages of 400.
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
	extract := func(change func(*Settings)) time.Duration {
		s := defaultSettings(b)
		s.BaseURL = parseURL(b, sim.VendorURL("crowdstrike"))
		if change != nil {
			change(s)
		}
		a := openAccountIn(s, collector.Options{Version: "test"}, "", nil)
		defer a.api.HTTP.Transport.(*http.Transport).CloseIdleConnections()
		want, err := vendor.Select(s.Vulns)
		if err != nil {
			b.Fatal(err)
		}
		if len(want) < 200_000 {
			b.Fatalf("%d vulnerabilities", len(want))
		}
		out := collectortest.NewSpool(b)
		began := time.Now()
		if err := a.extractVulnerabilities(b.Context(), out); err != nil {
			b.Fatal(err)
		}
		took := time.Since(began)
		if n := out.RecordCount(); n != int64(len(want)) {
			b.Fatalf("%d records, want %d", n, len(want))
		}
		return took
	}
	serialVulnerabilities.Do(func() {
		serialVulnerabilities.took = extract(func(s *Settings) { s.Split, s.Parallel, s.Page = 1, 1, 400 })
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
		b.Errorf("requests broke rules of the vendor: %v", stats.Violations)
	}
	b.ReportMetric(serial.Seconds(), "serial-s")
	b.ReportMetric(serial.Seconds()/(took.Seconds()/float64(b.N)), "times-faster")
	b.ReportMetric(float64(stats.Total)/float64(b.N), "requests/op")
}
