package state

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
)

// spoil flips one bit of a snapshot's records.
func spoil(t *testing.T, dir string) {
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

// seal leaves a sealed snapshot that is not recorded.
func seal(f *fixture, n, records int) string {
	f.t.Helper()
	h := header("okta_users", "acme", n)
	w, err := f.Spool(ctx, h, 1<<30)
	f.must(err)
	f.must(fill(w, records))
	dir := filepath.Join(f.dir, folder(h))
	f.must(os.MkdirAll(filepath.Dir(dir), 0o700))
	_, err = w.Seal(dir)
	f.must(err)
	return dir
}

func (f *fixture) begin(n int) RunID {
	f.t.Helper()
	id, err := f.Begin(ctx, Start{Header: header("okta_users", "acme", n), Trigger: "test", Started: day})
	f.must(err)
	return id
}

func (f *fixture) recovered() string {
	f.t.Helper()
	r, err := f.Recover(ctx, "okta", twoSinks)
	f.must(err)
	return fmt.Sprintf("spools=%d completed=%d reclaimed=%d interrupted=%d lost=%d", r.Spools, len(r.Completed), len(r.Reclaimed), r.Interrupted, len(r.Lost))
}

const nothing = "spools=0 completed=0 reclaimed=0 interrupted=0 lost=0"

func TestRecover(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		leave    func(*fixture)
		found    string
		last     string
		queue    string
		outcomes string
	}{
		{"nothing", func(*fixture) {}, nothing, "id-001/100/collected", "", "success"},
		{"begun", func(f *fixture) { f.begin(2) },
			"spools=0 completed=0 reclaimed=0 interrupted=1 lost=0", "id-001/100/collected", "", "success interrupted"},
		{"half spooled", func(f *fixture) {
			f.begin(2)
			w, err := f.Spool(ctx, header("okta_users", "acme", 2), 1)
			f.must(err)
			f.must(fill(w, 5))
		}, "spools=1 completed=0 reclaimed=0 interrupted=1 lost=0", "id-001/100/collected", "", "success interrupted"},
		{"sealed", func(f *fixture) { f.begin(2); seal(f, 2, 90) },
			"spools=0 completed=1 reclaimed=0 interrupted=0 lost=0", "id-002/90/collected", "id-002>file id-002>s3", "success success"},
		{"sealed with few", func(f *fixture) { f.begin(2); seal(f, 2, 9) },
			"spools=0 completed=1 reclaimed=0 interrupted=0 lost=0", "id-001/100/collected", "", "success held"},
		{"sealed empty", func(f *fixture) { f.begin(2); seal(f, 2, 0) },
			"spools=0 completed=1 reclaimed=0 interrupted=0 lost=0", "id-001/100/collected", "", "success empty"},
		{"sealed, then damaged", func(f *fixture) { f.begin(2); spoil(f.t, seal(f, 2, 90)) },
			"spools=0 completed=0 reclaimed=0 interrupted=1 lost=1", "id-001/100/collected", "", "success interrupted"},
		{"sealed, but the run failed", func(f *fixture) {
			id := f.begin(2)
			seal(f, 2, 90)
			f.must(f.Fail(ctx, id, Failed, errors.New("disk full"), Figures{}))
		}, nothing, "id-001/100/collected", "", "success failed"},
		{"an old folder is back", func(f *fixture) { seal(f, 0, 90) }, nothing, "id-001/100/collected", "", "success"},
		{"sealed twice", func(f *fixture) { f.begin(2); f.begin(3); seal(f, 3, 91); seal(f, 2, 90) },
			"spools=0 completed=2 reclaimed=0 interrupted=0 lost=0", "id-003/91/collected",
			"id-002>file id-002>s3 id-003>file id-003>s3", "success success success"},
		{"the last-known one is gone", func(f *fixture) {
			sealed, _, err := f.LastKnown(ctx, "okta_users", "acme")
			f.must(err)
			f.must(os.RemoveAll(sealed.Dir()))
		}, "spools=0 completed=0 reclaimed=0 interrupted=0 lost=1", "none", "", "success"},
		{"the last-known one is gone, another is queued", func(f *fixture) {
			f.users(2, 90, twoSinks)
			f.users(3, 91, twoSinks)
			sealed, _, err := f.LastKnown(ctx, "okta_users", "acme")
			f.must(err)
			f.must(os.Truncate(sealed.Path(), 1))
		}, "spools=0 completed=0 reclaimed=0 interrupted=0 lost=1", "id-002/90/collected", "id-002>file id-002>s3", "success success success"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			f.users(1, 100, Policy{})
			c.leave(f)
			if found, err := f.Recover(ctx, "snyk", twoSinks); err != nil || found.Interrupted+int64(found.Spools+len(found.Completed)+len(found.Lost)) > 0 {
				t.Errorf("another collector's recovery: %+v %v", found, err)
			}
			want(t, "found", f.recovered(), c.found)
			for range 2 {
				want(t, "last", f.last(), c.last)
				want(t, "queue", f.queue(), c.queue)
				want(t, "history", f.outcomes(), c.outcomes)
				f.folders()
				want(t, "found again", f.recovered(), nothing)
			}
		})
	}
}

