package vendorsim

import (
	"net/http"
	"strconv"
	"sync"
	"time"
)

// LimitNumbers are the numbers of a [Limit].
type LimitNumbers struct {
	// Max is the number of requests in a Window. 0 means no limit.
	Max    int
	Window time.Duration
	// Concurrent is the number of requests at the same time. 0 means no limit.
	Concurrent int
	// RetryAfter is the wait that a rejection asks for. 0 means the rest of the
	// window, or one second for a limit of concurrency. Requests before the
	// wait is over are rejected as well.
	RetryAfter time.Duration
}

// Limit is a rate limit of one class of endpoints.
type Limit struct {
	// Name is the key for [Options.Limits] and [Host.SetLimit].
	Name string
	LimitNumbers
	// Match reports whether a request belongs to the class. nil means that all
	// do.
	Match func(*http.Request) bool
	// Headers sets the vendor's quota headers on every response of the class,
	// rejections included. nil means that there are none.
	Headers func(http.Header, Quota)
	// Reject writes the vendor's response to a request over the limit.
	Reject func(http.ResponseWriter, *http.Request, Quota)
}

// Quota is the state of a limit at the time of a request.
type Quota struct {
	Now time.Time
	// Max and Remaining are numbers of requests in the window. Both are 0 when
	// a request is rejected for concurrency.
	Max, Remaining int
	// Reset is the end of the window or, for a rejection, of the wait.
	Reset time.Time
}

// ResetUnix returns Reset as a Unix time in seconds, rounded up so that a
// client that waits for it is not too early.
func (q Quota) ResetUnix() string {
	return strconv.FormatInt(q.Reset.Add(time.Second-1).Unix(), 10)
}

// ResetSeconds returns the wait until Reset in whole seconds, rounded up.
func (q Quota) ResetSeconds() string {
	return strconv.FormatInt(int64((max(0, q.Reset.Sub(q.Now))+time.Second-1)/time.Second), 10)
}

// limiter enforces a Limit.
type limiter struct {
	limit Limit

	mu      sync.Mutex
	start   time.Time // of the window
	used    int
	active  int
	blocked time.Time // requests before this time are rejected
}

func newLimiter(l Limit, n LimitNumbers) *limiter {
	l.mergePositive(n)
	return &limiter{limit: l}
}

// mergePositive replaces the numbers of l with the positive numbers of n.
func (l *LimitNumbers) mergePositive(n LimitNumbers) {
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

// admit decides whether a request is admitted. The caller must call release
// after an admitted request. crowded reports whether the request was rejected
// for concurrency.
func (l *limiter) admit(now time.Time) (q Quota, ok, crowded bool) {
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

func (l *limiter) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.active--
}

// applyLimits checks all limits that apply to the request. It returns next, or
// a handler that writes the rejection, and a function that must be called when
// the request has ended.
func (h *Host) applyLimits(w http.ResponseWriter, r *http.Request, next http.Handler) (http.Handler, func()) {
	var held []*limiter
	leave := func() {
		for _, l := range held {
			l.release()
		}
	}
	for _, l := range h.limits {
		if l.limit.Match != nil && !l.limit.Match(r) {
			continue
		}
		q, ok, crowded := l.admit(h.Now())
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

// SetLimit replaces the numbers of a rate limit of the vendor with the positive
// numbers of n and restarts its window. It panics if the vendor has no such
// limit.
func (h *Host) SetLimit(name string, n LimitNumbers) {
	for _, l := range h.limits {
		if l.limit.Name == name {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.limit.mergePositive(n)
			l.start, l.used, l.blocked = time.Time{}, 0, time.Time{}
			return
		}
	}
	panic("vendorsim: " + h.Name() + " has no rate limit named " + name)
}
