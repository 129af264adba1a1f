package freshness

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/pkg/calendar"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/state"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// before returns the time d before noon.
func before(d time.Duration) time.Time { return noon.Add(-d) }

// newPlan returns the schedule status of a stream; "off" for one without a schedule.
func newPlan(t *testing.T, stream, expression string) schedule.StreamStatus {
	t.Helper()
	var e calendar.Expression
	if err := e.UnmarshalText([]byte(expression)); err != nil {
		t.Fatal(err)
	}
	c := e.In(time.UTC)
	return schedule.StreamStatus{Stream: stream, Schedule: expression, Calendar: c, Interval: c.Interval()}
}

// noMaxAge is a MaxAge of Sources without DATA_MAX_AGE.
func noMaxAge(string) time.Duration { return 0 }

func TestFreshness(t *testing.T) {
	daily := newPlan(t, "s", "0 12 * * *")
	daily.FirstDue = before(2 * time.Hour)
	unscheduled := newPlan(t, "s", "off")
	unscheduled.FirstDue = before(2 * time.Hour)
	for _, tc := range []struct {
		name        string
		stream      state.StreamStatus
		plan        schedule.StreamStatus
		active      bool
		want        Label
		wantOverdue bool
	}{
		{name: "never", stream: state.StreamStatus{}, plan: daily, want: Never, wantOverdue: true},
		{name: "off", stream: state.StreamStatus{}, plan: unscheduled, want: Off},
		{name: "fresh", stream: state.StreamStatus{LastSuccess: before(25 * time.Hour)}, plan: daily, want: Fresh},
		{name: "late", stream: state.StreamStatus{LastSuccess: before(49 * time.Hour)}, plan: daily, want: Late, wantOverdue: true},
		{
			name: "running", stream: state.StreamStatus{LastSuccess: before(50 * time.Hour)}, plan: daily,
			active: true, want: Running, wantOverdue: true,
		},
		{name: "failing", stream: state.StreamStatus{LastSuccess: before(2), LastFailure: before(1)}, plan: daily, want: Failing},
		{name: "from the future", stream: state.StreamStatus{LastSuccess: before(-2 * time.Hour)}, plan: daily, want: Late, wantOverdue: true},
		{name: "an hour ahead", stream: state.StreamStatus{LastSuccess: before(-time.Hour)}, plan: daily, want: Fresh},
		{name: "a success from the future", stream: state.StreamStatus{LastSuccess: before(-9000 * time.Hour), Taken: before(time.Hour)}, plan: daily, want: Fresh},
		{
			name: "a success from the future, and late", stream: state.StreamStatus{LastSuccess: before(-9000 * time.Hour), Taken: before(50 * time.Hour)},
			plan: daily, want: Late, wantOverdue: true,
		},
		{name: "data from the future", stream: state.StreamStatus{LastSuccess: before(time.Hour), Taken: before(-9000 * time.Hour)}, plan: daily, want: Fresh},
		{name: "recovered", stream: state.StreamStatus{LastSuccess: before(1), LastFailure: before(2)}, plan: daily, want: Fresh},
		{name: "restored", stream: state.StreamStatus{Taken: before(time.Hour), Source: state.Restored}, plan: daily, want: Restored},
		{
			name: "restored and late", stream: state.StreamStatus{Taken: before(99 * time.Hour), Source: state.Restored},
			plan: daily, want: Late, wantOverdue: true,
		},
	} {
		tc.stream.Collector, tc.stream.Stream, tc.stream.Tenancy = "okta", "s", "acme"
		var active []*run.ActiveRun
		if tc.active {
			active = append(active, &run.ActiveRun{Collector: "okta", Stream: "s"})
		}
		other := tc.stream
		other.Tenancy, other.LastSuccess = "other", noon
		from := Sources{
			Collectors: []schedule.CollectorStatus{{Collector: "okta", Streams: []schedule.StreamStatus{tc.plan}}}, Active: active, MaxAge: noMaxAge,
		}
		got := Evaluate([]state.StreamStatus{tc.stream, other}, from, "acme", noon)
		if len(got) != 1 || got[0].Freshness != tc.want || got[0].Overdue != tc.wantOverdue {
			t.Errorf("%s: %+v, want %s, overdue %v", tc.name, got, tc.want, tc.wantOverdue)
		}
	}
}

// TestEvaluateJoinsAllStreams checks that streams without data, streams that are off and
// streams of collectors that are off are listed, in order, and that those that are off are
// never late or failing, and that each stream is late by its own schedule.
func TestEvaluateJoinsAllStreams(t *testing.T) {
	const old = 1000 * time.Hour
	streams := []state.StreamStatus{
		{Collector: "snyk", Stream: "snyk_issues", Tenancy: "acme", LastSuccess: before(old), LastFailure: before(time.Hour)},
		{Collector: "control", Stream: "control_summary", Tenancy: "acme", LastSuccess: before(old), Taken: before(old), LastFailure: before(time.Hour)},
		{Collector: "okta", Stream: "okta_users", Tenancy: "acme", LastSuccess: before(time.Hour), Taken: before(2 * time.Hour)},
		{Collector: "okta", Stream: "okta_apps", Tenancy: "acme", LastSuccess: before(old), Taken: before(old), LastFailure: before(time.Hour)},
		{Collector: "okta", Stream: "okta_hourly", Tenancy: "acme", LastSuccess: before(4 * time.Hour)},
		{Collector: "okta", Stream: "okta_daily", Tenancy: "acme", LastSuccess: before(4 * time.Hour)},
	}
	groups := newPlan(t, "okta_groups", "@daily")
	groups.FirstDue = noon
	from := Sources{
		MaxAge: noMaxAge,
		Collectors: []schedule.CollectorStatus{{Collector: "okta", Streams: []schedule.StreamStatus{
			newPlan(t, "okta_users", "@hourly"), groups, newPlan(t, "okta_hourly", "@hourly"), newPlan(t, "okta_daily", "@daily"),
		}}},
		Disabled: []DisabledStream{
			{Collector: "okta", Stream: "okta_apps", Why: "COLLECTORS excludes it"},
			{Collector: "okta", Stream: "okta_devices", Why: "COLLECTORS does not name it"},
		},
	}
	var got []string
	for _, s := range Evaluate(streams, from, "acme", noon) {
		got = append(got, strings.Join([]string{s.Collector, s.Stream, string(s.Freshness), s.Plan.Interval.String(), s.WhyOff}, " "))
		if s.Stream == "okta_users" && !s.AsOf.Equal(before(time.Hour)) {
			t.Errorf("the data of %s is as of %v", s.Stream, s.AsOf)
		}
		if s.WhyOff != "" && s.Overdue {
			t.Errorf("%s is off and overdue", s.Stream)
		}
	}
	want := []string{
		"control control_summary results 0s it has the results of controls, which have no schedule of their own",
		"okta okta_apps off 0s COLLECTORS excludes it",
		"okta okta_daily fresh 24h0m0s ",
		"okta okta_devices off 0s COLLECTORS does not name it",
		"okta okta_groups never 24h0m0s ",
		"okta okta_hourly late 1h0m0s ",
		"okta okta_users fresh 1h0m0s ",
		"snyk snyk_issues off 0s its collector is off",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("streams (-want +got):\n%s", diff)
	}
}