// A newer collectord's snapshot is not lost.
func TestRecoverUnreadable(t *testing.T) {
	t.Parallel()
	f := open(t)
	done := f.users(1, 100, twoSinks)
	manifest := filepath.Join(f.dir, folder(done.Info.Header), "manifest.json")
	text, err := os.ReadFile(manifest)
	f.must(err)
	f.must(os.WriteFile(manifest, []byte(strings.Replace(string(text), `"format": 1`, `"format": 9`, 1)), 0o600))
	for range 2 {
		want(t, "found", f.recovered(), "spools=0 completed=0 reclaimed=0 interrupted=0 lost=1")
	}
	f.must(os.WriteFile(manifest, text, 0o600))
	want(t, "last", f.last(), "id-001/100/collected")
	want(t, "queue", f.queue(), "id-001>file id-001>s3")
}

// The folders outlive the database.
func TestRecoverWithoutDatabase(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	long := strings.Repeat("ä", 100)
	func() {
		s, err := Open(ctx, dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for n, c := range []struct {
			tenancy string
			records int
		}{{"acme", 100}, {"acme", 101}, {"acme", 1}, {long, 7}, {"acme", 0}} {
			if _, err := collect(s, header("okta_users", c.tenancy, n+1), c.records, twoSinks); err != nil {
				t.Fatal(err)
			}
		}
		if taken, err := restore(s, header("okta_groups", "acme", 6), 5); err != nil || !taken {
			t.Fatal(taken, err)
		}
	}()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.RemoveAll(filepath.Join(dir, databaseName+suffix)); err != nil {
			t.Fatal(err)
		}
	}
	f := openIn(t, dir)
	want(t, "found", f.recovered(), "spools=0 completed=0 reclaimed=4 interrupted=0 lost=0")
	want(t, "last", f.last(), "id-002/101/collected")
	want(t, "another tenancy's", f.lastOf("okta_users", long), "id-004/7/collected")
	want(t, "queue", f.queue(), "id-001>file id-001>s3 id-002>file id-002>s3 id-004>file id-004>s3")
	info, err := f.Accept(ctx, "okta_users", "acme", Policy{})
	f.must(err)
	want(t, "still held", info.UploadID, "id-003")
	want(t, "found again", f.recovered(), nothing)
	f.folders()
}

func TestRecoverDamagedWithoutDatabase(t *testing.T) {
	t.Parallel()
	f := open(t)
	dir := seal(f, 1, 100)
	f.must(os.WriteFile(filepath.Join(dir, "manifest.json"), []byte("{"), 0o600))
	spoil(t, seal(f, 2, 100))
	seal(f, 3, 100)
	want(t, "found", f.recovered(), "spools=0 completed=0 reclaimed=1 interrupted=0 lost=2")
	want(t, "last", f.last(), "id-003/100/collected")
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("nobody knows whose it is, but it went: %v", err)
	}
}

func TestRecoveredLog(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.DebugLevel)
	log := zap.New(core)
	Recovered{}.Log(log)
	want(t, "lines of nothing", logs.Len(), 0)
	Recovered{Spools: 1, Interrupted: 1, Completed: make([]Commitment, 2), Reclaimed: make([]Commitment, 3), Lost: []error{snapshot.ErrDamaged}}.Log(log)
	want(t, "lines", logs.Len(), 7)
	want(t, "alarms", logs.FilterLevelExact(zap.ErrorLevel).Len(), 1)
}
