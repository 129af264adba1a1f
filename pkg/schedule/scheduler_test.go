package schedule_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/collectord/collectord/pkg/calendar"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/local"
)

// fixture is a scheduler on a fake clock, over a real state directory.
type fixture struct {
	*testing.T
	zone     *time.Location
	state    *state.State
	sched    *schedule.Scheduler
	settings schedule.Settings
	logs     *observer.ObservedLogs
	stop     func()
	// onFinished is the OnFinished of the scheduler.
	onFinished func([]run.Result)

	mu    sync.Mutex
	shift time.Duration          // the wall clock minus the clock of the synctest bubble
	began map[string][]time.Time // when the extractions of each stream began
}

// withFixture runs a test at the time start. The test calls fixture.startScheduler to start the
// scheduler.
func withFixture(t *testing.T, start string, zone string, test func(f *fixture)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		location, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		at, err := time.ParseInLocation("2006-01-02 15:04", start, location)
		if err != nil {
			t.Fatal(err)
		}
		core, logs := observer.New(zap.InfoLevel)
		f := &fixture{T: t, zone: location, logs: logs, shift: time.Until(at), began: map[string][]time.Time{}}
		if f.state, err = local.Open(t.Context(), dir, local.Options{Now: f.now}); err != nil {
			t.Fatal(err)
		}
		defer f.state.Close()
		f.settings = schedule.Settings{CatchUp: true, Retries: 3, Runner: &run.Runner{
			State: f.state, Tenancy: "default", Timeout: 12 * time.Hour, IdleTimeout: 12 * time.Hour,
			Parallel: 8, Log: zap.New(core), Active: &run.ActiveRuns{}, Now: f.now,
		}}
		test(f)
		if f.stop != nil {
			f.stop()
		}
	})
}

func (f *fixture) now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.nowLocked()
}

// nowLocked is now for callers that hold mu.
func (f *fixture) nowLocked() time.Time { return time.Now().Add(f.shift).In(f.zone) }

// shiftClock moves the wall clock.
func (f *fixture) shiftClock(by time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shift += by
}

// plan returns the plan of a collector with one stream, <name>_things. Its extraction calls
// do with the number of its earlier calls, and writes one record if do returns nil.
func (f *fixture) plan(name, expression string, do func(ctx context.Context, nth int) error) schedule.Plan {
	f.Helper()
	var e calendar.Expression
	if err := e.UnmarshalText([]byte(expression)); err != nil {
		f.Fatal(err)
	}
	c := &collector.Collector{Name: name}
	c.Streams = []collector.Stream{{Name: name + "_things", Extract: f.extraction(name+"_things", do)}}
	return schedule.Plan{Job: run.Job{Collector: c}, Calendar: e.In(f.zone), Zone: f.zone.String()}
}

func (f *fixture) extraction(stream string, do func(ctx context.Context, nth int) error) func(context.Context, collector.Output) error {
	return func(ctx context.Context, out collector.Output) error {
		now := f.now()
		f.mu.Lock()
		nth := len(f.began[stream])
		f.began[stream] = append(f.began[stream], now)
		f.mu.Unlock()
		if do != nil {
			if err := do(ctx, nth); err != nil {
				return err
			}
		}
		batch := out.NewBatch()
		if err := batch.Append([]byte(`{"a":1}`)); err != nil {
			return err
		}
		return batch.Commit()
	}
}

