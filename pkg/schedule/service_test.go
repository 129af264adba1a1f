package schedule_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/calendar"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/local"
)

// A service has a scheduler for each of several tenancies, which share Slots, over one
// state directory and on a fake clock. A run is named by its tenancy and its collector, such
// as "acme/okta"; the collector has one stream.
type service struct {
	*testing.T
	state   *state.State
	slots   *schedule.Slots
	tenants map[string]*tenant

	mu     sync.Mutex
	takes  map[string]time.Duration // how long runs take; a second by default
	starts []runStart               // in their order
	active int                      // the number of extractions in progress
	most   int                      // the largest number
}

// A tenant is the scheduler of one tenancy.
type tenant struct {
	sched    *schedule.Scheduler
	settings schedule.Settings
	stop     func() // cancels its runs as well
}

// A runStart is the start of a run.
type runStart struct {
	run string
	at  time.Time
}

// withService runs a test with Slots for n runs. The fake clock starts at 2000-01-01 00:00 UTC.
func withService(t *testing.T, n int, test func(s *service)) {
	t.Helper()
	withServiceIn(t, t.TempDir(), n, test)
}

// withServiceIn is withService with the state in a directory.
func withServiceIn(t *testing.T, dir string, n int, test func(s *service)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &service{T: t, slots: schedule.NewSlots(n), tenants: map[string]*tenant{}, takes: map[string]time.Duration{}}
		var err error
		if s.state, err = local.Open(t.Context(), dir, local.Options{}); err != nil {
			t.Fatal(err)
		}
		defer s.state.Close()
		test(s)
		for _, name := range slices.Sorted(maps.Keys(s.tenants)) {
			s.stop(name)
		}
		s.checkSlots()
	})
}

// plan returns the plan of a collector of a tenancy, with one stream.
func (s *service) plan(tenancy, name, expression string) schedule.Plan {
	s.Helper()
	return s.planStreams(tenancy, name, expression, 1)
}

// planStreams returns the plan of a collector of a tenancy, with n streams that take equally
// long. A run has started when its first stream has.
func (s *service) planStreams(tenancy, name, expression string, n int) schedule.Plan {
	s.Helper()
	var e calendar.Expression
	if err := e.UnmarshalText([]byte(expression)); err != nil {
		s.Fatal(err)
	}
	extract := func(ctx context.Context, out collector.Output) error {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(s.duration(tenancy + "/" + name)):
		}
		batch := out.NewBatch()
		if err := batch.Append([]byte(`{"a":1}`)); err != nil {
			return err
		}
		return batch.Commit()
	}
	first := func(ctx context.Context, out collector.Output) error {
		defer s.noteStart(tenancy + "/" + name)()
		return extract(ctx, out)
	}
	c := &collector.Collector{Name: name, Streams: []collector.Stream{{Name: streamName(name, 0), Extract: first}}}
	for i := 1; i < n; i++ {
		c.Streams = append(c.Streams, collector.Stream{Name: streamName(name, i), Extract: extract})
	}
	return schedule.Plan{Job: run.Job{Collector: c}, Calendar: e.In(time.UTC), Zone: "UTC"}
}

// streamName returns the name of a stream of a collector, from 0 on.
func streamName(collector string, i int) string { return fmt.Sprint(collector, "_things", i) }

// noteStart notes that a run has started. The result notes its end.
func (s *service) noteStart(name string) (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.starts = append(s.starts, runStart{name, time.Now()})
	s.active++
	s.most = max(s.most, s.active)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.active--
	}
}

// takeMost returns the largest number of runs in progress since the last call, and the
// number now.
func (s *service) takeMost() (most, active int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	most, s.most = s.most, s.active
	return most, s.active
}

func (s *service) duration(name string) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return cmp.Or(s.takes[name], time.Second)
}

func (s *service) setDuration(name string, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.takes[name] = d
}

