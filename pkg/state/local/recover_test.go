package local

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/database"
	"github.com/collectord/collectord/pkg/state/statetest"
)

// flipBit flips one bit in the records of the snapshot in dir.
func flipBit(f *statetest.Fixture, dir string) {
	f.T.Helper()
	path := filepath.Join(dir, statetest.Records)
	text, err := os.ReadFile(path)
	f.RequireNoError(err)
	f.RequireNoError(os.WriteFile(path, statetest.FlipBit(text), 0o600))
}

// Recover completes a run whose snapshot is in the directory.
func TestRecoverSealed(t *testing.T) {
	t.Parallel()
	for _, tc := range []statetest.RecoverCase{
		{Name: "sealed", Leave: func(f *statetest.Fixture) { f.BeginRun(2); sealUnrecorded(f, 2, 90) },
			Found: "spools=0 completed=1 reclaimed=0 interrupted=0 lost=0", Last: "id-002/90/collected", Queue: "id-002>file id-002>s3", Outcomes: "success success"},
		{Name: "sealed with few records", Leave: func(f *statetest.Fixture) { f.BeginRun(2); sealUnrecorded(f, 2, 9) },
			Found: "spools=0 completed=1 reclaimed=0 interrupted=0 lost=0", Last: "id-001/100/collected", Outcomes: "success held"},
		{Name: "sealed empty", Leave: func(f *statetest.Fixture) { f.BeginRun(2); sealUnrecorded(f, 2, 0) },
			Found: "spools=0 completed=1 reclaimed=0 interrupted=0 lost=0", Last: "id-001/100/collected", Outcomes: "success empty"},
		{Name: "sealed, then damaged", Leave: func(f *statetest.Fixture) { f.BeginRun(2); flipBit(f, sealUnrecorded(f, 2, 90)) },
			Found: "spools=0 completed=0 reclaimed=0 interrupted=1 lost=1", Last: "id-001/100/collected", Outcomes: "success interrupted"},
		{Name: "sealed, but the run failed", Leave: func(f *statetest.Fixture) {
			id := f.BeginRun(2)
			sealUnrecorded(f, 2, 90)
			f.RequireNoError(f.Runs.Fail(ctx, id, state.Failed, errors.New("disk full"), state.RunStats{}))
		}, Found: statetest.FoundNothing, Last: "id-001/100/collected", Outcomes: "success failed"},
		{Name: "an old directory came back", Leave: func(f *statetest.Fixture) { sealUnrecorded(f, 0, 90) },
			Found: statetest.FoundNothing, Last: "id-001/100/collected", Outcomes: "success"},
		{Name: "sealed twice", Leave: func(f *statetest.Fixture) {
			f.BeginRun(2)
			f.BeginRun(3)
			sealUnrecorded(f, 3, 91)
			sealUnrecorded(f, 2, 90)
		},
			Found: "spools=0 completed=2 reclaimed=0 interrupted=0 lost=0", Last: "id-003/91/collected", Queue: "id-002>file id-002>s3 id-003>file id-003>s3", Outcomes: "success success success"},
	} {
		t.Run(tc.Name, func(t *testing.T) {
			t.Parallel()
			tc.Check(t, harness.NewState(t))
		})
	}
}

// A lost database is rebuilt from the directories.
func TestRecoverWithoutDatabase(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	long := strings.Repeat("ä", 100)
	func() {
		s, err := openDirectory(ctx, dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for n, run := range []struct {
			tenancy string
			records int
		}{{"acme", 100}, {"acme", 101}, {"acme", 1}, {long, 7}, {"acme", 0}} {
			if _, err := statetest.CollectSnapshot(s.With(s), statetest.NewHeader("okta_users", run.tenancy, n+1), run.records, statetest.TwoSinks); err != nil {
				t.Fatal(err)
			}
		}
		if restored, err := statetest.RestoreSnapshot(s.With(s), statetest.NewHeader("okta_groups", "acme", 6), 5, state.Policy{}); err != nil || !restored {
			t.Fatal(restored, err)
		}
	}()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.RemoveAll(filepath.Join(dir, databaseName+suffix)); err != nil {
			t.Fatal(err)
		}
	}
	f := openStateIn(t, dir)
	statetest.AssertEqual(t, "found", f.RecoverOkta(), "spools=0 completed=0 reclaimed=3 interrupted=0 lost=0")
	r, err := f.Recover(ctx, "okta", long, statetest.TwoSinks)
	f.RequireNoError(err)
	statetest.AssertEqual(t, "found of another tenancy", len(r.Reclaimed), 1)
	statetest.AssertEqual(t, "last", f.LastKnown(), "id-002/101/collected")
	statetest.AssertEqual(t, "another tenancy", f.LastKnownOf("okta_users", long), "id-004/7/collected")
	statetest.AssertEqual(t, "queue", f.QueuedDeliveries(), "id-001>file id-001>s3 id-002>file id-002>s3 id-004>file id-004>s3")
	info, err := f.Snapshots.Accept(ctx, "okta_users", "acme", state.Policy{})
	f.RequireNoError(err)
	statetest.AssertEqual(t, "still held", info.UploadID, "id-003")
	statetest.AssertEqual(t, "found again", f.RecoverOkta(), statetest.FoundNothing)
	f.CheckStored()
}

func TestRecoverDamagedWithoutDatabase(t *testing.T) {
	t.Parallel()
	f := openState(t)
	dir := sealUnrecorded(f.Fixture, 1, 100)
	f.RequireNoError(os.WriteFile(filepath.Join(dir, "manifest.json"), []byte("{"), 0o600))
	flipBit(f.Fixture, sealUnrecorded(f.Fixture, 2, 100))
	sealUnrecorded(f.Fixture, 3, 100)
	statetest.AssertEqual(t, "found", f.RecoverOkta(), "spools=0 completed=0 reclaimed=1 interrupted=0 lost=2")
	statetest.AssertEqual(t, "last", f.LastKnown(), "id-003/100/collected")
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("a directory of an unknown collector was removed: %v", err)
	}
}

// sealUnrecorded seals a snapshot that the database does not have, and returns its
// directory.
func sealUnrecorded(f *statetest.Fixture, n, records int) string {
	f.T.Helper()
	h := statetest.NewHeader("okta_users", "acme", n)
	w, err := f.Snapshots.Spool(h)
	f.RequireNoError(err)
	f.RequireNoError(statetest.FillWriter(w, records))
	dir := filepath.Join(f.Dir(), database.SnapshotPlace(h))
	f.RequireNoError(os.MkdirAll(filepath.Dir(dir), 0o700))
	_, err = w.Seal(dir)
	f.RequireNoError(err)
	return dir
}
