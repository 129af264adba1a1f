package local

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/database"
)

// flipBit flips one bit in the records of the snapshot in dir.
func flipBit(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, "records.ndjson.zst")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 1
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// sealUnrecorded seals a snapshot that the database does not have, and returns its
// directory.
func sealUnrecorded(f *fixture, n, records int) string {
	f.t.Helper()
	h := newHeader("okta_users", "acme", n)
	w, err := f.Snapshots.Spool(h)
	f.requireNoError(err)
	f.requireNoError(fillWriter(w, records))
	dir := filepath.Join(f.dir, database.SnapshotPlace(h))
	f.requireNoError(os.MkdirAll(filepath.Dir(dir), 0o700))
	_, err = w.Seal(dir)
	f.requireNoError(err)
	return dir
}

// beginRun begins the nth run of okta_users.
func (f *fixture) beginRun(n int) state.RunID {
	f.t.Helper()
	id, err := f.Runs.Begin(ctx, state.RunStart{Header: newHeader("okta_users", "acme", n), Trigger: "test", Started: day})
	f.requireNoError(err)
	return id
}

// recoverOkta recovers the collector okta and returns a summary of the result.
func (f *fixture) recoverOkta() string {
	f.t.Helper()
	r, err := f.Recover(ctx, "okta", "acme", twoSinks)
	f.requireNoError(err)
	return fmt.Sprintf("spools=%d completed=%d reclaimed=%d interrupted=%d lost=%d", r.Spools, len(r.Completed), len(r.Reclaimed), r.Interrupted, len(r.Lost))
}

const foundNothing = "spools=0 completed=0 reclaimed=0 interrupted=0 lost=0"

func TestRecover(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		leave    func(*fixture) // creates what a process that died has left
		found    string         // the result of recoverOkta
		last     string         // the last-known snapshot afterwards
		queue    string
		outcomes string
	}{
		{name: "nothing", leave: func(*fixture) {}, found: foundNothing, last: "id-001/100/collected", outcomes: "success"},
		{name: "begun", leave: func(f *fixture) { f.beginRun(2) },
			found: "spools=0 completed=0 reclaimed=0 interrupted=1 lost=0", last: "id-001/100/collected", outcomes: "success interrupted"},
		{name: "partly spooled", leave: func(f *fixture) {
			f.beginRun(2)
			w, err := f.Snapshots.Spool(newHeader("okta_users", "acme", 2))
			f.requireNoError(err)
			f.requireNoError(fillWriter(w, 5))
		},
			found: "spools=1 completed=0 reclaimed=0 interrupted=1 lost=0", last: "id-001/100/collected", outcomes: "success interrupted"},
		{name: "sealed", leave: func(f *fixture) { f.beginRun(2); sealUnrecorded(f, 2, 90) },
			found: "spools=0 completed=1 reclaimed=0 interrupted=0 lost=0", last: "id-002/90/collected", queue: "id-002>file id-002>s3", outcomes: "success success"},
		{name: "sealed with few records", leave: func(f *fixture) { f.beginRun(2); sealUnrecorded(f, 2, 9) },
			found: "spools=0 completed=1 reclaimed=0 interrupted=0 lost=0", last: "id-001/100/collected", outcomes: "success held"},
		{name: "sealed empty", leave: func(f *fixture) { f.beginRun(2); sealUnrecorded(f, 2, 0) },
			found: "spools=0 completed=1 reclaimed=0 interrupted=0 lost=0", last: "id-001/100/collected", outcomes: "success empty"},
		{name: "sealed, then damaged", leave: func(f *fixture) { f.beginRun(2); flipBit(f.t, sealUnrecorded(f, 2, 90)) },
			found: "spools=0 completed=0 reclaimed=0 interrupted=1 lost=1", last: "id-001/100/collected", outcomes: "success interrupted"},
		{name: "sealed, but the run failed", leave: func(f *fixture) {
			id := f.beginRun(2)
			sealUnrecorded(f, 2, 90)
			f.requireNoError(f.Runs.Fail(ctx, id, state.Failed, errors.New("disk full"), state.RunStats{}))
		}, found: foundNothing, last: "id-001/100/collected", outcomes: "success failed"},
		{name: "an old directory came back", leave: func(f *fixture) { sealUnrecorded(f, 0, 90) },
			found: foundNothing, last: "id-001/100/collected", outcomes: "success"},
		{name: "sealed twice", leave: func(f *fixture) { f.beginRun(2); f.beginRun(3); sealUnrecorded(f, 3, 91); sealUnrecorded(f, 2, 90) },
			found: "spools=0 completed=2 reclaimed=0 interrupted=0 lost=0", last: "id-003/91/collected", queue: "id-002>file id-002>s3 id-003>file id-003>s3", outcomes: "success success success"},
		{name: "the last-known snapshot is missing", leave: func(f *fixture) {
			sealed, _, err := f.Snapshots.LastKnown(ctx, "okta_users", "acme")
			f.requireNoError(err)
			f.requireNoError(os.RemoveAll(sealed.Dir()))
		}, found: "spools=0 completed=0 reclaimed=0 interrupted=0 lost=1", last: "none", outcomes: "success"},
		{name: "the last-known snapshot is damaged, another is queued", leave: func(f *fixture) {
			f.collectUsers(2, 90, twoSinks)
			f.collectUsers(3, 91, twoSinks)
			sealed, _, err := f.Snapshots.LastKnown(ctx, "okta_users", "acme")
			f.requireNoError(err)
			f.requireNoError(os.Truncate(sealed.Path(), 1))
		},
			found: "spools=0 completed=0 reclaimed=0 interrupted=0 lost=1", last: "id-002/90/collected", queue: "id-002>file id-002>s3", outcomes: "success success success"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := openState(t)
			f.collectUsers(1, 100, state.Policy{})
			tc.leave(f)
			if found, err := f.Recover(ctx, "snyk", "acme", twoSinks); err != nil || found.Interrupted+int64(found.Spools+len(found.Completed)+len(found.Lost)) > 0 {
				t.Errorf("another collector's recovery: %+v %v", found, err)
			}
			if found, err := f.Recover(ctx, "okta", "acme", twoSinks, "okta_groups"); err != nil || found.Interrupted+int64(found.Spools+len(found.Completed)+len(found.Lost)) > 0 {
				t.Errorf("another stream's recovery: %+v %v", found, err)
			}
			if found, err := f.Recover(ctx, "okta", "globex", twoSinks); err != nil || found.Interrupted+int64(found.Spools+len(found.Completed)+len(found.Lost)) > 0 {
				t.Errorf("another tenancy's recovery: %+v %v", found, err)
			}
			assertEqual(t, "found", f.recoverOkta(), tc.found)
			for range 2 {
				assertEqual(t, "last", f.lastKnown(), tc.last)
				assertEqual(t, "queue", f.queuedDeliveries(), tc.queue)
				assertEqual(t, "history", f.outcomes(), tc.outcomes)
				f.checkDirs()
				assertEqual(t, "found again", f.recoverOkta(), foundNothing)
			}
		})
	}
}

