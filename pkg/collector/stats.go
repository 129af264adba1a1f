package collector

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Stats counts what one extraction does while it does it. A nil *Stats counts
// nothing. All methods may be called from several goroutines.
type Stats struct {
	records, bytes, pages, requests, retries atomic.Int64
	received                                 atomic.Int64
	waited                                   atomic.Int64
	active                                   atomic.Int64
	statuses                                 [6]atomic.Int64

	mu    sync.Mutex
	waits map[*wait]struct{} // those under way
	step  string
}

type wait struct {
	until time.Time
	what  string
}

// A Reading is what Stats held at one moment.
type Reading struct {
	// Records and Bytes count the records kept so far and their own bytes.
	Records, Bytes int64
	// Pages counts the pages kept so far.
	Pages int64
	// Requests counts HTTP requests, Retries those made again.
	Requests, Retries int64
	// Received counts the bytes of decoded response bodies.
	Received int64
	// Statuses counts answers by status class: [2] holds 2xx, [0] requests
	// that got no answer.
	Statuses [6]int64
	// Waited is the time spent waiting because the vendor limits its rate,
	// summed over requests that waited side by side.
	Waited time.Duration
	// WaitUntil is when the present wait ends; zero when there is none.
	WaitUntil time.Time
	// WaitFor says what is waited for, such as "rate limit".
	WaitFor string
	// Step is what is being done, such as "GET /api/v1/users".
	Step string
	// Active is when something last arrived from the vendor.
	Active time.Time
}

type statsKey struct{}

// WithStats returns a context whose extraction is counted in s.
func WithStats(ctx context.Context, s *Stats) context.Context {
	return context.WithValue(ctx, statsKey{}, s)
}

// StatsFrom returns the Stats of ctx, nil when it has none.
func StatsFrom(ctx context.Context) *Stats {
	s, _ := ctx.Value(statsKey{}).(*Stats)
	return s
}

// Request counts one HTTP request and notes it as the present step.
func (s *Stats) Request(step string, retry bool) {
	if s == nil {
		return
	}
	s.requests.Add(1)
	if retry {
		s.retries.Add(1)
	}
	s.Step(step)
}

// Status counts an answer by its HTTP status; 0 stands for no answer.
func (s *Stats) Status(code int) {
	if s == nil {
		return
	}
	if class := code / 100; class >= 0 && class < len(s.statuses) {
		s.statuses[class].Add(1)
	}
	if code != 0 {
		s.touch()
	}
}

// Receive counts n bytes of a response body.
func (s *Stats) Receive(n int) {
	if s == nil || n == 0 {
		return
	}
	s.received.Add(int64(n))
	s.touch()
}

// Keep counts a page that was kept.
func (s *Stats) Keep(records, bytes int64) {
	if s == nil {
		return
	}
	s.pages.Add(1)
	s.records.Add(records)
	s.bytes.Add(bytes)
	s.touch()
}

// StartOver takes back what Keep counted, for an extraction that begins anew.
func (s *Stats) StartOver() {
	if s == nil {
		return
	}
	s.pages.Store(0)
	s.records.Store(0)
	s.bytes.Store(0)
}

// Step notes what is being done.
func (s *Stats) Step(step string) {
	if s == nil {
		return
	}
	s.mu.Lock()
	s.step = step
	s.mu.Unlock()
}

// Wait notes that the extraction waits until then for what, and returns the
// function to call when the wait is over. Of several waits at once the
// longest is shown. Only waits that the vendor's limits cause are limited.
func (s *Stats) Wait(until time.Time, what string, limited bool) func() {
	if s == nil {
		return func() {}
	}
	started, w := time.Now(), &wait{until, what}
	s.mu.Lock()
	if s.waits == nil {
		s.waits = map[*wait]struct{}{}
	}
	s.waits[w] = struct{}{}
	s.mu.Unlock()
	return func() {
		if limited {
			s.waited.Add(int64(time.Since(started)))
		}
		s.mu.Lock()
		delete(s.waits, w)
		s.mu.Unlock()
		s.touch()
	}
}

func (s *Stats) touch() { s.active.Store(time.Now().UnixNano()) }

// Read returns what s holds now.
func (s *Stats) Read() Reading {
	if s == nil {
		return Reading{}
	}
	r := Reading{
		Records: s.records.Load(), Bytes: s.bytes.Load(), Pages: s.pages.Load(),
		Requests: s.requests.Load(), Retries: s.retries.Load(),
		Received: s.received.Load(), Waited: time.Duration(s.waited.Load()),
	}
	for i := range s.statuses {
		r.Statuses[i] = s.statuses[i].Load()
	}
	if ns := s.active.Load(); ns != 0 {
		r.Active = time.Unix(0, ns)
	}
	s.mu.Lock()
	r.Step = s.step
	for w := range s.waits {
		if w.until.After(r.WaitUntil) {
			r.WaitUntil, r.WaitFor = w.until, w.what
		}
	}
	s.mu.Unlock()
	return r
}
