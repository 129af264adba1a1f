package collectortest

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

// A PagedStream is a stream of pages whose behaviour under faults is tested.
type PagedStream struct {
	Options func() vendorsim.Options
	Open    func(h *Harness) collector.Stream
	// Want returns the records that the stream must have.
	Want func(h *Harness) []string
	// Requests is the number of requests of a run without faults.
	Requests int
	// Path is the pattern of the requests for records. The third of them is
	// disturbed, which is neither for the first page nor for the last.
	Path string
	// IsFeed means that each request is for a whole file of a publisher that needs
	// no credentials. The first of them is disturbed.
	IsFeed bool
	// Credential and Permission are named by the errors for 401 and 403.
	Credential, Permission string
	// Secret must not be in any error.
	Secret string
	// Parallel means that several listings are read at once, so that other
	// requests may end while one fails.
	Parallel bool
}

// Later returns an effect that is created when a request arrives, for headers
// that depend on the time.
func Later(effect func() vendorsim.Effect) vendorsim.Effect {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { effect()(next).ServeHTTP(w, r) })
	}
}

// slowBody is the fault whose response is complete, so that the request is not
// repeated.
const slowBody = "slow body"

// PassingFaults returns faults that must cost nothing but time and requests.
func PassingFaults() map[string]vendorsim.Fault {
	return map[string]vendorsim.Fault{
		"5xx burst":              {Times: 4, Do: vendorsim.Status(503, `{"error":"overloaded"}`)},
		"500 with HTML":          {Do: vendorsim.HTML(500)},
		"502 with Retry-After":   {Do: vendorsim.Status(502, "", "Retry-After", "20")},
		"504":                    {Do: vendorsim.Status(504, "upstream")},
		"reset before the body":  {Do: vendorsim.Reset(0)},
		"reset within the body":  {Do: vendorsim.Reset(vendorsim.Half)},
		"truncated":              {Do: vendorsim.Truncate(vendorsim.Half)},
		"end of transfer lost":   {Do: vendorsim.Truncate(1 << 30)},
		"body cut":               {Do: vendorsim.CutBody(vendorsim.Half)},
		"gzip cut":               {Do: vendorsim.CutGzip(vendorsim.Half)},
		"length too long":        {Do: vendorsim.LongLength(10)},
		"hangs before the head":  {Do: vendorsim.Hang()},
		"stalls within the body": {Do: vendorsim.HangAfter(vendorsim.Half)},
		"HTML at 200":            {Do: vendorsim.HTML(200)},
		"403 with HTML":          {Times: 2, Do: vendorsim.HTML(403, "Server", "proxy")},
		"empty body at 200":      {Do: vendorsim.Status(200, "")},
		"errors at 200":          {Do: vendorsim.Errors("try later")},
		"429 with seconds":       {Times: 2, Do: vendorsim.Status(429, `{}`, "Retry-After", "30")},
		"429 without a wait":     {Times: 9, Do: vendorsim.Status(429, `{}`)},
		"429 with HTML":          {Do: vendorsim.HTML(429, "Retry-After", "5")},
		"429 with a date": {Do: Later(func() vendorsim.Effect {
			return vendorsim.Status(429, `{}`, "Retry-After", time.Now().Add(50*time.Second).UTC().Format(http.TimeFormat))
		})},
		"429 with a past date": {Do: vendorsim.Status(429, `{}`, "Retry-After", "Fri, 01 Jan 1999 00:00:00 GMT")},
		slowBody:               {Do: vendorsim.Drip(64<<10, time.Second)},
	}
}

// firstDisturbed returns which of the requests for records is disturbed.
func (p PagedStream) firstDisturbed() int {
	if p.IsFeed {
		return 1
	}
	return 3
}

func (p PagedStream) run(t *testing.T, test func(h *Harness, s collector.Stream)) {
	t.Parallel()
	o := p.Options()
	o.Gzip = vendorsim.GzipStored // the client decodes as much, the simulator does less
	Run(t, o, func(h *Harness) { test(h, p.Open(h)) })
}

// TestPassing tests every fault of PassingFaults and the vendor's own faults.
func (p PagedStream) TestPassing(t *testing.T, own map[string]vendorsim.Fault) {
	t.Run("no fault", func(t *testing.T) {
		p.run(t, func(h *Harness, s collector.Stream) {
			h.AssertRecords(h.Extract(s), p.Want(h))
			h.AssertRequests(p.Requests)
		})
	})
	for _, faults := range []map[string]vendorsim.Fault{PassingFaults(), own} {
		for name, fault := range faults {
			t.Run(name, func(t *testing.T) { p.testPassingFault(t, name, fault) })
		}
	}
}

