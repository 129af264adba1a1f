package backup

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/local"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/file"
	"github.com/collectord/collectord/pkg/store/storetest"
)

const (
	template = "backup/%TAG/%TENANCY.json"
	key      = "backup/okta_users/acme.json"
)

// oktaUsers names the stream of these tests.
var oktaUsers = snapshot.Header{Collector: "okta", Stream: "okta_users", Tenancy: "acme"}

func openState(t *testing.T) *state.State {
	t.Helper()
	st, err := local.Open(t.Context(), t.TempDir(), local.Options{Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}

// collect adds a run of okta_users with the records to the state.
func collect(t *testing.T, st *state.State, taken time.Time, records ...string) {
	t.Helper()
	collectWithDoubts(t, st, taken, nil, records...)
}

// noteAt returns the note of a snapshot that was taken at a time.
func noteAt(taken time.Time) snapshot.Note {
	return snapshot.Note{Selection: "selection", Text: "etag of " + taken.UTC().Format(time.RFC3339)}
}

// collectWithDoubts is collect for a run that accepted doubts.
func collectWithDoubts(t *testing.T, st *state.State, taken time.Time, doubts snapshot.Doubts, records ...string) {
	t.Helper()
	collectFor(t, st, taken, nil, doubts, records...)
}

// collectFor is collectWithDoubts for a run whose snapshot is delivered to sinks.
func collectFor(t *testing.T, st *state.State, taken time.Time, sinks []string, doubts snapshot.Doubts, records ...string) {
	t.Helper()
	h := storetest.NewHeader("okta_users", "acme", taken)
	id, err := st.Runs.Begin(t.Context(), state.RunStart{Header: h, Trigger: "once", Started: taken})
	if err != nil {
		t.Fatal(err)
	}
	w, err := st.Snapshots.Spool(h)
	if err != nil {
		t.Fatal(err)
	}
	batch := w.NewBatch()
	for _, r := range records {
		if err := batch.Append([]byte(r)); err != nil {
			t.Fatal(err)
		}
	}
	if err := batch.Commit(); err != nil {
		t.Fatal(err)
	}
	w.SetNote(noteAt(taken))
	if _, err := st.Runs.Commit(t.Context(), id, w, state.RunStats{Records: int64(len(records)), Doubts: doubts}, state.Policy{StoreEmpty: true, Sinks: sinks}); err != nil {
		t.Fatal(err)
	}
}

// lastRecords returns the records of the last-known snapshot, nil when there is
// none.
func lastRecords(t *testing.T, st *state.State) []string {
	t.Helper()
	last, _, err := st.Snapshots.LastKnown(t.Context(), "okta_users", "acme")
	if errors.Is(err, state.ErrNoSnapshot) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return storetest.ReadRecords(t, last)
}

// restoreOne restores okta_users from the backups in s.
func restoreOne(ctx context.Context, st *state.State, s *Sink, f *file.Sink) Result {
	r := &Restorer{State: st, Backup: s, File: f, Tenancy: "acme", Log: zap.NewNop()}
	return r.Run(ctx, []Stream{{Collector: "okta", Name: "okta_users"}})[0]
}

func TestRestoreRules(t *testing.T) {
	taken := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		name    string
		here    time.Time // when the last-known snapshot was taken; zero for none
		backup  []string  // records of the backup; nil for no backup
		outcome Outcome
		records int64 // of the last-known snapshot afterwards
	}{
		{name: "nothing is here", backup: []string{`{"n":1}`, `{"n":2}`}, outcome: Restored, records: 2},
		{name: "older data is here", here: taken.Add(-time.Hour), backup: []string{`{"n":1}`, `{"n":2}`}, outcome: Restored, records: 2},
		{name: "data of the same time is here", here: taken, backup: []string{`{"n":1}`, `{"n":2}`}, outcome: Current, records: 1},
		{name: "newer data is here", here: taken.Add(time.Hour), backup: []string{`{"n":1}`, `{"n":2}`}, outcome: Current, records: 1},
		{name: "the backup is empty", here: taken.Add(-time.Hour), backup: []string{}, outcome: Current, records: 1},
		{name: "the backup is empty and nothing is here", backup: []string{}, outcome: Restored, records: 0},
		{name: "no backup", outcome: NoBackup, records: 0},
		{name: "no backup, and data is here", here: taken, outcome: NoBackup, records: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			st := openState(t)
			s := newBucket(t).open(t, template, st)
			if tt.backup != nil {
				storetest.Write(t, s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", taken), tt.backup...))
			}
			if !tt.here.IsZero() {
				collect(t, st, tt.here, `{"n":0}`)
			}
			got := restoreOne(t.Context(), st, s, nil)
			if got.Outcome != tt.outcome || got.Err != nil || got.Info.Records != tt.records {
				t.Errorf("got %s with %d records, %v; want %s with %d", got.Outcome, got.Info.Records, got.Err, tt.outcome, tt.records)
			}
			if n := len(lastRecords(t, st)); int64(n) != tt.records {
				t.Errorf("the last-known snapshot has %d records, want %d", n, tt.records)
			}
		})
	}
}

// TestRestoreOfAnotherProgramsBackup: without metadata the first record says
// whose the backup is.
func TestRestoreOfAnotherProgramsBackup(t *testing.T) {
	st := openState(t)
	b := newBucket(t)
	members := `"_tenancy":"acme","_upload_timestamp":"2026-01-02 03:04:05","_upload_id":"1f6a7c7e-0000-4000-8000-000000000001"}`
	putObject(t, b, `[{"n":1,`+members+`,{"n":2,`+members+`]`)
	got := restoreOne(t.Context(), st, b.open(t, template, st), nil)
	if got.Outcome != Restored || got.Info.Records != 2 || got.Info.UploadID != "1f6a7c7e-0000-4000-8000-000000000001" ||
		!got.Info.UploadTimestamp.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) {
		t.Errorf("got %+v", got)
	}
}

