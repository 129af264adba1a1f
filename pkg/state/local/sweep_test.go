package local

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/database"
)

const keepHistory = 90 * 24 * time.Hour

func TestSweep(t *testing.T) {
	t.Parallel()
	f := openState(t)
	f.collectUsers(1, 100, state.Policy{})
	_, err := collectSnapshot(f.State, newHeader("okta_groups", "acme", 2), 100, state.Policy{Sinks: []string{"s3"}})
	f.requireNoError(err)
	_, err = collectSnapshot(f.State, newHeader("okta_groups", "acme", 3), 100, state.Policy{})
	f.requireNoError(err)
	f.collectUsers(4, 1, twoSinks) // held
	running, err := f.Runs.Begin(ctx, state.RunStart{Header: newHeader("okta_apps", "acme", 5)})
	f.requireNoError(err)
	before, err := f.Streams(ctx)
	f.requireNoError(err)

	f.advanceClock(keepHistory)
	f.requireNoError(f.Sweep(ctx, keepHistory))
	assertEqual(t, "history at the age limit", f.outcomes(), "success success success held ")
	assertEqual(t, "directories", f.checkDirs(), "id-002 id-003 id-001 id-004")

	f.advanceClock(time.Millisecond)
	f.requireNoError(f.Sweep(ctx, keepHistory))
	assertEqual(t, "history past the age limit: only the run in progress", f.outcomes(), "")
	runs, err := f.Runs.List(ctx, "", 10)
	f.requireNoError(err)
	assertEqual(t, "runs", len(runs), 1)
	assertEqual(t, "run", runs[0].ID, running)
	assertEqual(t, "directories that are still needed", f.checkDirs(), "id-002 id-003 id-001 id-004")
	assertEqual(t, "last", f.lastKnown(), "id-001/100/collected")
	assertEqual(t, "queue", f.queuedDeliveries(), "id-002>s3")
	after, err := f.Streams(ctx)
	f.requireNoError(err)
	for i := range after { // the status outlives the history
		assertEqual(t, "success", after[i].LastSuccess, before[i].LastSuccess)
		assertEqual(t, "failure", after[i].LastFailure, before[i].LastFailure)
		assertEqual(t, "error", after[i].FailureErr, before[i].FailureErr)
		assertEqual(t, "taken", after[i].Taken, before[i].Taken)
	}
	assertEqual(t, "streams", len(after), len(before))
	if diff := cmp.Diff(state.Run{}, after[2].Last); diff != "" {
		t.Errorf("last run after the history was swept (-want +got):\n%s", diff)
	}
	if _, err := f.Snapshots.Accept(ctx, "okta_users", "acme", twoSinks); err != nil {
		t.Errorf("the held snapshot cannot be accepted: %v", err)
	}
}

// DropSink removes what is queued for a sink that is not configured any more.
func TestDropSink(t *testing.T) {
	t.Parallel()
	f := openState(t)
	f.collectUsers(1, 10, twoSinks)
	f.collectUsers(2, 10, twoSinks)
	n, err := f.Queue.DropSink(ctx, "s3", "acme")
	f.requireNoError(err)
	assertEqual(t, "dropped", n, int64(2))
	assertEqual(t, "queue", f.queuedDeliveries(), "id-001>file id-002>file")
	n, err = f.Queue.DropSink(ctx, "file", "acme")
	f.requireNoError(err)
	assertEqual(t, "dropped", n, int64(2))
	assertEqual(t, "directories", f.checkDirs(), "id-002")
	assertEqual(t, "last", f.lastKnown(), "id-002/10/collected")
}

func TestSweepLeftovers(t *testing.T) {
	t.Parallel()
	f := openState(t)
	for _, dir := range []string{"spool/.trash-1/x", "spool/.probe-1", "spool/.restore/restore~a~b/writing", "spool/.restore/restore~c~d/writing"} {
		f.requireNoError(os.MkdirAll(filepath.Join(f.dir, dir), 0o700))
	}
	lock, err := f.Locks.LockRestore("c", "d")
	f.requireNoError(err)
	f.requireNoError(f.Sweep(ctx, keepHistory))
	if _, err := os.Stat(filepath.Join(f.dir, "spool/.restore/restore~c~d/writing")); err != nil {
		t.Errorf("the spool of a running restore was removed: %v", err)
	}
	if _, err := f.Recover(ctx, "okta", "acme", state.Policy{}); err != nil {
		t.Error(err)
	}
	f.requireNoError(lock.Unlock())
	f.requireNoError(f.Sweep(ctx, keepHistory))
	assertEqual(t, "directories", f.checkDirs(), "")
}

// When a snapshot cannot be removed, the delivery still succeeds, a warning is
// logged, and the next sweep removes it.
func TestSweepFails(t *testing.T) {
	t.Parallel()
	f := openState(t)
	f.collectUsers(1, 5, twoSinks)
	f.collectUsers(2, 6, state.Policy{})
	spool := filepath.Join(f.dir, "spool")
	f.requireNoError(os.Rename(spool, spool+"-away"))
	f.requireNoError(os.WriteFile(spool, nil, 0o600))
	f.requireNoError(deliverAll(f.State))
	assertEqual(t, "warnings", f.logs.FilterMessageSnippet("tries again").Len(), 1)
	assertEqual(t, "queue", f.queuedDeliveries(), "")
	f.requireNoError(os.Remove(spool))
	f.requireNoError(os.Rename(spool+"-away", spool))
	assertEqual(t, "directories", f.checkDirs(), "id-001 id-002")
	f.requireNoError(f.Sweep(ctx, keepHistory))
	assertEqual(t, "directories", f.checkDirs(), "id-002")
}

func TestLastKnownDamaged(t *testing.T) {
	t.Parallel()
	f := openState(t)
	if _, _, err := f.Snapshots.LastKnown(ctx, "okta_users", "acme"); !errors.Is(err, state.ErrNoSnapshot) {
		t.Errorf("no snapshot: error %v, want ErrNoSnapshot", err)
	}
	done := f.collectUsers(1, 5, state.Policy{})
	dir := filepath.Join(f.dir, database.SnapshotPlace(done.Info.Header))
	sealed, last, err := f.Snapshots.LastKnown(ctx, "okta_users", "acme")
	f.requireNoError(err)
	assertEqual(t, "dir", sealed.Dir(), dir)
	assertEqual(t, "last", last, state.LastKnownInfo{Source: state.Collected, Since: f.now()})
	f.requireNoError(os.Truncate(sealed.Path(), 3))
	if _, _, err := f.Snapshots.LastKnown(ctx, "okta_users", "acme"); !errors.Is(err, snapshot.ErrDamaged) {
		t.Errorf("truncated: error %v, want ErrDamaged", err)
	}
	f.requireNoError(os.RemoveAll(dir))
	if _, _, err := f.Snapshots.LastKnown(ctx, "okta_users", "acme"); !errors.Is(err, snapshot.ErrDamaged) {
		t.Errorf("removed: error %v, want ErrDamaged", err)
	}
}