func (p PagedStream) testPassingFault(t *testing.T, name string, fault vendorsim.Fault) {
	p.run(t, func(h *Harness, s collector.Stream) {
		if fault.Path == "" {
			fault.Path = p.Path
		}
		fault.From = max(fault.From, p.firstDisturbed())
		injected := h.Host.Inject(fault)
		h.AssertRecords(h.Extract(s), p.Want(h))
		repeated := injected.Hits()
		if repeated == 0 {
			h.Error("no request met the fault")
		}
		if name == slowBody {
			repeated = 0
		}
		h.AssertRequests(p.Requests + repeated)
	})
}

// lastingFault is a fault that does not pass.
type lastingFault struct {
	name string
	do   vendorsim.Effect
	// deadline is the deadline of the extraction.
	deadline time.Duration
	// wantClass is the class of the error; nil for any.
	wantClass error
	// wantNot is a class that the error must not have; nil for none.
	wantNot  error
	wantText string
	// maxHits is how often the fault may be met.
	maxHits int
	// serialOnly means that the tests of the vendor cover the fault where several
	// listings are read at once.
	serialOnly bool
	// pagesOnly means that the fault is not one of feeds: they have no credentials and
	// no pages, and an address that does not respond to the first request may be wrong.
	pagesOnly bool
}

func (p PagedStream) lastingFaults() []lastingFault {
	return []lastingFault{
		// They are repeated for 15 minutes, with waits of up to a minute.
		{name: "500", do: vendorsim.Status(500, `{"error":"down"}`), wantText: "500 Internal Server Error", maxHits: 40},
		{name: "HTML at 200", do: vendorsim.HTML(200), wantClass: collector.ErrIncomplete, wantText: "HTML", maxHits: 40},
		{name: "errors at 200", do: vendorsim.Errors("no luck"), wantClass: collector.ErrIncomplete, maxHits: 40},
		{name: "truncated", do: vendorsim.Truncate(vendorsim.Half), wantClass: collector.ErrIncomplete, maxHits: 40},
		{name: "body cut", do: vendorsim.CutBody(vendorsim.Half), wantClass: collector.ErrIncomplete, maxHits: 40},
		{name: "429", do: vendorsim.Status(429, `{}`, "Retry-After", "60"), deadline: time.Hour, wantClass: context.DeadlineExceeded, maxHits: 60},
		{name: "429 without a wait", do: vendorsim.Status(429, `{}`), deadline: time.Hour, wantClass: context.DeadlineExceeded, maxHits: 100},
		{name: "hangs", do: vendorsim.Hang(), deadline: 20 * time.Minute, wantClass: context.DeadlineExceeded, maxHits: 13, pagesOnly: true},
		{name: "credentials revoked", do: vendorsim.Status(401, `{"error":"bad"}`), wantNot: collector.ErrRefused, wantText: p.Credential, maxHits: 4, pagesOnly: true},
		{name: "permission revoked", do: vendorsim.Status(403, `{"error":"no"}`), wantClass: collector.ErrForbidden, wantText: p.Permission, maxHits: 1, serialOnly: true},
		{name: "404", do: vendorsim.Status(404, `{}`), wantText: "404", maxHits: 1, serialOnly: true},
		{name: "page repeated", do: vendorsim.Repeat(), wantClass: collector.ErrIncomplete, wantText: "page", maxHits: 3, serialOnly: true, pagesOnly: true},
	}
}

// TestLasting tests faults that do not pass: the extraction must fail.
func (p PagedStream) TestLasting(t *testing.T) {
	for _, fault := range p.lastingFaults() {
		if p.Parallel && fault.serialOnly || p.IsFeed && fault.pagesOnly {
			continue
		}
		t.Run(fault.name, func(t *testing.T) { p.testLastingFault(t, fault) })
	}
}

func (p PagedStream) testLastingFault(t *testing.T, fault lastingFault) {
	p.run(t, func(h *Harness, s collector.Stream) {
		injected := h.Host.Inject(vendorsim.Fault{Path: p.Path, From: p.firstDisturbed(), Times: vendorsim.Forever, Do: fault.do})
		deadline := fault.deadline
		if deadline == 0 {
			deadline = 10 * time.Hour
		}
		err := h.ExtractError(s, deadline)
		if fault.wantNot != nil && errors.Is(err, fault.wantNot) {
			h.Errorf("error %v, want no %v", err, fault.wantNot)
		}
		if fault.wantClass != nil && !errors.Is(err, fault.wantClass) || !strings.Contains(err.Error(), fault.wantText) {
			h.Errorf("error %v, want %v and %q", err, fault.wantClass, fault.wantText)
		}
		if p.Secret != "" && strings.Contains(err.Error(), p.Secret) {
			h.Errorf("the error shows the secret: %v", err)
		}
		maxHits := fault.maxHits
		if p.Parallel {
			maxHits *= 8
		}
		if hits := injected.Hits(); hits == 0 || hits > maxHits {
			h.Errorf("%d requests met the fault, want 1 to %d", hits, maxHits)
		}
		if !p.Parallel {
			h.AssertNoViolations()
		}
	})
}