// putObject stores an object without metadata, or changes the content of one
// and leaves its metadata.
func putObject(t *testing.T, b bucket, text string) {
	t.Helper()
	path := b.server.Object(b.name, key)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// TestRefusedBackups: a backup that cannot be that of its stream changes
// nothing.
func TestRefusedBackups(t *testing.T) {
	taken := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	record := func(tenancy string) string {
		return `{"n":1,"_tenancy":"` + tenancy + `","_upload_timestamp":"2026-01-02 03:04:05","_upload_id":"x-1"}`
	}
	// overwrite returns a prepare function that changes the content of a
	// written backup.
	overwrite := func(change func(text string) string) func(t *testing.T, b bucket, s *Sink) {
		return func(t *testing.T, b bucket, s *Sink) {
			storetest.Write(t, s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", taken), `{"n":1}`, `{"n":2}`))
			text, err := os.ReadFile(b.server.Object(b.name, key))
			if err != nil {
				t.Fatal(err)
			}
			putObject(t, b, change(string(text)))
		}
	}
	put := func(text string) func(t *testing.T, b bucket, s *Sink) {
		return func(t *testing.T, b bucket, _ *Sink) { putObject(t, b, text) }
	}
	tests := []struct {
		name    string
		prepare func(t *testing.T, b bucket, s *Sink)
		problem string // part of the error
	}{
		{
			name:    "a record is missing",
			prepare: overwrite(func(text string) string { return text[:strings.Index(text, ",\n")] + "\n]\n" }),
			problem: "it has 1 records, written with 2",
		},
		{
			name:    "a record was changed",
			prepare: overwrite(func(text string) string { return strings.Replace(text, `{"n":2`, `{"n":3`, 1) }),
			problem: "the SHA-256 of its records",
		},
		{
			name:    "cut",
			prepare: overwrite(func(text string) string { return text[:len(text)/2] }),
		},
		{name: "another tenancy", prepare: put("[" + record("other") + "]"), problem: `it is of another tenancy, want "acme"`},
		{name: "not JSON", prepare: put("hello"), problem: ""},
		{name: "not an array", prepare: put(record("acme") + "x"), problem: ""},
		{name: "records without their origin", prepare: put(`[{"n":1}]`), problem: ""},
		{name: "empty without metadata", prepare: put("[]"), problem: "it is empty and does not name its stream"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			st := openState(t)
			b := newBucket(t)
			s := b.open(t, template, nil)
			tt.prepare(t, b, s)
			collect(t, st, taken.AddDate(-1, 0, 0), `{"n":0}`)
			before := lastRecords(t, st)
			got := restoreOne(t.Context(), st, b.open(t, template, st), nil)
			if got.Outcome != Bad || !errors.Is(got.Err, ErrBad) || !strings.Contains(got.Err.Error(), tt.problem) ||
				!strings.Contains(got.Err.Error(), "s3://"+b.name+"/"+key) {
				t.Errorf("got %s, %v; want %s, %q and the address", got.Outcome, got.Err, Bad, tt.problem)
			}
			if after := lastRecords(t, st); !slices.Equal(after, before) {
				t.Errorf("the last-known snapshot is %q, was %q", after, before)
			}
		})
	}
}

// TestHistoryRoundTrip: a new machine has the history of the old one.
func TestHistoryRoundTrip(t *testing.T) {
	taken := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	b := newBucket(t)
	before := openState(t)
	collect(t, before, taken.Add(-time.Hour), `{"n":1}`)
	doubts := snapshot.Doubts{{Text: "received fewer users than declared", Count: 3}}
	collectWithDoubts(t, before, taken, doubts, `{"n":1}`, `{"n":2}`)
	last, _, err := before.Snapshots.LastKnown(t.Context(), "okta_users", "acme")
	if err != nil {
		t.Fatal(err)
	}
	storetest.Write(t, b.open(t, template, before), last)

	after := openState(t)
	if got := restoreOne(t.Context(), after, b.open(t, template, after), nil); got.Outcome != Restored {
		t.Fatalf("got %+v", got)
	}
	want, err := before.Runs.History(t.Context(), "okta_users", "acme", 10)
	if err != nil {
		t.Fatal(err)
	}
	got, err := after.Runs.History(t.Context(), "okta_users", "acme", 10)
	if err != nil {
		t.Fatal(err)
	}
	if !cmp.Equal(got, want) || len(got.Runs) != 2 {
		t.Errorf("history\n got %+v\nwant %+v", got, want)
	}
	restored, _, err := after.Snapshots.LastKnown(t.Context(), "okta_users", "acme")
	if restored.Note != noteAt(taken) {
		t.Errorf("note %+v, want %+v", restored.Note, noteAt(taken))
	}
	if err != nil || !cmp.Equal(restored.Doubts, doubts) || !cmp.Equal(got.Runs[0].Doubts, doubts) || got.Runs[1].Doubts != nil {
		t.Errorf("doubts of the snapshot %v, of the runs %v and %v, want %v and none; error %v",
			restored.Doubts, got.Runs[0].Doubts, got.Runs[1].Doubts, doubts, err)
	}
	if records := lastRecords(t, after); !slices.Equal(records, storetest.ReadRecords(t, last)) {
		t.Errorf("the records are %q", records)
	}
}

// TestHistoryOfAnotherStream: data is restored although its history is not.
func TestHistoryOfAnotherStream(t *testing.T) {
	st := openState(t)
	b := newBucket(t)
	s := b.open(t, template, st)
	snap := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), `{"n":1}`)
	storetest.Write(t, s, snap)
	if err := s.PutBeside(t.Context(), s.historyKey(oktaUsers), snap, []byte(`{"format":1,"stream":"okta_groups","tenancy":"acme","ends":[],"runs":[]}`)); err != nil {
		t.Fatal(err)
	}
	if got := restoreOne(t.Context(), st, s, nil); got.Outcome != Restored || got.Err != nil {
		t.Errorf("got %+v", got)
	}
}

