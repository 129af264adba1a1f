package local

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/database"
)

func TestRestoreRules(t *testing.T) {
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
			f := openState(t)
			if tc.local > 0 {
				f.collectUsers(tc.local, tc.localRecords, state.Policy{})
			}
			_, err := collectSnapshot(f.State, newHeader("okta_users", "umbrella", 9), 7, state.Policy{})
			f.requireNoError(err)
			runs := f.outcomes()
			restored, err := restoreSnapshot(f.State, newHeader("okta_users", "acme", tc.backup), tc.backupRecords, state.Policy{})
			f.requireNoError(err)
			assertEqual(t, "restored", restored, tc.restored)
			assertEqual(t, "last", f.lastKnown(), tc.last)
			assertEqual(t, "another tenancy", f.lastKnownOf("okta_users", "umbrella"), "id-009/7/collected")
			assertEqual(t, "queue", f.queuedDeliveries(), "")
			assertEqual(t, "history", f.outcomes(), runs)
			f.checkDirs()
			found, err := f.Recover(ctx, "okta", "acme", twoSinks)
			f.requireNoError(err)
			assertEqual(t, "recovered", len(found.Completed)+len(found.Reclaimed)+len(found.Lost)+int(found.Interrupted), 0)
			assertEqual(t, "last", f.lastKnown(), tc.last)
		})
	}
}

// Queued and held snapshots stay, whether older or newer than the backup.
func TestRestoreWithQueuedAndHeld(t *testing.T) {
	t.Parallel()
	f := openState(t)
	f.collectUsers(1, 100, twoSinks)
	f.collectUsers(6, 3, twoSinks) // held
	restored, err := restoreSnapshot(f.State, newHeader("okta_users", "acme", 5), 100, state.Policy{})
	f.requireNoError(err)
	assertEqual(t, "restored", restored, true)
	assertEqual(t, "last", f.lastKnown(), "id-005/100/restored")
	assertEqual(t, "queue", f.queuedDeliveries(), "id-001>file id-001>s3")
	info, err := f.Snapshots.Accept(ctx, "okta_users", "acme", twoSinks)
	f.requireNoError(err)
	assertEqual(t, "accepted", info.UploadID, "id-006")
	assertEqual(t, "last", f.lastKnown(), "id-006/3/collected")
	done := f.collectUsers(7, 3, twoSinks)
	assertEqual(t, "outcome of the next run", done.Outcome, state.Success)
	assertEqual(t, "last", f.lastKnown(), "id-007/3/collected")
}

func TestRestoreOlderThanHeld(t *testing.T) {
	t.Parallel()
	f := openState(t)
	f.collectUsers(1, 100, state.Policy{})
	f.collectUsers(2, 3, twoSinks) // held
	restored, err := restoreSnapshot(f.State, newHeader("okta_users", "acme", 5), 100, state.Policy{})
	f.requireNoError(err)
	assertEqual(t, "restored", restored, true)
	if _, err := f.Snapshots.Accept(ctx, "okta_users", "acme", twoSinks); !errors.Is(err, state.ErrNoSnapshot) {
		t.Errorf("a snapshot older than the backup was accepted: error %v", err)
	}
	assertEqual(t, "last", f.lastKnown(), "id-005/100/restored")
}

// A backup replaces a damaged snapshot of the same run, also in the queue.
func TestRestoreOverDamaged(t *testing.T) {
	t.Parallel()
	for _, recoverFirst := range []bool{false, true} {
		f := openState(t)
		done := f.collectUsers(1, 100, twoSinks)
		dir := filepath.Join(f.dir, database.SnapshotPlace(done.Info.Header))
		f.requireNoError(os.Truncate(filepath.Join(dir, "records.ndjson.zst"), 3))
		queue := "id-001>file id-001>s3"
		if recoverFirst {
			found, err := f.Recover(ctx, "okta", "acme", twoSinks)
			f.requireNoError(err)
			assertEqual(t, "lost", len(found.Lost), 1)
			queue = ""
		}
		restored, err := restoreSnapshot(f.State, newHeader("okta_users", "acme", 1), 100, state.Policy{})
		f.requireNoError(err)
		assertEqual(t, "restored", restored, true)
		assertEqual(t, "last", f.lastKnown(), "id-001/100/restored")
		assertEqual(t, "queue", f.queuedDeliveries(), queue)
		found, err := f.Recover(ctx, "okta", "acme", twoSinks)
		f.requireNoError(err)
		assertEqual(t, "reclaimed", len(found.Reclaimed), 0)
		assertEqual(t, "directories", f.checkDirs(), "id-001"+database.RestoredSuffix)
	}
}

