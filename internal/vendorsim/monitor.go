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
	// TooEarly means that the client sent a request before the end of the wait
	// that a 429 or 503 response asked for.
	TooEarly = "too early"
	// AfterUnauthorized means that the client sent another request with
	// credentials that had been rejected. Credentials that were accepted before
	// may be used again after two seconds, because the rejection may be a fault
	// of one server.
	AfterUnauthorized = "after 401"
	// TooManyAtOnce means that the client exceeded a limit of parallel
	// requests.
	TooManyAtOnce = "too many at once"
	// PolledTooFast means that the client polled the status of a job less than
	// a second after the previous poll.
	PolledTooFast = "polled too fast"
)

// Violation is one case in which the client violated a rule of the vendor.
type Violation struct {
	Kind string
	// Pattern is the route, such as "GET /vulns/export/{uuid}/status".
	Pattern string
	Detail  string
}

// String returns the violation in one line.
func (v Violation) String() string { return v.Kind + ": " + v.Pattern + ": " + v.Detail }

// Request is one request that a host has received.
type Request struct {
	Time    time.Time
	Method  string
	Path    string
	Query   string
	Pattern string
	// Status is the status of the response, or 0 if none was sent.
	Status int
}

// Stats are the counts of a [Host] since its start or the last call of
// ResetStats.
type Stats struct {
	// Requests counts requests by route, such as "GET
	// /vulns/export/{uuid}/status".
	Requests map[string]int
	// Statuses counts responses by status.
	Statuses map[int]int
	// MaxParallel is the largest number of simultaneous requests by route. The
	// key "" is for all routes together.
	MaxParallel map[string]int
	// Total is the number of all requests.
	Total int
	// Throttled is the number of responses with status 429.
	Throttled int
	// BytesOut is the number of body bytes sent, after compression.
	BytesOut int64
	// Violations are the first thousand violations.
	Violations []Violation
	// Log contains the first ten thousand requests in order of arrival.
	Log []Request
}

const (
	maxViolations = 1000
	maxLog        = 10000
	// inFlightGrace excuses requests on other connections that were already in
	// flight when a response told the client to wait or rejected its
	// credentials.
	inFlightGrace = 100 * time.Millisecond
	// strayRefusal is how long credentials that were accepted before must not
	// be used after they were rejected.
	strayRefusal = 2 * time.Second
)

// monitor counts requests and detects violations.
type monitor struct {
	now      func() time.Time
	bytesOut atomic.Int64

	mu       sync.Mutex
	stats    Stats
	parallel map[string]int
	waits    map[string]restriction // by route
	refused  map[string]restriction // by credential
	accepted map[string]bool        // by credential
}

// restriction is a period in which requests are violations.
type restriction struct {
	since time.Time
	until time.Time // zero means forever
	conn  string    // connection that received the response; "" if the client may have received it later
}

// activeRequest is a request that is being handled.
type activeRequest struct {
	pattern string
	cred    string
	conn    string
	log     int // index in the log, or -1 if the log is full
	status  int
}

func (m *monitor) initialize(now func() time.Time) {
	m.now = now
	m.parallel = map[string]int{}
	m.resetStats()
}

func (m *monitor) resetStats() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stats = Stats{Requests: map[string]int{}, Statuses: map[int]int{}, MaxParallel: map[string]int{}}
	m.bytesOut.Store(0)
	m.waits, m.refused, m.accepted = map[string]restriction{}, map[string]restriction{}, map[string]bool{}
}

// beginRequest counts a request and checks whether it violates a restriction.
func (m *monitor) beginRequest(r *http.Request, pattern string) *activeRequest {
	v := &activeRequest{pattern: pattern, cred: callerCredential(r), conn: r.RemoteAddr, log: -1}
	now := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stats.Total++
	m.stats.Requests[pattern]++
	for _, key := range []string{pattern, ""} {
		m.parallel[key]++
		m.stats.MaxParallel[key] = max(m.stats.MaxParallel[key], m.parallel[key])
	}
	if len(m.stats.Log) < maxLog {
		v.log = len(m.stats.Log)
		m.stats.Log = append(m.stats.Log, Request{Time: now, Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Pattern: pattern})
	}
	if b, ok := m.refused[v.cred]; ok && b.applies(now, v.conn) {
		m.addViolation(AfterUnauthorized, pattern, "credentials that were rejected "+now.Sub(b.since).String()+" ago")
	}
	if b, ok := m.waits[pattern]; ok && b.applies(now, v.conn) {
		m.addViolation(TooEarly, pattern, b.until.Sub(now).String()+" before the end of the wait")
	}
	return v
}

// applies reports whether a request that arrives now on a connection violates
// the restriction.
func (r restriction) applies(now time.Time, conn string) bool {
	if !r.until.IsZero() && !now.Before(r.until) {
		return false
	}
	return conn == r.conn || now.Sub(r.since) > inFlightGrace
}

// recordStatus records the status of a response just before it is sent.
func (m *monitor) recordStatus(v *activeRequest, code int, header http.Header) {
	now := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	v.status = code
	m.stats.Statuses[code]++
	if v.log >= 0 && v.log < len(m.stats.Log) {
		m.stats.Log[v.log].Status = code
	}
	// While there are other requests, the next request on this connection may
	// already have been waiting for it.
	conn := v.conn
	if m.parallel[""] > 1 {
		conn = ""
	}
	switch code {
	case http.StatusOK:
		m.accepted[v.cred] = true
	case http.StatusUnauthorized:
		if m.accepted[v.cred] {
			m.refused[v.cred] = restriction{since: now, until: now.Add(strayRefusal), conn: conn}
		} else if _, known := m.refused[v.cred]; !known {
			m.refused[v.cred] = restriction{since: now, conn: conn}
		}
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		if code == http.StatusTooManyRequests {
			m.stats.Throttled++
		}
		if until, ok := parseRetryTime(header, now); ok {
			m.waits[v.pattern] = restriction{since: now, until: until, conn: conn}
		}
	}
}

func (m *monitor) endRequest(v *activeRequest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.parallel[v.pattern]--
	m.parallel[""]--
}

// addViolation appends a violation; the caller holds the lock.
func (m *monitor) addViolation(kind, pattern, detail string) {
	if len(m.stats.Violations) < maxViolations {
		m.stats.Violations = append(m.stats.Violations, Violation{Kind: kind, Pattern: pattern, Detail: detail})
	}
}

// parseRetryTime returns when the client may send the next request, from the
// headers that vendors use: seconds or a date in Retry-After, a Unix time in
// others.
func parseRetryTime(header http.Header, now time.Time) (time.Time, bool) {
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

// Stats returns a copy of the counts of the host.
func (h *Host) Stats() Stats {
	w := &h.monitor
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

// ResetStats sets all counts to zero and forgets rejected credentials and
// requested waits. Active requests still count as parallel.
func (h *Host) ResetStats() { h.monitor.resetStats() }

// Forgive forgets which credentials were rejected, for vendors that make keys
// valid again.
func (h *Host) Forgive() {
	h.monitor.mu.Lock()
	defer h.monitor.mu.Unlock()
	h.monitor.refused = map[string]restriction{}
}

// Violate records that the client violated a rule that the vendor itself
// checks.
func (h *Host) Violate(kind, pattern, format string, args ...any) {
	h.monitor.mu.Lock()
	defer h.monitor.mu.Unlock()
	h.monitor.addViolation(kind, pattern, fmt.Sprintf(format, args...))
}
