package vendorsim

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Kinds of [Violation].
const (
	// TooEarly: the client came back before the wait that a 429 or 503 asked
	// for was over.
	TooEarly = "too early"
	// AfterUnauthorized: the client went on with credentials that had been
	// refused.
	AfterUnauthorized = "after 401"
	// TooManyAtOnce: the client exceeded a limit of parallel requests.
	TooManyAtOnce = "too many at once"
	// PolledTooFast: the client asked for a job's status less than a second
	// after it had done so before.
	PolledTooFast = "polled too fast"
)

// Violation is a rule of the vendor that the client broke.
type Violation struct {
	Kind string
	// Pattern is the route: "GET /vulns/export/{uuid}/status".
	Pattern string
	Detail  string
}

// String returns the violation in one line.
func (v Violation) String() string { return v.Kind + ": " + v.Pattern + ": " + v.Detail }

// Request is one request that a host has seen.
type Request struct {
	Time    time.Time
	Method  string
	Path    string
	Query   string
	Pattern string
	// Status is that of the answer, 0 when none was sent.
	Status int
}

// Stats is what a [Host] has counted since its start or the last ResetStats.
type Stats struct {
	// Requests counts by route: "GET /vulns/export/{uuid}/status".
	Requests map[string]int
	// Statuses counts by status of the answer.
	Statuses map[int]int
	// MaxParallel is the largest number of requests at once, by route; under
	// "" that over all routes.
	MaxParallel map[string]int
	// Total is the number of all requests.
	Total int
	// Throttled is the number of answers with status 429.
	Throttled int
	// BytesOut is the number of body bytes sent, as they went over the wire.
	BytesOut int64
	// Violations are the rules that the client broke, the first thousand.
	Violations []Violation
	// Log holds the first ten thousand requests in order of arrival.
	Log []Request
}

const (
	maxViolations = 1000
	maxLog        = 10000
	// grace excuses a request that was already on its way, on a connection of
	// its own, when another one was told to wait or to stay out.
	grace = 100 * time.Millisecond
)

// watch counts requests and knows how well the client behaves.
type watch struct {
	now      func() time.Time
	bytesOut atomic.Int64

	mu       sync.Mutex
	stats    Stats
	parallel map[string]int
	waits    map[string]bar // by route
	refused  map[string]bar // by credential
}

// bar is a moment from which on requests are unwelcome.
type bar struct {
	since time.Time
	until time.Time // zero: for ever
	conn  string    // connection on which the client was told, "" when it is no proof
}

// visit is one request in flight.
type visit struct {
	pattern string
	cred    string
	conn    string
	log     int // index in the log, -1 if it is full
	status  int
}

func (w *watch) init(now func() time.Time) {
	w.now = now
	w.parallel = map[string]int{}
	w.reset()
}

func (w *watch) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stats = Stats{Requests: map[string]int{}, Statuses: map[int]int{}, MaxParallel: map[string]int{}}
	w.bytesOut.Store(0)
	w.waits, w.refused = map[string]bar{}, map[string]bar{}
}

// begin counts a request and checks whether the client may come now.
func (w *watch) begin(r *http.Request, pattern string) *visit {
	v := &visit{pattern: pattern, cred: credential(r), conn: r.RemoteAddr, log: -1}
	now := w.now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stats.Total++
	w.stats.Requests[pattern]++
	for _, key := range []string{pattern, ""} {
		w.parallel[key]++
		w.stats.MaxParallel[key] = max(w.stats.MaxParallel[key], w.parallel[key])
	}
	if len(w.stats.Log) < maxLog {
		v.log = len(w.stats.Log)
		w.stats.Log = append(w.stats.Log, Request{Time: now, Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Pattern: pattern})
	}
	if b, ok := w.refused[v.cred]; ok && b.bars(now, v.conn) {
		w.violate(AfterUnauthorized, pattern, "credentials that were refused "+now.Sub(b.since).String()+" ago")
	}
	if b, ok := w.waits[pattern]; ok && b.bars(now, v.conn) {
		w.violate(TooEarly, pattern, b.until.Sub(now).String()+" before the end of the wait")
	}
	return v
}

// bars reports whether a request that arrives now could have known better.
func (b bar) bars(now time.Time, conn string) bool {
	if !b.until.IsZero() && !now.Before(b.until) {
		return false
	}
	return conn == b.conn || now.Sub(b.since) > grace
}

// answered notes the status of an answer at the moment it is sent.
func (w *watch) answered(v *visit, code int, header http.Header) {
	now := w.now()
	w.mu.Lock()
	defer w.mu.Unlock()
	v.status = code
	w.stats.Statuses[code]++
	if v.log >= 0 && v.log < len(w.stats.Log) {
		w.stats.Log[v.log].Status = code
	}
	// While other requests are under way, one that was on its way, too, may
	// have waited for this very connection.
	conn := v.conn
	if w.parallel[""] > 1 {
		conn = ""
	}
	switch code {
	case http.StatusUnauthorized:
		if _, known := w.refused[v.cred]; !known {
			w.refused[v.cred] = bar{since: now, conn: conn}
		}
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		if code == http.StatusTooManyRequests {
			w.stats.Throttled++
		}
		if until, ok := retryTime(header, now); ok {
			w.waits[v.pattern] = bar{since: now, until: until, conn: conn}
		}
	}
}

func (w *watch) end(v *visit) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.parallel[v.pattern]--
	w.parallel[""]--
}

// violate appends a violation; the caller holds the lock.
func (w *watch) violate(kind, pattern, detail string) {
	if len(w.stats.Violations) < maxViolations {
		w.stats.Violations = append(w.stats.Violations, Violation{kind, pattern, detail})
	}
}

// retryTime reads when the client may come back from the headers in which
// vendors say so: seconds or a date in Retry-After, epoch seconds elsewhere.
func retryTime(header http.Header, now time.Time) (time.Time, bool) {
	if v := header.Get("Retry-After"); v != "" {
		if n, err := strconv.Atoi(v); err == nil {
			return now.Add(time.Duration(n) * time.Second), true
		}
		t, err := http.ParseTime(v)
		return t, err == nil
	}
	for _, name := range []string{"X-Ratelimit-Retryafter", "X-Rate-Limit-Reset"} {
		if n, err := strconv.ParseInt(header.Get(name), 10, 64); err == nil {
			return time.Unix(n, 0), true
		}
	}
	return time.Time{}, false
}

// Stats returns a copy of what the host has counted.
func (h *Host) Stats() Stats {
	w := &h.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.stats
	s.Requests = maps.Clone(s.Requests)
	s.Statuses = maps.Clone(s.Statuses)
	s.MaxParallel = maps.Clone(s.MaxParallel)
	s.Violations = slices.Clone(s.Violations)
	s.Log = slices.Clone(s.Log)
	s.BytesOut = w.bytesOut.Load()
	return s
}

// ResetStats sets all counts to zero and forgets refused credentials and
// waits that were asked for. Requests in flight stay counted as parallel.
func (h *Host) ResetStats() { h.watch.reset() }

// Forgive forgets which credentials were refused, for vendors that take keys
// back into service.
func (h *Host) Forgive() {
	h.watch.mu.Lock()
	defer h.watch.mu.Unlock()
	h.watch.refused = map[string]bar{}
}

// Violate notes that the client broke a rule which the vendor itself watches.
func (h *Host) Violate(kind, pattern, format string, args ...any) {
	h.watch.mu.Lock()
	defer h.watch.mu.Unlock()
	h.watch.violate(kind, pattern, fmt.Sprintf(format, args...))
}
