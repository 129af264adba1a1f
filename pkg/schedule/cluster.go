package schedule

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/state"
)

// A Cluster is the services that share a state. The scheduler of the one that leads plans runs
// as tasks, which any of them execute.
type Cluster interface {
	// Record adds tasks, all or none, unless they are there already.
	Record(ctx context.Context, tasks []state.Task) error
	// Request adds a task that a person has asked for in this process, which does not lead. The
	// error wraps state.ErrLocked when a task with one of its streams has not ended.
	Request(ctx context.Context, task state.Task) error
	// End ends a task that no process runs.
	End(ctx context.Context, id string, as state.TaskState, reason string) error
	// LastTicks returns the newest task of each schedule of a tenancy.
	LastTicks(ctx context.Context, tenancy string) ([]state.Task, error)
	// Unfinished returns the tasks of a tenancy that have not ended.
	Unfinished(ctx context.Context, tenancy string) ([]state.Task, error)
	// ExecuteTask has a recorded task executed, and returns the results. ended is false when
	// ctx ends before, and with it the leading of this process.
	ExecuteTask(ctx context.Context, task state.Task) (results []run.Result, ended bool)
}

const (
	// recordTimeout bounds one attempt to record tasks.
	recordTimeout = 5 * time.Second
	// recordPause is the wait before the next attempt.
	recordPause = time.Second
)

// newTask returns the task of a run.
func (s *Scheduler) newTask(p *pendingRun) state.Task {
	return state.Task{
		ID: uuid.NewString(), Tenancy: s.Tenancy, Collector: p.entries[0].collector(), Streams: streamNames(p.entries), Trigger: p.trigger,
		Tick: s.wallTime(), State: state.TaskDue,
	}
}

// planTicks adds the tasks of ticks that were due: the newest is that of the run p, or skipped if
// there is none, and the others are missed.
func (s *Scheduler) planTicks(t *dueTick, p *pendingRun, now time.Time) {
	if s.Cluster == nil {
		return
	}
	of := slices.Concat(t.idle, t.running)
	newest := t.first
	var missed []time.Time
	for tick := of[0].tickAfter(t.first); !tick.IsZero() && !tick.After(now) && len(missed) < maxMissed; tick = of[0].tickAfter(tick) {
		missed, newest = append(missed, newest), tick
	}
	task := state.Task{Tenancy: s.Tenancy, Collector: t.collector, Streams: streamNames(of), Trigger: triggerSchedule, Schedule: of[0].schedule()}
	for _, tick := range missed {
		task.ID, task.Tick, task.State, task.Reason = uuid.NewString(), tick, state.TaskMissed, "a later tick makes up for it"
		s.unrecorded = append(s.unrecorded, task)
	}
	task.ID, task.Tick, task.State, task.Reason = uuid.NewString(), newest, state.TaskSkipped, "the run before has not ended"
	if p != nil {
		task.ID, task.Streams, task.State, task.Reason = p.task.ID, p.task.Streams, state.TaskDue, ""
		p.task = task
	}
	s.unrecorded = append(s.unrecorded, task)
}

// recordTasks records the tasks that were planned since. It reports whether all are recorded.
func (s *Scheduler) recordTasks(ctx context.Context) bool {
	s.mu.Lock()
	tasks := slices.Clone(s.unrecorded)
	s.mu.Unlock()
	if len(tasks) == 0 {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	if err := s.Cluster.Record(ctx, tasks); err != nil {
		if !errors.Is(err, state.ErrLost) { // otherwise another process plans them
			s.Log.Warn("due runs wait until they can be recorded", zap.Int("tasks", len(tasks)), zap.Error(err))
		}
		return false
	}
	recorded := map[string]bool{}
	for _, task := range tasks {
		recorded[task.ID] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unrecorded = s.unrecorded[len(tasks):]
	for _, p := range s.waiting {
		p.recorded = p.recorded || recorded[p.task.ID]
	}
	return true
}

// endTask ends the task of a run that does not take place.
func (s *Scheduler) endTask(p *pendingRun, reason string) {
	if s.Cluster == nil {
		return
	}
	if i := slices.IndexFunc(s.unrecorded, func(t state.Task) bool { return t.ID == p.task.ID }); i >= 0 {
		s.unrecorded[i].State, s.unrecorded[i].Reason = state.TaskFailed, reason
		return
	}
	s.runs.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), recordTimeout)
		defer cancel()
		if err := s.Cluster.End(ctx, p.task.ID, state.TaskFailed, reason); err != nil {
			s.Log.Warn("a task that does not take place stays due until another process leads", zap.String("collector", p.task.Collector), zap.Error(err))
		}
	})
}

