package sources

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
)

// bubble is a simulated vendor in memory, on a fake clock.
type bubble struct {
	*testing.T
	sim  *vendorsim.Server
	host *vendorsim.Host
	// http is the toolkit's client, joined to the vendor.
	http *http.Client
}

// inBubble runs a test against a simulated vendor. Waits take no real time,
// and no goroutine may be left behind.
func inBubble(t *testing.T, o vendorsim.Options, test func(b *bubble)) {
	t.Helper()
	o.Memory = true
	if o.Latency == 0 {
		// Requests that are made at the same time are under way at the same
		// time, and who comes back too early cannot seem to have come before.
		o.Latency = 150 * time.Millisecond
	}
	synctest.Test(t, func(t *testing.T) {
		sim, err := vendorsim.Start(o)
		if err != nil {
			t.Fatal(err)
		}
		defer sim.Close()
		b := &bubble{T: t, sim: sim, host: sim.Hosts()[0], http: rest.NewHTTP()}
		transport := b.http.Transport.(*http.Transport)
		transport.Proxy = nil
		transport.DialContext = sim.Client().Transport.(*http.Transport).DialContext
		defer transport.CloseIdleConnections()
		test(b)
	})
}

// extract reads a stream into a snapshot and returns its records.
func (b *bubble) extract(s collector.Stream) []string {
	b.Helper()
	out := newSpool(b.T)
	if err := s.Extract(b.Context(), out); err != nil {
		b.Fatal(err)
	}
	return out.records()
}

// refused reads a stream that must fail, and returns the error.
func (b *bubble) refused(s collector.Stream, deadline time.Duration) error {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), deadline)
	defer cancel()
	err := s.Extract(ctx, newSpool(b.T))
	if err == nil {
		b.Fatal("the extraction succeeded")
	}
	if text := err.Error(); strings.Contains(text, "\n") {
		b.Errorf("the error has more than one line: %s", text)
	}
	return err
}

// same compares records as sets, byte for byte.
func (b *bubble) same(got, want []string) {
	b.Helper()
	slices.Sort(got)
	slices.Sort(want)
	if slices.Equal(got, want) {
		return
	}
	b.Errorf("%d records, want %d", len(got), len(want))
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			b.Fatalf("the first that differs, in order:\ngot  %.300s\nwant %.300s", at(got, i), at(want, i))
		}
	}
}

func at(list []string, i int) string {
	if i >= len(list) {
		return "nothing"
	}
	return list[i]
}

// asked compares the number of requests, and wants no rule broken.
func (b *bubble) asked(want int) {
	b.Helper()
	got := b.host.Stats()
	if got.Total != want {
		b.Errorf("%d requests, want %d: %v", got.Total, want, got.Requests)
	}
	if len(got.Violations) > 0 {
		b.Errorf("rules broken: %v", got.Violations)
	}
}

// records are all records of a simulated stream.
func (b *bubble) records(stream string) []string {
	var all []string
	for i := range b.sim.Count(stream) {
		all = append(all, string(b.sim.Record(stream, i)))
	}
	return all
}

// stream finds a collector's stream by name.
func stream(t testing.TB, c *collector.Collector, name string) collector.Stream {
	t.Helper()
	for _, s := range c.Streams {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no stream %s", name)
	return collector.Stream{}
}
