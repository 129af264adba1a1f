package vendorsim

import (
	"net/http"
	"strconv"
	"sync"
	"time"
)

// LimitNumbers are the figures of a [Limit].
type LimitNumbers struct {
	// Max is the number of requests in a Window; 0 means no such limit.
	Max    int
	Window time.Duration
	// Concurrent is the number of requests at once; 0 means no such limit.
	Concurrent int
	// RetryAfter is the wait that a rejected client is told. 0 means the rest
	// of the window, or a second for a limit of concurrency. Every request
	// before the wait is over is rejected as well.
	RetryAfter time.Duration
}

// Limit is a rate limit of one class of endpoints.
type Limit struct {
	// Name is the key for [Options.Limits] and [Host.SetLimit].
	Name string
	LimitNumbers
	// Match says which requests belong to the class; nil means all.
	Match func(*http.Request) bool
	// Headers sets the vendor's quota headers on every answer of the class,
	// also on a rejection; nil means that there are none.
	Headers func(http.Header, Quota)
	// Reject writes the vendor's answer to a request over the limit.
	Reject func(http.ResponseWriter, *http.Request, Quota)
}

// Quota is the state of a limit as one request meets it.
type Quota struct {
	Now time.Time
	// Max and Remaining count requests in the window; both are 0 on a
	// rejection for concurrency.
	Max, Remaining int
	// Reset is the end of the window, or of the wait on a rejection.
	Reset time.Time
}

// ResetUnix returns Reset in epoch seconds, rounded up, so that a client that
// waits for it is not too early.
func (q Quota) ResetUnix() string {
	return strconv.FormatInt(q.Reset.Add(time.Second-1).Unix(), 10)
}

// ResetSeconds returns the wait until Reset in whole seconds, rounded up.
func (q Quota) ResetSeconds() string {
	return strconv.FormatInt(int64((max(0, q.Reset.Sub(q.Now))+time.Second-1)/time.Second), 10)
}

// limiter applies a Limit.
type limiter struct {
	limit Limit

	mu      sync.Mutex
	start   time.Time // of the window
	used    int
	active  int
	blocked time.Time // until then everything is rejected
}

func newLimiter(l Limit, n LimitNumbers) *limiter {
	l.merge(n)
	return &limiter{limit: l}
}

// merge takes the positive figures of n.
func (l *LimitNumbers) merge(n LimitNumbers) {
	if n.Max > 0 {
		l.Max = n.Max
	}
	if n.Window > 0 {
		l.Window = n.Window
	}
	if n.Concurrent > 0 {
		l.Concurrent = n.Concurrent
	}
	if n.RetryAfter > 0 {
		l.RetryAfter = n.RetryAfter
	}
}

// enter asks for admission. An admitted request must leave.
func (l *limiter) enter(now time.Time) (q Quota, ok, crowded bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.limit.LimitNumbers
	q = Quota{Now: now, Max: n.Max}
	if now.Before(l.blocked) {
		q.Reset = l.blocked
		return q, false, false
	}
	if n.Concurrent > 0 && l.active >= n.Concurrent {
		wait := n.RetryAfter
		if wait == 0 {
			wait = time.Second
		}
		return Quota{Now: now, Reset: now.Add(wait)}, false, true
	}
	if n.Max > 0 {
		if now.Sub(l.start) >= n.Window {
			l.start, l.used = now, 0
		}
		q.Reset = l.start.Add(n.Window)
		if l.used >= n.Max {
			if n.RetryAfter > 0 {
				q.Reset = now.Add(n.RetryAfter)
			}
			l.blocked = q.Reset
			return q, false, false
		}
		l.used++
		q.Remaining = n.Max - l.used
	}
	l.active++
	return q, true, false
}

func (l *limiter) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.active--
}

// enterLimits asks all limits that the request belongs to. If one rejects it,
// the returned handler writes the rejection in place of next.
func (h *Host) enterLimits(w http.ResponseWriter, r *http.Request, next http.Handler) (http.Handler, func()) {
	var held []*limiter
	leave := func() {
		for _, l := range held {
			l.leave()
		}
	}
	for _, l := range h.limits {
		if l.limit.Match != nil && !l.limit.Match(r) {
			continue
		}
		q, ok, crowded := l.enter(h.Now())
		if l.limit.Headers != nil {
			l.limit.Headers(w.Header(), q)
		}
		if ok {
			held = append(held, l)
			continue
		}
		if crowded {
			h.Violate(TooManyAtOnce, r.Method+" "+r.URL.Path, "limit %s", l.limit.Name)
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { l.limit.Reject(w, r, q) }), leave
	}
	return next, leave
}

// SetLimit changes the positive figures of n in a rate limit of the vendor and
// starts its window anew. It panics when the vendor has no such limit.
func (h *Host) SetLimit(name string, n LimitNumbers) {
	for _, l := range h.limits {
		if l.limit.Name == name {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.limit.merge(n)
			l.start, l.used, l.blocked = time.Time{}, 0, time.Time{}
			return
		}
	}
	panic("vendorsim: " + h.Name() + " has no rate limit named " + name)
}
