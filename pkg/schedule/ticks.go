package schedule

import (
	"context"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/calendar"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// repeatAfter is how far the clock must be set back before ticks that were already
// handled are due again.
const repeatAfter = 24 * time.Hour

// Jitter returns the delay of the ticks of one collector: a share of most that is always
// the same for the same labels, such as host, tenancy and collector. It is a whole number
// of seconds, and 0 when most is below one second.
func Jitter(most time.Duration, labels ...string) time.Duration {
	if most < time.Second {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(strings.Join(labels, "\x00"))) // a hash accepts every input
	return time.Duration(h.Sum64()%uint64(most/time.Second)) * time.Second
}

// tickAfter returns the first tick after t, jitter included; zero for none.
func (e *entry) tickAfter(t time.Time) time.Time { return tickAfter(e.Calendar, e.Jitter, t) }

// tickAfter returns the first tick of c after t that is delayed by jitter; zero for none.
func tickAfter(c calendar.Calendar, jitter time.Duration, t time.Time) time.Time {
	tick := c.Next(t.Add(-jitter))
	if tick.IsZero() {
		return tick
	}
	return tick.Add(jitter)
}

// maxMissed bounds the number of ticks that are counted after a pause.
const maxMissed = 10_000

// countDueTicks counts the ticks from the next one up to now. It stops at maxMissed.
func (e *entry) countDueTicks(now time.Time) (n int64) {
	for tick := e.next; !tick.IsZero() && !tick.After(now) && n < maxMissed; tick = e.tickAfter(tick) {
		n++
	}
	return n
}

// A dueTick is the ticks of streams with the same schedule that were due since the last
// iteration.
type dueTick struct {
	collector string
	ticks     int64     // how many were due
	first     time.Time // the earliest
	idle      []*entry  // the streams that can run
	running   []*entry  // the streams with a run in progress or queued
	started   time.Time // when the earliest of these runs began, or was queued
	queued    bool      // whether that run is queued
	missed    int64     // the ticks of the collector without a run so far
}

// handleTicks handles the ticks that were due since the last iteration. It queues one
// run for all ticks of a schedule, without the streams that have a run in progress or queued. It
// returns the ticks with such streams.
func (s *Scheduler) handleTicks(now time.Time) (skipped []*dueTick) {
	var all []*dueTick
	bySchedule := map[[2]string]*dueTick{}
	for _, e := range s.sortedEntries() {
		ticks, first := e.takeTicks(now)
		if ticks == 0 {
			continue
		}
		key := [2]string{e.collector(), e.schedule()}
		t := bySchedule[key]
		if t == nil {
			t = &dueTick{collector: e.collector(), first: first}
			all, bySchedule[key] = append(all, t), t
		}
		t.addEntry(e, ticks, first)
	}
	for _, t := range all {
		s.handleTick(t, now)
		if len(t.running) > 0 {
			skipped = append(skipped, t)
		}
	}
	return skipped
}

// takeTicks returns the number of ticks that are due, and the first of them. It plans
// the next one.
func (e *entry) takeTicks(now time.Time) (ticks int64, first time.Time) {
	if e.next.IsZero() {
		return 0, time.Time{}
	}
	if e.next.After(now) {
		if e.handled.Sub(now) > repeatAfter || e.handled.IsZero() && e.tickAfter(now).Before(e.next) {
			e.next, e.handled = e.tickAfter(now), time.Time{} // the clock was set back
		}
		return 0, time.Time{}
	}
	ticks, first = e.countDueTicks(now), e.next
	e.handled, e.next = now, e.tickAfter(now)
	return ticks, first
}

// addEntry adds a stream whose ticks are due.
func (d *dueTick) addEntry(e *entry, ticks int64, first time.Time) {
	d.ticks = max(d.ticks, ticks)
	if first.Before(d.first) {
		d.first = first
	}
	if !e.running {
		d.idle = append(d.idle, e)
		return
	}
	d.running = append(d.running, e)
	if d.started.IsZero() || e.started.Before(d.started) {
		d.started, d.queued = e.started, e.queued
	}
}

// handleTick queues a run of the streams that can run, and counts missed ticks.
func (s *Scheduler) handleTick(t *dueTick, now time.Time) {
	missed := t.ticks
	if len(t.running) == 0 {
		missed--
	}
	s.missed[t.collector] += missed
	t.missed = s.missed[t.collector]
	if len(t.running) == 0 && missed > 0 {
		s.Log.Warn("ticks were missed; one run makes up for them", zap.String("collector", t.collector),
			zap.Int64("missed", missed), zap.Time("first", t.first))
	}
	for _, e := range t.idle {
		e.retry = retry{}
	}
	var p *pendingRun
	if runs := s.queueRuns(t.idle, triggerSchedule); len(runs) > 0 {
		p = runs[0] // of one schedule, and without retries
	}
	s.planTicks(t, p, now)
}

// recordSkippedTick logs and records a tick that was due while a run was in progress.
func (s *Scheduler) recordSkippedTick(ctx context.Context, t *dueTick, now time.Time) {
	what := "began at %s is still in progress"
	switch {
	case t.queued && s.Cluster != nil:
		what = "was queued at %s still waits for a service that is free"
	case t.queued:
		what = "was queued at %s still waits (MAX_PARALLEL_RUNS)"
	}
	cause := fmt.Errorf("the run that "+what, t.started.UTC().Format(time.RFC3339))
	s.Log.Warn("tick skipped", zap.String("collector", t.collector), zap.Strings("streams", streamNames(t.running)),
		zap.Error(cause), zap.Int64("missed", t.missed))
	id := uuid.NewString()
	for _, e := range t.running {
		header := snapshot.Header{
			Collector: t.collector, Stream: e.stream, Tenancy: s.Tenancy, UploadID: id, UploadTimestamp: now.UTC().Truncate(time.Second),
		}
		start := state.RunStart{Header: header, Trigger: triggerSchedule, Started: now}
		if err := s.State.Runs.Skip(ctx, start, cause); err != nil {
			s.Log.Error("recording a skipped tick", zap.String("collector", t.collector), zap.Error(err))
			return
		}
	}
}
