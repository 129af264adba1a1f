package schedule_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/collectord/collectord/pkg/calendar"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/state"
)

// world is a scheduler on a fake clock, over a real state.
type world struct {
	*testing.T
	zone     *time.Location
	state    *state.State
	sched    *schedule.Scheduler
	settings schedule.Settings
	logs     *observer.ObservedLogs
	stop     func()
	// concluded is the scheduler's Concluded.
	concluded func([]schedule.Result)

	mu    sync.Mutex
	shift time.Duration          // of the wall's clock from the bubble's
	began map[string][]time.Time // extractions, by stream
}

// inWorld runs a test in which it is start, and nothing runs yet.
func inWorld(t *testing.T, start string, zone string, test func(w *world)) {
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
		w := &world{T: t, zone: location, logs: logs, shift: time.Until(at), began: map[string][]time.Time{}}
		if w.state, err = state.Open(t.Context(), dir, state.Options{Now: w.now}); err != nil {
			t.Fatal(err)
		}
		defer w.state.Close()
		w.settings = schedule.Settings{CatchUp: true, Retries: 3, Runner: &schedule.Runner{
			State: w.state, Tenancy: "default", SpoolMax: 1 << 30, Timeout: 12 * time.Hour, IdleTimeout: 12 * time.Hour,
			Parallel: 8, Log: zap.New(core), Lives: &schedule.Lives{},
		}}
		test(w)
		if w.stop != nil {
			w.stop()
		}
	})
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.inner()
}

// inner is now for those who hold mu.
func (w *world) inner() time.Time { return time.Now().Add(w.shift).In(w.zone) }

// jump sets the clock on the wall.
func (w *world) jump(by time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shift += by
}

// plan makes a collector of one stream whose extraction does do, with how many
// times it was called before.
func (w *world) plan(name, expression string, do func(ctx context.Context, nth int) error) schedule.Plan {
	w.Helper()
	e, err := calendar.Parse(expression)
	if err != nil {
		w.Fatal(err)
	}
	c := &collector.Collector{Name: name}
	c.Streams = []collector.Stream{{Name: name + "_things", Extract: w.extraction(name+"_things", do)}}
	return schedule.Plan{Job: schedule.Job{Collector: c}, Calendar: e.In(w.zone), Zone: w.zone.String()}
}

func (w *world) extraction(stream string, do func(ctx context.Context, nth int) error) func(context.Context, collector.Output) error {
	return func(ctx context.Context, out collector.Output) error {
		now := w.now()
		w.mu.Lock()
		nth := len(w.began[stream])
		w.began[stream] = append(w.began[stream], now)
		w.mu.Unlock()
		if do != nil {
			if err := do(ctx, nth); err != nil {
				return err
			}
		}
		page := out.Page()
		if err := page.Append([]byte(`{"a":1}`)); err != nil {
			return err
		}
		return page.Commit()
	}
}

