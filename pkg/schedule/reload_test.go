package schedule_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/state"
)

// withSettings returns the plan with the settings of its collector.
func withSettings(p schedule.Plan, settings string) schedule.Plan {
	p.Settings = settings
	return p
}

// reload applies plans and catches up as the service does.
func (f *fixture) reload(plans ...schedule.Plan) schedule.Changes {
	f.Helper()
	settings := f.settings
	settings.Plans = plans
	changes := f.sched.ApplySettings(settings)
	f.sched.CatchUp(f.Context(), changes.Changed)
	f.sched.CatchUp(f.Context(), changes.Added)
	return changes
}

// refuse returns an extraction that fails unless the key is good.
func refuse(key string) func(context.Context, int) error {
	return func(context.Context, int) error {
		if key != "good" {
			return fmt.Errorf("x: %w", collector.ErrRefused)
		}
		return nil
	}
}

// TestReloadCatchesUp checks that a reload runs what is new, what was off, and what
// failed and has other settings, and nothing that is up to date.
func TestReloadCatchesUp(t *testing.T) {
	t.Parallel()
	withFixture(t, "2026-11-24 09:00", "UTC", func(f *fixture) {
		plan := func(name, expression, settings string, do func(context.Context, int) error) schedule.Plan {
			return withSettings(f.plan(name, expression, do), settings)
		}
		f.startScheduler(
			plan("current", "0 6 * * *", "old", nil),
			plan("refused", "0 6 * * *", "bad", refuse("bad")),
			plan("broken", "0 6 * * *", "same", refuse("bad")),
			plan("unscheduled", "off", "same", nil),
		)
		f.sleepUntil("2026-11-24 09:10")
		changes := f.reload(
			plan("current", "0 6 * * *", "new", nil),
			plan("refused", "0 6 * * *", "good", refuse("good")),
			plan("broken", "0 6 * * *", "same", refuse("bad")),
			plan("unscheduled", "0 6 * * *", "same", nil),
			plan("added", "0 6 * * *", "same", nil),
		)
		want := schedule.Changes{Added: []string{"added_things", "unscheduled_things"}, Changed: []string{"current_things", "refused_things"}}
		if diff := cmp.Diff(want, changes); diff != "" {
			t.Errorf("changes (-want +got):\n%s", diff)
		}
		f.sleepUntil("2026-11-24 09:20")
		f.assertRuns("current", "24 09:00 UTC")
		f.assertRuns("refused", "24 09:00 UTC", "24 09:10 UTC")
		f.assertRuns("broken", "24 09:00 UTC")
		f.assertRuns("unscheduled", "24 09:10 UTC")
		f.assertRuns("added", "24 09:10 UTC")
		if at := f.statusOf("refused").Streams[0]; !at.Retry.IsZero() || at.Next.Hour() != 6 {
			t.Errorf("after the success: %+v", at)
		}
	})
}

// TestReloadWithoutCatchUp checks that without SCHEDULE_CATCHUP only the retry of a
// stream whose settings changed is due at once.
func TestReloadWithoutCatchUp(t *testing.T) {
	t.Parallel()
	withFixture(t, "2026-11-24 05:50", "UTC", func(f *fixture) {
		f.settings.CatchUp = false
		f.startScheduler(withSettings(f.plan("refused", "0 6 * * *", refuse("bad")), "bad"))
		f.sleepUntil("2026-11-24 06:10")
		f.reload(withSettings(f.plan("refused", "0 6 * * *", refuse("good")), "good"), f.plan("added", "0 6 * * *", nil))
		f.sleepUntil("2026-11-24 06:20")
		f.assertRuns("refused", "24 06:00 UTC", "24 06:10 UTC")
		f.assertRuns("added")
	})
}

