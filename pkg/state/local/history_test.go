package local

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/state"
)

func TestRecent(t *testing.T) {
	s, err := openDirectory(ctx, t.TempDir(), Options{Now: func() time.Time { return day.Add(5 * time.Hour) }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for n := range 4 {
		id, err := s.Runs.Begin(ctx, state.RunStart{Header: newHeader("okta_users", "a", n), Trigger: "test", Started: day.Add(time.Duration(n) * time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		if n == 3 {
			break // still running
		}
		if err := s.Runs.Fail(ctx, id, state.Failed, errors.New("no"), state.RunStats{Records: int64(n)}); err != nil {
			t.Fatal(err)
		}
	}
	points, err := s.Runs.Recent(ctx, "a", []string{"okta_users", "other"}, 2)
	if err != nil {
		t.Fatal(err)
	}
	want := []state.Point{{Outcome: state.Failed, Records: 1, Took: 4 * time.Hour}, {Outcome: state.Failed, Records: 2, Took: 3 * time.Hour}}
	if got := points["okta_users"]; len(got) != 2 || got[0] != want[0] || got[1] != want[1] || len(points["other"]) != 0 {
		t.Errorf("points %+v, want %+v", points, want)
	}
	runs, err := s.Runs.ListTenancy(ctx, "okta_users", "a", 3)
	if err != nil || len(runs) != 3 || runs[0].Outcome != "" || runs[2].Records != 1 {
		t.Errorf("runs of the tenancy: %+v, error %v", runs, err)
	}
	if runs, err := s.Runs.ListTenancy(ctx, "okta_users", "b", 3); err != nil || len(runs) != 0 {
		t.Errorf("runs of another tenancy: %+v, error %v", runs, err)
	}
	for _, tc := range []struct {
		page state.RunPage
		want []state.RunID
	}{
		{page: state.RunPage{Limit: 2}, want: []state.RunID{4, 3}},
		{page: state.RunPage{Limit: 2, Before: 3}, want: []state.RunID{2, 1}},
		{page: state.RunPage{Limit: 2, After: 1}, want: []state.RunID{3, 2}},
		{page: state.RunPage{Limit: 9, After: 1, Before: 4}, want: []state.RunID{3, 2}},
		{page: state.RunPage{Limit: 9, Outcomes: []state.Outcome{state.Failed, state.Held}}, want: []state.RunID{3, 2, 1}},
		{page: state.RunPage{Limit: 9, Stream: "other"}},
	} {
		tc.page.Tenancy = "a"
		runs, err := s.Runs.ListPage(ctx, tc.page)
		var ids []state.RunID
		for _, r := range runs {
			ids = append(ids, r.ID)
		}
		if err != nil || !slices.Equal(ids, tc.want) {
			t.Errorf("%+v: %v, error %v, want %v", tc.page, ids, err, tc.want)
		}
	}
}

// TestLastDuration checks which runs count for the duration that the next one is expected
// to have.
func TestLastDuration(t *testing.T) {
	t.Parallel()
	now := day
	s, err := openDirectory(ctx, t.TempDir(), Options{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	n := 0
	run := func(stream, tenancy string, took time.Duration, outcome state.Outcome) {
		t.Helper()
		n++
		id, err := s.Runs.Begin(ctx, state.RunStart{Header: newHeader(stream, tenancy, n), Trigger: "test", Started: now})
		if err != nil {
			t.Fatal(err)
		}
		if now = now.Add(took); outcome == "" {
			return // still running
		}
		if err := s.Runs.Fail(ctx, id, outcome, errors.New("no"), state.RunStats{}); err != nil {
			t.Fatal(err)
		}
	}
	run("okta_groups", "a", 9*time.Hour, state.Success)
	run("okta_users", "b", 8*time.Hour, state.Success)
	for _, tc := range []struct {
		took    time.Duration
		outcome state.Outcome
		want    time.Duration
		first   bool // before the first run that ended with complete data
	}{
		{took: time.Hour, outcome: "", want: 0, first: true},
		{took: time.Minute, outcome: state.Failed, want: time.Minute, first: true},
		{took: 2 * time.Hour, outcome: state.Timeout, want: 2 * time.Hour, first: true},
		{took: time.Minute, outcome: state.Failed, want: 2 * time.Hour, first: true},
		{took: time.Hour, outcome: state.Success, want: time.Hour},
		{took: time.Minute, outcome: state.Failed, want: time.Hour},
		{took: 3 * time.Hour, outcome: state.Cancelled, want: 3 * time.Hour},
		{took: 5 * time.Hour, outcome: state.Interrupted, want: 3 * time.Hour},
		{took: 6 * time.Hour, outcome: state.Skipped, want: 3 * time.Hour},
		{took: time.Second, outcome: state.Unchanged, want: time.Second},
		{took: 2 * time.Second, outcome: state.Empty, want: 2 * time.Second},
		{took: time.Millisecond, outcome: state.Held, want: time.Millisecond},
		{took: -time.Hour, outcome: state.Success, want: 0},
	} {
		run("okta_users", "a", tc.took, tc.outcome)
		if got, collected, err := s.Runs.LastDuration(ctx, "okta_users", "a"); err != nil || got != tc.want || collected == tc.first {
			t.Errorf("after a run that is %q after %v: %v, collected: %v, %v; want %v, %v", tc.outcome, tc.took, got, collected, err, tc.want, !tc.first)
		}
	}
}
