package sources

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/config"
)

// TestMicrosoftApplicationIsShared: with INTUNE=true and MDE=true, the collectors of
// Microsoft's products run at the same time with one application: one token for
// Microsoft Graph, one for Defender for Endpoint, and no limit exceeded.
func TestMicrosoftApplicationIsShared(t *testing.T) {
	vendor := vendorsim.NewMicrosoftTenant()
	vendor.Intune.ConfigureExports(func(e *vendorsim.IntuneExports) { e.Polls = -1 })
	counts := map[string]int{}
	for _, spec := range vendor.Specs(vendorsim.Gen{}) {
		counts[spec.Name] = 25
	}
	sim, err := vendorsim.Start(vendorsim.Options{Vendors: []vendorsim.Vendor{vendor}, Counts: counts})
	if err != nil {
		t.Fatal(err)
	}
	defer sim.Close()
	found, err := config.Open(config.Source{Environ: sim.Hosts()[0].Env(), Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	sections := Sections()
	if _, err := found.Load(new(config.Settings), sections...); err != nil {
		for line := range strings.Lines(err.Error()) {
			if !strings.HasPrefix(line, "STORE_") { // destinations are not tested here
				t.Fatal(err)
			}
		}
	}
	o := collector.Options{Version: "test", Shared: new(collector.Shared)}
	var streams []collector.Stream
	var active []string
	for i, d := range All() {
		if !sections[i].Active {
			continue
		}
		active = append(active, d.Name)
		c, err := d.Open(sections[i].Into, o)
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, c.Streams...)
	}
	if want := []string{"azure_entra", "intune", "mde"}; !slices.Equal(active, want) {
		t.Fatalf("active: %v, want %v", active, want)
	}
	var running sync.WaitGroup
	for _, s := range streams {
		running.Go(func() {
			out := collectortest.NewSpool(t)
			if err := s.Extract(t.Context(), out); err != nil {
				t.Error(err)
			}
			if n := out.RecordCount(); n != 25 {
				t.Errorf("%s: %d records, want 25", s.Name, n)
			}
		})
	}
	running.Wait()
	stats := sim.Hosts()[0].Stats()
	tokens := 0
	for _, r := range stats.Log {
		if strings.HasSuffix(r.Path, "/oauth2/v2.0/token") {
			tokens++
		}
	}
	if tokens != 2 || stats.Throttled > 0 || len(stats.Violations) > 0 {
		t.Errorf("%d token requests, %d refused requests, violations %v; want 2 and none", tokens, stats.Throttled, stats.Violations)
	}
}
