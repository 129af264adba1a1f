package collector

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Stats counts what one extraction does while it runs. A nil *Stats counts
// nothing. All methods may be called from several goroutines.
type Stats struct {
	records, bytes, pages, requests, retries atomic.Int64
	received                                 atomic.Int64
	active                                   atomic.Pointer[time.Time]
	accepted                                 atomic.Bool
	statuses                                 [6]atomic.Int64

	mu     sync.Mutex
	waits  map[*currentWait]struct{}
	waited time.Duration // in waits for the rate limit that have ended
	step   string
	doubts []Doubt
	// longWait is the end of the last long wait that was reported, and failing
	// that of the last requests that keep failing.
	longWait, failing time.Time
}

// A Wait is a wait of an extraction.
type Wait struct {
	// Until is when the wait ends.
	Until time.Time
	// For is the reason, such as "rate limit".
	For string
	// Requested means that the vendor asks for the wait.
	Requested bool
	// RateLimit means that the vendor's rate limit causes the wait. Its time is
	// added to Progress.Waited.
	RateLimit bool
}

type currentWait struct {
	Wait
	on      []*Stats // of the extractions that do what is waited for
	started time.Time
}

// spent returns how long a wait for the vendor's rate limit has lasted; 0 for
// other waits.
func (c *currentWait) spent() time.Duration {
	if !c.RateLimit {
		return 0
	}
	return time.Since(c.started)
}

// A Progress is a point-in-time copy of Stats.
type Progress struct {
	// Records and Bytes count the committed records and their bytes.
	Records, Bytes int64
	// Pages counts the committed batches. One page of the vendor is one batch.
	Pages int64
	// Requests counts HTTP requests; Retries counts those that repeat another.
	Requests, Retries int64
	// Received counts the bytes of response bodies.
	Received int64
	// Statuses counts responses by status class: [2] counts 2xx, [0] requests
	// without a response.
	Statuses [6]int64
	// Waited is the time spent waiting for the vendor's rate limit, the current
	// waits included, summed over requests that waited at the same time.
	Waited time.Duration
	// WaitUntil is when the current wait ends; zero when there is none, or when
	// its end is unknown because it depends on another extraction.
	WaitUntil time.Time
	// WaitFor is the reason for the current wait, such as "rate limit".
	WaitFor string
	// WaitRequested means that the vendor asks for the current wait.
	WaitRequested bool
	// Step is the current request, such as "GET /api/v1/users".
	Step string
	// Active is when something last arrived from the vendor, for this extraction
	// or for one that it waits for.
	Active time.Time
}

// DescribeWait returns a sentence about the current wait, such as "waiting for
// rate limit until 03:00:00 UTC as the vendor asks"; "" if there is none or its
// end is unknown.
func (p Progress) DescribeWait(now time.Time) string {
	if !p.WaitUntil.After(now) {
		return ""
	}
	layout := "15:04:05 UTC"
	if p.WaitUntil.Sub(now) > 12*time.Hour {
		layout = "2006-01-02 15:04:05 UTC"
	}
	text := "waiting for " + p.WaitFor + " until " + p.WaitUntil.UTC().Format(layout)
	if p.WaitRequested {
		text += " as the vendor asks"
	}
	return text
}

type statsKey struct{}

// WithStats returns a copy of ctx whose extraction is counted in s.
func WithStats(ctx context.Context, s *Stats) context.Context {
	return context.WithValue(ctx, statsKey{}, s)
}

// StatsFrom returns the Stats of ctx; nil if it has none.
func StatsFrom(ctx context.Context) *Stats {
	s, _ := ctx.Value(statsKey{}).(*Stats)
	return s
}

// CountRequest counts an HTTP request and makes it the current step. Attempts
// after the first, which is 1, are also counted as retries.
func (s *Stats) CountRequest(step string, attempt int) {
	if s == nil {
		return
	}
	s.requests.Add(1)
	if attempt > 1 {
		s.retries.Add(1)
	}
	s.SetStep(step)
}

// CountResponse counts a response by its HTTP status; 0 means that there was
// no response.
func (s *Stats) CountResponse(status int) {
	if s == nil {
		return
	}
	if class := status / 100; class >= 0 && class < len(s.statuses) {
		s.statuses[class].Add(1)
	}
	if status != 0 {
		s.markActive()
	}
}

// MarkAccepted records that the vendor accepted the address and the
// credentials of a request.
func (s *Stats) MarkAccepted() {
	if s != nil {
		s.accepted.Store(true)
	}
}

// Accepted reports whether MarkAccepted was called. A failure of the address or
// of the credentials may then pass, because they worked in this extraction.
func (s *Stats) Accepted() bool { return s != nil && s.accepted.Load() }

// Reached reports whether the vendor has responded to a request of this
// extraction with success, so that its address works.
func (s *Stats) Reached() bool {
	return s != nil && (s.Accepted() || s.statuses[2].Load() > 0)
}

