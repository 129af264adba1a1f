// Package schedule decides when collectors run: at the ticks of their schedules, as
// retries, to catch up after a start, and on demand.
package schedule

import (
	"cmp"
	"context"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/calendar"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/state"
)

const (
	// maxSleep is the longest time that the loop sleeps. Timers stop while the machine
	// is suspended and do not follow a clock that is set.
	maxSleep = 30 * time.Second
	// stalledAfter is the age of the last iteration at which the loop counts as dead.
	stalledAfter = 4 * maxSleep
)

// A Plan says when streams of a collector run. Those of one plan run together. A
// collector may have several plans, none of which has the streams of another.
type Plan struct {
	Job      run.Job
	Calendar calendar.Calendar
	// Zone is the name of the calendar's time zone.
	Zone string
	// Jitter delays every tick.
	Jitter time.Duration
	// Settings are those that the runs depend on. When a reload changes them, a failed
	// stream does not wait for its retry.
	Settings any
}

// Settings are the settings that a reload replaces together.
type Settings struct {
	Runner *run.Runner
	Plans  []Plan
	// Retries is how often failed streams are retried before the next tick; a negative
	// number is no limit.
	Retries int
	// CatchUp makes Run start with a run of the streams whose data is older than their
	// last tick. Without it, CatchUp does nothing.
	CatchUp bool
	// Slots bounds the runs in progress of all schedulers that have it. Without it, the
	// scheduler has Slots of its own with Runner.Parallel as the maximum. Runs that are
	// queued or in progress keep theirs when a reload replaces it.
	Slots *Slots
}

// A Scheduler starts runs when their ticks are due. Run does the work; the other methods
// may be called while it runs.
type Scheduler struct {
	// State has the run history, which catching up needs; Tenancy selects the runs.
	State   *state.State
	Tenancy string
	Log     *zap.Logger
	// Now returns the wall clock time.
	Now func() time.Time
	// Heartbeat, if not nil, is called in each iteration of the loop.
	Heartbeat func()
	// OnFinished, if not nil, is called with the results of a run, without the failures
	// that one of the first retries may make up for; it must not block.
	OnFinished func([]run.Result)
	// Cluster is the services that share a state, which have the runs in common. Without it,
	// this process executes all runs.
	Cluster Cluster
	// MaxHeartbeat bounds the time between two heartbeats; 0 means 30 s.
	MaxHeartbeat time.Duration

	mu            sync.Mutex
	settings      Settings          // always with Slots
	ownSlots      *Slots            // those of settings without any; nil before
	entries       map[string]*entry // by the stream's name
	missed        map[string]int64  // ticks without a run, by the collector's name
	waiting       []*pendingRun     // runs that wait for a free slot
	unrecorded    []state.Task      // tasks that Cluster does not have yet, in the order of their planning
	executing     map[string]bool   // the tasks whose runs have started, by their ids
	stopping      bool
	standby       error     // why another process runs the service; nil when this one does
	lastIteration time.Time // with its monotonic clock reading
	wake          chan struct{}
	runs          sync.WaitGroup
}

// An entry is the state of one stream. Its Job is that of its plan.
type entry struct {
	Plan
	stream  string
	next    time.Time // the next tick, jitter included; zero for none
	handled time.Time // when the last tick was handled
	retry   retry
	running bool      // in progress, or waiting for a free slot
	queued  bool      // waiting for a free slot
	ended   int       // the number of runs that have ended
	started time.Time // when it started, or was queued
	// queuedAt is when the run was queued that is in progress or waits.
	queuedAt time.Time
	// firstDue and byReload are the fields of a StreamStatus.
	firstDue time.Time
	byReload bool
	// interval is the calendar's interval, which is slow to compute.
	interval time.Duration
	removed  bool // a reload removed the stream
	// noted is the retry that the state records; nil when that is not known.
	noted *time.Time
}

// collector returns the name of the entry's collector.
func (e *entry) collector() string { return e.Job.Collector.Name }

