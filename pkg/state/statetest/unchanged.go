package statetest

import (
	"errors"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/state"
)

// confirm ends a run that found that the last-known snapshot of okta_users is still the
// vendor's data.
func confirm(s *state.State, n int) (err error) {
	h := NewHeader("okta_users", "acme", n)
	lock, err := s.Locks.LockStream(h.Stream, h.Tenancy)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	last, _, err := s.Snapshots.LastKnown(ctx, h.Stream, h.Tenancy)
	if err != nil {
		return err
	}
	id, err := s.Runs.Begin(ctx, state.RunStart{Header: h, Trigger: "test", Started: h.UploadTimestamp})
	if err != nil {
		return err
	}
	return s.Runs.ConfirmUnchanged(ctx, id, last.Info, h.UploadTimestamp, state.RunStats{Requests: 1})
}

// status returns the status of okta_users.
func (f *Fixture) status() state.StreamStatus {
	f.T.Helper()
	all, err := f.Streams(ctx)
	f.RequireNoError(err)
	for _, s := range all {
		if s.Stream == "okta_users" {
			return s
		}
	}
	f.T.Fatal("no status")
	return state.StreamStatus{}
}

// testConfirmUnchanged checks what a run without changes does to the status, the queue
// and the last-known snapshot.
func testConfirmUnchanged(t *testing.T, harness Harness) {
	f := harness.NewState(t)
	f.CollectUsers(1, 100, TwoSinks)
	taken := f.status().Taken
	f.RequireNoError(confirm(f.State, 2))
	s := f.status()
	if !s.Taken.Equal(taken) || !s.Checked.After(taken) || !s.DataTime().Equal(s.Checked) || s.Records != 100 {
		t.Errorf("status %+v", s)
	}
	if s.LastSuccess.IsZero() || !s.LastFailure.IsZero() || s.Last.Outcome != state.Unchanged || s.Last.Records != 100 {
		t.Errorf("last run %+v, last success %v, last failure %v", s.Last, s.LastSuccess, s.LastFailure)
	}
	AssertEqual(t, "last-known", f.LastKnown(), "id-001/100/collected")
	AssertEqual(t, "queue", f.QueuedDeliveries(), "id-001>file id-001>s3")
	AssertEqual(t, "outcomes", f.Outcomes(), "success unchanged")
	AssertEqual(t, "directories", f.CheckStored(), "id-001")
	// The next snapshot has a time of its own.
	f.CollectUsers(3, 100, TwoSinks)
	if s := f.status(); !s.Checked.IsZero() || !s.DataTime().Equal(s.Taken) {
		t.Errorf("after a new snapshot: %+v", s)
	}
}

// testConfirmUnchangedDropsHeld checks that a held snapshot does not wait any more when
// the vendor has the data of the last-known one again.
func testConfirmUnchangedDropsHeld(t *testing.T, harness Harness) {
	f := harness.NewState(t)
	f.CollectUsers(1, 100, TwoSinks)
	guarded := TwoSinks
	guarded.GuardDropPercent = 50
	f.CollectUsers(2, 3, guarded)
	if !f.status().Held {
		t.Fatal("the second snapshot is not held")
	}
	f.RequireNoError(confirm(f.State, 3))
	if f.status().Held {
		t.Error("it is held after the vendor's data was the first snapshot's again")
	}
	if _, err := f.Snapshots.Accept(ctx, "okta_users", "acme", TwoSinks); !errors.Is(err, state.ErrNoSnapshot) {
		t.Errorf("accepting it: error %v, want %v", err, state.ErrNoSnapshot)
	}
	AssertEqual(t, "directories", f.CheckStored(), "id-001")
}

// testConfirmUnchangedDoubts checks that the doubts about a snapshot stay while it does.
func testConfirmUnchangedDoubts(t *testing.T, harness Harness) {
	f := harness.NewState(t)
	f.CollectWithDoubts(1, 10, TwoSinks, TwoDoubts)
	f.RequireNoError(confirm(f.State, 2))
	AssertEqual(t, "doubts", f.status().Doubts.String(), TwoDoubts.String())
}

// testConfirmUnchangedOfReplaced checks that a check of a snapshot which another has
// replaced changes nothing.
func testConfirmUnchangedOfReplaced(t *testing.T, harness Harness) {
	f := harness.NewState(t)
	f.CollectUsers(1, 100, TwoSinks)
	last, _, err := f.Snapshots.LastKnown(ctx, "okta_users", "acme")
	f.RequireNoError(err)
	f.CollectUsers(2, 90, TwoSinks)
	lock, err := f.Locks.LockStream("okta_users", "acme")
	f.RequireNoError(err)
	h := NewHeader("okta_users", "acme", 3)
	id, err := f.Runs.Begin(ctx, state.RunStart{Header: h, Started: h.UploadTimestamp})
	f.RequireNoError(err)
	if err := f.Runs.ConfirmUnchanged(ctx, id, last.Info, time.Now(), state.RunStats{}); !errors.Is(err, state.ErrReplaced) {
		t.Errorf("error %v, want %v", err, state.ErrReplaced)
	}
	f.RequireNoError(lock.Unlock())
	if s := f.status(); !s.Checked.IsZero() || s.Last.Outcome != "" {
		t.Errorf("status %+v", s)
	}
}
