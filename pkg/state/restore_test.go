package state

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestRestoreRules(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		local   int // the number of the local snapshot, 0 for none
		records int
		backup  int
		of      int // its records
		taken   bool
		last    string
	}{
		{"nothing here", 0, 0, 5, 10, true, "id-005/10/restored"},
		{"nothing here, empty", 0, 0, 5, 0, true, "id-005/0/restored"},
		{"older here", 4, 10, 5, 1, true, "id-005/1/restored"},
		{"the same", 5, 10, 5, 10, false, "id-005/10/collected"},
		{"newer here", 6, 10, 5, 1000, false, "id-006/10/collected"},
		{"empty, older here", 4, 10, 5, 0, false, "id-004/10/collected"},
		{"empty, older and empty here", 4, 0, 5, 0, true, "id-005/0/restored"},
		{"newer and empty here", 6, 0, 5, 10, false, "id-006/0/collected"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			if c.local > 0 {
				f.users(c.local, c.records, Policy{})
			}
			_, err := collect(f.State, header("okta_users", "umbrella", 9), 7, Policy{})
			f.must(err)
			runs := f.outcomes()
			taken, err := restore(f.State, header("okta_users", "acme", c.backup), c.of)
			f.must(err)
			want(t, "taken", taken, c.taken)
			want(t, "last", f.last(), c.last)
			want(t, "another tenancy's", f.lastOf("okta_users", "umbrella"), "id-009/7/collected")
			want(t, "queue", f.queue(), "")
			want(t, "history", f.outcomes(), runs)
			f.folders()
			found, err := f.Recover(ctx, "okta", twoSinks)
			f.must(err)
			want(t, "nothing to recover", len(found.Completed)+len(found.Reclaimed)+len(found.Lost)+int(found.Interrupted), 0)
			want(t, "last", f.last(), c.last)
		})
	}
}

// What is queued and what is held is older or newer than a backup, and stays.
func TestRestoreBesideQueuedAndHeld(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.users(1, 100, twoSinks)
	f.users(6, 3, twoSinks) // held
	taken, err := restore(f.State, header("okta_users", "acme", 5), 100)
	f.must(err)
	want(t, "taken", taken, true)
	want(t, "last", f.last(), "id-005/100/restored")
	want(t, "queue", f.queue(), "id-001>file id-001>s3")
	info, err := f.Accept(ctx, "okta_users", "acme", twoSinks)
	f.must(err)
	want(t, "accepted", info.UploadID, "id-006")
	want(t, "last", f.last(), "id-006/3/collected")
	done := f.users(7, 3, twoSinks)
	want(t, "goes on", done.Outcome, Success)
	want(t, "last", f.last(), "id-007/3/collected")
}

func TestRestoreOlderThanHeld(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.users(1, 100, Policy{})
	f.users(2, 3, twoSinks) // held
	taken, err := restore(f.State, header("okta_users", "acme", 5), 100)
	f.must(err)
	want(t, "taken", taken, true)
	if _, err := f.Accept(ctx, "okta_users", "acme", twoSinks); !errors.Is(err, ErrNone) {
		t.Errorf("accepted what is older than the backup: %v", err)
	}
	want(t, "last", f.last(), "id-005/100/restored")
}

// A backup heals a snapshot that is damaged here, in the queue as well.
func TestRestoreOverDamaged(t *testing.T) {
	t.Parallel()
	for _, recovered := range []bool{false, true} {
		f := open(t)
		done := f.users(1, 100, twoSinks)
		dir := filepath.Join(f.dir, folder(done.Info.Header))
		f.must(os.Truncate(filepath.Join(dir, "records.ndjson.zst"), 3))
		wanted := "id-001>file id-001>s3"
		if recovered {
			found, err := f.Recover(ctx, "okta", twoSinks)
			f.must(err)
			want(t, "lost", len(found.Lost), 1)
			wanted = ""
		}
		taken, err := restore(f.State, header("okta_users", "acme", 1), 100)
		f.must(err)
		want(t, "taken", taken, true)
		want(t, "last", f.last(), "id-001/100/restored")
		want(t, "queue", f.queue(), wanted)
		found, err := f.Recover(ctx, "okta", twoSinks)
		f.must(err)
		want(t, "reclaimed", len(found.Reclaimed), 0)
		want(t, "folders", f.folders(), "id-001"+restoredSuffix)
	}
}

// A restore that is given up leaves nothing.
func TestRestoreAborted(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.users(1, 10, Policy{})
	lock, err := f.LockRestore("okta_users", "acme")
	f.must(err)
	w, err := f.SpoolRestore(header("okta_users", "acme", 2))
	f.must(err)
	f.must(fillCopy(w, header("okta_users", "acme", 2), 5))
	f.must(w.Abort())
	if _, err := f.Restore(ctx, w); err == nil {
		t.Error("an aborted writer was restored")
	}
	f.must(lock.Unlock())
	f.must(f.Sweep(ctx, keep))
	want(t, "last", f.last(), "id-001/10/collected")
	want(t, "folders", f.folders(), "id-001")
}

// A restore that was killed after its move is made again, recovered or not.
func TestRestoreAgain(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.users(1, 100, Policy{})
	cmd, stderr := child(t, "crash", f.dir, "restore moved", "restore")
	if err := cmd.Run(); !killed(err) {
		t.Fatal(err, stderr)
	}
	taken, err := restore(f.State, header("okta_users", "acme", 5), 80)
	f.must(err)
	want(t, "taken", taken, true)
	want(t, "last", f.last(), "id-005/80/restored")
	want(t, "found", f.recovered(), nothing)
	f.folders()
}