// startScheduler starts the scheduler; stop stops it.
func (f *fixture) startScheduler(plans ...schedule.Plan) {
	f.settings.Plans = plans
	f.sched = schedule.NewScheduler(f.state, "default", f.settings, f.settings.Runner.Log, f.now)
	f.sched.OnFinished = f.onFinished
	ctx, cancelLoop := context.WithCancel(f.Context())
	runCtx, cancelRuns := context.WithCancel(context.WithoutCancel(f.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.sched.Run(ctx, runCtx)
	}()
	f.stop = func() {
		f.stop = nil
		cancelLoop()
		<-done
		cancelRuns()
		f.sched.Wait()
	}
}

// sleepUntil lets the wall clock reach a time.
func (f *fixture) sleepUntil(text string) {
	f.Helper()
	at, err := time.ParseInLocation("2006-01-02 15:04", text, f.zone)
	if err != nil {
		f.Fatal(err)
	}
	time.Sleep(at.Sub(f.now()))
	synctest.Wait()
}

// runTimes returns when the extractions of a collector began, such as "25 00:00 UTC".
func (f *fixture) runTimes(name string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for _, at := range f.began[name+"_things"] {
		all = append(all, at.In(f.zone).Format("02 15:04 MST"))
	}
	return all
}

// assertRuns checks when the extractions of a collector began.
func (f *fixture) assertRuns(name string, want ...string) {
	f.Helper()
	if diff := cmp.Diff(want, f.runTimes(name)); diff != "" {
		f.Errorf("runs of %s (-want +got):\n%s", name, diff)
	}
}

// statusOf returns the schedule status of a collector.
func (f *fixture) statusOf(name string) schedule.CollectorStatus {
	for _, s := range f.sched.Statuses() {
		if s.Collector == name {
			return s
		}
	}
	f.Fatalf("no status of %s", name)
	return schedule.CollectorStatus{}
}

// outcomes counts the outcomes of a collector in the run history.
func (f *fixture) outcomes(name string) map[state.Outcome]int {
	f.Helper()
	runs, err := f.state.Runs.List(f.Context(), name+"_things", 1000)
	if err != nil {
		f.Fatal(err)
	}
	n := map[state.Outcome]int{}
	for _, r := range runs {
		n[r.Outcome]++
	}
	return n
}

// lasting returns an extraction that takes d.
func lasting(d time.Duration) func(context.Context, int) error {
	return func(ctx context.Context, _ int) error {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(d):
			return nil
		}
	}
}

var errVendor = errors.New("the vendor is down")

// TestAWeekOfSchedules checks that every tick takes place once, over both clock changes and
// beside runs that overlap, fail and are retried.
func TestAWeekOfSchedules(t *testing.T) {
	for name, tc := range map[string]struct {
		start, end string
		wantHourly int
		wantDaily  []string
	}{
		"spring": {
			start: "2026-03-04 23:59", end: "2026-03-11 23:59", wantHourly: 7*24 - 1,
			wantDaily: []string{"05 02:30 EST", "06 02:30 EST", "07 02:30 EST", "08 03:30 EDT", "09 02:30 EDT", "10 02:30 EDT", "11 02:30 EDT"},
		},
		"autumn": {
			start: "2026-10-28 23:59", end: "2026-11-04 23:59", wantHourly: 7*24 + 1,
			wantDaily: []string{"29 02:30 EDT", "30 02:30 EDT", "31 02:30 EDT", "01 02:30 EST", "02 02:30 EST", "03 02:30 EST", "04 02:30 EST"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			withFixture(t, tc.start, "America/New_York", func(f *fixture) {
				f.settings.CatchUp = false
				f.startScheduler(
					f.plan("hourly", "0 * * * *", nil),
					f.plan("daily", "30 2 * * *", nil),
					// In autumn, two of the ticks are seven hours apart.
					f.plan("slow", "0 */6 * * *", lasting(7*time.Hour+time.Minute)),
					f.plan("failing", "0 12 * * *", func(_ context.Context, nth int) error {
						if nth%3 < 2 {
							return errVendor
						}
						return nil
					}),
				)
				f.sleepUntil(tc.end)
				f.assertRuns("daily", tc.wantDaily...)
				hours := f.runTimes("hourly")
				if unique := slices.Compact(slices.Clone(hours)); len(hours) != tc.wantHourly || len(unique) != tc.wantHourly {
					t.Errorf("%d hourly runs at %d different times, want %d", len(hours), len(unique), tc.wantHourly)
				}
				if n := len(f.runTimes("slow")); n != 14 || f.statusOf("slow").Missed != 14 || f.outcomes("slow")[state.Skipped] != 14 {
					t.Errorf("slow: %v, %+v, %v", f.runTimes("slow"), f.statusOf("slow"), f.outcomes("slow"))
				}
				if n := f.outcomes("failing"); n[state.Success] != 7 || n[state.Failed] != 14 {
					t.Errorf("failing: %v", n)
				}
				f.stop()
			})
		})
	}
}

