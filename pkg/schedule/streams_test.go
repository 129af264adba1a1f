package schedule_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/collectord/collectord/pkg/calendar"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/state"
)

// extractions are what the streams <name>_things of a collector do, by name.
type extractions map[string]func(ctx context.Context, nth int) error

// streamPlans returns a plan for each pair of names and their schedule, such as
// {"a", "b"} and "@hourly". All are streams of the collector vendor.
func (f *fixture) streamPlans(do extractions, order []string, schedules ...string) (plans []schedule.Plan) {
	f.Helper()
	c := &collector.Collector{Name: "vendor"}
	for _, name := range order {
		c.Streams = append(c.Streams, collector.Stream{Name: name + "_things", Extract: f.extraction(name+"_things", do[name])})
	}
	byExpression := map[string]int{}
	for i, text := range schedules {
		at, known := byExpression[text]
		if !known {
			var e calendar.Expression
			if err := e.UnmarshalText([]byte(text)); err != nil {
				f.Fatal(err)
			}
			at = len(plans)
			byExpression[text] = at
			plans = append(plans, schedule.Plan{Job: run.Job{Collector: c}, Calendar: e.In(f.zone), Zone: f.zone.String()})
		}
		plans[at].Job.Streams = append(plans[at].Job.Streams, order[i]+"_things")
	}
	return plans
}

// uploads returns the upload ids of a stream's runs, the oldest first.
func (f *fixture) uploads(name string) (ids []string) {
	f.Helper()
	runs, err := f.state.Runs.List(f.Context(), name+"_things", 1000)
	if err != nil {
		f.Fatal(err)
	}
	for i := len(runs) - 1; i >= 0; i-- {
		ids = append(ids, runs[i].UploadID)
	}
	return ids
}

// TestStreamsWithTheirOwnSchedule checks that streams with the same schedule have one
// run, that another schedule has ticks of its own, and that a long run of one stream
// skips no tick of another.
func TestStreamsWithTheirOwnSchedule(t *testing.T) {
	t.Parallel()
	withFixture(t, "2026-11-24 09:30", "UTC", func(f *fixture) {
		f.settings.CatchUp = false
		f.startScheduler(f.streamPlans(extractions{"slow": lasting(3 * time.Hour)},
			[]string{"slow", "b", "a", "quick", "off"}, "0 10 * * *", "0 11 * * *", "0 11 * * *", "30 * * * *", "off")...)
		f.sleepUntil("2026-11-24 12:45")
		f.assertRuns("slow", "24 10:00 UTC")
		f.assertRuns("a", "24 11:00 UTC")
		f.assertRuns("quick", "24 10:30 UTC", "24 11:30 UTC", "24 12:30 UTC")
		f.assertRuns("off")
		if a, b := f.uploads("a"), f.uploads("b"); cmp.Diff(a, b) != "" || len(a) != 1 || a[0] == f.uploads("quick")[1] {
			t.Errorf("upload ids of a %v, of b %v, of quick %v", a, b, f.uploads("quick"))
		}
		status := f.statusOf("vendor")
		if got := status.Names(); cmp.Diff([]string{"slow_things", "b_things", "a_things", "quick_things", "off_things"}, got) != "" {
			t.Errorf("streams %v", got)
		}
		want := []schedule.StreamStatus{
			{
				Stream: "slow_things", Schedule: "0 10 * * *", Zone: "UTC", Interval: 24 * time.Hour, Running: true,
				Next: time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC), Started: time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC),
				QueuedAt: time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC), MustEnd: time.Date(2026, 11, 24, 22, 0, 0, 0, time.UTC),
				FirstDue: time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC),
			},
			{
				Stream: "quick_things", Schedule: "30 * * * *", Zone: "UTC", Interval: time.Hour,
				Next: time.Date(2026, 11, 24, 13, 30, 0, 0, time.UTC), FirstDue: time.Date(2026, 11, 24, 10, 30, 0, 0, time.UTC),
			},
			{Stream: "off_things", Schedule: "off", Zone: "UTC", FirstDue: time.Date(2026, 11, 24, 9, 30, 0, 0, time.UTC)},
		}
		slow := &status.Streams[0]
		for _, at := range []*time.Time{&slow.Started, &slow.QueuedAt, &slow.MustEnd} {
			*at = at.Truncate(time.Minute)
		}
		withoutCalendar := cmpopts.IgnoreFields(schedule.StreamStatus{}, "Calendar")
		if diff := cmp.Diff(want, []schedule.StreamStatus{status.Streams[0], status.Streams[3], status.Streams[4]}, withoutCalendar); diff != "" {
			t.Errorf("statuses (-want +got):\n%s", diff)
		}
		running, started := status.Running()
		if !running || started.Hour() != 10 || status.Missed != 0 || status.Interval() != 24*time.Hour || status.Next().Hour() != 13 {
			t.Errorf("status of the collector: %+v", status)
		}
	})
}

