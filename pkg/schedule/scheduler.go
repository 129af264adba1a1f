package schedule

import (
	"context"
	"errors"
	"hash/fnv"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/calendar"
	"github.com/collectord/collectord/pkg/state"
)

// The refusals of RunNow.
var (
	ErrUnknown  = errors.New("no such collector is on")
	ErrRunning  = errors.New("already running")
	ErrStopping = errors.New("shutting down")
)

// The triggers of runs, as the history has them.
const (
	triggerSchedule = "schedule"
	triggerCatchUp  = "catch-up"
	triggerRetry    = "retry"
	triggerManual   = "manual"
)

const (
	// round is the longest the loop sleeps: timers stand still while the
	// machine is suspended and do not follow a clock that is set.
	round = 30 * time.Second
	// stuck is how old the last round may be before the loop counts as dead.
	stuck = 4 * round
	// firstRetry is the wait before a failed run's first retry, lastRetry the
	// longest.
	firstRetry = 5 * time.Minute
	lastRetry  = time.Hour
	// setBack is how far the clock must go back before ticks that were
	// handled come again.
	setBack = 24 * time.Hour
)

// A Plan is when a collector runs.
type Plan struct {
	Job      Job
	Calendar calendar.Calendar
	// Zone is the name of the calendar's time zone.
	Zone string
	// Delay puts every tick off.
	Delay time.Duration
}

// Delay returns what jitter makes of a tick: a share of most that is always the
// same for the same words, such as host, tenancy and collector.
func Delay(most time.Duration, words ...string) time.Duration {
	if most < time.Second {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(strings.Join(words, "\x00"))) // a hash takes everything
	return time.Duration(h.Sum64()%uint64(most/time.Second)) * time.Second
}

// A Scheduler starts runs when their ticks come. Run does the work; the other
// methods may be called beside it.
type Scheduler struct {
	// State has the history that catching up looks at; Tenancy says whose.
	State   *state.State
	Tenancy string
	Log     *zap.Logger
	// Now is the clock on the wall.
	Now func() time.Time
	// Round, when set, is called each time that the loop goes round.
	Round func()
	// Concluded, when set, is called with the results of a run that no retry
	// follows; it must not block.
	Concluded func([]Result)
	// MaxRound bounds the time between two rounds; 30 s when 0.
	MaxRound time.Duration

	mu       sync.Mutex
	settings Settings
	entries  map[string]*entry
	waiting  []*launch // runs for which there is no place yet
	active   int
	stopping bool
	turned   time.Time // when the loop last went round, with its monotonic reading
	wake     chan struct{}
	runs     sync.WaitGroup
}

// Settings are what a reload replaces at once.
type Settings struct {
	Runner *Runner
	Plans  []Plan
	// Retries is how often the streams that failed are tried again before the
	// next tick.
	Retries int
	// CatchUp lets collectors whose data is older than their last tick run at
	// the start.
	CatchUp bool
}

// entry is how one collector stands.
type entry struct {
	Plan
	next    time.Time // the next tick, delay included; zero for none
	handled time.Time // the last tick that was dealt with
	retry   retry
	running bool // or waiting for a place
	started time.Time
	missed  int64
	// interval is the calendar's; finding it takes a moment.
	interval time.Duration
	gone     bool // a reload took it away
}

// retry is what of a failed run is tried again.
type retry struct {
	at      time.Time // zero for none
	streams []string
	count   int // of retries since the run
}

// launch is a run that is to begin.
type launch struct {
	entry   *entry
	runner  *Runner
	job     Job
	trigger string
	count   int
}

// NewScheduler makes a Scheduler by the clock now, such as time.Now; nothing
// runs before Run.
func NewScheduler(s *state.State, tenancy string, settings Settings, log *zap.Logger, now func() time.Time) *Scheduler {
	sched := &Scheduler{
		State: s, Tenancy: tenancy, Log: log, Now: now,
		entries: map[string]*entry{}, wake: make(chan struct{}, 1),
	}
	sched.settings = settings
	sched.plan(sched.now())
	return sched
}