// schedule identifies the schedule of the entry's stream. Streams of a collector
// with the same schedule run together.
func (e *entry) schedule() string {
	return strings.Join([]string{e.Calendar.String(), e.Zone, e.Jitter.String()}, " | ")
}

// NewScheduler returns a Scheduler that uses the clock now, such as time.Now. It starts
// no run before Run is called.
func NewScheduler(s *state.State, tenancy string, settings Settings, log *zap.Logger, now func() time.Time) *Scheduler {
	sched := &Scheduler{
		State: s, Tenancy: tenancy, Log: log, Now: now,
		entries: map[string]*entry{}, missed: map[string]int64{}, executing: map[string]bool{}, wake: make(chan struct{}, 1),
	}
	sched.putInForce(settings)
	sched.applyPlans(sched.wallTime(), false)
	return sched
}

// putInForce sets the settings, with Slots of its own if they have none.
func (s *Scheduler) putInForce(settings Settings) {
	if settings.Slots == nil {
		if s.ownSlots == nil {
			s.ownSlots = NewSlots(settings.Runner.Parallel)
		}
		s.ownSlots.SetMax(settings.Runner.Parallel)
		settings.Slots = s.ownSlots
	}
	s.settings = settings
}

// StandBy makes requests for runs go to the process that leads. err, which wraps
// state.ErrStandby, says why this one does not. It must be called before Run.
func (s *Scheduler) StandBy(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.standby = err
}

// EndStandby ends what StandBy began, and plans the next ticks from now on: those that were
// due meanwhile were another process's. Run continues what a Cluster has.
func (s *Scheduler) EndStandby() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.standby = nil
	now := s.wallTime()
	for _, e := range s.entries {
		e.running, e.queued = false, false
		if !e.next.IsZero() {
			e.next = e.tickAfter(now)
		}
	}
}