// start starts the scheduler.
func (w *world) start(plans ...schedule.Plan) {
	w.settings.Plans = plans
	w.sched = schedule.NewScheduler(w.state, "default", w.settings, w.settings.Runner.Log, w.now)
	w.sched.Concluded = w.concluded
	ctx, end := context.WithCancel(w.Context())
	work, cancel := context.WithCancel(context.WithoutCancel(w.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.sched.Run(ctx, work)
	}()
	w.stop = func() {
		w.stop = nil
		end()
		<-done
		cancel()
		w.sched.Wait()
	}
}

// until lets time pass.
func (w *world) until(text string) {
	w.Helper()
	at, err := time.ParseInLocation("2006-01-02 15:04", text, w.zone)
	if err != nil {
		w.Fatal(err)
	}
	time.Sleep(at.Sub(w.now()))
	synctest.Wait()
}

// runs are when a stream's extractions began, in words.
func (w *world) runs(name string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for _, at := range w.began[name+"_things"] {
		all = append(all, at.In(w.zone).Format("02 15:04 MST"))
	}
	return all
}

func (w *world) want(name string, want ...string) {
	w.Helper()
	if diff := cmp.Diff(want, w.runs(name)); diff != "" {
		w.Errorf("runs of %s (-want +got):\n%s", name, diff)
	}
}

func (w *world) standing(name string) schedule.Standing {
	for _, s := range w.sched.Standings() {
		if s.Collector == name {
			return s
		}
	}
	w.Fatalf("no standing of %s", name)
	return schedule.Standing{}
}

// outcomes counts how the runs of a collector ended, by the history.
func (w *world) outcomes(name string) map[state.Outcome]int {
	w.Helper()
	runs, err := w.state.Runs(w.Context(), name+"_things", 1000)
	if err != nil {
		w.Fatal(err)
	}
	n := map[state.Outcome]int{}
	for _, r := range runs {
		n[r.Outcome]++
	}
	return n
}

func takes(d time.Duration) func(context.Context, int) error {
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

// TestAWeekOfSchedules: every tick once, over both changes of clocks, beside
// runs that overlap, fail and are tried again.
func TestAWeekOfSchedules(t *testing.T) {
	for name, tc := range map[string]struct {
		start, end string
		hours      int
		daily      []string
		slow       []string // of the day the clocks change
	}{
		"spring": {"2026-03-04 23:59", "2026-03-11 23:59", 7*24 - 1, []string{
			"05 02:30 EST", "06 02:30 EST", "07 02:30 EST", "08 03:30 EDT", "09 02:30 EDT", "10 02:30 EDT", "11 02:30 EDT"}, nil},
		"autumn": {"2026-10-28 23:59", "2026-11-04 23:59", 7*24 + 1, []string{
			"29 02:30 EDT", "30 02:30 EDT", "31 02:30 EDT", "01 02:30 EST", "02 02:30 EST", "03 02:30 EST", "04 02:30 EST"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, tc.start, "America/New_York", func(w *world) {
				w.settings.CatchUp = false
				w.start(
					w.plan("hourly", "0 * * * *", nil),
					w.plan("daily", "30 2 * * *", nil),
					// Seven hours are what lies between two of the ticks in autumn.
					w.plan("slow", "0 */6 * * *", takes(7*time.Hour+time.Minute)),
					w.plan("failing", "0 12 * * *", func(_ context.Context, nth int) error {
						if nth%3 < 2 {
							return errVendor
						}
						return nil
					}),
				)
				w.until(tc.end)
				w.want("daily", tc.daily...)
				hours := w.runs("hourly")
				if unique := slices.Compact(slices.Clone(hours)); len(hours) != tc.hours || len(unique) != tc.hours {
					t.Errorf("%d hourly runs, %d different ones, want %d", len(hours), len(unique), tc.hours)
				}
				if n := len(w.runs("slow")); n != 14 || w.standing("slow").Missed != 14 || w.outcomes("slow")[state.Skipped] != 14 {
					t.Errorf("slow: %v, %+v, %v", w.runs("slow"), w.standing("slow"), w.outcomes("slow"))
				}
				if n := w.outcomes("failing"); n[state.Success] != 7 || n[state.Failed] != 14 {
					t.Errorf("failing: %v", n)
				}
				w.stop()
			})
		})
	}
}

// TestRetries: growing waits, only what failed, never past the next tick, and
// not where it cannot help.
func TestRetries(t *testing.T) {
	t.Parallel()
	inWorld(t, "2026-11-24 23:59", "UTC", func(w *world) {
		w.settings.CatchUp = false
		fail := func(err error) func(context.Context, int) error {
			return func(context.Context, int) error { return fmt.Errorf("x: %w", err) }
		}
		half := w.plan("half", "0 0 * * *", nil)
		half.Job.Collector.Streams = append(half.Job.Collector.Streams, collector.Stream{Name: "half_rest_things", Extract: w.extraction("half_rest_things", fail(errVendor))})
		w.start(half,
			w.plan("often", "*/12 * * * *", fail(errVendor)),
			w.plan("refused", "0 0 * * *", fail(collector.ErrRefused)),
		)
		w.until("2026-11-25 00:30")
		w.want("half", "25 00:00 UTC")
		w.want("half_rest", "25 00:00 UTC", "25 00:05 UTC", "25 00:15 UTC")
		if at := w.standing("half").Next.Truncate(time.Second); !at.Equal(time.Date(2026, 11, 25, 0, 35, 0, 0, time.UTC)) {
			t.Errorf("the next run is at %v, want the retry", at)
		}
		w.want("often", "25 00:00 UTC", "25 00:05 UTC", "25 00:12 UTC", "25 00:17 UTC", "25 00:24 UTC", "25 00:29 UTC")
		w.want("refused", "25 00:00 UTC")
		w.until("2026-11-26 00:01")
		w.want("half_rest", "25 00:00 UTC", "25 00:05 UTC", "25 00:15 UTC", "25 00:35 UTC", "26 00:00 UTC")
	})
}

// TestCatchUp: without data, and with data older than the last tick; not with
// younger.
func TestCatchUp(t *testing.T) {
	t.Parallel()
	inWorld(t, "2026-11-24 09:00", "UTC", func(w *world) {
		plans := []schedule.Plan{w.plan("daily", "0 6 * * *", nil), w.plan("off", "off", nil)}
		w.start(plans...)
		w.until("2026-11-24 09:01")
		w.want("daily", "24 09:00 UTC")
		w.stop()
		w.start(plans...)
		w.until("2026-11-24 10:00")
		w.want("daily", "24 09:00 UTC")
		w.stop()
		time.Sleep(24 * time.Hour) // it is not running at six
		w.start(plans...)
		w.until("2026-11-25 10:01")
		w.want("daily", "24 09:00 UTC", "25 10:00 UTC")
		w.want("off")
		w.stop()
		w.settings.CatchUp = false
		time.Sleep(24 * time.Hour)
		w.start(plans...)
		w.until("2026-11-26 11:00")
		w.want("daily", "24 09:00 UTC", "25 10:00 UTC")
	})
}

// TestClockJumps: a machine that slept makes up with one run; a clock set back
// repeats nothing, unless it was set back by more than a day.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	inWorld(t, "2026-11-24 09:30", "UTC", func(w *world) {
		w.settings.CatchUp = false
		w.start(w.plan("hourly", "0 * * * *", nil))
		w.until("2026-11-24 10:01")
		w.jump(5*time.Hour + 10*time.Minute) // asleep from 10:01 to 15:11
		w.until("2026-11-24 15:13")
		w.want("hourly", "24 10:00 UTC", "24 15:11 UTC")
		if n := w.standing("hourly").Missed; n != 4 {
			t.Errorf("%d missed, want 4", n)
		}
		w.until("2026-11-24 16:01")
		w.jump(-time.Hour)
		w.until("2026-11-24 17:01")
		w.want("hourly", "24 10:00 UTC", "24 15:11 UTC", "24 16:00 UTC", "24 17:00 UTC")
		w.jump(-365 * 24 * time.Hour)
		w.until("2025-11-24 19:01")
		if runs := w.runs("hourly"); !slices.Equal(runs[4:], []string{"24 18:00 UTC", "24 19:00 UTC"}) {
			t.Errorf("after the clock was set right: %v", runs[4:])
		}
	})
}

