package schedule

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/state"
)

// Errors of RunNow and RunStreamNow.
var (
	ErrUnknown  = errors.New("no such collector or stream is on")
	ErrRunning  = errors.New("already running or queued")
	ErrStopping = errors.New("shutting down")
)

// The triggers of runs, as the run history records them.
const (
	triggerSchedule = "schedule"
	triggerCatchUp  = "catch-up"
	triggerRetry    = "retry"
	triggerManual   = "manual"
)

// A pendingRun is a run that is queued or in progress. A queued one has no settings yet:
// those in force when it starts are used.
type pendingRun struct {
	entries []*entry // of its streams
	trigger string
	retries int // the number of retries so far
	// settings are the Settings of the plan when it started.
	settings any
	// skippedAt is when a run was skipped because another process was collecting its
	// streams; zero for none. Those that were collected since do not run again.
	skippedAt time.Time
	// slot is its place in the Slots; nil before the loop has requested one.
	slot *slot
	// task is what Cluster has of the run, and recorded reports whether it has it; both are
	// zero without a Cluster.
	task     state.Task
	recorded bool
}

// RunNow starts the streams of a collector that are not running, and returns their names.
// The error wraps ErrUnknown, ErrRunning, state.ErrStandby or ErrStopping.
func (s *Scheduler) RunNow(collector string) (streams []string, err error) {
	return s.runManually(func(e *entry) bool { return e.collector() == collector })
}

// RunStreamNow starts one stream. The error wraps ErrUnknown, ErrRunning,
// state.ErrStandby or ErrStopping.
func (s *Scheduler) RunStreamNow(stream string) error {
	_, err := s.runManually(func(e *entry) bool { return e.stream == stream })
	return err
}

// runManually starts the chosen streams that are not running.
func (s *Scheduler) runManually(choose func(*entry) bool) (streams []string, err error) {
	requests, streams, err := s.queueManually(choose)
	if err != nil || len(requests) == 0 {
		return streams, err
	}
	return streams, s.requestTasks(requests)
}

// queueManually queues runs of the chosen streams that are not running, or returns the tasks to
// request from the process that leads.
func (s *Scheduler) queueManually(choose func(*entry) bool) (requests []state.Task, streams []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return nil, nil, ErrStopping
	}
	if s.standby != nil && s.Cluster == nil {
		return nil, nil, s.standby
	}
	var idle []*entry
	found := false
	for _, e := range s.sortedEntries() {
		if e.removed || !choose(e) {
			continue
		}
		found = true
		if !e.running {
			e.retry = retry{}
			idle = append(idle, e)
		}
	}
	switch {
	case !found:
		return nil, nil, ErrUnknown
	case len(idle) == 0:
		return nil, nil, ErrRunning
	case s.standby != nil:
		return s.manualTasks(idle), streamNames(idle), nil
	}
	s.queueRuns(idle, triggerManual)
	s.wakeLoop()
	return nil, streamNames(idle), nil
}

// RunAllNow starts every stream that is not running.
func (s *Scheduler) RunAllNow() {
	for _, status := range s.Statuses() {
		if _, err := s.RunNow(status.Collector); err != nil {
			s.Log.Warn("not started", zap.String("collector", status.Collector), zap.Error(err))
		}
	}
}

// queueRuns queues runs of streams: one for those of a collector that have the same
// schedule and the same number of retries. It returns them.
func (s *Scheduler) queueRuns(entries []*entry, trigger string) (queued []*pendingRun) {
	type runKey struct {
		collector, schedule string
		retries             int
		skippedAt           time.Time
	}
	runs := map[runKey]*pendingRun{}
	for _, e := range entries {
		key := runKey{e.collector(), e.schedule(), e.retry.count, e.retry.skippedAt}
		p := runs[key]
		if p == nil {
			p = &pendingRun{trigger: trigger, retries: e.retry.count, skippedAt: e.retry.skippedAt}
			queued, runs[key] = append(queued, p), p
		}
		now := s.wallTime()
		e.running, e.queued, e.queuedAt, e.started = true, true, now, now
		p.entries = append(p.entries, e)
	}
	s.waiting = append(s.waiting, queued...)
	if s.Cluster == nil {
		return queued
	}
	for _, p := range queued {
		p.task = s.newTask(p)
		if trigger != triggerSchedule { // planTicks adds those of ticks
			s.unrecorded = append(s.unrecorded, p.task)
		}
	}
	return queued
}

// dropWithdrawn drops the queued runs of streams that are off now, and those of streams
// whose schedule is off unless a person started them.
func (s *Scheduler) dropWithdrawn() {
	s.waiting = slices.DeleteFunc(s.waiting, func(p *pendingRun) bool {
		var dropped []*entry
		p.entries = slices.DeleteFunc(p.entries, func(e *entry) bool {
			withdrawn := e.removed || e.Calendar.IsOff() && p.trigger != triggerManual
			if withdrawn {
				dropped = append(dropped, e)
			}
			return withdrawn
		})
		if len(dropped) > 0 {
			s.Log.Info("a queued run is dropped: the new settings switch it off", zap.Strings("streams", streamNames(dropped)))
		}
		for _, e := range dropped {
			s.endEntry(e)
		}
		if len(p.entries) > 0 {
			return false
		}
		p.slot.release()
		s.endTask(p, "the settings switch it off")
		return true
	})
}

// endEntry marks a stream as not running. It removes one that a reload has removed.
func (s *Scheduler) endEntry(e *entry) {
	e.running, e.queued = false, false
	e.ended++
	if e.removed && s.entries[e.stream] == e {
		delete(s.entries, e.stream)
	}
}