// Run starts runs until ctx is cancelled. Each run has the context runCtx, which may
// outlive ctx so that runs in progress can finish. Run does not wait for them; Wait does.
func (s *Scheduler) Run(ctx, runCtx context.Context) {
	s.mu.Lock()
	catchUp := s.settings.CatchUp
	s.mu.Unlock()
	if s.Cluster != nil {
		s.resumeTasks(ctx)
		runCtx = ctx // another leader has the tasks when this one ends
	}
	if catchUp {
		s.catchUp(ctx, (*entry).isBehind)
	}
	s.resumeRetries(ctx)
	for ctx.Err() == nil {
		timer := time.NewTimer(s.startDue(runCtx))
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
	s.mu.Lock()
	for _, p := range s.waiting {
		p.slot.release()
	}
	s.stopping, s.waiting, s.unrecorded = true, nil, nil
	s.mu.Unlock()
}

// Wait waits until no run is in progress. It must be called after Run has returned.
func (s *Scheduler) Wait() { s.runs.Wait() }

// wallTime returns the wall clock time, without a monotonic clock reading.
func (s *Scheduler) wallTime() time.Time { return s.Now().Round(0) }

// wakeLoop makes the loop iterate at once.
func (s *Scheduler) wakeLoop() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// startDue starts the runs that are due and returns how long the loop may sleep.
func (s *Scheduler) startDue(runCtx context.Context) time.Duration {
	s.mu.Lock()
	now := s.wallTime()
	s.lastIteration = time.Now()
	skipped := s.handleTicks(now)
	s.queueRetries(now)
	s.mu.Unlock()
	areRecorded := s.recordTasks(runCtx)
	s.mu.Lock()
	unasked := s.withoutSlot()
	s.mu.Unlock()
	s.requestSlots(runCtx, unasked)
	s.mu.Lock()
	s.startWaiting(runCtx, now)
	sleep := s.sleepTime(now)
	s.mu.Unlock()
	if !areRecorded {
		sleep = min(sleep, recordPause)
	}
	for _, t := range skipped {
		s.recordSkippedTick(runCtx, t, now)
	}
	if s.Heartbeat != nil {
		s.Heartbeat()
	}
	return sleep
}

// sleepTime returns how long nothing is due, at most maxSleep.
func (s *Scheduler) sleepTime(now time.Time) time.Duration {
	sleep := maxSleep
	if s.MaxHeartbeat > 0 {
		sleep = min(sleep, s.MaxHeartbeat)
	}
	for _, e := range s.entries {
		for _, at := range []time.Time{e.next, e.retry.at} {
			if !at.IsZero() {
				sleep = min(sleep, at.Sub(now))
			}
		}
	}
	return max(sleep, time.Millisecond)
}

// Changes are the streams that a reload concerns, ordered by collector and name.
type Changes struct {
	// Added are the streams that are new, that were off, or that had no schedule.
	Added []string
	// Changed are the others whose Settings were changed.
	Changed []string
}

// ApplySettings replaces the settings. Runs in progress finish with the old ones. Queued
// runs have the new ones; those of streams that are off now, or whose schedule is off
// unless a person started them, are dropped. A stream whose schedule did not change
// keeps its next tick. The retry of a stream whose Settings changed is due at once.
func (s *Scheduler) ApplySettings(settings Settings) Changes {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.putInForce(settings)
	changes := s.applyPlans(s.wallTime(), true)
	s.dropWithdrawn()
	s.wakeLoop()
	return changes
}

// applyPlans adds, changes and removes entries so that they match the settings' plans,
// which a reload or the start puts in force.
func (s *Scheduler) applyPlans(now time.Time, byReload bool) (changes Changes) {
	planned := map[string]Plan{}
	for _, p := range s.settings.Plans {
		for _, stream := range p.Job.StreamNames() {
			planned[stream] = p
		}
	}
	for stream, e := range s.entries {
		if _, ok := planned[stream]; !ok {
			e.removed, e.next, e.retry = true, time.Time{}, retry{}
			if !e.running {
				delete(s.entries, stream)
			}
		}
	}
	added, changed := map[string]bool{}, map[string]bool{}
	for stream, p := range planned {
		e := s.entries[stream]
		if e == nil {
			e = &entry{stream: stream, removed: true}
			s.entries[stream] = e
		}
		added[stream] = (e.removed || e.Calendar.IsOff()) && !p.Calendar.IsOff()
		changed[stream] = !e.removed && !added[stream] && !reflect.DeepEqual(e.Settings, p.Settings)
		e.applyPlan(p, now, byReload)
		if added[stream] && s.settings.CatchUp {
			e.firstDue = now
		}
		if changed[stream] && !e.retry.at.IsZero() {
			e.retry = retry{at: now}
		}
	}
	for _, e := range s.sortedEntries() {
		if added[e.stream] {
			changes.Added = append(changes.Added, e.stream)
		} else if changed[e.stream] {
			changes.Changed = append(changes.Changed, e.stream)
		}
	}
	return changes
}

// applyPlan replaces the plan. An unchanged schedule keeps its next tick.
func (e *entry) applyPlan(p Plan, now time.Time, byReload bool) {
	same := !e.removed && e.Calendar.Equal(p.Calendar.Expression) && e.Zone == p.Zone && e.Jitter == p.Jitter
	e.Plan, e.removed = p, false
	if !same {
		e.next, e.handled, e.interval = e.tickAfter(now), time.Time{}, p.Calendar.Interval()
		e.firstDue, e.byReload = e.next, byReload
		if e.next.IsZero() {
			e.firstDue = now
		}
	}
}

// sortedEntries returns the entries ordered by collector and stream.
func (s *Scheduler) sortedEntries() []*entry {
	all := make([]*entry, 0, len(s.entries))
	for _, e := range s.entries {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b *entry) int {
		return cmp.Or(strings.Compare(a.collector(), b.collector()), strings.Compare(a.stream, b.stream))
	})
	return all
}
