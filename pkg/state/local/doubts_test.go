package local

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/database"
	"github.com/collectord/collectord/pkg/state/statetest"
)

// A run that is killed after its snapshot is sealed keeps its doubts.
func TestRecoverKeepsDoubts(t *testing.T) {
	t.Parallel()
	f := openState(t)
	h := statetest.NewHeader("okta_users", "acme", 1)
	_, err := f.Runs.Begin(ctx, state.RunStart{Header: h, Trigger: "test", Started: h.UploadTimestamp})
	f.RequireNoError(err)
	w, err := f.Snapshots.Spool(h)
	f.RequireNoError(err)
	f.RequireNoError(statetest.FillWriter(w, 5))
	w.SetDoubts(statetest.TwoDoubts)
	dir := filepath.Join(f.dir, database.SnapshotPlace(h))
	f.RequireNoError(os.MkdirAll(filepath.Dir(dir), 0o700))
	_, err = w.Seal(dir)
	f.RequireNoError(err)

	found, err := f.Recover(ctx, "okta", "acme", statetest.TwoSinks)
	f.RequireNoError(err)
	statetest.AssertEqual(t, "completed runs", len(found.Completed), 1)
	f.AssertDoubts("recovered", statetest.TwoDoubts, statetest.TwoDoubts)
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
	statetest.AssertEqual(t, "version", schemaVersion(t, f.core), len(migrations))
	runs, err := f.Runs.List(ctx, "", 10)
	f.RequireNoError(err)
	if len(runs) != 1 || runs[0].Records != 7 || runs[0].Doubts != nil {
		t.Errorf("runs %+v", runs)
	}
	f.AssertDoubts("after the upgrade", nil, nil)
	f.CollectWithDoubts(1, 5, statetest.TwoSinks, statetest.TwoDoubts)
	f.AssertDoubts("a run after the upgrade", statetest.TwoDoubts, statetest.TwoDoubts)
}

// The doubts of the last-known snapshot outlive the database.
func TestDoubtsOutliveTheDatabase(t *testing.T) {
	t.Parallel()
	f := openState(t)
	f.CollectWithDoubts(1, 100, statetest.TwoSinks, statetest.TwoDoubts)
	dir := filepath.Join(t.TempDir(), "state")
	f.RequireNoError(os.CopyFS(filepath.Join(dir, "snapshots"), os.DirFS(filepath.Join(f.dir, "snapshots"))))
	rebuilt := openStateIn(t, dir)
	if _, err := rebuilt.Recover(ctx, "okta", "acme", statetest.TwoSinks); err != nil {
		t.Fatal(err)
	}
	rebuilt.AssertDoubts("after the loss of the database", statetest.TwoDoubts, nil)
}
