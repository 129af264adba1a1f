// Package backoff computes growing waits between attempts.
package backoff

import (
	"math/rand/v2"
	"time"
)

// Policy describes the waits between attempts. The wait after n failures is
//
//	grown = min(First × Growth^(n-1), Longest)
//	wait  = grown − a random part of up to Random × grown
//
// so that it lies between (1−Random) × grown and grown.
type Policy struct {
	// First is the wait after the first failure, before the random part is taken off.
	First time.Duration
	// Longest is the upper bound of all waits, including the first.
	Longest time.Duration
	// Growth is the factor from one wait to the next; 2 when zero.
	Growth float64
	// Random is the share of each wait that is random, from 0 to 1. Processes
	// that failed at the same moment then retry at different moments.
	Random float64
}

// Wait returns the wait after the given number of failures, which counts from 1.
func (p Policy) Wait(failures int) time.Duration {
	wait := p.grown(failures)
	if p.Random == 0 {
		return wait
	}
	return wait - rand.N(time.Duration(float64(wait)*p.Random)+1)
}

// grown returns the wait without its random part.
func (p Policy) grown(failures int) time.Duration {
	growth := p.Growth
	if growth == 0 {
		growth = 2
	}
	wait := p.First
	for i := 1; i < failures && wait < p.Longest; i++ {
		// Unlike the product of two durations, that of two floats cannot overflow.
		next := float64(wait) * growth
		if next >= float64(p.Longest) {
			return p.Longest
		}
		wait = time.Duration(next)
	}
	return min(wait, p.Longest)
}