// An aborted restore leaves nothing.
func TestRestoreAborted(t *testing.T) {
	t.Parallel()
	f := openState(t)
	f.collectUsers(1, 10, state.Policy{})
	lock, err := f.Locks.LockRestore("okta_users", "acme")
	f.requireNoError(err)
	w, err := f.Snapshots.SpoolRestore(newHeader("okta_users", "acme", 2))
	f.requireNoError(err)
	f.requireNoError(fillCopyWriter(w, newHeader("okta_users", "acme", 2), 5))
	f.requireNoError(w.Abort())
	if _, err := f.Snapshots.Restore(ctx, w, state.Policy{}); err == nil {
		t.Error("an aborted writer was restored")
	}
	f.requireNoError(lock.Unlock())
	f.requireNoError(f.Sweep(ctx, keepHistory))
	assertEqual(t, "last", f.lastKnown(), "id-001/10/collected")
	assertEqual(t, "directories", f.checkDirs(), "id-001")
}

// A restore that was killed after it moved the directory can be repeated without a
// recovery.
func TestRestoreAgain(t *testing.T) {
	t.Parallel()
	f := openState(t)
	f.collectUsers(1, 100, state.Policy{})
	cmd, stderr := newChild(t, "crash", f.dir, "restore moved", "restore")
	if err := cmd.Run(); !wasKilled(err) {
		t.Fatal(err, stderr)
	}
	restored, err := restoreSnapshot(f.State, newHeader("okta_users", "acme", 5), 80, state.Policy{})
	f.requireNoError(err)
	assertEqual(t, "restored", restored, true)
	assertEqual(t, "last", f.lastKnown(), "id-005/80/restored")
	assertEqual(t, "found", f.recoverOkta(), foundNothing)
	f.checkDirs()
}

// TestRestoreGuard: a backup that has far fewer records than the last-known
// snapshot is held.
func TestRestoreGuard(t *testing.T) {
	t.Parallel()
	f := openState(t)
	f.collectUsers(1, 100, state.Policy{})
	h := newHeader("okta_users", "acme", 5)
	restore := func(p state.Policy) {
		t.Helper()
		restored, err := restoreSnapshot(f.State, h, 3, p)
		f.requireNoError(err)
		assertEqual(t, "restored", restored, p.GuardDropPercent == 0)
	}
	restore(twoSinks)
	assertEqual(t, "last", f.lastKnown(), "id-001/100/collected")
	held, err := f.Snapshots.HasHeldBackup(ctx, h)
	f.requireNoError(err)
	assertEqual(t, "held", held, true)
	restore(twoSinks) // of the next start
	assertEqual(t, "last", f.lastKnown(), "id-001/100/collected")
	f.checkDirs()
	_, err = f.Snapshots.Accept(ctx, "okta_users", "acme", state.Policy{Sinks: []string{"file"}})
	f.requireNoError(err)
	assertEqual(t, "last", f.lastKnown(), "id-005/3/restored")
	assertEqual(t, "queue", f.queuedDeliveries(), "id-005>file")
}

// TestRestoreFromTheFuture: a backup of a machine whose clock was wrong replaces
// nothing, and is replaced by one of the present.
func TestRestoreFromTheFuture(t *testing.T) {
	t.Parallel()
	f := openState(t)
	future := newHeader("okta_users", "acme", 9000)
	restore := func(h snapshot.Header, want bool) {
		t.Helper()
		restored, err := restoreSnapshot(f.State, h, 3, state.Policy{})
		f.requireNoError(err)
		assertEqual(t, "restored", restored, want)
	}
	restore(future, true) // nothing else is known
	assertEqual(t, "last", f.lastKnown(), "id-9000/3/restored")
	restore(newHeader("okta_users", "acme", 2), true)
	assertEqual(t, "last", f.lastKnown(), "id-002/3/restored")
	restore(future, false)
	assertEqual(t, "last", f.lastKnown(), "id-002/3/restored")
	f.collectUsers(9001, 50, state.Policy{}) // by a clock that is wrong now
	restore(newHeader("okta_users", "acme", 3), true)
	assertEqual(t, "last", f.lastKnown(), "id-003/3/restored")
}