// fileSink returns a sink of files named <dir>/okta_users.json.
func fileSink(t *testing.T, dir string) (f *file.Sink, target string) {
	t.Helper()
	path, err := store.ParsePath("STORE_FILE", filepath.Join(dir, "%TAG.json"))
	if err != nil {
		t.Fatal(err)
	}
	if f, err = file.New(file.Options{Path: path}); err != nil {
		t.Fatal(err)
	}
	return f, filepath.Join(dir, "okta_users.json")
}

// TestRestorePutsTheFileBack: the file of a restored snapshot is written once: when
// its consumer has taken it away, it does not come back.
func TestRestorePutsTheFileBack(t *testing.T) {
	st := openState(t)
	s := newBucket(t).open(t, template, st)
	storetest.Write(t, s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), `{"n":1}`))
	f, target := fileSink(t, t.TempDir())
	if got := restoreOne(t.Context(), st, s, f); got.Outcome != Restored || !got.FilePut {
		t.Errorf("first restore: %+v", got)
	}
	text, err := os.ReadFile(target)
	if err != nil || !slices.Equal(storetest.DecodeFile(t, target, text), lastRecords(t, st)) {
		t.Errorf("the file has %q: %v", text, err)
	}
	for range 2 {
		if got := restoreOne(t.Context(), st, s, f); got.Outcome != Current || got.FilePut {
			t.Errorf("restore of the next start: %+v", got)
		}
		if err := os.Remove(target); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(target); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file that was taken away is back: %v", err)
	}
}

