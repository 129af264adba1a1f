package statetest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// KeepHistory is how long the tests keep the history.
const KeepHistory = 90 * 24 * time.Hour

func testSweep(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	f.CollectUsers(1, 100, state.Policy{})
	_, err := CollectSnapshot(f.State, NewHeader("okta_groups", "acme", 2), 100, state.Policy{Sinks: []string{"s3"}})
	f.RequireNoError(err)
	_, err = CollectSnapshot(f.State, NewHeader("okta_groups", "acme", 3), 100, state.Policy{})
	f.RequireNoError(err)
	f.CollectUsers(4, 1, TwoSinks) // held
	running, err := f.Runs.Begin(ctx, state.RunStart{Header: NewHeader("okta_apps", "acme", 5)})
	f.RequireNoError(err)
	before, err := f.Streams(ctx)
	f.RequireNoError(err)

	f.AdvanceClock(KeepHistory)
	f.RequireNoError(f.Sweep(ctx, KeepHistory))
	AssertEqual(t, "history at the age limit", f.Outcomes(), "success success success held ")
	AssertEqual(t, "directories", f.CheckStored(), "id-002 id-003 id-001 id-004")

	f.AdvanceClock(time.Millisecond)
	f.RequireNoError(f.Sweep(ctx, KeepHistory))
	AssertEqual(t, "history past the age limit: only the run in progress", f.Outcomes(), "")
	runs, err := f.Runs.List(ctx, "", 10)
	f.RequireNoError(err)
	AssertEqual(t, "runs", len(runs), 1)
	AssertEqual(t, "run", runs[0].ID, running)
	AssertEqual(t, "directories that are still needed", f.CheckStored(), "id-002 id-003 id-001 id-004")
	AssertEqual(t, "last", f.LastKnown(), "id-001/100/collected")
	AssertEqual(t, "queue", f.QueuedDeliveries(), "id-002>s3")
	after, err := f.Streams(ctx)
	f.RequireNoError(err)
	for i := range after { // the status outlives the history
		AssertEqual(t, "success", after[i].LastSuccess, before[i].LastSuccess)
		AssertEqual(t, "failure", after[i].LastFailure, before[i].LastFailure)
		AssertEqual(t, "error", after[i].FailureErr, before[i].FailureErr)
		AssertEqual(t, "taken", after[i].Taken, before[i].Taken)
	}
	AssertEqual(t, "streams", len(after), len(before))
	if diff := cmp.Diff(state.Run{}, after[2].Last); diff != "" {
		t.Errorf("last run after the history was swept (-want +got):\n%s", diff)
	}
	if _, err := f.Snapshots.Accept(ctx, "okta_users", "acme", TwoSinks); err != nil {
		t.Errorf("the held snapshot cannot be accepted: %v", err)
	}
}

// DropSink removes what is queued for a sink that is not configured any more.
func testDropSink(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	f.CollectUsers(1, 10, TwoSinks)
	f.CollectUsers(2, 10, TwoSinks)
	n, err := f.Queue.DropSink(ctx, "s3", "acme")
	f.RequireNoError(err)
	AssertEqual(t, "dropped", n, int64(2))
	AssertEqual(t, "queue", f.QueuedDeliveries(), "id-001>file id-002>file")
	n, err = f.Queue.DropSink(ctx, "file", "acme")
	f.RequireNoError(err)
	AssertEqual(t, "dropped", n, int64(2))
	AssertEqual(t, "directories", f.CheckStored(), "id-002")
	AssertEqual(t, "last", f.LastKnown(), "id-002/10/collected")
}

func testSweepLeftovers(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	for _, dir := range []string{"spool/.trash-1/x", "spool/.probe-1", "spool/.restore/restore~a~b/writing", "spool/.restore/restore~c~d/writing"} {
		f.RequireNoError(os.MkdirAll(filepath.Join(f.Dir(), dir), 0o700))
	}
	lock, err := f.Locks.LockRestore("c", "d")
	f.RequireNoError(err)
	f.RequireNoError(f.Sweep(ctx, KeepHistory))
	if _, err := os.Stat(filepath.Join(f.Dir(), "spool/.restore/restore~c~d/writing")); err != nil {
		t.Errorf("the spool of a running restore was removed: %v", err)
	}
	if _, err := f.Recover(ctx, "okta", "acme", state.Policy{}); err != nil {
		t.Error(err)
	}
	f.RequireNoError(lock.Unlock())
	f.RequireNoError(f.Sweep(ctx, KeepHistory))
	AssertEqual(t, "directories", f.CheckStored(), "")
}

func testLastKnownDamaged(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	if _, _, err := f.Snapshots.LastKnown(ctx, "okta_users", "acme"); !errors.Is(err, state.ErrNoSnapshot) {
		t.Errorf("no snapshot: error %v, want ErrNoSnapshot", err)
	}
	done := f.CollectUsers(1, 5, state.Policy{})
	_, last, err := f.Snapshots.LastKnown(ctx, "okta_users", "acme")
	f.RequireNoError(err)
	AssertEqual(t, "last", last, state.LastKnownInfo{Source: state.Collected, Since: f.Now()})
	f.Alter(done.Info.Header, Records, Shorten)
	if _, _, err := f.Snapshots.LastKnown(ctx, "okta_users", "acme"); !errors.Is(err, snapshot.ErrDamaged) {
		t.Errorf("truncated: error %v, want ErrDamaged", err)
	}
	f.Alter(done.Info.Header, Manifest, Remove)
	if _, _, err := f.Snapshots.LastKnown(ctx, "okta_users", "acme"); !errors.Is(err, snapshot.ErrDamaged) {
		t.Errorf("removed: error %v, want ErrDamaged", err)
	}
}