// start starts the scheduler of a tenancy.
func (s *service) start(tenancy string, plans ...schedule.Plan) {
	settings := schedule.Settings{Plans: plans, Slots: s.slots, Runner: &run.Runner{
		State: s.state, Tenancy: tenancy, Timeout: 48 * time.Hour, IdleTimeout: 48 * time.Hour,
		Parallel: 1, Log: zap.NewNop(), Active: &run.ActiveRuns{},
	}}
	sched := schedule.NewScheduler(s.state, tenancy, settings, zap.NewNop(), time.Now)
	ctx, cancelLoop := context.WithCancel(s.Context())
	runCtx, cancelRuns := context.WithCancel(context.WithoutCancel(s.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		sched.Run(ctx, runCtx)
	}()
	s.tenants[tenancy] = &tenant{sched: sched, settings: settings, stop: func() {
		cancelLoop()
		<-done
		cancelRuns()
		sched.Wait()
	}}
}

// stop stops the scheduler of a tenancy and cancels its runs.
func (s *service) stop(tenancy string) {
	s.tenants[tenancy].stop()
	delete(s.tenants, tenancy)
}

// reload puts other plans of a tenancy in force.
func (s *service) reload(tenancy string, plans ...schedule.Plan) {
	t := s.tenants[tenancy]
	t.settings.Plans = plans
	t.sched.ApplySettings(t.settings)
}

// runNow starts a run as a person does.
func (s *service) runNow(name string) {
	s.Helper()
	tenancy, collector, _ := strings.Cut(name, "/")
	if _, err := s.tenants[tenancy].sched.RunNow(collector); err != nil && !errors.Is(err, schedule.ErrRunning) {
		s.Errorf("%s: %v", name, err)
	}
}

// addHistory adds a successful run that ended now to the history.
func (s *service) addHistory(name string, took time.Duration) {
	s.Helper()
	s.addRun(name, took, state.Success)
}

// addFailure is addHistory for a failed run.
func (s *service) addFailure(name string, took time.Duration) {
	s.Helper()
	s.addRun(name, took, state.Failed)
}

func (s *service) addRun(name string, took time.Duration, outcome state.Outcome) {
	s.Helper()
	tenancy, collector, _ := strings.Cut(name, "/")
	header := snapshot.Header{Collector: collector, Stream: streamName(collector, 0), Tenancy: tenancy, UploadID: name}
	id, err := s.state.Runs.Begin(s.Context(), state.RunStart{Header: header, Trigger: "schedule", Started: time.Now().Add(-took)})
	if err == nil {
		err = s.state.Runs.Fail(s.Context(), id, outcome, errVendor, state.RunStats{})
	}
	if err != nil {
		s.Fatal(err)
	}
}

// queued returns the number of runs that the schedulers show as queued.
func (s *service) queued() (n int) {
	for _, t := range s.tenants {
		for _, c := range t.sched.Statuses() {
			if c.Queued() {
				n++
			}
		}
	}
	return n
}

// checkSlots checks that as many slots are granted as runs are in progress, that as many
// runs wait as are shown as queued, and that none of them may have a slot that is free. It
// lets up to a second pass, in which runs that begin or end have done so: the database waits on
// the clock when it is locked.
func (s *service) checkSlots() {
	s.Helper()
	var problem string
	for range 10 {
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if problem = s.slotProblem(); problem == "" {
			return
		}
	}
	s.Error(problem)
}

// slotProblem returns what is wrong with the slots when nothing happens; "" for nothing.
func (s *service) slotProblem() string {
	granted, waiting, leftOver, idle := s.slots.Usage()
	s.mu.Lock()
	active := s.active
	s.mu.Unlock()
	queued := s.queued()
	switch {
	case granted != active || waiting != queued || leftOver != 0:
		return fmt.Sprintf("%d slots are granted and %d runs in progress; %d wait and %d are queued; %d counts are left over",
			granted, active, waiting, queued, leftOver)
	case idle:
		return fmt.Sprintf("a slot is free while %d runs wait", waiting)
	}
	return ""
}

// startedRuns returns the starts with the minutes since midnight, such as "90 acme/okta".
func (s *service) startedRuns() (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	midnight := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, start := range s.starts {
		all = append(all, fmt.Sprint(int(start.at.Sub(midnight).Minutes()), " ", start.run))
	}
	return all
}

// plans returns the plans of n collectors of a tenancy, a, b and so on.
func (s *service) plans(tenancy, expression string, n int) (plans []schedule.Plan) {
	s.Helper()
	for i := range n {
		plans = append(plans, s.plan(tenancy, string(rune('a'+i)), expression))
	}
	return plans
}
