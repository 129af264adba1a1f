package freshness

import (
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
)

// maxGrace bounds the time that a run has after its tick.
const maxGrace = time.Hour

// findDeadline returns when the data is late unless a run succeeds before; zero for
// never.
//
// By the schedule, data is late after the second tick without a success, so that one
// failed run raises no alarm, and data that was never collected after the first tick,
// each with some time for the run. A run that began before the deadline has RUN_TIMEOUT.
// maxAge, unless 0, replaces the schedule for data that exists.
func (s *Stream) findDeadline(maxAge time.Duration, now time.Time) time.Time {
	// The age of what is dated in the future is unknown.
	known := !s.AsOf.IsZero() && !snapshot.IsFromFuture(s.AsOf, now)
	var deadline time.Time
	switch {
	case !known:
		deadline = s.firstDeadline(maxAge)
	case maxAge > 0:
		deadline = s.AsOf.Add(maxAge)
	default:
		deadline = s.withGrace(s.nextTick(s.nextTick(s.AsOf)))
	}
	// A stream that was off, or had another schedule, has as long as a new one.
	if known && s.Plan.ByReload {
		deadline = laterOf(deadline, s.firstDeadline(maxAge))
	}
	mayExtend := !known || maxAge == 0
	if mayExtend && !s.Plan.QueuedAt.IsZero() && !deadline.IsZero() && !s.Plan.QueuedAt.After(deadline) {
		deadline = laterOf(deadline, s.Plan.MustEnd)
	}
	return deadline
}

// firstDeadline returns the deadline of a stream without data.
func (s *Stream) firstDeadline(maxAge time.Duration) time.Time {
	due := s.Plan.FirstDue
	// A run that failed before a restart had its time.
	if !s.FirstFailure.IsZero() && !s.Plan.ByReload && (due.IsZero() || s.FirstFailure.Before(due)) {
		due = s.FirstFailure
	}
	switch {
	case due.IsZero():
		return time.Time{}
	case !s.Plan.Calendar.IsOff():
		return s.withGrace(due)
	case maxAge > 0:
		return due.Add(maxAge)
	}
	return time.Time{}
}

// withGrace adds to the time of a tick the time for the run: one hour or the interval of
// the schedule, whichever is less. It returns the zero time for the zero time.
func (s *Stream) withGrace(due time.Time) time.Time {
	if due.IsZero() {
		return due
	}
	return due.Add(min(s.Plan.Interval, maxGrace))
}

// nextTick returns the first tick of the schedule after t; the zero time when there is
// none, or when t is zero.
func (s *Stream) nextTick(t time.Time) time.Time {
	if t.IsZero() || s.Plan.Calendar.IsOff() {
		return time.Time{}
	}
	return s.Plan.TickAfter(t)
}

func laterOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
