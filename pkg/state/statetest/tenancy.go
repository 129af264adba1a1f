package statetest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/database"
)

// AddTenancy gives a state something of a tenancy in each table, and chunks of an export.
func (f *Fixture) AddTenancy(tenancy string) {
	f.T.Helper()
	for n, records := range []int{100, 90} {
		_, err := CollectSnapshot(f.State, NewHeader("okta_users", tenancy, n+1), records, TwoSinks)
		f.RequireNoError(err)
	}
	_, err := CollectSnapshot(f.State, NewHeader("okta_users", tenancy, 3), 2, TwoSinks) // held
	f.RequireNoError(err)
	_, err = f.Queue.RegisterSinks(ctx, tenancy, map[string]string{"file": "/data", "s3": "bucket"}, TwoSinks)
	f.RequireNoError(err)
	queue, err := f.Queue.List(ctx)
	f.RequireNoError(err)
	delivered := false
	for _, d := range queue {
		switch {
		case d.Tenancy != tenancy || d.UploadID != "id-001":
		case !delivered:
			f.RequireNoError(f.Queue.MarkDelivered(ctx, d))
			delivered = true
		default:
			f.RequireNoError(f.Queue.MarkKeptOut(ctx, d))
		}
	}
	f.RequireNoError(f.Notes(tenancy).SetNote(ctx, "job", "of "+tenancy))
	f.RequireNoError(f.Controls(tenancy).ReplaceDefinitions(ctx, []state.ControlDefinition{{ID: "mfa", Title: "MFA"}}))
	f.RequireNoError(f.Controls(tenancy).AddDays(ctx, []state.ControlDay{
		{ID: "mfa", Day: "2026-03-01", Title: "MFA", Target: 1, Weight: 1, OK: 5, Total: 9, State: "measured"}}))
	h := NewHeader("okta_users", tenancy, 4)
	lock, err := f.Locks.LockStream(h.Stream, h.Tenancy)
	f.RequireNoError(err)
	w, err := f.Snapshots.Spool(h)
	f.RequireNoError(err)
	chunks := f.Snapshots.ExportChunks(h)
	_, err = chunks.Begin("filters", "job 1")
	f.RequireNoError(err)
	batch := w.NewBatch()
	f.RequireNoError(batch.Append([]byte(`{"id":1}`)))
	f.RequireNoError(batch.CommitTo(chunks.ChunkDir("7")))
	f.RequireNoError(w.Abort())
	f.RequireNoError(lock.Unlock())
}

// contentOf returns all that a state has of a tenancy: the numbers of rows in all tables, and
// the files.
func contentOf(f *Fixture, tenancy string) string {
	f.T.Helper()
	var all []string
	for _, table := range database.TenancyTables {
		all = append(all, table.Name+": "+f.QueryTexts(`SELECT CAST(count(*) AS TEXT) FROM `+table.Name+` WHERE `+table.Where, tenancy)[0])
	}
	name := database.FileName(tenancy)
	for _, root := range slices.Compact([]string{f.store().Snapshots, f.Dir()}) {
		f.RequireNoError(filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			path = strings.TrimPrefix(path, root)
			if err != nil || entry.IsDir() || !strings.Contains(path, "/"+name+"/") && !strings.Contains(path, "~"+name+"~") {
				return err
			}
			text, err := os.ReadFile(filepath.Join(root, path))
			all = append(all, fmt.Sprintf("%s: %d %x", path, len(text), text[:min(len(text), 64)]))
			return err
		}))
	}
	return strings.Join(all, "\n")
}

// nothing is contentOf a tenancy that the state does not have.
func nothing(f *Fixture) string { f.T.Helper(); return contentOf(f, "none") }

