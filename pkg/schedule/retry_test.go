package schedule_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/state"
)

// failUntil returns an extraction that fails before a time.
func (f *fixture) failUntil(text string, err error) func(context.Context, int) error {
	f.Helper()
	at, parseErr := time.ParseInLocation("2006-01-02 15:04", text, f.zone)
	if parseErr != nil {
		f.Fatal(parseErr)
	}
	return func(context.Context, int) error {
		if f.now().Before(at) {
			return err
		}
		return nil
	}
}

// TestRetriesUntilTheNextTick checks that without a limit a lost night is not a lost day:
// the waits grow up to an hour, and go on until the next tick.
func TestRetriesUntilTheNextTick(t *testing.T) {
	t.Parallel()
	withFixture(t, "2026-11-24 23:59", "UTC", func(f *fixture) {
		f.settings.CatchUp, f.settings.Retries = false, -1
		forever := func(context.Context, int) error { return errVendor }
		f.startScheduler(
			f.plan("night", "0 0 * * *", f.failUntil("2026-11-25 03:00", errVendor)),
			f.plan("day", "0 0 * * *", forever),
			f.plan("refused", "0 0 * * *", f.failUntil("2026-11-25 01:30", fmt.Errorf("x: %w", collector.ErrRefused))),
			f.plan("forbidden", "0 0 * * *", f.failUntil("2026-11-25 01:30", fmt.Errorf("x: %w", collector.ErrForbidden))),
			f.plan("unscheduled", "off", forever),
		)
		if _, err := f.sched.RunNow("unscheduled"); err != nil {
			t.Fatal(err)
		}
		f.sleepUntil("2026-11-25 00:16")
		night := f.statusOf("night").Streams[0]
		if want := time.Date(2026, 11, 25, 0, 35, 0, 0, time.UTC); !night.Retry.Truncate(time.Minute).Equal(want) || !night.Next.Equal(night.Retry) {
			t.Errorf("status %+v, want a retry at %v", night, want)
		}
		noted, err := schedule.NextRetry(f.Context(), f.state, "default", "night_things")
		if err != nil || !noted.Equal(night.Retry.Truncate(time.Second)) {
			t.Errorf("NextRetry = %v, %v; want %v", noted, err, night.Retry)
		}
		f.sleepUntil("2026-11-25 05:00")
		f.assertRuns("night", "25 00:00 UTC", "25 00:05 UTC", "25 00:15 UTC", "25 00:35 UTC", "25 01:15 UTC", "25 02:15 UTC", "25 03:15 UTC")
		f.assertRuns("refused", "25 00:00 UTC", "25 01:00 UTC", "25 02:00 UTC")
		f.assertRuns("forbidden", "25 00:00 UTC", "25 01:00 UTC", "25 02:00 UTC")
		if noted, err := schedule.NextRetry(f.Context(), f.state, "default", "night_things"); err != nil || !noted.IsZero() {
			t.Errorf("after the success NextRetry = %v, %v", noted, err)
		}
		f.sleepUntil("2026-11-26 00:01")
		if runs := f.runTimes("day"); len(runs) != 28 || runs[26] != "25 23:15 UTC" || runs[27] != "26 00:00 UTC" {
			t.Errorf("%d runs: %v", len(runs), runs)
		}
		f.sleepUntil("2026-11-27 00:01")
		if runs := f.runTimes("unscheduled"); len(runs) != 27 {
			t.Errorf("a stream without a schedule runs %d times: %v", len(runs), runs)
		}
	})
}

// TestNoRetries checks that the limit 0 switches retries off.
func TestNoRetries(t *testing.T) {
	t.Parallel()
	withFixture(t, "2026-11-24 23:59", "UTC", func(f *fixture) {
		f.settings.CatchUp, f.settings.Retries = false, 0
		f.startScheduler(f.plan("broken", "0 0 * * *", func(context.Context, int) error { return errVendor }))
		f.sleepUntil("2026-11-25 12:00")
		f.assertRuns("broken", "25 00:00 UTC")
	})
}

// TestRetriesAfterARestart checks that a planned retry outlasts the process, unless the
// stream was collected or its next tick is over.
func TestRetriesAfterARestart(t *testing.T) {
	t.Parallel()
	withFixture(t, "2026-11-24 23:59", "UTC", func(f *fixture) {
		f.settings.CatchUp, f.settings.Retries = false, -1
		plans := []schedule.Plan{
			f.plan("failing", "0 0 * * *", f.failUntil("2026-11-25 02:00", errVendor)),
			f.plan("collected", "0 0 * * *", f.failUntil("2026-11-25 00:20", errVendor)),
			f.plan("hourly", "0 * * * *", f.failUntil("2026-11-25 00:10", errVendor)),
		}
		f.startScheduler(plans...)
		f.sleepUntil("2026-11-25 00:04")
		f.stop()
		f.startScheduler(plans...) // before the retry of 00:05
		f.sleepUntil("2026-11-25 00:30")
		f.assertRuns("failing", "25 00:00 UTC", "25 00:05 UTC")
		f.stop()
		other := *f.settings.Runner // that of another process
		other.Run(f.Context(), plans[1].Job, "once")
		f.sleepUntil("2026-11-25 01:20")
		f.startScheduler(plans...) // after the retries of 01:05, and the tick of 01:00
		f.sleepUntil("2026-11-25 06:00")
		f.assertRuns("failing", "25 00:00 UTC", "25 00:05 UTC", "25 01:20 UTC", "25 02:20 UTC")
		f.assertRuns("collected", "25 00:00 UTC", "25 00:05 UTC", "25 00:30 UTC")
		f.assertRuns("hourly", "25 00:00 UTC", "25 00:05 UTC", "25 02:00 UTC", "25 03:00 UTC", "25 04:00 UTC", "25 05:00 UTC", "25 06:00 UTC")
	})
}

