package freshness

import (
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/state"
)

// at returns a time in November 2026 in UTC, of which the 1st is a Sunday, such as
// "02 06:10"; the zero time for "". The day may be beyond the end of the month.
func at(t *testing.T, text string) time.Time {
	t.Helper()
	if text == "" {
		return time.Time{}
	}
	clock, err := time.Parse("15:04", text[3:])
	if err != nil {
		t.Fatal(err)
	}
	day := int(text[0]-'0')*10 + int(text[1]-'0')
	return time.Date(2026, time.November, day, clock.Hour(), clock.Minute(), 0, 0, time.UTC)
}

// TestDeadlineFollowsTheCalendar checks when data is late by its schedule: some time after
// the second tick without a success.
func TestDeadlineFollowsTheCalendar(t *testing.T) {
	for _, tc := range []struct{ name, schedule, success, want string }{
		{name: "daily", schedule: "0 0 * * *", success: "02 00:10", want: "04 01:00"},
		{name: "daily, by hand before the tick", schedule: "0 0 * * *", success: "02 23:50", want: "04 01:00"},
		{name: "weekdays, of Monday", schedule: "0 6 * * 1-5", success: "02 06:10", want: "04 07:00"},
		{name: "weekdays, of Friday", schedule: "0 6 * * 1-5", success: "06 06:10", want: "10 07:00"},
		{name: "twice on weekdays", schedule: "0 8,20 * * 1-5", success: "03 08:10", want: "04 09:00"},
		{name: "twice on weekdays, of Friday evening", schedule: "0 8,20 * * 1-5", success: "06 20:10", want: "09 21:00"},
		{name: "weekly", schedule: "0 3 * * 0", success: "01 03:10", want: "15 04:00"},
		{name: "monthly", schedule: "0 0 1 * *", success: "01 00:10", want: "62 01:00"},
		{name: "hourly", schedule: "@hourly", success: "02 00:10", want: "02 03:00"},
		{name: "every 5 minutes", schedule: "@every 5m", success: "02 00:01", want: "02 00:15"},
		{name: "two ticks close together", schedule: "0,1 0 * * *", success: "02 00:02", want: "03 01:01"},
		{name: "off", schedule: "off", success: "02 00:10", want: ""},
	} {
		plan := newPlan(t, "s", tc.schedule)
		plan.FirstDue = at(t, "01 00:00")
		s := Stream{StreamStatus: state.StreamStatus{LastSuccess: at(t, tc.success)}, Plan: plan}
		s.evaluate(Sources{MaxAge: noMaxAge}, at(t, tc.success))
		if want := at(t, tc.want); !s.Deadline.Equal(want) || s.Overdue {
			t.Errorf("%s: the deadline is %v, want %v; overdue: %v", tc.name, s.Deadline, want, s.Overdue)
		}
		if s.Deadline.IsZero() {
			continue
		}
		s.evaluate(Sources{MaxAge: noMaxAge}, s.Deadline)
		onTime := !s.Overdue
		s.evaluate(Sources{MaxAge: noMaxAge}, s.Deadline.Add(1))
		if !onTime || !s.Overdue || s.Freshness != Late {
			t.Errorf("%s: late at its deadline: %v, after it: %s", tc.name, !onTime, s.Freshness)
		}
	}
}

// TestDeadlineHasTheJitter checks that delayed ticks delay the deadline.
func TestDeadlineHasTheJitter(t *testing.T) {
	plan := newPlan(t, "s", "0 0 * * *")
	plan.Jitter = 30 * time.Minute
	s := Stream{StreamStatus: state.StreamStatus{LastSuccess: at(t, "02 00:40")}, Plan: plan}
	s.evaluate(Sources{MaxAge: noMaxAge}, at(t, "02 01:00"))
	if want := at(t, "04 01:30"); !s.Deadline.Equal(want) {
		t.Errorf("the deadline is %v, want %v", s.Deadline, want)
	}
}

