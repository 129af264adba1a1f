// Package collectortest helps to test collectors: it runs them against
// simulated vendors on a fake clock, and compares what they extract with what
// the vendor has.
package collectortest

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
	"github.com/collectord/collectord/pkg/config"
)

// A Harness is a test with a simulated vendor in memory, on a fake clock.
type Harness struct {
	*testing.T
	Sim  *vendorsim.Server
	Host *vendorsim.Host
	// HTTP is a client of the rest package that is connected to the vendor.
	HTTP *http.Client
	// Stats are those of the last extraction.
	Stats *collector.Stats
}

// Run runs test against a simulated vendor. Waits take no real time, and test
// must not leave a goroutine behind.
func Run(t *testing.T, o vendorsim.Options, test func(h *Harness)) {
	t.Helper()
	o.Memory = true
	if o.Latency == 0 {
		// Requests that start at the same time then overlap, and a request that
		// is repeated too early does not arrive before the first one.
		o.Latency = 150 * time.Millisecond
	}
	synctest.Test(t, func(t *testing.T) {
		sim, err := vendorsim.Start(o)
		if err != nil {
			t.Fatal(err)
		}
		defer sim.Close()
		h := &Harness{T: t, Sim: sim, Host: sim.Hosts()[0], HTTP: rest.NewHTTP(nil)}
		transport := h.HTTP.Transport.(*http.Transport)
		transport.Proxy = nil
		transport.DialContext = sim.Client().Transport.(*http.Transport).DialContext
		defer transport.CloseIdleConnections()
		test(h)
	})
}

// Extract extracts a stream into a snapshot and returns its records.
func (h *Harness) Extract(s collector.Stream) []string {
	h.Helper()
	out := NewSpool(h.T)
	if err := s.Extract(h.withStats(h.Context()), out); err != nil {
		h.Fatal(err)
	}
	return out.Records()
}

// withStats returns the context of an extraction, which has Stats and a retry time
// as in a run.
func (h *Harness) withStats(ctx context.Context) context.Context {
	h.Stats = new(collector.Stats)
	return collector.WithRetryTime(collector.WithStats(ctx, h.Stats), 15*time.Minute)
}

// ExtractError extracts a stream, which must fail, and returns the error.
func (h *Harness) ExtractError(s collector.Stream, deadline time.Duration) error {
	h.Helper()
	ctx, cancel := context.WithTimeout(h.withStats(h.Context()), deadline)
	defer cancel()
	err := s.Extract(ctx, NewSpool(h.T))
	if err == nil {
		h.Fatal("the extraction succeeded, want an error")
	}
	if text := err.Error(); strings.Contains(text, "\n") {
		h.Errorf("the error has more than one line: %s", text)
	}
	return err
}

// AssertRecords compares records byte for byte, in any order.
func (h *Harness) AssertRecords(got, want []string) {
	h.Helper()
	slices.Sort(got)
	slices.Sort(want)
	if slices.Equal(got, want) {
		return
	}
	h.Errorf("%d records, want %d", len(got), len(want))
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			h.Fatalf("the first difference, in sorted order:\ngot  %.300s\nwant %.300s", elementAt(got, i), elementAt(want, i))
		}
	}
}

func elementAt(list []string, i int) string {
	if i >= len(list) {
		return "nothing"
	}
	return list[i]
}

// AssertRequests compares the number of requests, and checks that none broke a
// rule of the vendor.
func (h *Harness) AssertRequests(want int) {
	h.Helper()
	if got := h.Host.Stats(); got.Total != want {
		h.Errorf("%d requests, want %d: %v", got.Total, want, got.Requests)
	}
	h.AssertNoViolations()
}

// AssertNoViolations checks that no request broke a rule of the vendor.
func (h *Harness) AssertNoViolations() {
	h.Helper()
	if violations := h.Host.Stats().Violations; len(violations) > 0 {
		h.Errorf("requests broke rules of the vendor: %v", violations)
	}
}

// Records returns all records that the vendor has of a stream.
func (h *Harness) Records(stream string) []string {
	var all []string
	for i := range h.Sim.RecordCount(stream) {
		all = append(all, string(h.Sim.Record(stream, i)))
	}
	return all
}

// FindStream returns the stream of a collector that has the given name.
func FindStream(t testing.TB, c *collector.Collector, name string) collector.Stream {
	t.Helper()
	for _, s := range c.Streams {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no stream %s", name)
	return collector.Stream{}
}

// AssertProblem checks that a Validator returned exactly one problem, with the
// given setting; none if setting is "".
func AssertProblem(t testing.TB, errs []error, setting string) {
	t.Helper()
	if setting == "" {
		if len(errs) > 0 {
			t.Errorf("problems %v, want none", errs)
		}
		return
	}
	var p *config.Problem
	if len(errs) != 1 || !errors.As(errs[0], &p) || p.Name != setting {
		t.Errorf("problems %v, want one with %s", errs, setting)
	}
}