// testStreamsOfTenancy checks that the streams of a tenancy are those of all tenancies that it
// has, with all that is known of them.
func testStreamsOfTenancy(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	for _, tenancy := range []string{"acme", "globex"} {
		f.AddTenancy(tenancy)
		_, err := f.Runs.Begin(ctx, state.RunStart{Header: NewHeader("okta_groups", tenancy, 9), Trigger: "test", Started: f.Now()})
		f.RequireNoError(err)
	}
	all, err := f.Streams(ctx)
	f.RequireNoError(err)
	for _, tenancy := range []string{"acme", "globex", "none"} {
		got, err := f.TenancyStreams(ctx, tenancy)
		f.RequireNoError(err)
		want := slices.DeleteFunc(slices.Clone(all), func(s state.StreamStatus) bool { return s.Tenancy != tenancy })
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("streams of %s (-want +got):\n%s", tenancy, diff)
		}
	}
	if len(all) != 4 || all[2].Queued == 0 || !all[2].Held {
		t.Errorf("all streams: %+v", all)
	}
}

// Everything of a tenancy is deleted, and nothing of one whose name has the other's in it.
func testForgetTenancy(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	others := []string{"acme2", "big acme", "acme~x", "ACME"}
	f.AddTenancy("acme")
	before := map[string]string{}
	for _, name := range others {
		f.AddTenancy(name)
	}
	for _, name := range others {
		before[name] = contentOf(f, name)
	}
	usage, err := f.TenancyUsage(ctx, "acme")
	f.RequireNoError(err)
	if usage.Streams != 1 || usage.Queued != 2 || usage.Runs != 3 || usage.Controls != 1 || usage.ControlDays != 1 || usage.Notes != 2 || usage.Bytes < 200 {
		t.Errorf("usage %+v", usage)
	}
	for _, line := range strings.Split(contentOf(f, "acme"), "\n") {
		if strings.HasSuffix(line, ": 0") {
			t.Errorf("the test has nothing in %s", line)
		}
	}
	lock, err := f.Locks.LockStream("okta_users", "acme")
	f.RequireNoError(err)
	if err := f.ForgetTenancy(ctx, "acme"); !errors.Is(err, state.ErrLocked) {
		t.Errorf("while it is being collected: %v", err)
	}
	f.RequireNoError(lock.Unlock())
	hold, err := f.Locks.HoldTenancy("acme")
	f.RequireNoError(err)
	if err := f.ForgetTenancy(ctx, "acme"); !errors.Is(err, state.ErrLocked) || !strings.Contains(err.Error(), "works for tenancy acme") {
		t.Errorf("while a service works for it: %v", err)
	}
	if usage, err := f.TenancyUsage(ctx, "acme"); err != nil || usage.Streams != 1 {
		t.Errorf("refused, but: %+v, %v", usage, err)
	}
	f.RequireNoError(hold.Unlock())

	f.RequireNoError(f.ForgetTenancy(ctx, "acme"))
	f.RequireNoError(f.ForgetTenancy(ctx, "acme"))
	AssertEqual(t, "of acme", contentOf(f, "acme"), nothing(f))
	for _, name := range others {
		AssertEqual(t, "of "+name, contentOf(f, name), before[name])
	}
	all, err := f.Tenancies(ctx)
	f.RequireNoError(err)
	var names []string
	for _, u := range all {
		names = append(names, u.Tenancy)
	}
	AssertEqual(t, "tenancies", strings.Join(names, ","), "ACME,acme2,acme~x,big acme")
	locks := f.findAll(os.DirFS(f.Dir()), "locks/*~acme")
	AssertEqual(t, "lock files", strings.Join(slices.DeleteFunc(locks, func(name string) bool { return name == "locks/tenancy~acme" }), " "), "")
	_, err = f.Recover(ctx, "okta", "acme", TwoSinks)
	f.RequireNoError(err)
	AssertEqual(t, "after recovery", f.LastKnown(), "none")
	f.CheckStored()
}

