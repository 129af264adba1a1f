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
