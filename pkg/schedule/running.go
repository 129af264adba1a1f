package schedule

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// run carries out one run and decides what of it is tried again.
func (s *Scheduler) run(work context.Context, l *launch) {
	results := l.runner.Run(work, l.job, l.trigger)
	again := s.ended(l, results)
	if s.Concluded == nil {
		return
	}
	s.Concluded(slices.DeleteFunc(results, func(r Result) bool { return slices.Contains(again, r.Stream) }))
}

// ended notes the end of a run and returns the streams that are tried again.
func (s *Scheduler) ended(l *launch, results []Result) (again []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active--
	l.entry.running = false
	name := l.job.Collector.Name
	if l.entry.gone {
		if s.entries[name] == l.entry {
			delete(s.entries, name)
		}
	} else {
		again = s.planRetry(l, results, s.now())
	}
	s.locked(results)
	s.nudge()
	return again
}

// planRetry plans the retry of the streams that failed, and returns them if
// there is one.
func (s *Scheduler) planRetry(l *launch, results []Result, now time.Time) []string {
	e := l.entry
	streams := failedStreams(results)
	if len(streams) == 0 || s.settings.Retries == 0 {
		return nil
	}
	log := s.Log.With(zap.String("collector", l.job.Collector.Name), zap.Strings("streams", streams))
	at := now.Add(retryWait(l.count))
	switch {
	case l.count >= s.settings.Retries:
		log.Error("given up until the next tick", zap.Int("retries", l.count), zap.Time("next", e.next))
	case !e.next.IsZero() && !at.Before(e.next):
		log.Warn("the next tick comes before a retry would", zap.Time("next", e.next))
	default:
		e.retry = retry{at, streams, l.count + 1}
		log.Warn("what failed is tried again", zap.Int("retry", l.count+1), zap.Int("of", s.settings.Retries), zap.Time("at", at))
		return streams
	}
	return nil
}

// retryWait is the wait before a retry, after so many others.
func retryWait(count int) time.Duration {
	wait := firstRetry
	for ; count > 0 && wait < lastRetry; count-- {
		wait *= 2
	}
	return min(wait, lastRetry)
}

// failedStreams are those that trying again may help.
func failedStreams(results []Result) (names []string) {
	for _, r := range results {
		hopeless := errors.Is(r.Err, collector.ErrRefused) || errors.Is(r.Err, collector.ErrForbidden)
		if (r.Outcome == state.Failed || r.Outcome == state.Timeout) && !hopeless {
			names = append(names, r.Stream)
		}
	}
	return names
}

// locked reports a run that another process stood in the way of.
func (s *Scheduler) locked(results []Result) {
	for _, r := range results {
		if r.Outcome == state.Skipped {
			s.Log.Warn("not run", zap.String("collector", r.Collector), zap.Error(r.Err))
			return
		}
	}
}

// skipped logs and records a tick that came while the last run was going.
func (s *Scheduler) skipped(ctx context.Context, e *entry, now time.Time) {
	s.mu.Lock()
	job, started, missed := e.Job, e.started, e.missed
	s.mu.Unlock()
	name := job.Collector.Name
	err := fmt.Errorf("the run that began at %s is still going", started.UTC().Format(time.RFC3339))
	s.Log.Warn("tick skipped", zap.String("collector", name), zap.Error(err), zap.Int64("missed", missed))
	id := uuid.NewString()
	for _, stream := range job.StreamNames() {
		header := snapshot.Header{Collector: name, Stream: stream, Tenancy: s.Tenancy, UploadID: id, UploadTimestamp: now.UTC().Truncate(time.Second)}
		if e := s.State.Skip(ctx, state.Start{Header: header, Trigger: triggerSchedule, Started: now}, err); e != nil {
			s.Log.Error("recording a skipped tick", zap.String("collector", name), zap.Error(e))
			return
		}
	}
}

// sorted returns the entries by name.
func (s *Scheduler) sorted() []*entry {
	all := make([]*entry, 0, len(s.entries))
	for _, e := range s.entries {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b *entry) int { return strings.Compare(a.Job.Collector.Name, b.Job.Collector.Name) })
	return all
}

// Standings returns how each collector stands, by name.
func (s *Scheduler) Standings() []Standing {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Standing
	for _, e := range s.sorted() {
		if e.gone {
			continue
		}
		st := Standing{
			Collector: e.Job.Collector.Name, Schedule: e.Calendar.String(), Zone: e.Zone, Interval: e.interval,
			Next: e.next, Running: e.running, Missed: e.missed, Streams: e.Job.StreamNames(),
		}
		if e.running {
			st.Started = e.started
		}
		if at := e.retry.at; !at.IsZero() && (st.Next.IsZero() || at.Before(st.Next)) {
			st.Next = at
		}
		all = append(all, st)
	}
	return all
}

// Alive returns nil while the loop goes round.
func (s *Scheduler) Alive() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ago := time.Since(s.turned); !s.turned.IsZero() && ago > stuck && !s.stopping {
		return fmt.Errorf("the scheduler has not gone round for %v", ago.Round(time.Second))
	}
	return nil
}

// RunAllNow starts every collector that is not running.
func (s *Scheduler) RunAllNow() {
	for _, standing := range s.Standings() {
		if err := s.RunNow(standing.Collector); err != nil {
			s.Log.Warn("not started", zap.String("collector", standing.Collector), zap.Error(err))
		}
	}
}
