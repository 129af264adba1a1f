package rest

import (
	"context"
	"errors"
	"time"

	"github.com/collectord/collectord/internal/backoff"
	"github.com/collectord/collectord/pkg/collector"
)

// A RetryPeriod decides how long something that fails is repeated: for the retry
// time of the run, counted from the first failure. Its zero value is a period
// that has not begun, with the default waits.
type RetryPeriod struct {
	// First is the first wait; 1 s when zero. Each wait is twice the one before,
	// up to Longest; 60 s when zero. Half of each wait is random.
	First, Longest time.Duration

	began    time.Time // of the first failure
	failures int
}

// unreachableTime bounds the period of an address that has not worked in the
// extraction: it may be wrong.
const unreachableTime = 30 * time.Second

// NextWait counts the failure err. It returns the wait before the next attempt,
// and false if the period is over.
func (r *RetryPeriod) NextWait(ctx context.Context, err error) (wait time.Duration, again bool) {
	if r.failures == 0 {
		r.began = time.Now()
	}
	r.failures++
	if errors.Is(err, errTransport) && !collector.StatsFrom(ctx).Reached() {
		ctx = collector.WithRetryTime(ctx, min(collector.RetryTime(ctx), unreachableTime))
	}
	left := time.Until(r.end(ctx))
	// The last attempt is made at the end of the period.
	return min(r.backoff(r.failures), left), left > 0
}

// end returns when the period is over. It must have begun.
func (r *RetryPeriod) end(ctx context.Context) time.Time {
	return r.began.Add(collector.RetryTime(ctx))
}

// duration returns how long the period has lasted; zero before it has begun.
func (r *RetryPeriod) duration() time.Duration {
	if r.failures == 0 {
		return 0
	}
	return time.Since(r.began)
}

// reset ends the period. It begins again with the next failure.
func (r *RetryPeriod) reset() { r.failures = 0 }

// backoff is the wait before attempt n+1, n from 1.
func (r *RetryPeriod) backoff(n int) time.Duration {
	return backoff.Policy{
		First: orDuration(r.First, time.Second), Longest: orDuration(r.Longest, time.Minute), Random: 0.5,
	}.Wait(n)
}