// TestRetries checks that the waits grow, that only failed streams are retried, never after
// the next tick, and not when a retry cannot help.
func TestRetries(t *testing.T) {
	t.Parallel()
	withFixture(t, "2026-11-24 23:59", "UTC", func(f *fixture) {
		f.settings.CatchUp = false
		fail := func(err error) func(context.Context, int) error {
			return func(context.Context, int) error { return fmt.Errorf("x: %w", err) }
		}
		half := f.plan("half", "0 0 * * *", nil)
		half.Job.Collector.Streams = append(half.Job.Collector.Streams, collector.Stream{
			Name: "half_rest_things", Extract: f.extraction("half_rest_things", fail(errVendor)),
		})
		f.startScheduler(half,
			f.plan("often", "*/12 * * * *", fail(errVendor)),
			f.plan("refused", "0 0 * * *", fail(collector.ErrRefused)),
		)
		f.sleepUntil("2026-11-25 00:30")
		f.assertRuns("half", "25 00:00 UTC")
		f.assertRuns("half_rest", "25 00:00 UTC", "25 00:05 UTC", "25 00:15 UTC")
		if at := f.statusOf("half").Next().Truncate(time.Second); !at.Equal(time.Date(2026, 11, 25, 0, 35, 0, 0, time.UTC)) {
			t.Errorf("the next run is at %v, want the retry at 00:35", at)
		}
		f.assertRuns("often", "25 00:00 UTC", "25 00:05 UTC", "25 00:12 UTC", "25 00:17 UTC", "25 00:24 UTC", "25 00:29 UTC")
		f.assertRuns("refused", "25 00:00 UTC")
		f.sleepUntil("2026-11-26 00:01")
		f.assertRuns("half_rest", "25 00:00 UTC", "25 00:05 UTC", "25 00:15 UTC", "25 00:35 UTC", "26 00:00 UTC")
	})
}

// TestCatchUp checks that a start runs collectors without data and with data older than the
// last tick, and no others.
func TestCatchUp(t *testing.T) {
	t.Parallel()
	withFixture(t, "2026-11-24 09:00", "UTC", func(f *fixture) {
		plans := []schedule.Plan{f.plan("daily", "0 6 * * *", nil), f.plan("off", "off", nil)}
		f.startScheduler(plans...)
		f.sleepUntil("2026-11-24 09:01")
		f.assertRuns("daily", "24 09:00 UTC")
		f.stop()
		f.startScheduler(plans...)
		f.sleepUntil("2026-11-24 10:00")
		f.assertRuns("daily", "24 09:00 UTC")
		f.stop()
		time.Sleep(24 * time.Hour) // the scheduler is not running at six
		f.startScheduler(plans...)
		f.sleepUntil("2026-11-25 10:01")
		f.assertRuns("daily", "24 09:00 UTC", "25 10:00 UTC")
		f.assertRuns("off")
		f.stop()
		f.settings.CatchUp = false
		time.Sleep(24 * time.Hour)
		f.startScheduler(plans...)
		f.sleepUntil("2026-11-26 11:00")
		f.assertRuns("daily", "24 09:00 UTC", "25 10:00 UTC")
	})
}

// TestCatchUpAfterAWrongClock checks that a success which is dated in the future does not
// count as one.
func TestCatchUpAfterAWrongClock(t *testing.T) {
	t.Parallel()
	withFixture(t, "2026-11-24 09:00", "UTC", func(f *fixture) {
		plan := f.plan("daily", "0 6 * * *", nil)
		f.shiftClock(365 * 24 * time.Hour)
		f.startScheduler(plan)
		f.sleepUntil("2027-11-24 09:01")
		f.assertRuns("daily", "24 09:00 UTC")
		f.stop()
		f.shiftClock(-365 * 24 * time.Hour)
		f.startScheduler(plan)
		f.sleepUntil("2026-11-24 10:00")
		if n := len(f.runTimes("daily")); n != 2 {
			t.Errorf("%d runs, want 2: %v", n, f.runTimes("daily"))
		}
	})
}

// TestClockJumps checks that one run makes up for the ticks during a suspension, and that a
// clock that is set back repeats no tick, unless it is set back by more than a day.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	withFixture(t, "2026-11-24 09:30", "UTC", func(f *fixture) {
		f.settings.CatchUp = false
		f.startScheduler(f.plan("hourly", "0 * * * *", nil))
		f.sleepUntil("2026-11-24 10:01")
		f.shiftClock(5*time.Hour + 10*time.Minute) // suspended from 10:01 to 15:11
		f.sleepUntil("2026-11-24 15:13")
		f.assertRuns("hourly", "24 10:00 UTC", "24 15:11 UTC")
		if n := f.statusOf("hourly").Missed; n != 4 {
			t.Errorf("%d missed, want 4", n)
		}
		f.sleepUntil("2026-11-24 16:01")
		f.shiftClock(-time.Hour)
		f.sleepUntil("2026-11-24 17:01")
		f.assertRuns("hourly", "24 10:00 UTC", "24 15:11 UTC", "24 16:00 UTC", "24 17:00 UTC")
		f.shiftClock(-365 * 24 * time.Hour)
		f.sleepUntil("2025-11-24 19:01")
		if runs := f.runTimes("hourly"); !slices.Equal(runs[4:], []string{"24 18:00 UTC", "24 19:00 UTC"}) {
			t.Errorf("after the clock was set back by a year: %v", runs[4:])
		}
	})
}