// TestPlaces: no more runs at once than there are places; those that wait are
// running as far as others can see.
func TestPlaces(t *testing.T) {
	t.Parallel()
	inWorld(t, "2026-11-24 09:30", "UTC", func(w *world) {
		w.settings.CatchUp, w.settings.Runner.Parallel = false, 2
		var plans []schedule.Plan
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			plans = append(plans, w.plan(name, "0 10 * * *", takes(20*time.Minute)))
		}
		w.start(plans...)
		w.until("2026-11-24 10:05")
		if n := len(w.settings.Runner.Lives.Running()); n != 2 || !w.standing("e").Running {
			t.Errorf("%d run, %+v", n, w.standing("e"))
		}
		if err := w.sched.RunNow("e"); !errors.Is(err, schedule.ErrRunning) {
			t.Errorf("RunNow: %v", err)
		}
		w.until("2026-11-24 11:30")
		w.want("a", "24 10:00 UTC")
		w.want("c", "24 10:20 UTC")
		w.want("e", "24 10:40 UTC")
	})
}

// TestApply: a run goes on through it, what stays keeps its tick, what went
// starts no more.
func TestApply(t *testing.T) {
	t.Parallel()
	inWorld(t, "2026-11-24 09:30", "UTC", func(w *world) {
		w.settings.CatchUp = false
		w.start(w.plan("stays", "0 * * * *", nil), w.plan("goes", "0 * * * *", takes(time.Hour+30*time.Minute)), w.plan("moves", "0 * * * *", nil))
		w.until("2026-11-24 10:10")
		settings := w.settings
		settings.Plans = []schedule.Plan{w.plan("stays", "0 * * * *", nil), w.plan("moves", "@every 30m", nil), w.plan("comes", "20 * * * *", nil)}
		w.sched.Apply(settings)
		if err := w.sched.RunNow("goes"); !errors.Is(err, schedule.ErrUnknown) {
			t.Errorf("RunNow: %v", err)
		}
		w.until("2026-11-24 11:40")
		w.want("stays", "24 10:00 UTC", "24 11:00 UTC")
		w.want("goes", "24 10:00 UTC")
		w.want("moves", "24 10:00 UTC", "24 10:30 UTC", "24 11:00 UTC", "24 11:30 UTC")
		w.want("comes", "24 10:20 UTC", "24 11:20 UTC")
		if n := w.outcomes("goes"); n[state.Success] != 1 {
			t.Errorf("the run that went on: %v", n)
		}
		w.stop()
		if err := w.sched.RunNow("stays"); !errors.Is(err, schedule.ErrStopping) {
			t.Errorf("RunNow after the end: %v", err)
		}
	})
}

// TestJitter puts every tick off by the same, for one host and collector.
func TestJitter(t *testing.T) {
	t.Parallel()
	one := schedule.Delay(time.Hour, "host", "default", "okta")
	if one != schedule.Delay(time.Hour, "host", "default", "okta") || one == schedule.Delay(time.Hour, "other", "default", "okta") {
		t.Error("the delay is not the host's own")
	}
	if one < 0 || one >= time.Hour || schedule.Delay(0, "host") != 0 {
		t.Errorf("the delay is %v", one)
	}
	inWorld(t, "2026-11-24 09:30", "UTC", func(w *world) {
		w.settings.CatchUp = false
		p := w.plan("late", "0 * * * *", nil)
		p.Delay = 7 * time.Minute
		w.start(p)
		w.until("2026-11-24 11:30")
		w.want("late", "24 10:07 UTC", "24 11:07 UTC")
		if text := strings.Join(w.runs("late"), ""); w.standing("late").Interval != time.Hour {
			t.Errorf("%s: %+v", text, w.standing("late"))
		}
	})
}