// TestRestoreBesideAFile: which file is there when a snapshot is restored.
func TestRestoreBesideAFile(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	backed := storetest.NewHeader("okta_users", "acme", now.Add(-time.Hour))
	write := func(h snapshot.Header) func(t *testing.T, f *file.Sink, target string) {
		return func(t *testing.T, f *file.Sink, _ string) { storetest.Write(t, f, storetest.Seal(t, h, `{"n":0}`)) }
	}
	tests := []struct {
		name    string
		prepare func(t *testing.T, f *file.Sink, target string)
		put     bool
	}{
		{name: "none", prepare: func(*testing.T, *file.Sink, string) {}, put: true},
		{name: "older", prepare: write(storetest.NewHeader("okta_users", "acme", now.Add(-2*time.Hour))), put: true},
		{name: "newer", prepare: write(storetest.NewHeader("okta_users", "acme", now))},
		{name: "the same", prepare: write(backed)},
		{name: "of another program", prepare: func(t *testing.T, _ *file.Sink, target string) {
			if err := os.WriteFile(target, []byte("theirs"), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			st := openState(t)
			s := newBucket(t).open(t, template, st)
			storetest.Write(t, s, storetest.Seal(t, backed, `{"n":1}`))
			f, target := fileSink(t, t.TempDir())
			tt.prepare(t, f, target)
			before, _ := os.ReadFile(target)
			if got := restoreOne(t.Context(), st, s, f); got.Outcome != Restored || got.FilePut != tt.put || got.Err != nil {
				t.Errorf("got %+v, want the file put: %v", got, tt.put)
			}
			if after, _ := os.ReadFile(target); slices.Equal(after, before) == tt.put {
				t.Errorf("the file was %q and is %q", before, after)
			}
			if queue, err := st.Queue.List(t.Context()); err != nil || len(queue) != 0 {
				t.Errorf("queued: %+v, %v", queue, err)
			}
		})
	}
}

// TestConsumedFileStaysAway: the file of a collected snapshot does not come back
// at a start, and an older snapshot is never written over a newer one.
func TestConsumedFileStaysAway(t *testing.T) {
	st := openState(t)
	f, target := fileSink(t, t.TempDir())
	now := time.Now().UTC().Truncate(time.Second)
	for n := range 2 {
		collectFor(t, st, now.Add(time.Duration(n-5)*time.Hour), []string{"file"}, nil, `{"n":1}`)
	}
	if got := restoreOne(t.Context(), st, nil, f); got.FilePut || got.Err != nil {
		t.Errorf("while two snapshots are queued for the file: %+v", got)
	}
	if _, err := os.Stat(target); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file was written past the queue: %v", err)
	}
	queue, err := st.Queue.List(t.Context())
	if err != nil || len(queue) != 2 {
		t.Fatalf("queue %+v, %v", queue, err)
	}
	for _, i := range []int{1, 0} { // as if the newer one came first
		snap, err := st.Queue.Open(t.Context(), queue[i])
		if err != nil {
			t.Fatal(err)
		}
		storetest.Write(t, f, snap)
	}
	if text, err := os.ReadFile(target); err != nil || !strings.Contains(string(text), queue[1].UploadID) {
		t.Errorf("the file has %q, want the newer snapshot: %v", text, err)
	}
	for _, d := range queue {
		if err := st.Queue.MarkDelivered(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(target); err != nil { // its consumer has loaded it
		t.Fatal(err)
	}
	if got := restoreOne(t.Context(), st, nil, f); got.FilePut || got.Err != nil {
		t.Errorf("at the next start: %+v", got)
	}
	if _, err := os.Stat(target); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the consumed file is back: %v", err)
	}
}

// TestRestoreFromTheFuture: the backup of a machine whose clock was a year ahead
// replaces nothing that was collected.
func TestRestoreFromTheFuture(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	st := openState(t)
	s := newBucket(t).open(t, template, st)
	storetest.Write(t, s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", now.AddDate(1, 0, 0)), `{"n":1}`))
	collect(t, st, now, `{"n":2}`, `{"n":3}`)
	got := restoreOne(t.Context(), st, s, nil)
	if got.Outcome != Bad || !errors.Is(got.Err, ErrBad) || !strings.Contains(got.Err.Error(), "in the future, and replaces nothing: check the clock") {
		t.Errorf("got %s, %v", got.Outcome, got.Err)
	}
	if n := len(lastRecords(t, st)); n != 2 {
		t.Errorf("the last-known snapshot has %d records, want 2", n)
	}
	empty := openState(t)
	if got := restoreOne(t.Context(), empty, s.withState(empty), nil); got.Outcome != Restored || got.Info.Records != 1 {
		t.Errorf("where nothing else is known: %+v", got)
	}
}

// withState returns s with another state.
func (s *Sink) withState(st *state.State) *Sink {
	other := *s
	other.state = st
	return &other
}

// TestRestoreGuard: a backup with far fewer records than what is here is held, and
// not read again.
func TestRestoreGuard(t *testing.T) {
	st := openState(t)
	s := newBucket(t).open(t, template, st)
	storetest.Write(t, s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), `{"n":1}`))
	collect(t, st, storetest.Noon.Add(-time.Hour), storetest.Numbered(1, 50)...)
	f, target := fileSink(t, t.TempDir())
	r := &Restorer{State: st, Backup: s, File: f, Tenancy: "acme", Log: zap.NewNop(), Policy: state.Policy{Sinks: []string{"file", "s3"}, GuardDropPercent: 10}}
	for range 2 {
		if got := r.Run(t.Context(), []Stream{{Collector: "okta", Name: "okta_users"}})[0]; got.Outcome != Held || got.Err != nil || got.FilePut || got.Info.Records != 50 {
			t.Errorf("got %+v", got)
		}
	}
	if _, err := os.Stat(target); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file was written: %v", err)
	}
	if _, err := st.Snapshots.Accept(t.Context(), "okta_users", "acme", state.Policy{}); err != nil {
		t.Fatal(err)
	}
	if n := len(lastRecords(t, st)); n != 1 {
		t.Errorf("after it was accepted, the last-known snapshot has %d records", n)
	}
}