// resumeTasks continues the tasks that an earlier leader has left, and the ticks after those that
// it has recorded. It tries again until ctx ends: without them, ticks could be lost.
func (s *Scheduler) resumeTasks(ctx context.Context) {
	for ctx.Err() == nil {
		last, err := s.Cluster.LastTicks(ctx, s.Tenancy)
		var open []state.Task
		if err == nil {
			open, err = s.Cluster.Unfinished(ctx, s.Tenancy)
		}
		if err == nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.continueTicks(last)
			for _, task := range open {
				if !s.resumeTask(task) {
					s.endTask(&pendingRun{task: task}, "its streams are off")
				}
			}
			return
		}
		s.Log.Warn("nothing runs until the tasks can be read", zap.Error(err))
		select {
		case <-ctx.Done():
		case <-time.After(recordPause):
		}
	}
}

// continueTicks makes the next tick of each stream the one after its newest that is recorded, if
// the schedule is still the same.
func (s *Scheduler) continueTicks(last []state.Task) {
	newest := map[string]state.Task{}
	for _, task := range last {
		for _, stream := range task.Streams {
			if task.Tick.After(newest[stream].Tick) {
				newest[stream] = task
			}
		}
	}
	for _, e := range s.entries {
		task, ok := newest[e.stream]
		if ok && task.Collector == e.collector() && task.Schedule == e.schedule() && !e.next.IsZero() {
			e.next = e.tickAfter(task.Tick)
		}
	}
}

// resumeTask queues the run of a task that another process has recorded, and reports whether there
// is one now. A task that runs keeps its slot.
func (s *Scheduler) resumeTask(task state.Task) bool {
	if slices.ContainsFunc(s.waiting, func(p *pendingRun) bool { return p.task.ID == task.ID }) || s.executing[task.ID] {
		return true
	}
	p := &pendingRun{trigger: task.Trigger, task: task, recorded: true}
	for _, stream := range task.Streams {
		if e := s.entries[stream]; e != nil && !e.removed && !e.running && e.collector() == task.Collector {
			p.entries = append(p.entries, e)
		}
	}
	if len(p.entries) == 0 {
		return false
	}
	now := s.wallTime()
	for _, e := range p.entries {
		e.running, e.queued, e.queuedAt, e.started, e.retry = true, true, now, now, retry{}
	}
	if task.State == state.TaskRunning {
		p.slot = s.settings.Slots.adopt(&slot{tenancy: s.Tenancy, collector: task.Collector, wake: s.wakeLoop})
	}
	s.waiting = append(s.waiting, p)
	return true
}

// RunTask queues the run of a task that a person has asked for in another process, and reports
// whether there is one now.
func (s *Scheduler) RunTask(task state.Task) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping || s.standby != nil {
		return false
	}
	defer s.wakeLoop()
	return s.resumeTask(task)
}