// postponed is the error of a vendor that asks to wait.
type postponed struct {
	error
	until time.Time
}

func (p postponed) PostponedUntil() time.Time { return p.until }

// TestRetryWaitsAsLongAsTheVendorAsks checks that no retry comes before the time that the
// vendor names, and none at all if that is after the next tick.
func TestRetryWaitsAsLongAsTheVendorAsks(t *testing.T) {
	t.Parallel()
	withFixture(t, "2026-11-24 23:59", "UTC", func(f *fixture) {
		f.settings.CatchUp, f.settings.Retries = false, -1
		wait := func(d time.Duration) func(context.Context, int) error {
			return func(_ context.Context, nth int) error {
				if nth == 0 {
					return fmt.Errorf("x: %w", postponed{errVendor, f.now().Add(d)})
				}
				return nil
			}
		}
		f.startScheduler(f.plan("hours", "0 0 * * *", wait(3*time.Hour)), f.plan("days", "0 0 * * *", wait(30*time.Hour)))
		f.sleepUntil("2026-11-26 00:01")
		f.assertRuns("hours", "25 00:00 UTC", "25 03:00 UTC", "26 00:00 UTC")
		f.assertRuns("days", "25 00:00 UTC", "26 00:00 UTC")
	})
}

// TestRetryAfterALock checks that a run that was skipped because another process was
// collecting the stream is retried, unless that process succeeded.
func TestRetryAfterALock(t *testing.T) {
	t.Parallel()
	withFixture(t, "2026-11-24 23:59", "UTC", func(f *fixture) {
		f.settings.CatchUp, f.settings.Retries = false, -1
		plans := []schedule.Plan{f.plan("failed", "0 0 * * *", nil), f.plan("collected", "0 0 * * *", nil)}
		f.startScheduler(plans...)
		for _, p := range plans {
			lock, err := f.state.Locks.LockStream(p.Job.Collector.Streams[0].Name, "default")
			if err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(10*time.Minute, func() {
				if err := lock.Unlock(); err != nil {
					t.Error(err)
				}
			})
		}
		f.sleepUntil("2026-11-25 00:10")
		f.assertRuns("failed")
		other := *f.settings.Runner // that of another process
		if results := other.Run(f.Context(), plans[1].Job, "once"); len(results) != 1 || results[0].Outcome != state.Success {
			t.Fatalf("%+v", results)
		}
		f.sleepUntil("2026-11-25 06:00")
		f.assertRuns("failed", "25 00:15 UTC")
		f.assertRuns("collected", "25 00:10 UTC")
		if s := f.statusOf("collected").Streams[0]; s.Running || s.Queued || !s.Retry.IsZero() {
			t.Errorf("%+v", s)
		}
	})
}

// TestFailuresAreReportedEarly checks that a failure is reported after the first retries,
// although more follow, and at once if a person must act.
func TestFailuresAreReportedEarly(t *testing.T) {
	t.Parallel()
	withFixture(t, "2026-11-24 23:59", "UTC", func(f *fixture) {
		f.settings.CatchUp, f.settings.Retries = false, -1
		var reported []string
		f.onFinished = func(results []run.Result) {
			f.mu.Lock()
			defer f.mu.Unlock()
			for _, r := range results {
				reported = append(reported, fmt.Sprint(f.nowLocked().Format("15:04 "), r.Stream, " ", r.Outcome))
			}
		}
		f.startScheduler(
			f.plan("broken", "0 0 * * *", f.failUntil("2026-11-25 01:00", errVendor)),
			f.plan("refused", "1 0 * * *", f.failUntil("2026-11-25 01:00", collector.ErrRefused)),
		)
		f.sleepUntil("2026-11-25 06:00")
		f.mu.Lock()
		defer f.mu.Unlock()
		want := []string{"00:01 refused_things failed", "00:35 broken_things failed", "01:01 refused_things success", "01:15 broken_things success"}
		if diff := cmp.Diff(want, reported); diff != "" {
			t.Errorf("reported (-want +got):\n%s", diff)
		}
	})
}