// TestDeadlineInParticularCases checks the deadlines of data that does not exist, of runs
// in progress, after reloads, and by DATA_MAX_AGE, of a stream that runs daily at midnight.
func TestDeadlineInParticularCases(t *testing.T) {
	const twelve = 12 * time.Hour
	running := func(queued, started string) schedule.StreamStatus {
		return schedule.StreamStatus{
			Running: true, QueuedAt: at(t, queued), Started: at(t, started), MustEnd: at(t, started).Add(twelve),
		}
	}
	for _, tc := range []struct {
		name                  string
		off                   bool // no schedule
		success, firstFailure string
		plan                  schedule.StreamStatus
		firstDue              string
		byReload              bool
		maxAge                time.Duration
		want                  string
	}{
		{name: "never, due at the start", firstDue: "02 14:20", want: "02 15:20"},
		{name: "never, due at the first tick", firstDue: "03 00:00", want: "03 01:00"},
		{name: "never, the first run is in progress", firstDue: "02 14:20", plan: running("02 14:20", "02 14:20"), want: "03 02:20"},
		{name: "never, the first run waited for a slot", firstDue: "02 14:20", plan: running("02 14:20", "02 22:00"), want: "03 10:00"},
		{name: "never, a later run is in progress", firstDue: "02 14:20", plan: running("02 15:21", "02 15:21"), want: "02 15:20"},
		{name: "never, failed before the restart", firstDue: "05 14:20", firstFailure: "02 14:30", want: "02 15:30"},
		{name: "never, failed before it was off", firstDue: "05 14:20", firstFailure: "02 14:30", byReload: true, want: "05 15:20"},
		{name: "never, not known when due", want: ""},
		{name: "never, with an age", firstDue: "02 14:20", maxAge: 30 * time.Hour, want: "02 15:20"},
		{name: "never, no schedule", off: true, firstDue: "02 14:20", want: ""},
		{name: "never, no schedule but an age", off: true, firstDue: "02 14:20", maxAge: 30 * time.Hour, want: "03 20:20"},
		{name: "a run in progress that is longer than the period", success: "02 00:10", plan: running("04 00:00", "04 00:00"), want: "04 12:00"},
		{name: "a run in progress that began after the deadline", success: "02 00:10", plan: running("04 02:00", "04 02:00"), want: "04 01:00"},
		{name: "switched on by a reload", success: "02 00:10", firstDue: "20 09:00", byReload: true, want: "20 10:00"},
		{name: "old at the start", success: "02 00:10", firstDue: "20 09:00", want: "04 01:00"},
		{name: "an age", success: "02 00:10", maxAge: 30 * time.Hour, want: "03 06:10"},
		{name: "an age, and a run in progress", success: "02 00:10", plan: running("03 00:00", "03 00:00"), maxAge: 30 * time.Hour, want: "03 06:10"},
		{name: "an age without a schedule", off: true, success: "02 00:10", maxAge: 30 * time.Hour, want: "03 06:10"},
		{name: "dated in the future", success: "25 00:00", firstDue: "02 14:20", want: "02 15:20"},
	} {
		expression := "0 0 * * *"
		if tc.off {
			expression = "off"
		}
		plan := newPlan(t, "s", expression)
		plan.Running, plan.QueuedAt, plan.Started, plan.MustEnd = tc.plan.Running, tc.plan.QueuedAt, tc.plan.Started, tc.plan.MustEnd
		plan.FirstDue, plan.ByReload = at(t, tc.firstDue), tc.byReload
		s := Stream{StreamStatus: state.StreamStatus{LastSuccess: at(t, tc.success), FirstFailure: at(t, tc.firstFailure)}, Plan: plan}
		s.evaluate(Sources{MaxAge: func(string) time.Duration { return tc.maxAge }}, at(t, "20 09:00"))
		if want := at(t, tc.want); !s.Deadline.Equal(want) {
			t.Errorf("%s: the deadline is %v, want %v", tc.name, s.Deadline, want)
		}
	}
}