// ExecuteHere executes a task in this process, whichever plans it. The streams that an earlier
// process has collected for the same task do not run again; their results are those of the history.
func (s *Scheduler) ExecuteHere(ctx context.Context, task state.Task) []run.Result {
	s.mu.Lock()
	runner := *s.settings.Runner
	job := run.Job{}
	for _, stream := range task.Streams {
		if e := s.entries[stream]; e != nil && !e.removed && e.collector() == task.Collector {
			job.Collector = e.Job.Collector
			job.Streams = append(job.Streams, stream)
		}
	}
	s.mu.Unlock()
	runner.OnEnded = nil // the leader has the results
	if job.Collector == nil {
		return run.Failures(task.Collector, task.Streams, fmt.Errorf("%w in the settings of this service: %s", ErrUnknown, task.Collector))
	}
	var results []run.Result
	if task.Takes > 1 {
		all := job.Streams
		job.Streams = s.withoutCollected(ctx, slices.Clone(all), task.Started)
		for _, stream := range all {
			if !slices.Contains(job.Streams, stream) {
				results = append(results, s.lastResult(ctx, task.Collector, stream))
			}
		}
	}
	if len(job.Streams) == 0 {
		return results
	}
	return append(results, runner.Run(ctx, job, task.Trigger)...)
}

// lastResult returns the result of the newest run of a stream that ended with the vendor's data.
func (s *Scheduler) lastResult(ctx context.Context, collector, stream string) run.Result {
	result := run.Result{Collector: collector, Stream: stream, Outcome: state.Success}
	page := state.RunPage{Tenancy: s.Tenancy, Stream: stream, Outcomes: []state.Outcome{state.Success, state.Unchanged, state.Empty}, Limit: 1}
	runs, err := s.State.Runs.ListPage(ctx, page)
	if err != nil || len(runs) == 0 {
		s.Log.Warn("the size of what an earlier process has collected cannot be read", zap.String("stream", stream), zap.Error(err))
		return result
	}
	last := runs[0]
	result.Outcome, result.UploadID, result.Duration = last.Outcome, last.UploadID, last.Ended.Sub(last.Started)
	result.Records, result.Bytes, result.Requests, result.Retries = last.Records, last.Bytes, last.Requests, last.Retries
	result.RateLimitWait, result.Doubts = last.RateLimitWait, last.Doubts
	return result
}

// Follow shows the runs of the tasks of another process, which leads.
func (s *Scheduler) Follow(tasks []state.Task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.standby == nil {
		return
	}
	for _, e := range s.entries {
		e.running, e.queued = false, false
		if now := s.wallTime(); !e.next.IsZero() && !e.next.After(now) {
			e.next = e.tickAfter(now)
		}
	}
	for _, task := range tasks {
		for _, stream := range task.Streams {
			e := s.entries[stream]
			if task.Tenancy != s.Tenancy || e == nil || e.removed || e.collector() != task.Collector {
				continue
			}
			e.running, e.queued, e.queuedAt, e.started = true, task.State != state.TaskRunning, task.Tick, task.Started
			if e.queued {
				e.started = task.Tick
			}
		}
	}
}

// manualTasks returns the tasks of runs of entries that a person wants, one for each collector.
func (s *Scheduler) manualTasks(entries []*entry) (tasks []state.Task) {
	for _, e := range entries { // ordered by collector
		if n := len(tasks); n > 0 && tasks[n-1].Collector == e.collector() {
			tasks[n-1].Streams = append(tasks[n-1].Streams, e.stream)
			continue
		}
		tasks = append(tasks, s.newTask(&pendingRun{trigger: triggerManual, entries: []*entry{e}}))
	}
	return tasks
}

// requestTasks asks the process that leads for runs.
func (s *Scheduler) requestTasks(tasks []state.Task) error {
	ctx, cancel := context.WithTimeout(context.Background(), recordTimeout)
	defer cancel()
	for _, task := range tasks {
		err := s.Cluster.Request(ctx, task)
		if errors.Is(err, state.ErrLocked) { // begun since Follow
			return ErrRunning
		}
		if err != nil {
			return fmt.Errorf("%w: %w", state.ErrStandby, err)
		}
	}
	return nil
}
