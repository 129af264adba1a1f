package schedule

import (
	"fmt"
	"slices"
	"time"

	"github.com/collectord/collectord/pkg/calendar"
)

// A CollectorStatus is the schedule status of one collector.
type CollectorStatus struct {
	Collector string
	// Streams are the collector's streams that are on, in its own order.
	Streams []StreamStatus
	// Missed counts the ticks without a run, because the previous run was still in
	// progress or the machine was suspended.
	Missed int64
}

// A StreamStatus is the schedule status of one stream.
type StreamStatus struct {
	Stream string
	// Schedule is the expression as it was set, such as "15 */6 * * *" or "off".
	Schedule string
	// Zone is the time zone of the schedule, such as "UTC".
	Zone string
	// Interval is the longest time between two consecutive ticks; 0 when the
	// schedule is off.
	Interval time.Duration
	// Next is when the next run starts, jitter and retries included; zero when none
	// is planned.
	Next time.Time
	// Retry is when the stream is retried after a failure; zero when no retry is
	// planned.
	Retry time.Time
	// Running reports whether a run is in progress. Queued reports whether one waits
	// for a free slot. Started is when it started, or was queued.
	Running, Queued bool
	Started         time.Time
	// QueuedAt is when that run was queued, and MustEnd when RUN_TIMEOUT ends it; zero
	// when there is none.
	QueuedAt, MustEnd time.Time
	// Calendar has the ticks, which are delayed by Jitter.
	Calendar calendar.Calendar
	Jitter   time.Duration
	// FirstDue is when the first run was or is due since the schedule is in force; the
	// beginning of that time if the schedule is off. Zero when it is unknown.
	FirstDue time.Time
	// ByReload reports whether a reload put the schedule in force, not the start.
	ByReload bool
}

// TickAfter returns the first tick after t, jitter included; zero for none.
func (s StreamStatus) TickAfter(t time.Time) time.Time { return tickAfter(s.Calendar, s.Jitter, t) }

// Names returns the names of the streams.
func (c CollectorStatus) Names() (names []string) {
	for _, s := range c.Streams {
		names = append(names, s.Stream)
	}
	return names
}

// Next returns when the next run of a stream starts; zero when none is planned.
func (c CollectorStatus) Next() (next time.Time) {
	for _, s := range c.Streams {
		if !s.Next.IsZero() && (next.IsZero() || s.Next.Before(next)) {
			next = s.Next
		}
	}
	return next
}

// Interval returns the longest interval of the streams; 0 when no stream has a
// schedule.
func (c CollectorStatus) Interval() (longest time.Duration) {
	for _, s := range c.Streams {
		longest = max(longest, s.Interval)
	}
	return longest
}

// Running reports whether a stream is running. started is when the first of them
// started.
func (c CollectorStatus) Running() (running bool, started time.Time) {
	for _, s := range c.Streams {
		if s.Running && (!running || s.Started.Before(started)) {
			running, started = true, s.Started
		}
	}
	return running, started
}

// Queued reports whether a run of a stream waits for a free slot.
func (c CollectorStatus) Queued() bool {
	return slices.ContainsFunc(c.Streams, func(s StreamStatus) bool { return s.Queued })
}

// Statuses returns the status of each collector, ordered by name.
func (s *Scheduler) Statuses() []CollectorStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []CollectorStatus
	for _, e := range s.sortedEntries() {
		if e.removed || len(all) > 0 && all[len(all)-1].Collector == e.collector() {
			continue
		}
		status := CollectorStatus{Collector: e.collector(), Missed: s.missed[e.collector()]}
		for _, stream := range e.Job.Collector.Streams {
			if of := s.entries[stream.Name]; of != nil && !of.removed {
				status.Streams = append(status.Streams, of.status(s.settings.Runner.Timeout))
			}
		}
		all = append(all, status)
	}
	return all
}

// status returns the status of the entry's stream. A run lasts at most timeout.
func (e *entry) status(timeout time.Duration) StreamStatus {
	status := StreamStatus{
		Stream: e.stream, Schedule: e.Calendar.String(), Zone: e.Zone, Interval: e.interval, Next: e.next, Retry: e.retry.at,
		Running: e.running && !e.queued, Queued: e.queued,
		Calendar: e.Calendar, Jitter: e.Jitter, FirstDue: e.firstDue, ByReload: e.byReload,
	}
	if e.running {
		status.Started, status.QueuedAt, status.MustEnd = e.started, e.queuedAt, e.started.Add(timeout)
	}
	if at := e.retry.at; !at.IsZero() && (status.Next.IsZero() || at.Before(status.Next)) {
		status.Next = at
	}
	return status
}

// Alive returns nil while the scheduler's loop iterates, and an error when its last
// iteration is too long ago.
func (s *Scheduler) Alive() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ago := time.Since(s.lastIteration); !s.lastIteration.IsZero() && ago > stalledAfter && !s.stopping {
		return fmt.Errorf("the scheduler loop has not run for %v", ago.Round(time.Second))
	}
	return nil
}