// TestReloadDuringARun checks that a run in progress goes on with its settings, that its
// failure is made up for with the new ones at once, and that the failure of a stream
// that was switched off meanwhile is neither retried nor reported.
func TestReloadDuringARun(t *testing.T) {
	t.Parallel()
	withFixture(t, "2026-11-24 09:00", "UTC", func(f *fixture) {
		var reported []string
		f.onFinished = func(results []run.Result) {
			f.mu.Lock()
			defer f.mu.Unlock()
			for _, r := range results {
				reported = append(reported, fmt.Sprint(r.Stream, " ", r.Outcome))
			}
		}
		failLate := func(ctx context.Context, nth int) error {
			if err := lasting(10*time.Minute)(ctx, nth); err != nil {
				return err
			}
			return fmt.Errorf("x: %w", collector.ErrRefused)
		}
		f.startScheduler(withSettings(f.plan("kept", "0 6 * * *", failLate), "bad"), withSettings(f.plan("removed", "0 6 * * *", failLate), "bad"))
		f.sleepUntil("2026-11-24 09:05")
		f.reload(withSettings(f.plan("kept", "0 6 * * *", nil), "good"))
		f.sleepUntil("2026-11-24 12:00")
		f.assertRuns("kept", "24 09:00 UTC", "24 09:10 UTC")
		f.assertRuns("removed", "24 09:00 UTC")
		f.mu.Lock()
		defer f.mu.Unlock()
		slices.Sort(reported)
		if diff := cmp.Diff([]string{"kept_things failed", "kept_things success"}, reported); diff != "" {
			t.Errorf("reported (-want +got):\n%s", diff)
		}
	})
}

// TestReloadOfQueuedRuns checks that a queued run is not running, that it starts with the
// new settings, and that it is dropped when the reload switches its stream off.
func TestReloadOfQueuedRuns(t *testing.T) {
	t.Parallel()
	withFixture(t, "2026-11-24 09:00", "UTC", func(f *fixture) {
		f.settings.Runner.Parallel, f.settings.CatchUp = 1, false
		var used []string
		note := func(key string) func(context.Context, int) error {
			return func(context.Context, int) error {
				f.mu.Lock()
				defer f.mu.Unlock()
				used = append(used, key)
				return nil
			}
		}
		slow := f.plan("a", "0 10 * * *", lasting(30*time.Minute))
		f.startScheduler(slow,
			withSettings(f.plan("changed", "0 10 * * *", note("withdrawn")), "old"),
			f.plan("removed", "0 10 * * *", nil), f.plan("unscheduled", "0 10 * * *", nil), f.plan("started", "0 10 * * *", nil),
		)
		f.sleepUntil("2026-11-24 10:05")
		if s := f.statusOf("removed").Streams[0]; s.Running || !s.Queued || s.Started.Hour() != 10 {
			t.Errorf("a queued run: %+v", s)
		}
		if s := f.statusOf("a").Streams[0]; !s.Running || s.Queued {
			t.Errorf("a run in progress: %+v", s)
		}
		if _, err := f.sched.RunNow("removed"); !errors.Is(err, schedule.ErrRunning) {
			t.Errorf("RunNow: %v", err)
		}
		f.reload(slow, withSettings(f.plan("changed", "0 10 * * *", note("new")), "new"), f.plan("unscheduled", "off", nil))
		if _, err := f.sched.RunNow("removed"); !errors.Is(err, schedule.ErrUnknown) {
			t.Errorf("RunNow: %v", err)
		}
		f.sleepUntil("2026-11-24 10:45")
		f.assertRuns("changed", "24 10:30 UTC")
		f.assertRuns("removed")
		f.assertRuns("unscheduled")
		f.assertRuns("started")
		f.mu.Lock()
		if diff := cmp.Diff([]string{"new"}, used); diff != "" {
			t.Errorf("settings used (-want +got):\n%s", diff)
		}
		f.mu.Unlock()
		f.reload(f.plan("removed", "0 10 * * *", nil))
		f.sleepUntil("2026-11-25 10:05")
		f.assertRuns("removed", "25 10:00 UTC")
	})
}

// TestSkippedTickWhileQueued checks what a tick is recorded with when its stream waits for
// a free slot.
func TestSkippedTickWhileQueued(t *testing.T) {
	t.Parallel()
	withFixture(t, "2026-11-24 09:50", "UTC", func(f *fixture) {
		f.settings.Runner.Parallel, f.settings.CatchUp = 1, false
		f.startScheduler(f.plan("a", "0 10 * * *", lasting(90*time.Minute)), f.plan("b", "0 * * * *", nil))
		f.sleepUntil("2026-11-24 11:10")
		runs, err := f.state.Runs.List(f.Context(), "b_things", 10)
		if err != nil || len(runs) != 1 || runs[0].Outcome != state.Skipped || runs[0].Err != "the run that was queued at 2026-11-24T10:00:00Z still waits (MAX_PARALLEL_RUNS)" {
			t.Errorf("%+v, %v", runs, err)
		}
	})
}