// TestSkippedTickOfOneStream checks that a stream whose run is still in progress skips
// its tick alone.
func TestSkippedTickOfOneStream(t *testing.T) {
	t.Parallel()
	withFixture(t, "2026-11-24 09:30", "UTC", func(f *fixture) {
		f.settings.CatchUp = false
		f.startScheduler(f.streamPlans(extractions{"slow": lasting(90 * time.Minute)}, []string{"slow", "a"}, "0 * * * *", "0 * * * *")...)
		if err := f.sched.RunStreamNow("slow_things"); err != nil {
			t.Fatal(err)
		}
		f.sleepUntil("2026-11-24 10:30")
		f.assertRuns("slow", "24 09:30 UTC")
		f.assertRuns("a", "24 10:00 UTC")
		if n := f.outcomes("slow")[state.Skipped]; n != 1 || f.outcomes("a")[state.Skipped] != 0 || f.statusOf("vendor").Missed != 1 {
			t.Errorf("%d skipped, status %+v", n, f.statusOf("vendor"))
		}
	})
}

// TestRunOneStreamNow checks that a stream can be started alone, while others run, and
// that a collector is started without the streams that run.
func TestRunOneStreamNow(t *testing.T) {
	t.Parallel()
	withFixture(t, "2026-11-24 09:30", "UTC", func(f *fixture) {
		f.settings.CatchUp = false
		f.startScheduler(f.streamPlans(extractions{"a": lasting(time.Hour), "b": lasting(time.Hour)},
			[]string{"a", "b", "c"}, "off", "off", "0 0 * * *")...)
		if err := f.sched.RunStreamNow("a_things"); err != nil {
			t.Error(err)
		}
		if err := f.sched.RunStreamNow("a_things"); !errors.Is(err, schedule.ErrRunning) {
			t.Errorf("a second start: %v", err)
		}
		for _, name := range []string{"vendor", "nothing"} {
			if err := f.sched.RunStreamNow(name); !errors.Is(err, schedule.ErrUnknown) {
				t.Errorf("%s: %v", name, err)
			}
		}
		f.sleepUntil("2026-11-24 09:40")
		f.assertRuns("a", "24 09:30 UTC")
		f.assertRuns("b")
		started, err := f.sched.RunNow("vendor")
		if diff := cmp.Diff([]string{"b_things", "c_things"}, started); diff != "" || err != nil {
			t.Errorf("started (-want +got):\n%s%v", diff, err)
		}
		f.sleepUntil("2026-11-24 09:50")
		f.assertRuns("b", "24 09:40 UTC")
		f.assertRuns("c", "24 09:40 UTC")
		if started, err = f.sched.RunNow("vendor"); err != nil || cmp.Diff([]string{"c_things"}, started) != "" {
			t.Errorf("a third start: %v, %v", started, err)
		}
		f.sleepUntil("2026-11-24 11:00")
		for name, want := range map[string]int{"a": 1, "b": 1, "c": 2} {
			if n := f.outcomes(name)[state.Success]; n != want {
				t.Errorf("%s has %d successes, want %d", name, n, want)
			}
		}
	})
}

