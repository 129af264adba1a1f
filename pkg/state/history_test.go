package state

import (
	"errors"
	"slices"
	"testing"
	"time"
)

func TestRecent(t *testing.T) {
	s, err := Open(ctx, t.TempDir(), Options{Now: func() time.Time { return day.Add(5 * time.Hour) }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for n := range 4 {
		id, err := s.Runs.Begin(ctx, RunStart{Header: newHeader("okta_users", "a", n), Trigger: "test", Started: day.Add(time.Duration(n) * time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		if n == 3 {
			break // still running
		}
		if err := s.Runs.Fail(ctx, id, Failed, errors.New("no"), RunStats{Records: int64(n)}); err != nil {
			t.Fatal(err)
		}
	}
	points, err := s.Runs.Recent(ctx, "a", []string{"okta_users", "other"}, 2)
	if err != nil {
		t.Fatal(err)
	}
	want := []Point{{Outcome: Failed, Records: 1, Took: 4 * time.Hour}, {Outcome: Failed, Records: 2, Took: 3 * time.Hour}}
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
		page RunPage
		want []RunID
	}{
		{page: RunPage{Limit: 2}, want: []RunID{4, 3}},
		{page: RunPage{Limit: 2, Before: 3}, want: []RunID{2, 1}},
		{page: RunPage{Limit: 2, After: 1}, want: []RunID{3, 2}},
		{page: RunPage{Limit: 9, After: 1, Before: 4}, want: []RunID{3, 2}},
		{page: RunPage{Limit: 9, Outcomes: []Outcome{Failed, Held}}, want: []RunID{3, 2, 1}},
		{page: RunPage{Limit: 9, Stream: "other"}},
	} {
		tc.page.Tenancy = "a"
		runs, err := s.Runs.ListPage(ctx, tc.page)
		var ids []RunID
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
	s, err := Open(ctx, t.TempDir(), Options{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	n := 0
	run := func(stream, tenancy string, took time.Duration, outcome Outcome) {
		t.Helper()
		n++
		id, err := s.Runs.Begin(ctx, RunStart{Header: newHeader(stream, tenancy, n), Trigger: "test", Started: now})
		if err != nil {
			t.Fatal(err)
		}
		if now = now.Add(took); outcome == "" {
			return // still running
		}
		if err := s.Runs.Fail(ctx, id, outcome, errors.New("no"), RunStats{}); err != nil {
			t.Fatal(err)
		}
	}
	run("okta_groups", "a", 9*time.Hour, Success)
	run("okta_users", "b", 8*time.Hour, Success)
	for _, tc := range []struct {
		took    time.Duration
		outcome Outcome
		want    time.Duration
	}{
		{took: time.Hour, outcome: "", want: 0},
		{took: time.Minute, outcome: Failed, want: time.Minute},
		{took: 2 * time.Hour, outcome: Timeout, want: 2 * time.Hour},
		{took: time.Minute, outcome: Failed, want: 2 * time.Hour},
		{took: time.Hour, outcome: Success, want: time.Hour},
		{took: time.Minute, outcome: Failed, want: time.Hour},
		{took: 3 * time.Hour, outcome: Cancelled, want: 3 * time.Hour},
		{took: 5 * time.Hour, outcome: Interrupted, want: 3 * time.Hour},
		{took: 6 * time.Hour, outcome: Skipped, want: 3 * time.Hour},
		{took: time.Second, outcome: Unchanged, want: time.Second},
		{took: 2 * time.Second, outcome: Empty, want: 2 * time.Second},
		{took: time.Millisecond, outcome: Held, want: time.Millisecond},
		{took: -time.Hour, outcome: Success, want: 0},
	} {
		run("okta_users", "a", tc.took, tc.outcome)
		if got, err := s.Runs.LastDuration(ctx, "okta_users", "a"); err != nil || got != tc.want {
			t.Errorf("after a run that is %q after %v: %v, %v; want %v", tc.outcome, tc.took, got, err, tc.want)
		}
	}
}
