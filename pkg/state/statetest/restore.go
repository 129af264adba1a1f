package statetest

import (
	"errors"
	"testing"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

func testRestoreRules(t *testing.T, harness Harness) {
	t.Parallel()
	for _, tc := range []struct {
		name          string
		local         int // number of the local snapshot, 0 for none
		localRecords  int
		backup        int // number of the snapshot in the backup
		backupRecords int
		restored      bool
		last          string // the last-known snapshot afterwards
	}{
		{name: "no local snapshot", local: 0, localRecords: 0, backup: 5, backupRecords: 10, restored: true, last: "id-005/10/restored"},
		{name: "no local snapshot, empty", local: 0, localRecords: 0, backup: 5, backupRecords: 0, restored: true, last: "id-005/0/restored"},
		{name: "local is older", local: 4, localRecords: 10, backup: 5, backupRecords: 1, restored: true, last: "id-005/1/restored"},
		{name: "the same run", local: 5, localRecords: 10, backup: 5, backupRecords: 10, restored: false, last: "id-005/10/collected"},
		{name: "local is newer", local: 6, localRecords: 10, backup: 5, backupRecords: 1000, restored: false, last: "id-006/10/collected"},
		{name: "empty, local is older", local: 4, localRecords: 10, backup: 5, backupRecords: 0, restored: false, last: "id-004/10/collected"},
		{name: "empty, local is older and empty", local: 4, localRecords: 0, backup: 5, backupRecords: 0, restored: true, last: "id-005/0/restored"},
		{name: "local is newer and empty", local: 6, localRecords: 0, backup: 5, backupRecords: 10, restored: false, last: "id-006/0/collected"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := harness.NewState(t)
			if tc.local > 0 {
				f.CollectUsers(tc.local, tc.localRecords, state.Policy{})
			}
			_, err := CollectSnapshot(f.State, NewHeader("okta_users", "umbrella", 9), 7, state.Policy{})
			f.RequireNoError(err)
			runs := f.Outcomes()
			restored, err := RestoreSnapshot(f.State, NewHeader("okta_users", "acme", tc.backup), tc.backupRecords, state.Policy{})
			f.RequireNoError(err)
			AssertEqual(t, "restored", restored, tc.restored)
			AssertEqual(t, "last", f.LastKnown(), tc.last)
			AssertEqual(t, "another tenancy", f.LastKnownOf("okta_users", "umbrella"), "id-009/7/collected")
			AssertEqual(t, "queue", f.QueuedDeliveries(), "")
			AssertEqual(t, "history", f.Outcomes(), runs)
			f.CheckStored()
			found, err := f.Recover(ctx, "okta", "acme", TwoSinks)
			f.RequireNoError(err)
			AssertEqual(t, "recovered", len(found.Completed)+len(found.Reclaimed)+len(found.Lost)+int(found.Interrupted), 0)
			AssertEqual(t, "last", f.LastKnown(), tc.last)
		})
	}
}

// Queued and held snapshots stay, whether older or newer than the backup.
func testRestoreWithQueuedAndHeld(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	f.CollectUsers(1, 100, TwoSinks)
	f.CollectUsers(6, 3, TwoSinks) // held
	restored, err := RestoreSnapshot(f.State, NewHeader("okta_users", "acme", 5), 100, state.Policy{})
	f.RequireNoError(err)
	AssertEqual(t, "restored", restored, true)
	AssertEqual(t, "last", f.LastKnown(), "id-005/100/restored")
	AssertEqual(t, "queue", f.QueuedDeliveries(), "id-001>file id-001>s3")
	info, err := f.Snapshots.Accept(ctx, "okta_users", "acme", TwoSinks)
	f.RequireNoError(err)
	AssertEqual(t, "accepted", info.UploadID, "id-006")
	AssertEqual(t, "last", f.LastKnown(), "id-006/3/collected")
	done := f.CollectUsers(7, 3, TwoSinks)
	AssertEqual(t, "outcome of the next run", done.Outcome, state.Success)
	AssertEqual(t, "last", f.LastKnown(), "id-007/3/collected")
}

func testRestoreOlderThanHeld(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	f.CollectUsers(1, 100, state.Policy{})
	f.CollectUsers(2, 3, TwoSinks) // held
	restored, err := RestoreSnapshot(f.State, NewHeader("okta_users", "acme", 5), 100, state.Policy{})
	f.RequireNoError(err)
	AssertEqual(t, "restored", restored, true)
	if _, err := f.Snapshots.Accept(ctx, "okta_users", "acme", TwoSinks); !errors.Is(err, state.ErrNoSnapshot) {
		t.Errorf("a snapshot older than the backup was accepted: error %v", err)
	}
	AssertEqual(t, "last", f.LastKnown(), "id-005/100/restored")
}