// A snapshot of a newer collectord cannot be read, but is kept.
func TestRecoverUnreadable(t *testing.T) {
	t.Parallel()
	f := openState(t)
	done := f.collectUsers(1, 100, twoSinks)
	manifest := filepath.Join(f.dir, database.SnapshotPlace(done.Info.Header), "manifest.json")
	text, err := os.ReadFile(manifest)
	f.requireNoError(err)
	f.requireNoError(os.WriteFile(manifest, []byte(strings.Replace(string(text), `"format": 1`, `"format": 9`, 1)), 0o600))
	for range 2 {
		assertEqual(t, "found", f.recoverOkta(), "spools=0 completed=0 reclaimed=0 interrupted=0 lost=1")
	}
	f.requireNoError(os.WriteFile(manifest, text, 0o600))
	assertEqual(t, "last", f.lastKnown(), "id-001/100/collected")
	assertEqual(t, "queue", f.queuedDeliveries(), "id-001>file id-001>s3")
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
			if _, err := collectSnapshot(s, newHeader("okta_users", run.tenancy, n+1), run.records, twoSinks); err != nil {
				t.Fatal(err)
			}
		}
		if restored, err := restoreSnapshot(s, newHeader("okta_groups", "acme", 6), 5, state.Policy{}); err != nil || !restored {
			t.Fatal(restored, err)
		}
	}()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.RemoveAll(filepath.Join(dir, databaseName+suffix)); err != nil {
			t.Fatal(err)
		}
	}
	f := openStateIn(t, dir)
	assertEqual(t, "found", f.recoverOkta(), "spools=0 completed=0 reclaimed=3 interrupted=0 lost=0")
	r, err := f.Recover(ctx, "okta", long, twoSinks)
	f.requireNoError(err)
	assertEqual(t, "found of another tenancy", len(r.Reclaimed), 1)
	assertEqual(t, "last", f.lastKnown(), "id-002/101/collected")
	assertEqual(t, "another tenancy", f.lastKnownOf("okta_users", long), "id-004/7/collected")
	assertEqual(t, "queue", f.queuedDeliveries(), "id-001>file id-001>s3 id-002>file id-002>s3 id-004>file id-004>s3")
	info, err := f.Snapshots.Accept(ctx, "okta_users", "acme", state.Policy{})
	f.requireNoError(err)
	assertEqual(t, "still held", info.UploadID, "id-003")
	assertEqual(t, "found again", f.recoverOkta(), foundNothing)
	f.checkDirs()
}

func TestRecoverDamagedWithoutDatabase(t *testing.T) {
	t.Parallel()
	f := openState(t)
	dir := sealUnrecorded(f, 1, 100)
	f.requireNoError(os.WriteFile(filepath.Join(dir, "manifest.json"), []byte("{"), 0o600))
	flipBit(t, sealUnrecorded(f, 2, 100))
	sealUnrecorded(f, 3, 100)
	assertEqual(t, "found", f.recoverOkta(), "spools=0 completed=0 reclaimed=1 interrupted=0 lost=2")
	assertEqual(t, "last", f.lastKnown(), "id-003/100/collected")
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("a directory of an unknown collector was removed: %v", err)
	}
}

func TestRecoverResultLog(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.DebugLevel)
	log := zap.New(core)
	state.RecoverResult{}.Log(log)
	assertEqual(t, "lines for an empty result", logs.Len(), 0)
	state.RecoverResult{Spools: 1, Interrupted: 1, Completed: make([]state.CommitResult, 2), Reclaimed: make([]state.CommitResult, 3), Lost: []error{snapshot.ErrDamaged}}.Log(log)
	assertEqual(t, "lines", logs.Len(), 7)
	assertEqual(t, "errors", logs.FilterLevelExact(zap.ErrorLevel).Len(), 1)
}
