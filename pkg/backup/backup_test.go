package backup

import (
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/s3"
	"github.com/collectord/collectord/pkg/store/storetest"
)

func TestParsePath(t *testing.T) {
	tests := []struct {
		name     string
		template string
		problem  string // part of the error, "" for none
	}{
		{name: "default", template: "backup/%TAG/%TENANCY.json"},
		{name: "compressed", template: "$TAG-$TENANCY.ndjson.zst"},
		{name: "a key per run", template: "%TAG/%UUID.json", problem: "a new machine could not know the key"},
		{name: "a key per day", template: "%TAG/%DD.json", problem: "a new machine could not know the key"},
		{name: "one key for all streams", template: "backup/%TENANCY.json", problem: "the streams would overwrite each other"},
		{name: "no format", template: "%TAG.csv", problem: "%TAG.csv"},
		{name: "Parquet", template: "%TAG.parquet", problem: "cannot be restored from Parquet"},
		{name: "no variable of that name", template: "%TAGS/%FOO.json", problem: "%FOO"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParsePath(tt.template)
			switch {
			case tt.problem == "" && err != nil:
				t.Errorf("error %v", err)
			case tt.problem != "" && (err == nil || !strings.Contains(err.Error(), tt.problem) || !strings.HasPrefix(err.Error(), "STORE_AWS_S3_BACKUP: ")):
				t.Errorf("error %v, want %q and the setting", err, tt.problem)
			}
		})
	}
}

// TestWriteOfAnOlderSnapshot has a backup that another machine wrote.
func TestWriteOfAnOlderSnapshot(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	tests := []struct {
		name  string
		there time.Time // when the backup that is there was taken
		stays bool
	}{
		{name: "the backup is older", there: now.Add(-time.Hour), stays: false},
		{name: "the backup is newer", there: now.Add(30 * time.Minute), stays: true},
		{name: "the clock of the other machine is wrong", there: now.Add(2 * time.Hour), stays: false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newBucket(t).open(t, "backup/%TAG/%TENANCY.json", nil)
			before := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", tt.there), `{"n":1}`)
			after := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", now), `{"n":2}`, `{"n":3}`)
			storetest.Write(t, s, before, after)
			want := after
			if tt.stays {
				want = before
			}
			o, err := s.Stat(t.Context(), "backup/okta_users/acme.json")
			if err != nil || o.UploadID != want.UploadID {
				t.Errorf("the backup is %+v, want %s: %v", o, want.UploadID, err)
			}
		})
	}
}

// TestBackupOfAnotherTenancy: a key without %TENANCY does not let one tenancy
// replace the backup of another.
func TestBackupOfAnotherTenancy(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	s := newBucket(t).open(t, "backup/%TAG.json", nil)
	theirs := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", now.Add(-time.Hour)), `{"n":1}`)
	storetest.Write(t, s, theirs)
	err := s.Write(t.Context(), storetest.Seal(t, storetest.NewHeader("okta_users", "globex", now), `{"n":2}`))
	if !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), "the object is of another tenancy") || !strings.Contains(err.Error(), "%TENANCY into STORE_AWS_S3_BACKUP") {
		t.Errorf("error %v", err)
	}
	if o, err := s.Stat(t.Context(), "backup/okta_users.json"); err != nil || o.UploadID != theirs.UploadID {
		t.Errorf("the backup is %+v: %v", o, err)
	}
}

// TestBackupFromTheFuture: a snapshot that is dated in the future does not replace
// a backup of the present, and says so.
func TestBackupFromTheFuture(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	var notes []string
	path, err := ParsePath("backup/%TAG/%TENANCY.json")
	if err != nil {
		t.Fatal(err)
	}
	note := func(_ *snapshot.Snapshot, text string) { notes = append(notes, text) }
	s, err := New(s3.Options{Bucket: newBucket(t).name, Note: note}, path, nil, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	present := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", now), `{"n":1}`)
	storetest.Write(t, s, present)
	var report store.Report
	future := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", now.AddDate(1, 0, 0)), `{"n":2}`)
	if err := s.Write(store.WithReport(t.Context(), &report), future); err != nil || !report.KeptOut() {
		t.Errorf("error %v, kept out %v", err, report.KeptOut())
	}
	if len(notes) != 1 || !strings.HasPrefix(notes[0], "the backup: dated 20") || !strings.Contains(notes[0], "in the future: not stored") {
		t.Errorf("notes %q", notes)
	}
	if o, err := s.Stat(t.Context(), "backup/okta_users/acme.json"); err != nil || o.UploadID != present.UploadID {
		t.Errorf("the backup is %+v: %v", o, err)
	}
}

// TestDamagedOlderSnapshot: a snapshot that is not written is verified.
func TestDamagedOlderSnapshot(t *testing.T) {
	s := newBucket(t).open(t, "backup/%TAG/%TENANCY.json", nil)
	now := time.Now().UTC().Truncate(time.Second)
	storetest.Write(t, s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", now), `{"n":1}`))
	old := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", now.Add(-time.Hour)), `{"n":2}`)
	storetest.Damage(t, old)
	if err := s.Write(t.Context(), old); !errors.Is(err, snapshot.ErrDamaged) {
		t.Errorf("error %v, want ErrDamaged", err)
	}
}

// TestHistoryIsOvertaken has a process that writes the history of an older snapshot after
// another one has written that of a newer one.
func TestHistoryIsOvertaken(t *testing.T) {
	st := openState(t)
	s := newBucket(t).open(t, template, st)
	old := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), `{"n":1}`)
	newer := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon.Add(time.Hour)), `{"n":2}`)
	storetest.Write(t, s, old, newer)
	if err := s.writeHistory(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	if o, err := s.Stat(t.Context(), s.historyKey(oktaUsers)); err != nil || o.UploadID != newer.UploadID {
		t.Errorf("the history is that of %s: %v", o.UploadID, err)
	}
}