func TestSave(t *testing.T) {
	for _, ext := range []string{".json", ".json.gz", ".ndjson.zst"} {
		t.Run(ext, func(t *testing.T) {
			s := newBucket(t).open(t, "backup/%TAG/%TENANCY"+ext, nil)
			snap := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), `{"n":1}`, `{"n":2}`)
			storetest.Write(t, s, snap)
			dir := filepath.Join(t.TempDir(), "100%$")
			info, path, err := s.Save(t.Context(), oktaUsers, dir)
			if err != nil {
				t.Fatal(err)
			}
			if want := filepath.Join(dir, "okta_users", "acme"+ext); path != want || info.UploadID != snap.UploadID || info.Records != 2 {
				t.Errorf("saved %+v as %s, want %s", info, path, want)
			}
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got := storetest.DecodeFile(t, path, text); !slices.Equal(got, storetest.ReadRecords(t, snap)) {
				t.Errorf("records %q", got)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
				t.Errorf("the directory has %v, want okta_users alone: %v", left, err)
			}
		})
	}
}

func TestSaveWithoutBackup(t *testing.T) {
	s := newBucket(t).open(t, template, nil)
	_, _, err := s.Save(t.Context(), oktaUsers, t.TempDir())
	if outcome, err := OutcomeOf(true, err); outcome != NoBackup || err != nil {
		t.Errorf("got %s, %v", outcome, err)
	}
}
