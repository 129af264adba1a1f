package state

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
)

const keep = 90 * 24 * time.Hour

func TestSweep(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.users(1, 100, Policy{})
	_, err := collect(f.State, header("okta_groups", "acme", 2), 100, Policy{Sinks: []string{"s3"}})
	f.must(err)
	_, err = collect(f.State, header("okta_groups", "acme", 3), 100, Policy{})
	f.must(err)
	f.users(4, 1, twoSinks) // held
	running, err := f.Begin(ctx, Start{Header: header("okta_apps", "acme", 5)})
	f.must(err)
	before, err := f.Streams(ctx)
	f.must(err)

	f.pass(keep)
	f.must(f.Sweep(ctx, keep))
	want(t, "at its age", f.outcomes(), "success success success held ")
	want(t, "folders", f.folders(), "id-002 id-003 id-001 id-004")

	f.pass(time.Millisecond)
	f.must(f.Sweep(ctx, keep))
	want(t, "past its age: only the run that goes on", f.outcomes(), "")
	runs, err := f.Runs(ctx, "", 10)
	f.must(err)
	want(t, "runs", len(runs), 1)
	want(t, "run", runs[0].ID, running)
	want(t, "nothing that somebody needs went", f.folders(), "id-002 id-003 id-001 id-004")
	want(t, "last", f.last(), "id-001/100/collected")
	want(t, "queue", f.queue(), "id-002>s3")
	after, err := f.Streams(ctx)
	f.must(err)
	for i := range after { // the status outlives the history
		want(t, "success", after[i].LastSuccess, before[i].LastSuccess)
		want(t, "failure", after[i].LastFailure, before[i].LastFailure)
		want(t, "error", after[i].FailureErr, before[i].FailureErr)
		want(t, "taken", after[i].Taken, before[i].Taken)
	}
	want(t, "streams", len(after), len(before))
	want(t, "no run", after[2].Last, Run{})
	if _, err := f.Accept(ctx, "okta_users", "acme", twoSinks); err != nil {
		t.Errorf("what was held is not to be had any more: %v", err)
	}
}

// What is queued for a sink that is configured no more can be given up.
func TestDropSink(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.users(1, 10, twoSinks)
	f.users(2, 10, twoSinks)
	n, err := f.DropSink(ctx, "s3")
	f.must(err)
	want(t, "dropped", n, int64(2))
	want(t, "queue", f.queue(), "id-001>file id-002>file")
	n, err = f.DropSink(ctx, "file")
	f.must(err)
	want(t, "dropped", n, int64(2))
	want(t, "folders", f.folders(), "id-002")
	want(t, "last", f.last(), "id-002/10/collected")
}

func TestSweepLeftovers(t *testing.T) {
	t.Parallel()
	f := open(t)
	for _, dir := range []string{"spool/.trash-1/x", "spool/.probe-1", "spool/.restore/restore~a~b/writing", "spool/.restore/restore~c~d/writing"} {
		f.must(os.MkdirAll(filepath.Join(f.dir, dir), 0o700))
	}
	lock, err := f.LockRestore("c", "d")
	f.must(err)
	f.must(f.Sweep(ctx, keep))
	if _, err := os.Stat(filepath.Join(f.dir, "spool/.restore/restore~c~d/writing")); err != nil {
		t.Errorf("what is being restored was removed: %v", err)
	}
	if _, err := f.Recover(ctx, "okta", Policy{}); err != nil {
		t.Error(err)
	}
	f.must(lock.Unlock())
	f.must(f.Sweep(ctx, keep))
	want(t, "folders", f.folders(), "")
}

// What cannot be removed is said, does not fail what has succeeded, and is
// tried again.
func TestSweepTrouble(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.users(1, 5, twoSinks)
	f.users(2, 6, Policy{})
	spool := filepath.Join(f.dir, "spool")
	f.must(os.Rename(spool, spool+"-away"))
	f.must(os.WriteFile(spool, nil, 0o600))
	f.must(deliverAll(f.State))
	want(t, "warnings", f.logs.FilterMessageSnippet("tried again").Len(), 1)
	want(t, "queue", f.queue(), "")
	f.must(os.Remove(spool))
	f.must(os.Rename(spool+"-away", spool))
	want(t, "folders", f.folders(), "id-001 id-002")
	f.must(f.Sweep(ctx, keep))
	want(t, "folders", f.folders(), "id-002")
}

func TestLastKnownDamaged(t *testing.T) {
	t.Parallel()
	f := open(t)
	if _, _, err := f.LastKnown(ctx, "okta_users", "acme"); !errors.Is(err, ErrNone) {
		t.Errorf("nothing known: %v", err)
	}
	done := f.users(1, 5, Policy{})
	dir := filepath.Join(f.dir, folder(done.Info.Header))
	sealed, last, err := f.LastKnown(ctx, "okta_users", "acme")
	f.must(err)
	want(t, "dir", sealed.Dir(), dir)
	want(t, "last", last, Last{Source: Collected, Since: f.now()})
	f.must(os.Truncate(sealed.Path(), 3))
	if _, _, err := f.LastKnown(ctx, "okta_users", "acme"); !errors.Is(err, snapshot.ErrDamaged) {
		t.Errorf("truncated: %v", err)
	}
	f.must(os.RemoveAll(dir))
	if _, _, err := f.LastKnown(ctx, "okta_users", "acme"); !errors.Is(err, snapshot.ErrDamaged) {
		t.Errorf("gone: %v", err)
	}
}
