package schedule

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/internal/backoff"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/state"
)

const (
	// firstRetry is the wait before the first retry of a failed run.
	firstRetry = 5 * time.Minute
	// lastRetry is the longest wait before a retry, unless the vendor asks for more.
	lastRetry = time.Hour
	// unscheduledRetries is the number of retries of a stream without a next tick, which
	// take a day.
	unscheduledRetries = 26
	// earlyRetries is the number of the first retries, after which a failure is reported
	// although it is retried again.
	earlyRetries = 3
)

// A retry is the planned retry of a stream whose run failed, or was skipped because
// another process was collecting it.
type retry struct {
	at        time.Time     // zero for none
	wait      time.Duration // from the end of the run
	count     int           // the number of retries since the first run, this one included
	skippedAt time.Time     // when the run was skipped; zero if it failed
}

// queueRetries queues the retries that are due.
func (s *Scheduler) queueRetries(now time.Time) {
	var due []*entry
	for _, e := range s.sortedEntries() {
		if e.retry.at.IsZero() || e.running {
			continue
		}
		if e.retry.at.Sub(now) > e.retry.wait { // the clock was set back
			e.retry.at = now.Add(e.retry.wait)
		}
		if !e.retry.at.After(now) {
			due = append(due, e)
		}
	}
	s.queueRuns(due, triggerRetry)
	for _, e := range due {
		e.retry = retry{}
	}
}

// planRetries plans retries of the streams that failed, or that were skipped because
// another process was collecting them. It returns the names of the streams whose
// failure is not reported yet, because one of the first retries follows.
func (s *Scheduler) planRetries(p *pendingRun, results []run.Result, now time.Time) (early []string) {
	plans := map[string]*plannedRetries{}
	for _, e := range p.entries {
		i := slices.IndexFunc(results, func(r run.Result) bool { return r.Stream == e.stream })
		if i < 0 || e.removed || !isRetryable(results[i]) {
			continue
		}
		planned, decision := s.planRetry(p, e, results[i], now)
		if decision == retryPlanned {
			e.retry = planned
			if !needsPerson(results[i].Err) && planned.count <= earlyRetries {
				early = append(early, e.stream)
			}
		}
		key := fmt.Sprint(decision, planned.at)
		if plans[key] == nil {
			plans[key] = &plannedRetries{decision: decision, retry: planned, next: e.next}
		}
		plans[key].streams = append(plans[key].streams, e.stream)
	}
	for _, key := range slices.Sorted(maps.Keys(plans)) {
		plans[key].log(s.Log.With(zap.String("collector", p.entries[0].collector())), p.retries)
	}
	return early
}

// planRetry decides when a stream is retried, if at all.
func (s *Scheduler) planRetry(p *pendingRun, e *entry, r run.Result, now time.Time) (retry, retryDecision) {
	planned := retry{count: p.retries + 1}
	if r.Outcome == state.Skipped {
		planned.skippedAt = p.skippedAt
		if planned.skippedAt.IsZero() {
			planned.skippedAt = now
		}
	}
	if !reflect.DeepEqual(p.settings, e.Settings) {
		planned.at, planned.count = now, 0 // the run had settings that were replaced meanwhile
		return planned, retryPlanned
	}
	planned.wait = retryWait(r.Err, planned.count, now)
	planned.at = now.Add(planned.wait)
	limit := s.settings.Retries
	if e.next.IsZero() && (limit < 0 || limit > unscheduledRetries) {
		limit = unscheduledRetries
	}
	switch {
	case limit >= 0 && planned.count > limit:
		return retry{}, retriesExhausted
	case !e.next.IsZero() && !planned.at.Before(e.next):
		return retry{}, retrySuperseded
	}
	return planned, retryPlanned
}

// retryBackoff is the waits between a failed run and its retries.
var retryBackoff = backoff.Policy{First: firstRetry, Longest: lastRetry}

// retryWait returns the wait before a retry: the longest if the failure needs a person,
// and at least as long as the vendor asks.
func retryWait(err error, count int, now time.Time) time.Duration {
	wait := retryBackoff.Wait(count)
	if needsPerson(err) {
		wait = lastRetry
	}
	if at, asked := collector.PostponedUntil(err); asked {
		wait = max(wait, at.Round(0).Sub(now))
	}
	return wait
}