// TestRetriesOfStreams checks that a stream is retried by its own schedule, and that a
// manual start of one stream keeps the retry of another.
func TestRetriesOfStreams(t *testing.T) {
	t.Parallel()
	withFixture(t, "2026-11-24 09:59", "UTC", func(f *fixture) {
		f.settings.CatchUp = false
		fail := func(context.Context, int) error { return errVendor }
		f.startScheduler(f.streamPlans(extractions{"a": fail, "b": fail, "often": fail},
			[]string{"a", "b", "often"}, "0 10 * * *", "0 10 * * *", "*/12 * * * *")...)
		f.sleepUntil("2026-11-24 10:04")
		if err := f.sched.RunStreamNow("b_things"); err != nil {
			t.Error(err)
		}
		f.sleepUntil("2026-11-24 10:23")
		f.assertRuns("a", "24 10:00 UTC", "24 10:05 UTC", "24 10:15 UTC")
		f.assertRuns("b", "24 10:00 UTC", "24 10:04 UTC", "24 10:09 UTC", "24 10:19 UTC")
		f.assertRuns("often", "24 10:00 UTC", "24 10:05 UTC", "24 10:12 UTC", "24 10:17 UTC")
	})
}

// TestCatchUpOfStreams checks that each stream catches up by its own schedule.
func TestCatchUpOfStreams(t *testing.T) {
	t.Parallel()
	withFixture(t, "2026-11-24 09:30", "UTC", func(f *fixture) {
		plans := f.streamPlans(nil, []string{"daily", "hourly", "off"}, "0 0 * * *", "0 * * * *", "off")
		f.startScheduler(plans...)
		f.sleepUntil("2026-11-24 09:31")
		f.assertRuns("daily", "24 09:30 UTC")
		f.assertRuns("hourly", "24 09:30 UTC")
		f.stop()
		time.Sleep(3 * time.Hour) // until 12:31
		f.startScheduler(plans...)
		f.sleepUntil("2026-11-24 12:40")
		f.assertRuns("daily", "24 09:30 UTC")
		f.assertRuns("hourly", "24 09:30 UTC", "24 12:31 UTC")
		f.assertRuns("off")
	})
}

// TestReloadOfStreams checks that a reload moves one stream to another schedule and
// switches another off, while the rest keep their ticks and a run in progress ends.
func TestReloadOfStreams(t *testing.T) {
	t.Parallel()
	withFixture(t, "2026-11-24 09:30", "UTC", func(f *fixture) {
		f.settings.CatchUp = false
		do, names := extractions{"removed": lasting(70 * time.Minute)}, []string{"kept", "moved", "removed"}
		f.startScheduler(f.streamPlans(do, names, "0 * * * *", "0 * * * *", "0 * * * *")...)
		f.sleepUntil("2026-11-24 10:10")
		settings := f.settings
		settings.Plans = f.streamPlans(do, names, "0 * * * *", "*/20 * * * *")
		f.sched.ApplySettings(settings)
		if err := f.sched.RunStreamNow("removed_things"); !errors.Is(err, schedule.ErrUnknown) {
			t.Errorf("a stream that is off was started: %v", err)
		}
		if got := f.statusOf("vendor").Names(); cmp.Diff([]string{"kept_things", "moved_things"}, got) != "" {
			t.Errorf("streams %v", got)
		}
		f.sleepUntil("2026-11-24 12:10")
		f.assertRuns("removed", "24 10:00 UTC")
		// The run of 10:00 is in progress until 11:10, for all of its streams.
		f.assertRuns("kept", "24 10:00 UTC", "24 12:00 UTC")
		f.assertRuns("moved", "24 10:00 UTC", "24 11:20 UTC", "24 11:40 UTC", "24 12:00 UTC")
		if n := f.outcomes("removed"); n[state.Success] != 1 || n[state.Skipped] != 0 {
			t.Errorf("outcomes of the stream that was switched off: %v", n)
		}
	})
}
