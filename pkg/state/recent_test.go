package state

import (
	"errors"
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
		id, err := s.Begin(ctx, Start{Header: header("okta_users", "a", n), Trigger: "test", Started: day.Add(time.Duration(n) * time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		if n == 3 {
			break // under way
		}
		if err := s.Fail(ctx, id, Failed, errors.New("no"), Figures{Records: int64(n)}); err != nil {
			t.Fatal(err)
		}
	}
	points, err := s.Recent(ctx, "a", []string{"okta_users", "other"}, 2)
	if err != nil {
		t.Fatal(err)
	}
	want := []Point{{Failed, 1, 4 * time.Hour}, {Failed, 2, 3 * time.Hour}}
	if got := points["okta_users"]; len(got) != 2 || got[0] != want[0] || got[1] != want[1] || len(points["other"]) != 0 {
		t.Errorf("%+v", points)
	}
	runs, err := s.RunsOf(ctx, "okta_users", "a", 3)
	if err != nil || len(runs) != 3 || runs[0].Outcome != "" || runs[2].Records != 1 {
		t.Errorf("%+v %v", runs, err)
	}
	if runs, err := s.RunsOf(ctx, "okta_users", "b", 3); err != nil || len(runs) != 0 {
		t.Errorf("another tenancy's: %+v %v", runs, err)
	}
}