// isRetryable reports whether a run ended in a way that a retry may make up for.
func isRetryable(r run.Result) bool {
	return r.Outcome == state.Failed || r.Outcome == state.Timeout || r.Outcome == state.Skipped && errors.Is(r.Err, state.ErrLocked)
}

// needsPerson reports whether an error lasts until a person changes something at the
// vendor: the credentials are refused or lack a permission.
func needsPerson(err error) bool {
	return errors.Is(err, collector.ErrRefused) || errors.Is(err, collector.ErrForbidden)
}

// A retryDecision is whether a retry is planned.
type retryDecision int

const (
	retryPlanned     retryDecision = iota
	retriesExhausted               // there were as many as the settings allow
	retrySuperseded                // the next tick is earlier
)

// plannedRetries are the streams of a run with the same decision.
type plannedRetries struct {
	decision retryDecision
	retry    retry
	next     time.Time // the next tick; zero for none
	streams  []string
}

func (p *plannedRetries) log(log *zap.Logger, retries int) {
	log = log.With(zap.Strings("streams", p.streams))
	switch p.decision {
	case retriesExhausted:
		log.Error("no more retries until the next tick", zap.Int("retries", retries), zap.Time("next", p.next))
	case retrySuperseded:
		log.Warn("no retry: the next tick is earlier", zap.Time("next", p.next))
	default:
		log.Warn("retry scheduled", zap.Int("retry", p.retry.count), zap.Time("at", p.retry.at))
	}
}

// retryNote is the beginning of the key of the note that has the time of a stream's
// next retry.
const retryNote = "retry/"

// recordRetries records the planned retries of a run's streams in the state, for
// NextRetry.
func (s *Scheduler) recordRetries(ctx context.Context, p *pendingRun) {
	ctx = context.WithoutCancel(ctx)
	for _, e := range p.entries {
		s.mu.Lock()
		at, noted := e.retry.at, e.noted
		e.noted = &at
		s.mu.Unlock()
		if noted != nil && noted.Equal(at) {
			continue
		}
		text := ""
		if !at.IsZero() {
			text = at.UTC().Format(time.RFC3339)
		}
		if err := s.State.Notes(s.Tenancy).SetNote(ctx, retryNote+e.stream, text); err != nil {
			s.Log.Error("recording the next retry", zap.String("stream", e.stream), zap.Error(err))
		}
	}
}

// resumeRetries plans the retries that an earlier process has recorded, of streams that
// still fail and whose next tick is not over. They count as late ones, so that the next
// waits are long.
func (s *Scheduler) resumeRetries(ctx context.Context) {
	statuses, err := s.readStatuses(ctx)
	if err != nil {
		s.Log.Error("reading the state of the streams; retries wait for the next run", zap.Error(err))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.wallTime()
	for _, e := range s.sortedEntries() {
		last := statuses[e.stream]
		if e.running || s.settings.Retries == 0 || !last.LastFailure.After(last.LastSuccess) {
			continue
		}
		at, err := NextRetry(ctx, s.State, s.Tenancy, e.stream)
		if err != nil {
			s.Log.Error("reading the next retry", zap.String("stream", e.stream), zap.Error(err))
			continue
		}
		tick := e.tickAfter(last.LastFailure)
		if at.IsZero() || !tick.IsZero() && (!at.Before(tick) || !now.Before(tick)) {
			continue
		}
		e.retry = retry{at: at, wait: max(0, at.Sub(now)), count: earlyRetries + 1}
		s.Log.Info("retry resumed", zap.String("collector", e.collector()), zap.String("stream", e.stream), zap.Time("at", at))
	}
}

// NextRetry returns when the service retries a stream that failed, as it was recorded
// at the end of its last run; zero when no retry was planned.
func NextRetry(ctx context.Context, s *state.State, tenancy, stream string) (time.Time, error) {
	text, err := s.Notes(tenancy).Note(ctx, retryNote+stream)
	if err != nil || text == "" {
		return time.Time{}, err
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("note %q: %w", retryNote+stream, err)
	}
	return at, nil
}
