package collectortest

import (
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/state"
)

// A Feed is a stream that is read from whole files of a publisher, which needs no
// credentials. Its tests are those that all feeds pass.
type Feed struct {
	// Options returns a simulated publisher, with at most some hundred records.
	Options func() vendorsim.Options
	Open    func(h *Harness) *collector.Collector
	Stream  string
	// Want returns the records that the stream must have; nil for the publisher's.
	Want func(h *Harness) []string
	// Requests is the number of requests of a run.
	Requests int
	// Path is the pattern of the requests.
	Path string
	// Setting is the variable that the error for 403 names.
	Setting string
	// CountOf is the stream whose number of records changes with the feed's; Stream
	// when empty.
	CountOf string
}

func (f Feed) wanted(h *Harness) []string {
	if f.Want == nil {
		return h.Records(f.Stream)
	}
	return f.Want(h)
}

// Test tests faults that pass and that last, an outage, the checks, and runs when the
// files have and have not changed.
func (f Feed) Test(t *testing.T) {
	open := func(h *Harness) collector.Stream { return FindStream(h, f.Open(h), f.Stream) }
	p := PagedStream{Options: f.Options, Open: open, Want: f.wanted, Requests: f.Requests, Path: f.Path, IsFeed: true, Permission: f.Setting}
	t.Run("faults", func(t *testing.T) {
		p.TestPassing(t, nil)
		p.TestLasting(t)
	})
	t.Run("outage", func(t *testing.T) {
		OutageTest{Stream: f.Stream, Want: f.wanted, Run: func(t *testing.T, test func(h *Harness, s collector.Stream)) {
			Run(t, f.Options(), func(h *Harness) { test(h, open(h)) })
		}}.Test(t)
	})
	t.Run("changes", f.testChanges)
	t.Run("checks", f.testChecks)
}

// feedVendor is a simulated vendor with feeds.
type feedVendor interface {
	ChangeBehaviour(func(*vendorsim.FeedBehaviour))
}

// testChanges runs the stream again and again, while the files change or do not.
func (f Feed) testChanges(t *testing.T) {
	for _, tc := range []struct {
		name string
		set  func(*vendorsim.FeedBehaviour)
		want state.Outcome // of a run when the files have not changed
	}{
		{name: "usual", set: func(*vendorsim.FeedBehaviour) {}, want: state.Unchanged},
		{name: "no ETag", set: func(b *vendorsim.FeedBehaviour) { b.NoETag = true }, want: state.Unchanged},
		{name: "no time", set: func(b *vendorsim.FeedBehaviour) { b.NoTime = true }, want: state.Unchanged},
		{name: "neither", set: func(b *vendorsim.FeedBehaviour) { b.NoETag, b.NoTime = true, true }, want: state.Success},
		{name: "conditions ignored", set: func(b *vendorsim.FeedBehaviour) { b.IgnoreConditions = true }, want: state.Success},
	} {
		t.Run(tc.name, func(t *testing.T) {
			Run(t, f.Options(), func(h *Harness) {
				runs := OpenRuns(h)
				defer runs.Close()
				h.Host.Vendor().(feedVendor).ChangeBehaviour(tc.set)
				s := FindStream(h, f.Open(h), f.Stream)
				f.runOnce(h, runs, s, state.Success)
				bytes := h.Host.Stats().BytesOut
				f.runOnce(h, runs, s, tc.want)
				if again := h.Host.Stats().BytesOut - bytes; tc.want == state.Unchanged && again > 0 {
					h.Errorf("the second run downloaded %d bytes", again)
				}
				countOf := f.CountOf
				if countOf == "" {
					countOf = f.Stream
				}
				h.Sim.SetCount(countOf, h.Sim.RecordCount(countOf)+1)
				f.runOnce(h, runs, s, state.Success)
				f.runOnce(h, runs, s, tc.want)
			})
		})
	}
}