// Run starts runs until ctx ends, under the context work, which outlives ctx.
// It does not wait for them: that is Wait.
func (s *Scheduler) Run(ctx, work context.Context) {
	s.mu.Lock()
	catchUp := s.settings.CatchUp
	s.mu.Unlock()
	if catchUp {
		s.catchUp(ctx)
	}
	for ctx.Err() == nil {
		wait := s.turn(work)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
	s.mu.Lock()
	s.stopping, s.waiting = true, nil
	s.mu.Unlock()
}

// Wait waits until no run is under way. It is called after Run has returned.
func (s *Scheduler) Wait() { s.runs.Wait() }

// now is the time on the wall.
func (s *Scheduler) now() time.Time { return s.Now().Round(0) }

func (s *Scheduler) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Apply puts other settings in force. Runs under way end by the old ones. A
// collector whose schedule stays the same keeps its next tick.
func (s *Scheduler) Apply(settings Settings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settings = settings
	s.plan(s.now())
	s.nudge()
}

// plan makes the entries those of the settings.
func (s *Scheduler) plan(now time.Time) {
	for name, e := range s.entries {
		if !slices.ContainsFunc(s.settings.Plans, func(p Plan) bool { return p.Job.Collector.Name == name }) {
			e.gone, e.next, e.retry = true, time.Time{}, retry{}
			if !e.running {
				delete(s.entries, name)
			}
		}
	}
	for _, p := range s.settings.Plans {
		name := p.Job.Collector.Name
		e := s.entries[name]
		if e == nil {
			e = &entry{}
			s.entries[name] = e
		}
		same := !e.gone && e.Calendar.Equal(p.Calendar.Expression) && e.Zone == p.Zone && e.Delay == p.Delay
		e.Plan, e.gone = p, false
		if !same {
			e.next, e.handled, e.interval = e.after(now), time.Time{}, p.Calendar.Interval()
		}
	}
}

// after is the first tick after t, delay included.
func (e *entry) after(t time.Time) time.Time {
	tick := e.Calendar.Next(t.Add(-e.Delay))
	if tick.IsZero() {
		return tick
	}
	return tick.Add(e.Delay)
}

// catchUp queues a run of each collector that has a stream without data, or
// with data older than the collector's last tick.
func (s *Scheduler) catchUp(ctx context.Context) {
	streams, err := s.State.Streams(ctx)
	if err != nil {
		s.Log.Error("reading what is known; nothing is caught up", zap.Error(err))
		return
	}
	success := map[string]time.Time{}
	for _, st := range streams {
		if st.Tenancy == s.Tenancy {
			success[st.Stream] = st.LastSuccess
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.sorted() {
		due := e.Calendar.Last(s.now().Add(-e.Delay))
		if e.Calendar.IsOff() {
			continue
		}
		var behind []string
		for _, stream := range e.Job.StreamNames() {
			if last := success[stream]; last.IsZero() || last.Before(due) {
				behind = append(behind, stream)
			}
		}
		if len(behind) > 0 {
			s.launch(e, behind, triggerCatchUp, 0)
		}
	}
}

// turn starts what is due and returns how long the loop may sleep.
func (s *Scheduler) turn(work context.Context) time.Duration {
	s.mu.Lock()
	now := s.now()
	s.turned = time.Now()
	var skipped []*entry
	for _, e := range s.sorted() {
		if s.tick(e, now) {
			skipped = append(skipped, e)
		}
		s.again(e, now)
	}
	for len(s.waiting) > 0 && s.active < max(1, s.settings.Runner.Parallel) {
		l := s.waiting[0]
		s.waiting = s.waiting[1:]
		s.active++
		l.entry.started = now
		s.runs.Go(func() { s.run(work, l) })
	}
	wait := s.wait(now)
	s.mu.Unlock()
	for _, e := range skipped {
		s.skipped(work, e, now)
	}
	if s.Round != nil {
		s.Round()
	}
	return wait
}

// wait is how long nothing will be due.
func (s *Scheduler) wait(now time.Time) time.Duration {
	wait := round
	if s.MaxRound > 0 {
		wait = min(wait, s.MaxRound)
	}
	for _, e := range s.entries {
		for _, at := range []time.Time{e.next, e.retry.at} {
			if !at.IsZero() {
				wait = min(wait, at.Sub(now))
			}
		}
	}
	return max(wait, time.Millisecond)
}

// tick deals with the ticks that have come since the last turn: one of them
// starts a run, unless one is under way; skipped tells that one is.
func (s *Scheduler) tick(e *entry, now time.Time) (skipped bool) {
	if e.next.IsZero() {
		return false
	}
	if e.next.After(now) {
		if e.handled.Sub(now) > setBack || e.handled.IsZero() && e.after(now).Before(e.next) {
			e.next, e.handled = e.after(now), time.Time{} // the clock was set back
		}
		return false
	}
	due := e.due(now)
	first := e.next
	e.handled, e.next = now, e.after(now)
	if e.running {
		e.missed += due
		return true
	}
	if due > 1 {
		e.missed += due - 1
		s.Log.Warn("ticks were missed; one run makes up for them", zap.String("collector", e.Job.Collector.Name),
			zap.Int64("missed", due-1), zap.Time("first", first))
	}
	e.retry = retry{}
	s.launch(e, nil, triggerSchedule, 0)
	return false
}

// due counts the ticks from the next one up to now; there may have been a
// great many, which are then only counted in part.
func (e *entry) due(now time.Time) (n int64) {
	const most = 10_000
	for tick := e.next; !tick.IsZero() && !tick.After(now) && n < most; tick = e.after(tick) {
		n++
	}
	return n
}

// again starts the retry that is due.
func (s *Scheduler) again(e *entry, now time.Time) {
	if e.retry.at.IsZero() || e.running {
		return
	}
	if e.retry.at.Sub(now) > lastRetry { // the clock was set back
		e.retry.at = now.Add(lastRetry)
	}
	if e.retry.at.After(now) {
		return
	}
	r := e.retry
	e.retry = retry{}
	s.launch(e, r.streams, triggerRetry, r.count)
}

// launch queues a run.
func (s *Scheduler) launch(e *entry, streams []string, trigger string, count int) {
	job := e.Job
	if len(streams) > 0 {
		job.Streams = streams
	}
	e.running, e.started = true, s.now()
	s.waiting = append(s.waiting, &launch{e, s.settings.Runner, job, trigger, count})
}

// RunNow starts a collector. The error wraps ErrUnknown, ErrRunning or
// ErrStopping.
func (s *Scheduler) RunNow(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[name]
	switch {
	case s.stopping:
		return ErrStopping
	case e == nil || e.gone:
		return ErrUnknown
	case e.running:
		return ErrRunning
	}
	e.retry = retry{}
	s.launch(e, nil, triggerManual, 0)
	s.nudge()
	return nil
}
