package sources

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

// pagedStream is a stream whose behaviour under faults is tested.
type pagedStream struct {
	options func() vendorsim.Options
	open    func(b *bubble) collector.Stream
	want    func(b *bubble) []string
	// requests are those of a run without faults.
	requests int
	// path is the pattern of the requests for records. The third of them is
	// hit, which is neither the first page nor the last.
	path string
	// credential and permission are what the errors for 401 and 403 name.
	credential, permission string
	// secret must be in no error.
	secret string
	// parallel: several listings are read at once, so that requests under way
	// may end before one that fails.
	parallel bool
}

// later makes an effect whose headers depend on the time of the request.
func later(effect func() vendorsim.Effect) vendorsim.Effect {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { effect()(next).ServeHTTP(w, r) })
	}
}

// passing are faults that must cost nothing but time and requests.
var passing = map[string]vendorsim.Fault{
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
	"empty body at 200":      {Do: vendorsim.Status(200, "")},
	"errors at 200":          {Do: vendorsim.Errors("try later")},
	"429 with seconds":       {Times: 2, Do: vendorsim.Status(429, `{}`, "Retry-After", "30")},
	"429 without a wait":     {Times: 9, Do: vendorsim.Status(429, `{}`)},
	"429 with HTML":          {Do: vendorsim.HTML(429, "Retry-After", "5")},
	"429 with a date": {Do: later(func() vendorsim.Effect {
		return vendorsim.Status(429, `{}`, "Retry-After", time.Now().Add(50*time.Second).UTC().Format(http.TimeFormat))
	})},
	"429 with a past date": {Do: vendorsim.Status(429, `{}`, "Retry-After", "Fri, 01 Jan 1999 00:00:00 GMT")},
	"slow body":            {Do: vendorsim.Drip(64<<10, time.Second)},
}

func (p pagedStream) run(t *testing.T, test func(b *bubble, s collector.Stream)) {
	t.Parallel()
	o := p.options()
	o.Gzip = vendorsim.GzipStored // as much to decode, less to do
	inBubble(t, o, func(b *bubble) { test(b, p.open(b)) })
}

// testPassing runs every passing fault, and those of the vendor's own.
func (p pagedStream) testPassing(t *testing.T, own map[string]vendorsim.Fault) {
	t.Run("no fault", func(t *testing.T) {
		p.run(t, func(b *bubble, s collector.Stream) {
			b.same(b.extract(s), p.want(b))
			b.asked(p.requests)
		})
	})
	for _, faults := range []map[string]vendorsim.Fault{passing, own} {
		for name, fault := range faults {
			t.Run(name, func(t *testing.T) {
				p.run(t, func(b *bubble, s collector.Stream) {
					if fault.Path == "" {
						fault.Path = p.path
					}
					fault.From = max(fault.From, 3)
					hit := b.host.Inject(fault)
					b.same(b.extract(s), p.want(b))
					again := hit.Hits()
					if again == 0 {
						t.Error("the fault hit nothing")
					}
					if name == "slow body" {
						again = 0 // the answer is good
					}
					b.asked(p.requests + again)
				})
			})
		}
	}
}

// testLasting runs faults after which nothing may be stored.
func (p pagedStream) testLasting(t *testing.T) {
	for name, tc := range map[string]struct {
		do   vendorsim.Effect
		is   error
		text string
		// hits is how often the fault may be met.
		hits int
	}{
		"500":                 {vendorsim.Status(500, `{"error":"down"}`), nil, "500 Internal Server Error", 6},
		"HTML at 200":         {vendorsim.HTML(200), collector.ErrIncomplete, "HTML", 6},
		"errors at 200":       {vendorsim.Errors("no luck"), collector.ErrIncomplete, "", 6},
		"truncated":           {vendorsim.Truncate(vendorsim.Half), collector.ErrIncomplete, "", 6},
		"body cut":            {vendorsim.CutBody(vendorsim.Half), collector.ErrIncomplete, "", 6},
		"429":                 {vendorsim.Status(429, `{}`, "Retry-After", "60"), context.DeadlineExceeded, "", 60},
		"429 without a wait":  {vendorsim.Status(429, `{}`), context.DeadlineExceeded, "", 100},
		"hangs":               {vendorsim.Hang(), context.DeadlineExceeded, "", 13},
		"credentials revoked": {vendorsim.Status(401, `{"error":"bad"}`), collector.ErrRefused, p.credential, 1},
		"permission revoked":  {vendorsim.Status(403, `{"error":"no"}`), collector.ErrForbidden, p.permission, 1},
		"404":                 {vendorsim.Status(404, `{}`), nil, "404", 1},
		"page repeated":       {vendorsim.Repeat(), collector.ErrIncomplete, "page", 3},
	} {
		if p.parallel && (name == "permission revoked" || name == "404" || name == "page repeated") {
			continue // which are a matter of the vendor's own tests
		}
		t.Run(name, func(t *testing.T) {
			p.run(t, func(b *bubble, s collector.Stream) {
				hit := b.host.Inject(vendorsim.Fault{Path: p.path, From: 3, Times: vendorsim.Forever, Do: tc.do})
				deadline := 10 * time.Hour
				if tc.is == context.DeadlineExceeded {
					deadline = time.Hour
					if name == "hangs" { // six attempts take half an hour
						deadline = 20 * time.Minute
					}
				}
				err := b.refused(s, deadline)
				if tc.is != nil && !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.text) {
					t.Errorf("error %v, want %v and %q", err, tc.is, tc.text)
				}
				if strings.Contains(err.Error(), p.secret) {
					t.Errorf("the error shows the secret: %v", err)
				}
				most := tc.hits
				if p.parallel {
					most *= 8
				}
				if hit.Hits() == 0 || hit.Hits() > most {
					t.Errorf("the fault was met %d times, want at most %d", hit.Hits(), most)
				}
				if v := b.host.Stats().Violations; len(v) > 0 && !p.parallel {
					t.Errorf("rules broken: %v", v)
				}
			})
		})
	}
}
