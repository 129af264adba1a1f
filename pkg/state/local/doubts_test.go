package local

import (
	"bytes"
	"database/sql"
	"encoding/json"
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

// twoDoubts are the doubts in most tests.
var twoDoubts = snapshot.Doubts{{Text: "received fewer hosts than declared", Count: 3}, {Text: "applications without a finished scan", Count: 12}}

// collectWithDoubts collects the nth snapshot of okta_users, with doubts.
func (f *fixture) collectWithDoubts(n, records int, p state.Policy, doubts snapshot.Doubts) state.CommitResult {
	f.t.Helper()
	h := newHeader("okta_users", "acme", n)
	id, err := f.Runs.Begin(ctx, state.RunStart{Header: h, Trigger: "test", Started: h.UploadTimestamp})
	f.requireNoError(err)
	w, err := f.Snapshots.Spool(h)
	f.requireNoError(err)
	f.requireNoError(fillWriter(w, records))
	done, err := f.Runs.Commit(ctx, id, w, state.RunStats{Records: int64(records), Doubts: doubts}, p)
	f.requireNoError(err)
	return done
}

// assertDoubts checks the doubts in the status of okta_users, and those of its last
// run.
func (f *fixture) assertDoubts(name string, want, wantLast snapshot.Doubts) {
	f.t.Helper()
	status, err := f.Streams(ctx)
	f.requireNoError(err)
	if diff := cmp.Diff(want, status[0].Doubts); diff != "" {
		f.t.Errorf("%s: doubts of the stream (-want +got):\n%s", name, diff)
	}
	if diff := cmp.Diff(wantLast, status[0].Last.Doubts); diff != "" {
		f.t.Errorf("%s: doubts of the last run (-want +got):\n%s", name, diff)
	}
}

func TestDoubtsOfAStream(t *testing.T) {
	t.Parallel()
	f := openState(t)
	fewer, unfinished := twoDoubts[:1], twoDoubts[1:]

	done := f.collectWithDoubts(1, 100, twoSinks, twoDoubts)
	f.assertDoubts("a success with doubts", twoDoubts, twoDoubts)
	if diff := cmp.Diff(twoDoubts, done.Info.Doubts); diff != "" {
		t.Errorf("manifest (-want +got):\n%s", diff)
	}

	id, err := f.Runs.Begin(ctx, state.RunStart{Header: newHeader("okta_users", "acme", 2), Trigger: "test", Started: day.Add(2 * time.Hour)})
	f.requireNoError(err)
	f.requireNoError(f.Runs.Fail(ctx, id, state.Failed, errors.New("no"), state.RunStats{Doubts: fewer}))
	f.assertDoubts("a failure with others", twoDoubts, fewer)

	f.collectWithDoubts(3, 1, twoSinks, unfinished)
	f.assertDoubts("a held snapshot with others", twoDoubts, unfinished)
	_, err = f.Snapshots.Accept(ctx, "okta_users", "acme", twoSinks)
	f.requireNoError(err)
	f.assertDoubts("the held snapshot is accepted", unfinished, unfinished)

	f.collectWithDoubts(4, 0, twoSinks, fewer)
	f.assertDoubts("an empty run that replaces nothing", fewer, fewer)
	assertEqual(t, "last", f.lastKnown(), "id-003/1/collected")

	f.collectWithDoubts(5, 5, twoSinks, nil)
	f.assertDoubts("a success without doubts", nil, nil)

	runs, err := f.Runs.ListTenancy(ctx, "okta_users", "acme", 10)
	f.requireNoError(err)
	var history []snapshot.Doubts
	for _, r := range runs {
		history = append(history, r.Doubts)
	}
	if diff := cmp.Diff([]snapshot.Doubts{nil, fewer, unfinished, fewer, twoDoubts}, history); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
}

// The doubts of the last-known snapshot outlive the history and the database.
func TestDoubtsOutliveTheHistory(t *testing.T) {
	t.Parallel()
	f := openState(t)
	f.collectWithDoubts(1, 100, twoSinks, twoDoubts)
	f.advanceClock(100 * 24 * time.Hour)
	f.requireNoError(f.Sweep(ctx, 24*time.Hour))
	f.assertDoubts("after a sweep", twoDoubts, nil)

	dir := filepath.Join(t.TempDir(), "state")
	f.requireNoError(os.CopyFS(filepath.Join(dir, "snapshots"), os.DirFS(filepath.Join(f.dir, "snapshots"))))
	rebuilt := openStateIn(t, dir)
	if _, err := rebuilt.Recover(ctx, "okta", "acme", twoSinks); err != nil {
		t.Fatal(err)
	}
	rebuilt.assertDoubts("after the loss of the database", twoDoubts, nil)
}

// A run that is killed after its snapshot is sealed keeps its doubts.
func TestRecoverKeepsDoubts(t *testing.T) {
	t.Parallel()
	f := openState(t)
	h := newHeader("okta_users", "acme", 1)
	_, err := f.Runs.Begin(ctx, state.RunStart{Header: h, Trigger: "test", Started: h.UploadTimestamp})
	f.requireNoError(err)
	w, err := f.Snapshots.Spool(h)
	f.requireNoError(err)
	f.requireNoError(fillWriter(w, 5))
	w.SetDoubts(twoDoubts)
	dir := filepath.Join(f.dir, database.SnapshotPlace(h))
	f.requireNoError(os.MkdirAll(filepath.Dir(dir), 0o700))
	_, err = w.Seal(dir)
	f.requireNoError(err)

	found, err := f.Recover(ctx, "okta", "acme", twoSinks)
	f.requireNoError(err)
	assertEqual(t, "completed runs", len(found.Completed), 1)
	f.assertDoubts("recovered", twoDoubts, twoDoubts)
}

// A history from a backup brings its doubts. Without doubts it has the members that
// earlier programs wrote.
func TestImportedDoubts(t *testing.T) {
	t.Parallel()
	f := openState(t)
	f.collectWithDoubts(1, 5, twoSinks, twoDoubts)
	f.collectWithDoubts(2, 5, twoSinks, nil)
	past, err := f.Runs.History(ctx, "okta_users", "acme", 10)
	f.requireNoError(err)
	other := openState(t)
	f.requireNoError(other.Runs.ImportHistory(ctx, newHeader("okta_users", "acme", 0), past))
	again, err := other.Runs.History(ctx, "okta_users", "acme", 10)
	f.requireNoError(err)
	if diff := cmp.Diff(past, again); diff != "" || again.Runs[0].Doubts != nil || !cmp.Equal(again.Runs[1].Doubts, twoDoubts) {
		t.Errorf("imported history (-want +got):\n%s", diff)
	}
	for i, want := range []bool{false, true} {
		if text, err := json.Marshal(again.Runs[i]); err != nil || bytes.Contains(text, []byte(`"doubts"`)) != want {
			t.Errorf("run %d as JSON has doubts: want %t, got %s, error %v", i, want, text, err)
		}
	}
}

// The upgrade adds the columns to a database of the first schema and keeps its rows.
func TestUpgradeAddsDoubts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db, err := sql.Open("sqlite", filepath.Join(dir, databaseName))
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Exec(migrations[0] + `;
		PRAGMA user_version = 1;
		INSERT INTO runs (collector, stream, tenancy, upload_id, cause, started, ended, outcome, records)
		VALUES ('okta', 'okta_users', 'acme', 'id-000', 'once', 1, 2, 'success', 7);
		INSERT INTO counters (collector, stream, tenancy, outcome, runs, last_run, ended, error)
		VALUES ('okta', 'okta_users', 'acme', 'success', 1, 1, 2, '')`)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	f := openStateIn(t, dir)
	assertEqual(t, "version", schemaVersion(t, f.State), len(migrations))
	runs, err := f.Runs.List(ctx, "", 10)
	f.requireNoError(err)
	if len(runs) != 1 || runs[0].Records != 7 || runs[0].Doubts != nil {
		t.Errorf("runs %+v", runs)
	}
	f.assertDoubts("after the upgrade", nil, nil)
	f.collectWithDoubts(1, 5, twoSinks, twoDoubts)
	f.assertDoubts("a run after the upgrade", twoDoubts, twoDoubts)
}
