package statetest

import (
	"errors"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/state"
)

// testFirstFailure checks that a stream without data has the time of the first run that
// failed, not that of later ones or of runs that were cancelled, and none after a success.
func testFirstFailure(t *testing.T, harness Harness) {
	now := Day
	s := harness.NewState(t)
	assertFirst := func(want time.Time) {
		t.Helper()
		streams, err := s.Streams(ctx)
		if err != nil || len(streams) != 1 || !streams[0].FirstFailure.Equal(want) {
			t.Errorf("streams %+v, error %v; want the first failure at %v", streams, err, want)
		}
	}
	begin := func(n int) state.RunID {
		t.Helper()
		id, err := s.Runs.Begin(ctx, state.RunStart{Header: NewHeader("okta_users", "a", n), Trigger: "test", Started: now})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	var first time.Time
	for n, outcome := range []state.Outcome{state.Cancelled, state.Failed, state.Timeout} {
		now = now.Add(time.Hour)
		s.SetClock(now)
		if outcome == state.Failed {
			first = now
		}
		if err := s.Runs.Fail(ctx, begin(n), outcome, errors.New("no"), state.RunStats{}); err != nil {
			t.Fatal(err)
		}
		assertFirst(first)
	}
	lock, err := s.Locks.LockStream("okta_users", "a")
	s.RequireNoError(err)
	w, err := s.Snapshots.Spool(NewHeader("okta_users", "a", 3))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Runs.Commit(ctx, begin(3), w, state.RunStats{}, state.Policy{StoreEmpty: true}); err != nil {
		t.Fatal(err)
	}
	s.RequireNoError(lock.Unlock())
	assertFirst(time.Time{})
}