// runOnce runs the stream and compares what is known afterwards with what the
// publisher has.
func (f Feed) runOnce(h *Harness, runs *Runs, s collector.Stream, want state.Outcome) run.Result {
	h.Helper()
	before := h.Host.Stats().Total
	result := runs.RunStream(s)
	if result.Outcome != want {
		h.Errorf("outcome %s, error %v, want %s", result.Outcome, result.Err, want)
	}
	if n := h.Host.Stats().Total - before; n != f.Requests {
		h.Errorf("%d requests, want %d", n, f.Requests)
	}
	h.AssertRecords(runs.LastRecords(f.Stream), f.wanted(h))
	h.AssertNoViolations()
	return result
}

// testChecks tests the checks of the collector and of the stream.
func (f Feed) testChecks(t *testing.T) {
	Run(t, f.Options(), func(h *Harness) {
		c := f.Open(h)
		s := FindStream(h, c, f.Stream)
		if err := errors.Join(c.Check(h.Context()), s.Check(h.Context())); err != nil {
			h.Error(err)
		}
		if sent := h.Host.Stats().BytesOut; sent > 0 {
			h.Errorf("the checks downloaded %d bytes", sent)
		}
		for _, r := range h.Host.Stats().Log {
			if r.Method != "HEAD" {
				h.Errorf("the checks made a request %s %s", r.Method, r.Path)
			}
		}
		f.testProxyPages(h, c, s)
		h.Host.Vendor().(feedVendor).ChangeBehaviour(func(b *vendorsim.FeedBehaviour) { b.Forbidden = true })
		for _, err := range []error{c.Check(h.Context()), s.Check(h.Context())} {
			if !errors.Is(err, collector.ErrForbidden) || !strings.Contains(err.Error(), f.Setting) {
				h.Errorf("error %v, want %v and %s", err, collector.ErrForbidden, f.Setting)
			}
		}
	})
}

// testProxyPages tests what the checks say when a proxy responds to every request.
func (f Feed) testProxyPages(h *Harness, c *collector.Collector, s collector.Stream) {
	const hint = "it may be from a proxy or firewall: check HTTPS_PROXY and "
	for _, tc := range []struct{ body, contentType, want, hint string }{
		{`<!DOCTYPE html><title>Log in</title>`, "text/html", `body is an HTML page with the title "Log in", want a file`, hint},
		{`<!-- proxy --><body>`, "text/html; charset=utf-8", "body is an HTML page, want a file", hint},
		{"", "", "body is empty, want a file", ": check "},
	} {
		page := h.Host.Inject(vendorsim.Fault{Times: vendorsim.Forever, Do: func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", tc.contentType)
				w.Header().Set("Content-Length", strconv.Itoa(len(tc.body)))
				_, _ = io.WriteString(w, tc.body)
			})
		}})
		for _, err := range []error{c.Check(h.Context()), s.Check(h.Context())} {
			if !errors.Is(err, collector.ErrIncomplete) || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), tc.hint) ||
				!strings.Contains(err.Error(), "_URL, which is "+h.Host.URL()) {
				h.Errorf("error %v, want %s, %s, and the address", err, tc.want, tc.hint)
			}
		}
		page.Remove()
	}
}

// TestUnderRandomFaults runs the collector with random faults.
func (f Feed) TestUnderRandomFaults(t *testing.T) {
	FaultyVendor{
		Options: func(*rand.Rand) vendorsim.Options {
			o := f.Options()
			o.EdgeEvery = -1
			return o
		},
		Open:    func(h *Harness, _ *rand.Rand) *collector.Collector { return f.Open(h) },
		MaxSkip: 1 + f.Requests/2,
		Record: func(h *Harness, stream string, i int) string {
			if f.Want == nil || stream != f.Stream {
				return string(h.Sim.Record(stream, i))
			}
			return f.Want(h)[i]
		},
	}.TestRandomFaults(t)
}

// ExtractChanged extracts a stream after a change of the publisher's behaviour. It
// returns the records in order.
func (f Feed) ExtractChanged(h *Harness, change func(*vendorsim.FeedBehaviour)) []string {
	h.Helper()
	h.Host.Vendor().(feedVendor).ChangeBehaviour(change)
	return slices.Sorted(slices.Values(h.Extract(FindStream(h, f.Open(h), f.Stream))))
}