// CountReceived counts n bytes of a response body.
func (s *Stats) CountReceived(n int) {
	if s == nil || n == 0 {
		return
	}
	s.received.Add(int64(n))
	s.markActive()
}

// CountBatch counts a batch that was committed.
func (s *Stats) CountBatch(records, bytes int64) {
	if s == nil {
		return
	}
	s.pages.Add(1)
	s.records.Add(records)
	s.bytes.Add(bytes)
	s.markActive()
}

// ResetBatches sets the counts of CountBatch to zero and forgets all doubts, for
// an extraction that starts over.
func (s *Stats) ResetBatches() {
	if s == nil {
		return
	}
	s.pages.Store(0)
	s.records.Store(0)
	s.bytes.Store(0)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doubts = nil
}

// SetStep sets the current step.
func (s *Stats) SetStep(step string) {
	if s == nil {
		return
	}
	s.mu.Lock()
	s.step = step
	s.mu.Unlock()
}

// BeginWait records that the extraction waits. The caller calls end when the
// wait is over. If there are several waits at once, Progress returns the
// longest.
func (s *Stats) BeginWait(w Wait) (end func()) {
	if s == nil {
		return func() {}
	}
	return s.addWait(&currentWait{Wait: w, started: time.Now()})
}

// BeginWaitOn records that the extraction waits for what, which the others do,
// such as a list or a token that they share. Until the caller calls end, their
// activity and their waits are also those of this extraction, so that it is
// idle only if they are.
func (s *Stats) BeginWaitOn(what string, others ...*Stats) (end func()) {
	if s == nil {
		return func() {}
	}
	return s.addWait(&currentWait{Wait: Wait{For: what}, on: others})
}

// addWait adds a wait. end removes it.
func (s *Stats) addWait(w *currentWait) (end func()) {
	s.mu.Lock()
	if s.waits == nil {
		s.waits = map[*currentWait]struct{}{}
	}
	s.waits[w] = struct{}{}
	s.mu.Unlock()
	return func() {
		s.mu.Lock()
		delete(s.waits, w)
		s.waited += w.spent()
		s.mu.Unlock()
		s.markActive()
	}
}

// sameEvent is how far apart the ends of waits are at most that began for the
// same reason.
const sameEvent = time.Minute

// FirstLongWait reports whether a long wait until the given time should be
// reported: another one that ends at about the same time has not been.
func (s *Stats) FirstLongWait(until time.Time) bool {
	if s == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return isFirst(&s.longWait, until)
}

// FirstFailing reports whether a request that keeps failing, and is repeated
// until the given time, should be reported.
func (s *Stats) FirstFailing(until time.Time) bool {
	if s == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return isFirst(&s.failing, until)
}

// isFirst reports whether until is later than last, and makes it the last.
func isFirst(last *time.Time, until time.Time) bool {
	if !until.After(last.Add(sameEvent)) {
		return false
	}
	*last = until
	return true
}

// markActive records that something arrived from the vendor. The time has a monotonic
// clock reading, so that a clock that is set does not change how long ago that was.
func (s *Stats) markActive() {
	now := time.Now()
	s.active.Store(&now)
}

// Progress returns the current values.
func (s *Stats) Progress() Progress {
	if s == nil {
		return Progress{}
	}
	p := Progress{
		Records: s.records.Load(), Bytes: s.bytes.Load(), Pages: s.pages.Load(),
		Requests: s.requests.Load(), Retries: s.retries.Load(),
		Received: s.received.Load(), Waited: s.totalWait(),
	}
	for i := range s.statuses {
		p.Statuses[i] = s.statuses[i].Load()
	}
	s.addCurrent(&p, map[*Stats]bool{})
	return p
}

// totalWait returns the time spent waiting for the rate limit so far.
func (s *Stats) totalWait() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	total := s.waited
	for w := range s.waits {
		total += w.spent()
	}
	return total
}

// addCurrent adds to p what the extraction does now, and what the extractions
// do that it waits for. seen are those that were already added: two extractions
// can wait for each other.
func (s *Stats) addCurrent(p *Progress, seen map[*Stats]bool) {
	if s == nil || seen[s] {
		return
	}
	seen[s] = true
	if at := s.active.Load(); at != nil && at.After(p.Active) {
		p.Active = *at
	}
	var others []*Stats
	s.mu.Lock()
	if p.Step == "" {
		p.Step = s.step
	}
	for w := range s.waits {
		if w.Until.After(p.WaitUntil) || p.WaitFor == "" {
			p.WaitUntil, p.WaitFor, p.WaitRequested = w.Until, w.For, w.Requested
		}
		others = append(others, w.on...)
	}
	s.mu.Unlock()
	for _, other := range others {
		other.addCurrent(p, seen)
	}
}