// A call that was killed has left nothing that the next one does not delete.
func testForgetTenancyKilled(t *testing.T, harness Harness) {
	t.Parallel()
	for _, step := range []string{"forgetting", "forgetting rows", "forgotten"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			f := harness.NewState(t)
			f.AddTenancy("acme")
			f.AddTenancy("globex")
			other := contentOf(f, "globex")
			cmd, stderr := NewChild(t, "crash", f.Place, step, "forget", "")
			if err := cmd.Run(); !WasKilled(err) {
				t.Fatal(err, stderr)
			}
			f.AfterOwnerDied(func() error { return f.ForgetTenancy(ctx, "acme") })
			f.RemoveGarbage()
			AssertEqual(t, "of acme", contentOf(f, "acme"), nothing(f))
			AssertEqual(t, "of globex", contentOf(f, "globex"), other)
			f.CheckStored()
		})
	}
}

// CreateOther creates a state in a directory with the tenancy acme that TakeOver can read: it is
// closed.
func (h Harness) CreateOther(t *testing.T, dir string, deliver bool) {
	t.Helper()
	h.Open = h.OpenDirectory
	other := h.OpenState(t, dir)
	other.AddTenancy("acme")
	other.AddTenancy("globex")
	if deliver {
		other.RequireNoError(DeliverAll(other.State))
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
}

// Fingerprint returns the names, sizes and times of all files of a directory.
func Fingerprint(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			fmt.Fprintln(&b, path, info.Size(), info.ModTime().UnixNano(), info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TakeAcme takes over acme from dir.
func (f *Fixture) TakeAcme(dir string) state.TakeOverResult {
	f.T.Helper()
	result, err := takeFrom(f, dir)
	f.RequireNoError(err)
	return result
}

func takeFrom(f *Fixture, dir string) (state.TakeOverResult, error) {
	source, err := f.harness.OpenTakeOver(ctx, dir)
	if err != nil {
		return state.TakeOverResult{}, err
	}
	result, err := f.TakeOver(ctx, source, "acme")
	return result, errors.Join(err, source.Close())
}

// AssertTaken checks that a state has what CreateOther has of acme, but for the queue.
func (f *Fixture) AssertTaken() {
	f.T.Helper()
	AssertEqual(f.T, "last", f.LastKnown(), "id-002/90/collected")
	_, info, err := f.Snapshots.LastKnown(ctx, "okta_users", "acme")
	f.RequireNoError(err)
	AssertEqual(f.T, "since", info.Since, Day.Add(24*time.Hour))
	held := f.QueryTexts(`SELECT upload_id FROM snapshots WHERE held AND stream = 'okta_users' AND tenancy = 'acme'`)
	AssertEqual(f.T, "held", strings.Join(held, " "), "id-003")
	AssertEqual(f.T, "history", f.Outcomes(), "success success held")
	h := NewHeader("okta_users", "acme", 5)
	h.UploadTimestamp = Day.Add(5 * time.Hour)
	job, err := f.Snapshots.ExportChunks(h).Find("filters")
	f.RequireNoError(err)
	AssertEqual(f.T, "job of chunks", job, "job 1")
	note, err := f.Notes("acme").Note(ctx, "job")
	f.RequireNoError(err)
	AssertEqual(f.T, "note", note, "of acme")
	days, err := f.Controls("acme").DailyScores(ctx, "", "2026-01-01")
	f.RequireNoError(err)
	AssertEqual(f.T, "days of controls", len(days), 1)
	AssertEqual(f.T, "of globex", contentOf(f, "globex"), nothing(f))
	counts, err := f.Runs.OutcomeCounts(ctx)
	f.RequireNoError(err)
	AssertEqual(f.T, "counts", len(counts), 2)
}

// All of a tenancy is taken over, once, and the other state is not changed.
func testTakeOver(t *testing.T, harness Harness) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "other")
	harness.CreateOther(t, dir, true)
	before := Fingerprint(t, dir)
	f := harness.NewState(t)
	first := f.TakeAcme(dir)
	f.AssertTaken()
	one := first.Streams[0]
	if len(first.Streams) != 1 || one.Snapshot != state.TakenAdded || one.Held != state.TakenAdded || one.Runs != 3 || one.Jobs != 1 || one.Info.Records != 90 ||
		first.Notes != 2 || first.Controls != 1 || first.ControlDays != 1 {
		t.Errorf("first: %+v", first)
	}
	again := f.TakeAcme(dir)
	f.AssertTaken()
	if one = again.Streams[0]; one.Snapshot != state.TakenThere || one.Held != state.TakenThere || one.Runs != 0 || one.Jobs != 0 || again.Notes+again.Controls+again.ControlDays != 0 {
		t.Errorf("again: %+v", again)
	}
	AssertEqual(t, "the other directory", Fingerprint(t, dir), before)
	f.CheckStored()
	AssertEqual(t, "queue", f.QueuedDeliveries(), "")
	changes, err := f.Queue.RegisterSinks(ctx, "acme", map[string]string{"file": "/data", "s3": "bucket"}, TwoSinks)
	f.RequireNoError(err)
	AssertEqual(t, "new destinations", len(changes), 0)
	_, err = f.Snapshots.Accept(ctx, "okta_users", "acme", TwoSinks)
	f.RequireNoError(err)
	AssertEqual(t, "accepted", f.LastKnown(), "id-003/2/collected")
}

// A newer snapshot and the history that are here stay.
func testTakeOverOlder(t *testing.T, harness Harness) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "other")
	harness.CreateOther(t, dir, true)
	f := harness.NewState(t)
	f.CollectUsers(9, 70, state.Policy{})
	result := f.TakeAcme(dir)
	AssertEqual(t, "snapshot", result.Streams[0].Snapshot, state.TakenOlder)
	AssertEqual(t, "held", result.Streams[0].Held, state.TakenOlder)
	AssertEqual(t, "last", f.LastKnown(), "id-009/70/collected")
	AssertEqual(t, "history", f.Outcomes(), "success")
	f.CheckStored()
}

