package local

import (
	"errors"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/state"
)

// confirm ends a run that found that the last-known snapshot of okta_users is still the
// vendor's data.
func confirm(s *State, n int) error {
	h := newHeader("okta_users", "acme", n)
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
func (f *fixture) status() state.StreamStatus {
	f.t.Helper()
	all, err := f.Streams(ctx)
	f.requireNoError(err)
	for _, s := range all {
		if s.Stream == "okta_users" {
			return s
		}
	}
	f.t.Fatal("no status")
	return state.StreamStatus{}
}

// TestConfirmUnchanged checks what a run without changes does to the status, the queue
// and the last-known snapshot.
func TestConfirmUnchanged(t *testing.T) {
	f := openState(t)
	f.collectUsers(1, 100, twoSinks)
	taken := f.status().Taken
	f.requireNoError(confirm(f.State, 2))
	s := f.status()
	if !s.Taken.Equal(taken) || !s.Checked.After(taken) || !s.DataTime().Equal(s.Checked) || s.Records != 100 {
		t.Errorf("status %+v", s)
	}
	if s.LastSuccess.IsZero() || !s.LastFailure.IsZero() || s.Last.Outcome != state.Unchanged || s.Last.Records != 100 {
		t.Errorf("last run %+v, last success %v, last failure %v", s.Last, s.LastSuccess, s.LastFailure)
	}
	assertEqual(t, "last-known", f.lastKnown(), "id-001/100/collected")
	assertEqual(t, "queue", f.queuedDeliveries(), "id-001>file id-001>s3")
	assertEqual(t, "outcomes", f.outcomes(), "success unchanged")
	assertEqual(t, "directories", f.checkDirs(), "id-001")
	// The next snapshot has a time of its own.
	f.collectUsers(3, 100, twoSinks)
	if s := f.status(); !s.Checked.IsZero() || !s.DataTime().Equal(s.Taken) {
		t.Errorf("after a new snapshot: %+v", s)
	}
}

// TestConfirmUnchangedDropsHeld checks that a held snapshot does not wait any more when
// the vendor has the data of the last-known one again.
func TestConfirmUnchangedDropsHeld(t *testing.T) {
	f := openState(t)
	f.collectUsers(1, 100, twoSinks)
	guarded := twoSinks
	guarded.GuardDropPercent = 50
	f.collectUsers(2, 3, guarded)
	if !f.status().Held {
		t.Fatal("the second snapshot is not held")
	}
	f.requireNoError(confirm(f.State, 3))
	if f.status().Held {
		t.Error("it is held after the vendor's data was the first snapshot's again")
	}
	if _, err := f.Snapshots.Accept(ctx, "okta_users", "acme", twoSinks); !errors.Is(err, state.ErrNoSnapshot) {
		t.Errorf("accepting it: error %v, want %v", err, state.ErrNoSnapshot)
	}
	assertEqual(t, "directories", f.checkDirs(), "id-001")
}

// TestConfirmUnchangedDoubts checks that the doubts about a snapshot stay while it does.
func TestConfirmUnchangedDoubts(t *testing.T) {
	f := openState(t)
	h := newHeader("okta_users", "acme", 1)
	id, err := f.Runs.Begin(ctx, state.RunStart{Header: h, Trigger: "test", Started: h.UploadTimestamp})
	f.requireNoError(err)
	w, err := f.Snapshots.Spool(h)
	f.requireNoError(err)
	f.requireNoError(fillWriter(w, 10))
	_, err = f.Runs.Commit(ctx, id, w, state.RunStats{Doubts: twoDoubts}, twoSinks)
	f.requireNoError(err)
	f.requireNoError(confirm(f.State, 2))
	assertEqual(t, "doubts", f.status().Doubts.String(), twoDoubts.String())
}

// TestConfirmUnchangedOfReplaced checks that a check of a snapshot which another has
// replaced changes nothing.
func TestConfirmUnchangedOfReplaced(t *testing.T) {
	f := openState(t)
	f.collectUsers(1, 100, twoSinks)
	last, _, err := f.Snapshots.LastKnown(ctx, "okta_users", "acme")
	f.requireNoError(err)
	f.collectUsers(2, 90, twoSinks)
	h := newHeader("okta_users", "acme", 3)
	id, err := f.Runs.Begin(ctx, state.RunStart{Header: h, Started: h.UploadTimestamp})
	f.requireNoError(err)
	if err := f.Runs.ConfirmUnchanged(ctx, id, last.Info, time.Now(), state.RunStats{}); !errors.Is(err, state.ErrReplaced) {
		t.Errorf("error %v, want %v", err, state.ErrReplaced)
	}
	if s := f.status(); !s.Checked.IsZero() || s.Last.Outcome != "" {
		t.Errorf("status %+v", s)
	}
}
