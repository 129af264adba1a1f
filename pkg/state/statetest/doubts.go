package statetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// TwoDoubts are the doubts in most tests.
var TwoDoubts = snapshot.Doubts{{Text: "received fewer hosts than declared", Count: 3}, {Text: "applications without a finished scan", Count: 12}}

// CollectWithDoubts collects the nth snapshot of okta_users, with doubts.
func (f *Fixture) CollectWithDoubts(n, records int, p state.Policy, doubts snapshot.Doubts) state.CommitResult {
	f.T.Helper()
	h := NewHeader("okta_users", "acme", n)
	lock, err := f.Locks.LockStream(h.Stream, h.Tenancy)
	f.RequireNoError(err)
	id, err := f.Runs.Begin(ctx, state.RunStart{Header: h, Trigger: "test", Started: h.UploadTimestamp})
	f.RequireNoError(err)
	w, err := f.Snapshots.Spool(h)
	f.RequireNoError(err)
	f.RequireNoError(FillWriter(w, records))
	done, err := f.Runs.Commit(ctx, id, w, state.RunStats{Records: int64(records), Doubts: doubts}, p)
	f.RequireNoError(errors.Join(err, lock.Unlock()))
	return done
}

// AssertDoubts checks the doubts in the status of okta_users, and those of its last
// run.
func (f *Fixture) AssertDoubts(name string, want, wantLast snapshot.Doubts) {
	f.T.Helper()
	status, err := f.Streams(ctx)
	f.RequireNoError(err)
	if diff := cmp.Diff(want, status[0].Doubts); diff != "" {
		f.T.Errorf("%s: doubts of the stream (-want +got):\n%s", name, diff)
	}
	if diff := cmp.Diff(wantLast, status[0].Last.Doubts); diff != "" {
		f.T.Errorf("%s: doubts of the last run (-want +got):\n%s", name, diff)
	}
}

func testDoubtsOfAStream(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	fewer, unfinished := TwoDoubts[:1], TwoDoubts[1:]

	done := f.CollectWithDoubts(1, 100, TwoSinks, TwoDoubts)
	f.AssertDoubts("a success with doubts", TwoDoubts, TwoDoubts)
	if diff := cmp.Diff(TwoDoubts, done.Info.Doubts); diff != "" {
		t.Errorf("manifest (-want +got):\n%s", diff)
	}

	id, err := f.Runs.Begin(ctx, state.RunStart{Header: NewHeader("okta_users", "acme", 2), Trigger: "test", Started: Day.Add(2 * time.Hour)})
	f.RequireNoError(err)
	f.RequireNoError(f.Runs.Fail(ctx, id, state.Failed, errors.New("no"), state.RunStats{Doubts: fewer}))
	f.AssertDoubts("a failure with others", TwoDoubts, fewer)

	f.CollectWithDoubts(3, 1, TwoSinks, unfinished)
	f.AssertDoubts("a held snapshot with others", TwoDoubts, unfinished)
	_, err = f.Snapshots.Accept(ctx, "okta_users", "acme", TwoSinks)
	f.RequireNoError(err)
	f.AssertDoubts("the held snapshot is accepted", unfinished, unfinished)

	f.CollectWithDoubts(4, 0, TwoSinks, fewer)
	f.AssertDoubts("an empty run that replaces nothing", fewer, fewer)
	AssertEqual(t, "last", f.LastKnown(), "id-003/1/collected")

	f.CollectWithDoubts(5, 5, TwoSinks, nil)
	f.AssertDoubts("a success without doubts", nil, nil)

	runs, err := f.Runs.ListTenancy(ctx, "okta_users", "acme", 10)
	f.RequireNoError(err)
	var history []snapshot.Doubts
	for _, r := range runs {
		history = append(history, r.Doubts)
	}
	if diff := cmp.Diff([]snapshot.Doubts{nil, fewer, unfinished, fewer, TwoDoubts}, history); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
}

// The doubts of the last-known snapshot outlive the history.
func testDoubtsOutliveTheHistory(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	f.CollectWithDoubts(1, 100, TwoSinks, TwoDoubts)
	f.AdvanceClock(100 * 24 * time.Hour)
	f.RequireNoError(f.Sweep(ctx, 24*time.Hour))
	f.AssertDoubts("after a sweep", TwoDoubts, nil)
}

// A history from a backup brings its doubts. Without doubts it has the members that
// earlier programs wrote.
func testImportedDoubts(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	f.CollectWithDoubts(1, 5, TwoSinks, TwoDoubts)
	f.CollectWithDoubts(2, 5, TwoSinks, nil)
	past, err := f.Runs.History(ctx, "okta_users", "acme", 10)
	f.RequireNoError(err)
	other := harness.NewState(t)
	f.RequireNoError(other.Runs.ImportHistory(ctx, NewHeader("okta_users", "acme", 0), past))
	again, err := other.Runs.History(ctx, "okta_users", "acme", 10)
	f.RequireNoError(err)
	if diff := cmp.Diff(past, again); diff != "" || again.Runs[0].Doubts != nil || !cmp.Equal(again.Runs[1].Doubts, TwoDoubts) {
		t.Errorf("imported history (-want +got):\n%s", diff)
	}
	for i, want := range []bool{false, true} {
		if text, err := json.Marshal(again.Runs[i]); err != nil || bytes.Contains(text, []byte(`"doubts"`)) != want {
			t.Errorf("run %d as JSON has doubts: want %t, got %s, error %v", i, want, text, err)
		}
	}
}