// What a destination has not received makes it a new one here.
func testTakeOverWithQueue(t *testing.T, harness Harness) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "other")
	harness.CreateOther(t, dir, false)
	f := harness.NewState(t)
	f.TakeAcme(dir)
	_, err := f.Queue.RegisterSinks(ctx, "acme", map[string]string{"file": "/data", "s3": "bucket"}, TwoSinks)
	f.RequireNoError(err)
	AssertEqual(t, "queue", f.QueuedDeliveries(), "id-002>file id-002>s3")
}

// A damaged snapshot is not taken over.
func testTakeOverDamaged(t *testing.T, harness Harness) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "other")
	harness.CreateOther(t, dir, true)
	records := filepath.Join(dir, database.SnapshotPlace(NewHeader("okta_users", "acme", 2)), Records)
	content, err := os.ReadFile(records)
	if err == nil {
		err = os.WriteFile(records, FlipBit(content), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	f := harness.NewState(t)
	result := f.TakeAcme(dir)
	AssertEqual(t, "snapshot", result.Streams[0].Snapshot, state.TakenDamaged)
	AssertEqual(t, "last", f.LastKnown(), "none")
	f.CheckStored()
}

// After a kill at any step, the state is whole, and the next call completes it.
func testTakeOverKilled(t *testing.T, harness Harness) {
	t.Parallel()
	for _, step := range []string{"stream copied", "stream moved", "recording stream", "stream recorded", "stream taken"} {
		for _, recovers := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, recovery %v", step, recovers), func(t *testing.T) {
				t.Parallel()
				f := harness.NewState(t)
				dir := filepath.Join(t.TempDir(), "other")
				harness.CreateOther(t, dir, true)
				cmd, stderr := NewChild(t, "crash", f.Place, step, "take over", dir)
				if err := cmd.Run(); !WasKilled(err) {
					t.Fatal(err, stderr)
				}
				if got := f.LastKnown(); got != "none" && got != "id-002/90/collected" {
					t.Errorf("last before recovery: %s", got)
				}
				if recovers {
					_, err := f.Recover(ctx, "okta", "acme", state.Policy{GuardDropPercent: 10})
					f.RequireNoError(err)
				}
				f.AfterOwnerDied(func() error { _, err := takeFrom(f, dir); return err })
				f.AssertTaken()
				f.RequireNoError(f.Sweep(ctx, KeepHistory))
				f.RemoveGarbage()
				f.CheckStored()
			})
		}
	}
}