// TestParallelRuns checks that no more collectors run at once than Parallel allows, and that
// those that wait have the status queued.
func TestParallelRuns(t *testing.T) {
	t.Parallel()
	withFixture(t, "2026-11-24 09:30", "UTC", func(f *fixture) {
		f.settings.CatchUp, f.settings.Runner.Parallel = false, 2
		var plans []schedule.Plan
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			plans = append(plans, f.plan(name, "0 10 * * *", func(ctx context.Context, nth int) error {
				if nth == 0 { // on the first day, on which the durations are unknown
					return nil
				}
				return lasting(20*time.Minute)(ctx, nth)
			}))
		}
		f.startScheduler(plans...)
		f.sleepUntil("2026-11-25 10:05")
		if n := len(f.settings.Runner.Active.List()); n != 2 || !f.statusOf("e").Streams[0].Queued {
			t.Errorf("%d run, %+v", n, f.statusOf("e"))
		}
		if _, err := f.sched.RunNow("e"); !errors.Is(err, schedule.ErrRunning) {
			t.Errorf("RunNow: %v", err)
		}
		f.sleepUntil("2026-11-25 11:30")
		f.assertRuns("a", "24 10:00 UTC", "25 10:00 UTC")
		f.assertRuns("c", "24 10:00 UTC", "25 10:20 UTC")
		f.assertRuns("e", "24 10:00 UTC", "25 10:40 UTC")
	})
}

// TestApply checks that a run in progress finishes, that an unchanged schedule keeps its next
// tick, and that a removed collector does not run again.
func TestApply(t *testing.T) {
	t.Parallel()
	withFixture(t, "2026-11-24 09:30", "UTC", func(f *fixture) {
		f.settings.CatchUp = false
		f.startScheduler(
			f.plan("unchanged", "0 * * * *", nil),
			f.plan("removed", "0 * * * *", lasting(time.Hour+30*time.Minute)),
			f.plan("changed", "0 * * * *", nil),
		)
		f.sleepUntil("2026-11-24 10:10")
		settings := f.settings
		settings.Plans = []schedule.Plan{
			f.plan("unchanged", "0 * * * *", nil), f.plan("changed", "@every 30m", nil), f.plan("added", "20 * * * *", nil),
		}
		f.sched.ApplySettings(settings)
		if _, err := f.sched.RunNow("removed"); !errors.Is(err, schedule.ErrUnknown) {
			t.Errorf("RunNow: %v", err)
		}
		f.sleepUntil("2026-11-24 11:40")
		f.assertRuns("unchanged", "24 10:00 UTC", "24 11:00 UTC")
		f.assertRuns("removed", "24 10:00 UTC")
		f.assertRuns("changed", "24 10:00 UTC", "24 10:30 UTC", "24 11:00 UTC", "24 11:30 UTC")
		f.assertRuns("added", "24 10:20 UTC", "24 11:20 UTC")
		if n := f.outcomes("removed"); n[state.Success] != 1 {
			t.Errorf("outcomes of the run in progress: %v", n)
		}
		f.stop()
		if _, err := f.sched.RunNow("unchanged"); !errors.Is(err, schedule.ErrStopping) {
			t.Errorf("RunNow after the scheduler stopped: %v", err)
		}
	})
}

// TestJitter checks that the delay is the same for each tick, and depends on host and
// collector.
func TestJitter(t *testing.T) {
	t.Parallel()
	delay := schedule.Jitter(time.Hour, "host", "default", "okta")
	if delay != schedule.Jitter(time.Hour, "host", "default", "okta") || delay == schedule.Jitter(time.Hour, "other", "default", "okta") {
		t.Error("the delay does not depend on the host alone")
	}
	if delay < 0 || delay >= time.Hour || schedule.Jitter(0, "host") != 0 {
		t.Errorf("the delay is %v", delay)
	}
	withFixture(t, "2026-11-24 09:30", "UTC", func(f *fixture) {
		f.settings.CatchUp = false
		p := f.plan("late", "0 * * * *", nil)
		p.Jitter = 7 * time.Minute
		f.startScheduler(p)
		f.sleepUntil("2026-11-24 11:30")
		f.assertRuns("late", "24 10:07 UTC", "24 11:07 UTC")
		if got := f.statusOf("late").Interval(); got != time.Hour {
			t.Errorf("the interval is %v, want 1h", got)
		}
	})
}
