package schedule

import (
	"context"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// CatchUp queues runs of those of the streams that failed, or whose data is missing or
// older than their last tick. A stream that is running, or that has no schedule, is left
// out. It does nothing when the settings switch catching up off.
func (s *Scheduler) CatchUp(ctx context.Context, streams []string) {
	s.mu.Lock()
	on := s.settings.CatchUp
	s.mu.Unlock()
	if !on || len(streams) == 0 {
		return
	}
	s.catchUp(ctx, func(e *entry, last state.StreamStatus, now time.Time) bool {
		return slices.Contains(streams, e.stream) && (e.isBehind(last, now) || last.LastFailure.After(last.LastSuccess))
	})
	s.wakeLoop()
}

// catchUp queues runs of the chosen streams. choose is called with the status of each
// stream that has a schedule and is not running.
func (s *Scheduler) catchUp(ctx context.Context, choose func(e *entry, last state.StreamStatus, now time.Time) bool) {
	ended := map[*entry]int{}
	s.mu.Lock()
	for _, e := range s.entries {
		ended[e] = e.ended
	}
	s.mu.Unlock()
	statuses, err := s.readStatuses(ctx)
	if err != nil {
		s.Log.Error("reading the state of the streams; no run catches up", zap.Error(err))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return
	}
	now := s.wallTime()
	var chosen []*entry
	for _, e := range s.sortedEntries() {
		isKnown := e.ended == ended[e]                  // otherwise a run has ended since the state was read
		isDue := s.Cluster != nil && !e.next.After(now) // after another process led: the tick makes up for it
		if isKnown && !isDue && !e.removed && !e.running && !e.Calendar.IsOff() && choose(e, statuses[e.stream], now) {
			e.retry = retry{}
			chosen = append(chosen, e)
		}
	}
	s.queueRuns(chosen, triggerCatchUp)
}

// readStatuses returns the status of each stream in the state by its name.
func (s *Scheduler) readStatuses(ctx context.Context) (map[string]state.StreamStatus, error) {
	streams, err := s.State.TenancyStreams(ctx, s.Tenancy)
	statuses := map[string]state.StreamStatus{}
	for _, stream := range streams {
		statuses[stream.Stream] = stream
	}
	return statuses, err
}

// isBehind reports whether the stream has had no success since its last tick. A success
// that is dated in the future, by a clock that was wrong, counts as none.
func (e *entry) isBehind(last state.StreamStatus, now time.Time) bool {
	success := last.LastSuccess
	return success.IsZero() || success.Before(e.Calendar.Last(now.Add(-e.Jitter))) || snapshot.IsFromFuture(success, now)
}
