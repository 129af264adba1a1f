package rest

import (
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// A Size is a page size that follows what the vendor can serve. It starts
// modest, grows up to fourfold at a time while pages come quickly, and is
// halved when a page fails in a way that a smaller one may not; a size that
// failed is not tried again. All requests that have the same Size learn
// together.
type Size struct {
	// Param is the query parameter that takes the size.
	Param string
	// First is the size of the first page; Least and Most bound all others.
	First, Least, Most int
	// Quick is how long a page should take at most, as far as can be told from
	// the one before; 5 s when zero.
	Quick time.Duration

	mu  sync.Mutex
	now int // 0 before the first page
	top int // the largest size that has not failed; 0 for Most
}

// apply sets the present size in a copy of r and returns it.
func (s *Size) apply(r Request) (Request, int) {
	if s == nil {
		return r, 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == 0 {
		s.now = min(max(s.First, s.Least), s.Most)
	}
	return with(r, s.Param, strconv.Itoa(s.now)), s.now
}

// learn notes how an attempt with the given size ended. Attempts that were
// begun before the last change teach nothing.
func (s *Size) learn(size int, took time.Duration, err error) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if size != s.now {
		return
	}
	switch quick := orDuration(s.Quick, 5*time.Second); {
	case err == nil && took < quick:
		grown := float64(size) * min(4, float64(quick)/float64(max(took, 1)))
		s.now = min(int(grown), s.Most, max(orInt(s.top, s.Most), s.Least))
	case err != nil && tooLarge(err):
		s.now = max(size/2, s.Least)
		s.top = s.now
	}
}

// tooLarge tells failures that a smaller page may not meet: the vendor was at
// a loss, or the answer did not arrive whole.
func tooLarge(err error) bool {
	var s *StatusError
	var b *BodyError
	if errors.As(err, &s) {
		return s.Status >= 500 || s.Status == http.StatusRequestTimeout || s.Status == http.StatusRequestEntityTooLarge
	}
	return errors.As(err, &b) || errors.Is(err, errTransport)
}