// A backup replaces a damaged snapshot of the same run, also in the queue.
func testRestoreOverDamaged(t *testing.T, harness Harness) {
	t.Parallel()
	for _, recoverFirst := range []bool{false, true} {
		f := harness.NewState(t)
		done := f.CollectUsers(1, 100, TwoSinks)
		f.Alter(done.Info.Header, Records, Shorten)
		queue := "id-001>file id-001>s3"
		if recoverFirst {
			found, err := f.Recover(ctx, "okta", "acme", TwoSinks)
			f.RequireNoError(err)
			AssertEqual(t, "lost", len(found.Lost), 1)
			queue = ""
		}
		restored, err := RestoreSnapshot(f.State, NewHeader("okta_users", "acme", 1), 100, state.Policy{})
		f.RequireNoError(err)
		AssertEqual(t, "restored", restored, true)
		AssertEqual(t, "last", f.LastKnown(), "id-001/100/restored")
		AssertEqual(t, "queue", f.QueuedDeliveries(), queue)
		found, err := f.Recover(ctx, "okta", "acme", TwoSinks)
		f.RequireNoError(err)
		AssertEqual(t, "reclaimed", len(found.Reclaimed), 0)
		AssertEqual(t, "directories", f.CheckStored(), "id-001")
	}
}

// An aborted restore leaves nothing.
func testRestoreAborted(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	f.CollectUsers(1, 10, state.Policy{})
	lock, err := f.Locks.LockRestore("okta_users", "acme")
	f.RequireNoError(err)
	w, err := f.Snapshots.SpoolRestore(NewHeader("okta_users", "acme", 2))
	f.RequireNoError(err)
	f.RequireNoError(FillCopyWriter(w, NewHeader("okta_users", "acme", 2), 5))
	f.RequireNoError(w.Abort())
	if _, err := f.Snapshots.Restore(ctx, w, state.Policy{}); err == nil {
		t.Error("an aborted writer was restored")
	}
	f.RequireNoError(lock.Unlock())
	f.RequireNoError(f.Sweep(ctx, KeepHistory))
	AssertEqual(t, "last", f.LastKnown(), "id-001/10/collected")
	AssertEqual(t, "directories", f.CheckStored(), "id-001")
}

// A restore that was killed after it moved the directory can be repeated without a
// recovery.
func testRestoreAgain(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	f.CollectUsers(1, 100, state.Policy{})
	cmd, stderr := NewChild(t, "crash", f.Place, "restore moved", "restore", "")
	if err := cmd.Run(); !WasKilled(err) {
		t.Fatal(err, stderr)
	}
	var restored bool
	f.AfterOwnerDied(func() (err error) {
		restored, err = RestoreSnapshot(f.State, NewHeader("okta_users", "acme", 5), 80, state.Policy{})
		return err
	})
	AssertEqual(t, "restored", restored, true)
	AssertEqual(t, "last", f.LastKnown(), "id-005/80/restored")
	AssertEqual(t, "found", f.RecoverOkta(), FoundNothing)
	f.RemoveGarbage()
	f.CheckStored()
}

// testRestoreGuard: a backup that has far fewer records than the last-known
// snapshot is held.
func testRestoreGuard(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	f.CollectUsers(1, 100, state.Policy{})
	h := NewHeader("okta_users", "acme", 5)
	restore := func(p state.Policy) {
		t.Helper()
		restored, err := RestoreSnapshot(f.State, h, 3, p)
		f.RequireNoError(err)
		AssertEqual(t, "restored", restored, p.GuardDropPercent == 0)
	}
	restore(TwoSinks)
	AssertEqual(t, "last", f.LastKnown(), "id-001/100/collected")
	held, err := f.Snapshots.HasHeldBackup(ctx, h)
	f.RequireNoError(err)
	AssertEqual(t, "held", held, true)
	restore(TwoSinks) // of the next start
	AssertEqual(t, "last", f.LastKnown(), "id-001/100/collected")
	f.CheckStored()
	_, err = f.Snapshots.Accept(ctx, "okta_users", "acme", state.Policy{Sinks: []string{"file"}})
	f.RequireNoError(err)
	AssertEqual(t, "last", f.LastKnown(), "id-005/3/restored")
	AssertEqual(t, "queue", f.QueuedDeliveries(), "id-005>file")
}

// testRestoreFromTheFuture: a backup of a machine whose clock was wrong replaces
// nothing, and is replaced by one of the present.
func testRestoreFromTheFuture(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	future := NewHeader("okta_users", "acme", 9000)
	restore := func(h snapshot.Header, want bool) {
		t.Helper()
		restored, err := RestoreSnapshot(f.State, h, 3, state.Policy{})
		f.RequireNoError(err)
		AssertEqual(t, "restored", restored, want)
	}
	restore(future, true) // nothing else is known
	AssertEqual(t, "last", f.LastKnown(), "id-9000/3/restored")
	restore(NewHeader("okta_users", "acme", 2), true)
	AssertEqual(t, "last", f.LastKnown(), "id-002/3/restored")
	restore(future, false)
	AssertEqual(t, "last", f.LastKnown(), "id-002/3/restored")
	f.CollectUsers(9001, 50, state.Policy{}) // by a clock that is wrong now
	restore(NewHeader("okta_users", "acme", 3), true)
	AssertEqual(t, "last", f.LastKnown(), "id-003/3/restored")
}