// streamNames returns the names of the entries' streams.
func streamNames(entries []*entry) (names []string) {
	for _, e := range entries {
		names = append(names, e.stream)
	}
	return names
}

// A slotless is a queued run that has not requested a slot yet, with the names of its streams.
type slotless struct {
	run     *pendingRun
	streams []string
}

// withoutSlot returns the queued runs that have not requested a slot yet. The caller holds s.mu.
func (s *Scheduler) withoutSlot() (all []slotless) {
	for _, p := range s.waiting {
		if p.slot == nil && (p.recorded || s.Cluster == nil) {
			all = append(all, slotless{p, streamNames(p.entries)})
		}
	}
	return all
}

// requestSlots requests slots for those of the runs that are still queued. Only the loop
// calls it, so that a scheduler that does not start runs holds no slot. It reads the state
// without s.mu.
func (s *Scheduler) requestSlots(ctx context.Context, runs []slotless) {
	lengths := map[*pendingRun]runLength{}
	for _, r := range runs {
		lengths[r.run] = s.expectLength(ctx, r.streams)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var requests []*slot
	for _, p := range s.waiting {
		if length, ok := lengths[p]; ok {
			p.slot = &slot{of: s.settings.Slots, tenancy: s.Tenancy, collector: p.entries[0].collector(), length: length, wake: s.wakeLoop}
			requests = append(requests, p.slot)
		}
	}
	s.settings.Slots.request(requests)
}

// expectLength returns how long a run of the streams takes if each takes as long as last
// time. A stream that was never collected counts only if none was: one that the vendor
// refuses does not make the length of the others unknown.
func (s *Scheduler) expectLength(ctx context.Context, streams []string) runLength {
	length := unknownRun
	for _, name := range streams {
		took, collected, err := s.State.Runs.LastDuration(ctx, name, s.Tenancy)
		if err != nil {
			s.Log.Error("reading the duration of the last run, which counts as unknown", zap.String("stream", name), zap.Error(err))
		}
		switch {
		case took > longRun:
			return longerRun
		case collected:
			length = shortRun
		}
	}
	return length
}

// startWaiting starts the queued runs that have a free slot.
func (s *Scheduler) startWaiting(runCtx context.Context, now time.Time) {
	s.waiting = slices.DeleteFunc(s.waiting, func(p *pendingRun) bool {
		if !p.slot.isGranted() {
			return false
		}
		p.settings = p.entries[0].Settings
		for _, e := range p.entries {
			e.queued, e.started = false, now
		}
		runner := s.settings.Runner
		if s.Cluster != nil {
			s.executing[p.task.ID] = true
			s.runs.Go(func() { s.executeTask(runCtx, p, runner) })
			return true
		}
		job := run.Job{Collector: p.entries[0].Job.Collector, Streams: streamNames(p.entries)}
		s.runs.Go(func() { s.executeRun(runCtx, p, runner, job) })
		return true
	})
}

// executeRun executes one run, plans retries, and passes the results on to OnFinished.
func (s *Scheduler) executeRun(runCtx context.Context, p *pendingRun, runner *run.Runner, job run.Job) {
	if !p.skippedAt.IsZero() {
		job.Streams = s.withoutCollected(runCtx, job.Streams, p.skippedAt)
	}
	var results []run.Result
	if len(job.Streams) > 0 {
		results = runner.Run(runCtx, job, p.trigger)
	}
	s.endRun(runCtx, p, results)
}

// endRun ends a run, plans retries, and passes the results on to OnFinished.
func (s *Scheduler) endRun(ctx context.Context, p *pendingRun, results []run.Result) {
	final := s.finishRun(p, results)
	s.recordRetries(ctx, p)
	if s.OnFinished != nil && len(final) > 0 {
		s.OnFinished(final)
	}
}

// executeTask has the task of a run executed by one of the services.
func (s *Scheduler) executeTask(ctx context.Context, p *pendingRun, runner *run.Runner) {
	results, ended := s.Cluster.ExecuteTask(ctx, p.task)
	s.mu.Lock()
	delete(s.executing, p.task.ID)
	s.mu.Unlock()
	if !ended { // this process leads no more, or the tenancy has ended
		p.slot.release()
		return
	}
	for _, result := range results {
		runner.ReportEnd(result)
	}
	s.endRun(ctx, p, results)
}

// withoutCollected returns the streams that had no success since a time.
func (s *Scheduler) withoutCollected(ctx context.Context, streams []string, since time.Time) []string {
	statuses, err := s.readStatuses(ctx)
	if err != nil {
		s.Log.Error("reading the state of the streams; they run", zap.Error(err))
		return streams
	}
	return slices.DeleteFunc(streams, func(name string) bool { return !statuses[name].LastSuccess.Before(since) })
}

// finishRun records the end of a run, plans retries, and returns the results for
// OnFinished.
func (s *Scheduler) finishRun(p *pendingRun, results []run.Result) (final []run.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.slot.release()
	var off []string
	for _, e := range p.entries {
		if e.removed {
			off = append(off, e.stream)
		}
		s.endEntry(e)
	}
	early := s.planRetries(p, results, s.wallTime())
	s.logLocked(results)
	s.wakeLoop()
	return slices.DeleteFunc(results, func(r run.Result) bool {
		return slices.Contains(off, r.Stream) || slices.Contains(early, r.Stream)
	})
}

// logLocked logs the streams that did not run because another process is collecting
// them.
func (s *Scheduler) logLocked(results []run.Result) {
	for _, r := range results {
		if r.Outcome == state.Skipped {
			s.Log.Warn("not run", zap.String("collector", r.Collector), zap.String("stream", r.Stream), zap.Error(r.Err))
		}
	}
}
