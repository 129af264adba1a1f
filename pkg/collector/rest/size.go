package rest

import (
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// A Size is a page size that adapts to what the vendor can serve. It grows, up
// to fourfold at a time, while pages arrive fast. It is halved, at most once a
// minute, when a page fails in a way that a smaller one may not. After that it
// doubles each time a number of pages in a row were fast; the number increases if
// the larger size fails again. All requests with the same Size share what it
// learns.
type Size struct {
	// Param is the query parameter for the size, or Member is the dotted path of
	// its member in the JSON body of the request.
	Param, Member string
	// First is the size of the first page; Least and Most bound all others.
	First, Least, Most int

	mu      sync.Mutex
	current int       // 0 before the first page
	bound   int       // the largest size that may be used; 0 for Most
	halved  time.Time // when the size was last halved
	fast    int       // fast pages in a row since the bound was last changed
	needed  int       // fast pages in a row after which the bound is doubled
	raised  bool      // the bound was doubled since the size was last halved
}

const (
	// targetPageTime is how long a page should take at most, as estimated from
	// the page before.
	targetPageTime = 5 * time.Second
	// halvingWait is the shortest time between two halvings. An outage fails all
	// sizes, and must not lead to the smallest one.
	halvingWait = time.Minute
	// firstNeeded and lastNeeded bound how many pages in a row must be fast
	// before a size is tried that is larger than one that failed.
	firstNeeded = 20
	lastNeeded  = 1280
	// After stuckFailures failures of a request with server errors, or
	// cutFailures with bodies that end early, its page may be too large.
	stuckFailures = 4
	cutFailures   = 2
)

// setSize returns a copy of r with the current size, and the size.
func (s *Size) setSize(r Request) (Request, int, error) {
	if s == nil {
		return r, 0, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == 0 {
		s.current = min(max(s.First, s.Least), s.Most)
	}
	sized, _, err := newPosition(s.Param, s.Member).setNumber(r, int64(s.current))
	return sized, s.current, err
}

// adjust adapts the size to an attempt that had the given size. failures is how
// often the same request has failed, this attempt included. Attempts that
// started before the last change are ignored.
func (s *Size) adjust(size int, took time.Duration, err error, failures int) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if size != s.current {
		return
	}
	switch {
	case err == nil && took < targetPageTime:
		s.raiseBound()
		grown := float64(size) * min(4, float64(targetPageTime)/float64(max(took, 1)))
		s.current = min(int(grown), s.Most, max(orInt(s.bound, s.Most), s.Least))
	case err == nil:
		s.fast = 0
	case mayBeTooLarge(err, failures):
		s.halve(size, HasStatus(err, http.StatusRequestEntityTooLarge))
	}
}

// halve halves the size. certain means that the size is the reason of the
// failure. The caller holds mu.
func (s *Size) halve(size int, certain bool) {
	s.fast = 0
	now := time.Now()
	// If pages were fast since the last halving, this is another failure.
	if !certain && !s.raised && !s.halved.IsZero() && now.Sub(s.halved) < halvingWait {
		return
	}
	if s.raised {
		s.needed = min(2*s.needed, lastNeeded)
	} else {
		s.needed = firstNeeded
	}
	s.raised, s.halved = false, now
	s.current = max(size/2, s.Least)
	s.bound = s.current
}

// raiseBound counts a fast page and doubles the bound after enough of them. The
// caller holds mu.
func (s *Size) raiseBound() {
	if s.bound == 0 || s.current < s.bound {
		return
	}
	if s.fast++; s.fast < s.needed {
		return
	}
	s.fast, s.raised = 0, true
	if s.bound = 2 * s.bound; s.bound >= s.Most {
		s.bound = 0
	}
}

// mayBeTooLarge reports whether a smaller page may avoid the failure err of a
// request that has failed that often. The vendor or a proxy says so if it took
// too long or was too large. Other server errors and bodies that end early are
// mostly outages, unless they persist.
func mayBeTooLarge(err error, failures int) bool {
	var s *StatusError
	if errors.As(err, &s) {
		switch s.Status {
		case http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusGatewayTimeout, 524:
			return true
		}
		return s.Status >= 500 && failures%stuckFailures == 0
	}
	var op *net.OpError
	var timeout net.Error
	switch {
	case errors.As(err, &op) && op.Op == "dial":
		return false
	case errors.Is(err, errStalled), errors.As(err, &timeout) && timeout.Timeout():
		return true
	}
	var b *BodyError
	return errors.As(err, &b) && failures%cutFailures == 0
}
