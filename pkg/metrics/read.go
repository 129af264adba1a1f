package metrics

import (
	"context"
	"strings"
	"time"

	"github.com/collectord/collectord/pkg/backup"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/web"
)

// recent bounds the search for the run before the one under way.
const recent = 20

func (m *Metrics) streams(ctx context.Context, put putter) error {
	streams, err := web.Streams(ctx, m.State, m.Daemon, m.Tenancy, m.Now())
	if err != nil {
		return err
	}
	counts, err := m.State.Counts(ctx)
	if err != nil {
		return err
	}
	ended := map[[3]string]int64{}
	for _, c := range counts {
		if c.Tenancy == m.Tenancy {
			ended[[3]string{c.Collector, c.Stream, string(c.Outcome)}] = c.Runs
		}
	}
	for _, s := range streams {
		last, err := m.lastEnded(ctx, s)
		if err != nil {
			return err
		}
		m.data(s, put)
		m.run(s, last, put)
		for _, o := range state.Outcomes {
			n := ended[[3]string{s.Collector, s.Stream, string(o)}]
			if o == state.Skipped {
				n += m.skips(s)
			}
			put(runs, float64(n), s.Collector, s.Stream, string(o))
		}
	}
	return nil
}

func (m *Metrics) skips(s web.Stream) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.skipped[[2]string{s.Collector, s.Stream}]
}

// lastEnded is the newest run that has ended, zero for none.
func (m *Metrics) lastEnded(ctx context.Context, s web.Stream) (state.Run, error) {
	if s.Last.ID == 0 || !s.Last.Ended.IsZero() {
		return s.Last, nil
	}
	newest, err := m.State.RunsOf(ctx, s.Stream, m.Tenancy, recent)
	if err != nil {
		return state.Run{}, err
	}
	for _, r := range newest {
		if r.Collector == s.Collector && !r.Ended.IsZero() {
			return r, nil
		}
	}
	return state.Run{}, nil
}

// data tells about what a stream has.
func (m *Metrics) data(s web.Stream, put putter) {
	c, n := s.Collector, s.Stream
	put(dataTime, stamp(s.Taken), c, n)
	put(dataRecords, float64(s.Records), c, n)
	put(dataRestored, flag(s.Source == state.Restored), c, n)
	put(dataMaxAge, web.MaxAge(s.Standing.Interval).Seconds(), c, n)
	put(dataLate, flag(s.Overdue), c, n)
	put(held, flag(s.Held), c, n)
	m.mu.Lock()
	defer m.mu.Unlock()
	put(refused, flag(m.refused[[2]string{c, n}]), c, n)
	for _, o := range backup.Outcomes {
		put(restored, flag(m.restore[[2]string{c, n}] == o), c, n, word(o))
	}
}

// word is an outcome as a label has it.
func word(o backup.Outcome) string { return strings.ReplaceAll(string(o), " ", "_") }

// run tells about the last run and the one under way.
func (m *Metrics) run(s web.Stream, last state.Run, put putter) {
	c, n := s.Collector, s.Stream
	put(lastSuccess, stamp(s.LastSuccess), c, n)
	put(lastFailure, stamp(s.LastFailure), c, n)
	put(lastAttempt, stamp(s.Last.Started), c, n)
	put(lastSucceeded, flag(last.Outcome == state.Success || last.Outcome == state.Empty), c, n)
	took := time.Duration(0)
	if !last.Ended.IsZero() {
		took = last.Ended.Sub(last.Started)
	}
	put(lastDuration, took.Seconds(), c, n)
	put(lastRecords, float64(last.Records), c, n)
	put(running, flag(s.Live != nil), c, n)
	start := time.Time{}
	if s.Live != nil {
		start = s.Live.Started
	}
	put(runStart, stamp(start), c, n)
}

// sink is how a destination stands.
type sink struct {
	success, failure       time.Time
	stored, failed         int64
	queued, bytes, refused int64
	oldest                 time.Time
}

func (m *Metrics) sinks(ctx context.Context, put putter) error {
	sinks := map[string]*sink{}
	for _, name := range m.Sinks() {
		sinks[name] = &sink{}
	}
	if err := m.read(ctx, sinks); err != nil {
		return err
	}
	now := m.Now()
	for name, s := range sinks {
		put(sinkSuccess, stamp(s.success), name)
		put(sinkFailure, stamp(s.failure), name)
		put(deliveries, float64(s.stored), name, "stored")
		put(deliveries, float64(s.failed), name, "failed")
		put(queued, float64(s.queued), name)
		put(queuedBytes, float64(s.bytes), name)
		put(sinkRefusing, float64(s.refused), name)
		age := time.Duration(0)
		if !s.oldest.IsZero() {
			age = max(0, now.Sub(s.oldest))
		}
		put(queuedAge, age.Seconds(), name)
	}
	return nil
}

// read fills in what the state has of sinks, and adds those that are
// configured no more but still have a queue.
func (m *Metrics) read(ctx context.Context, sinks map[string]*sink) error {
	queue, err := m.State.Queue(ctx)
	if err != nil {
		return err
	}
	for _, d := range queue {
		if d.Tenancy != m.Tenancy {
			continue
		}
		s := sinks[d.Sink]
		if s == nil {
			s = &sink{}
			sinks[d.Sink] = s
		}
		s.queued++
		s.bytes += d.SpoolBytes
		if d.Class == state.Refused {
			s.refused++
		}
		if s.oldest.IsZero() || d.Queued.Before(s.oldest) {
			s.oldest = d.Queued
		}
	}
	stored, err := m.State.Stored(ctx)
	if err != nil {
		return err
	}
	for _, one := range stored {
		s := sinks[one.Sink]
		if s == nil || one.Tenancy != m.Tenancy {
			continue
		}
		s.stored += one.Successes
		s.failed += one.Failures
		if one.LastSuccess.After(s.success) {
			s.success = one.LastSuccess
		}
		if one.LastFailure.After(s.failure) {
			s.failure = one.LastFailure
		}
	}
	return nil
}
