package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/database"
)

// addTenancy gives a state something of a tenancy in each table, and chunks of an export.
func addTenancy(f *fixture, tenancy string) {
	f.t.Helper()
	for n, records := range []int{100, 90} {
		_, err := collectSnapshot(f.State, newHeader("okta_users", tenancy, n+1), records, twoSinks)
		f.requireNoError(err)
	}
	_, err := collectSnapshot(f.State, newHeader("okta_users", tenancy, 3), 2, twoSinks) // held
	f.requireNoError(err)
	_, err = f.Queue.RegisterSinks(ctx, tenancy, map[string]string{"file": "/data", "s3": "bucket"}, twoSinks)
	f.requireNoError(err)
	queue, err := f.Queue.List(ctx)
	f.requireNoError(err)
	delivered := false
	for _, d := range queue {
		switch {
		case d.Tenancy != tenancy || d.UploadID != "id-001":
		case !delivered:
			f.requireNoError(f.Queue.MarkDelivered(ctx, d.ID))
			delivered = true
		default:
			f.requireNoError(f.Queue.MarkKeptOut(ctx, d))
		}
	}
	f.requireNoError(f.Notes(tenancy).SetNote(ctx, "job", "of "+tenancy))
	f.requireNoError(f.Controls(tenancy).ReplaceDefinitions(ctx, []state.ControlDefinition{{ID: "mfa", Title: "MFA"}}))
	_, err = f.db.Exec(`INSERT INTO control_days (tenancy, day, id, business_unit, team, location, title, category, target, minimum, weight, indicator, ok, total, state)
		VALUES (?, '2026-03-01', 'mfa', '', '', '', 'MFA', '', 1, 0, 1, 0, 5, 9, 'measured')`, tenancy)
	f.requireNoError(err)
	h := newHeader("okta_users", tenancy, 4)
	w, err := f.Snapshots.Spool(h)
	f.requireNoError(err)
	chunks := f.Snapshots.ExportChunks(h)
	_, err = chunks.Begin("filters", "job 1")
	f.requireNoError(err)
	batch := w.NewBatch()
	f.requireNoError(batch.Append([]byte(`{"id":1}`)))
	f.requireNoError(batch.CommitTo(chunks.ChunkDir("7")))
	f.requireNoError(w.Abort())
}

// contentOf returns all that a state has of a tenancy: the rows of all tables without ids and
// times of this process, and the files.
func contentOf(f *fixture, tenancy string) string {
	f.t.Helper()
	var all []string
	for _, table := range database.TenancyTables {
		var n int
		f.requireNoError(f.db.QueryRow(`SELECT count(*) FROM `+table.Name+` WHERE `+table.Where, tenancy).Scan(&n))
		all = append(all, fmt.Sprintf("%s: %d", table.Name, n))
	}
	name := database.FileName(tenancy)
	f.requireNoError(filepath.WalkDir(f.dir, func(path string, entry fs.DirEntry, err error) error {
		path = strings.TrimPrefix(path, f.dir)
		if err != nil || entry.IsDir() || !strings.Contains(path, "/"+name+"/") && !strings.Contains(path, "~"+name+"~") {
			return err
		}
		text, err := os.ReadFile(filepath.Join(f.dir, path))
		all = append(all, fmt.Sprintf("%s: %d %x", path, len(text), text[:min(len(text), 64)]))
		return err
	}))
	return strings.Join(all, "\n")
}

// nothing is contentOf a tenancy that the state does not have.
func nothing(f *fixture) string { f.t.Helper(); return contentOf(f, "none") }

// TestTenancyTables checks that ForgetTenancy knows all tables.
func TestTenancyTables(t *testing.T) {
	t.Parallel()
	f := openState(t)
	names := f.queryTexts(`SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name`)
	for _, name := range names {
		found := false
		for _, table := range database.TenancyTables {
			found = found || table.Name == name
		}
		if !found {
			t.Errorf("the table %s is not in TenancyTables", name)
		}
	}
	assertEqual(t, "tables", len(database.TenancyTables), len(names))
}

// Everything of a tenancy is deleted, and nothing of one whose name has the other's in it.
func TestForgetTenancy(t *testing.T) {
	t.Parallel()
	f := openState(t)
	others := []string{"acme2", "big acme", "acme~x", "ACME"}
	addTenancy(f, "acme")
	before := map[string]string{}
	for _, name := range others {
		addTenancy(f, name)
	}
	for _, name := range others {
		before[name] = contentOf(f, name)
	}
	usage, err := f.TenancyUsage(ctx, "acme")
	f.requireNoError(err)
	if usage.Streams != 1 || usage.Queued != 2 || usage.Runs != 3 || usage.Controls != 1 || usage.ControlDays != 1 || usage.Notes != 1 || usage.Bytes < 200 {
		t.Errorf("usage %+v", usage)
	}
	for _, line := range strings.Split(contentOf(f, "acme"), "\n") {
		if strings.HasSuffix(line, ": 0") {
			t.Errorf("the test has nothing in %s", line)
		}
	}
	lock, err := f.Locks.LockStream("okta_users", "acme")
	f.requireNoError(err)
	if err := f.ForgetTenancy(ctx, "acme"); !errors.Is(err, state.ErrLocked) {
		t.Errorf("while it is being collected: %v", err)
	}
	f.requireNoError(lock.Unlock())
	hold, err := f.Locks.HoldTenancy("acme")
	f.requireNoError(err)
	if err := f.ForgetTenancy(ctx, "acme"); !errors.Is(err, state.ErrLocked) || !strings.Contains(err.Error(), "works for tenancy acme") {
		t.Errorf("while a service works for it: %v", err)
	}
	if usage, err := f.TenancyUsage(ctx, "acme"); err != nil || usage.Streams != 1 {
		t.Errorf("refused, but: %+v, %v", usage, err)
	}
	f.requireNoError(hold.Unlock())

	f.requireNoError(f.ForgetTenancy(ctx, "acme"))
	f.requireNoError(f.ForgetTenancy(ctx, "acme"))
	assertEqual(t, "of acme", contentOf(f, "acme"), nothing(f))
	for _, name := range others {
		assertEqual(t, "of "+name, contentOf(f, name), before[name])
	}
	all, err := f.Tenancies(ctx)
	f.requireNoError(err)
	var names []string
	for _, u := range all {
		names = append(names, u.Tenancy)
	}
	assertEqual(t, "tenancies", strings.Join(names, ","), "ACME,acme2,acme~x,big acme")
	locks, err := locker{f.core}.namesOfTenancy("acme")
	f.requireNoError(err)
	assertEqual(t, "lock files", strings.Join(locks, " "), "")
	_, err = f.Recover(ctx, "okta", "acme", twoSinks)
	f.requireNoError(err)
	assertEqual(t, "after recovery", f.lastKnown(), "none")
	f.checkDirs()
}

// A call that was killed has left nothing that the next one does not delete.
func TestForgetTenancyKilled(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"forgetting", "forgetting rows", "forgotten"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			f := openState(t)
			addTenancy(f, "acme")
			addTenancy(f, "globex")
			other := contentOf(f, "globex")
			cmd, stderr := newChild(t, "crash", f.dir, step, "forget")
			if err := cmd.Run(); !wasKilled(err) {
				t.Fatal(err, stderr)
			}
			f.requireNoError(f.ForgetTenancy(ctx, "acme"))
			assertEqual(t, "of acme", contentOf(f, "acme"), nothing(f))
			assertEqual(t, "of globex", contentOf(f, "globex"), other)
			f.checkDirs()
		})
	}
}

// newOther returns a state with the tenancy acme that TakeOver can read: it is closed.
func newOther(t *testing.T, dir string, deliver bool) {
	t.Helper()
	other := openStateIn(t, dir)
	addTenancy(other, "acme")
	addTenancy(other, "globex")
	if deliver {
		other.requireNoError(deliverAll(other.State))
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
}

// fingerprint returns the names, sizes and times of all files of a directory.
func fingerprint(t *testing.T, dir string) string {
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

// takeAcme takes over acme from dir.
func takeAcme(f *fixture, dir string) state.TakeOverResult {
	f.t.Helper()
	source, err := OpenTakeOver(ctx, dir)
	f.requireNoError(err)
	result, err := f.TakeOver(ctx, source, "acme")
	f.requireNoError(errors.Join(err, source.Close()))
	return result
}

// assertTaken checks that a state has what newOther has of acme, but for the queue.
func assertTaken(f *fixture) {
	f.t.Helper()
	assertEqual(f.t, "last", f.lastKnown(), "id-002/90/collected")
	_, info, err := f.Snapshots.LastKnown(ctx, "okta_users", "acme")
	f.requireNoError(err)
	assertEqual(f.t, "since", info.Since, day.Add(24*time.Hour))
	held := f.queryTexts(`SELECT dir FROM snapshots WHERE held AND stream = 'okta_users' AND tenancy = 'acme'`)
	assertEqual(f.t, "held snapshots", len(held), 1)
	assertEqual(f.t, "held", filepath.Base(held[0]), filepath.Base(database.SnapshotPlace(newHeader("okta_users", "acme", 3))))
	assertEqual(f.t, "history", f.outcomes(), "success success held")
	h := newHeader("okta_users", "acme", 5)
	h.UploadTimestamp = day.Add(5 * time.Hour)
	job, err := f.Snapshots.ExportChunks(h).Find("filters")
	f.requireNoError(err)
	assertEqual(f.t, "job of chunks", job, "job 1")
	note, err := f.Notes("acme").Note(ctx, "job")
	f.requireNoError(err)
	assertEqual(f.t, "note", note, "of acme")
	days, err := f.Controls("acme").DailyScores(ctx, "", "2026-01-01")
	f.requireNoError(err)
	assertEqual(f.t, "days of controls", len(days), 1)
	assertEqual(f.t, "of globex", contentOf(f, "globex"), nothing(f))
	counts, err := f.Runs.OutcomeCounts(ctx)
	f.requireNoError(err)
	assertEqual(f.t, "counts", len(counts), 2)
}

// All of a tenancy is taken over, once, and the other state is not changed.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "other")
	newOther(t, dir, true)
	before := fingerprint(t, dir)
	f := openState(t)
	first := takeAcme(f, dir)
	assertTaken(f)
	one := first.Streams[0]
	if len(first.Streams) != 1 || one.Snapshot != state.TakenAdded || one.Held != state.TakenAdded || one.Runs != 3 || one.Jobs != 1 || one.Info.Records != 90 ||
		first.Notes != 1 || first.Controls != 1 || first.ControlDays != 1 {
		t.Errorf("first: %+v", first)
	}
	again := takeAcme(f, dir)
	assertTaken(f)
	if one = again.Streams[0]; one.Snapshot != state.TakenThere || one.Held != state.TakenThere || one.Runs != 0 || one.Jobs != 0 || again.Notes+again.Controls+again.ControlDays != 0 {
		t.Errorf("again: %+v", again)
	}
	assertEqual(t, "the other directory", fingerprint(t, dir), before)
	f.checkDirs()
	assertEqual(t, "queue", f.queuedDeliveries(), "")
	changes, err := f.Queue.RegisterSinks(ctx, "acme", map[string]string{"file": "/data", "s3": "bucket"}, twoSinks)
	f.requireNoError(err)
	assertEqual(t, "new destinations", len(changes), 0)
	_, err = f.Snapshots.Accept(ctx, "okta_users", "acme", twoSinks)
	f.requireNoError(err)
	assertEqual(t, "accepted", f.lastKnown(), "id-003/2/collected")
}

// A newer snapshot and the history that are here stay.
func TestTakeOverOlder(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "other")
	newOther(t, dir, true)
	f := openState(t)
	f.collectUsers(9, 70, state.Policy{})
	result := takeAcme(f, dir)
	assertEqual(t, "snapshot", result.Streams[0].Snapshot, state.TakenOlder)
	assertEqual(t, "held", result.Streams[0].Held, state.TakenOlder)
	assertEqual(t, "last", f.lastKnown(), "id-009/70/collected")
	assertEqual(t, "history", f.outcomes(), "success")
	f.checkDirs()
}

// What a destination has not received makes it a new one here.
func TestTakeOverWithQueue(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "other")
	newOther(t, dir, false)
	f := openState(t)
	takeAcme(f, dir)
	_, err := f.Queue.RegisterSinks(ctx, "acme", map[string]string{"file": "/data", "s3": "bucket"}, twoSinks)
	f.requireNoError(err)
	assertEqual(t, "queue", f.queuedDeliveries(), "id-002>file id-002>s3")
}

// A damaged snapshot is not taken over.
func TestTakeOverDamaged(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "other")
	newOther(t, dir, true)
	damageRecords(t, filepath.Join(dir, database.SnapshotPlace(newHeader("okta_users", "acme", 2))))
	f := openState(t)
	result := takeAcme(f, dir)
	assertEqual(t, "snapshot", result.Streams[0].Snapshot, state.TakenDamaged)
	assertEqual(t, "last", f.lastKnown(), "none")
	f.checkDirs()
}

// damageRecords changes a byte of each large file in a directory.
func damageRecords(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(path, ".json") {
			continue
		}
		text[len(text)/2] ^= 0xff
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A state that another process has open is refused.
func TestTakeOverInUse(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "other")
	newOther(t, dir, true)
	cmd, stderr := newChild(t, "open and wait", dir)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err, stderr)
	}
	if _, err := OpenTakeOver(ctx, dir); !errors.Is(err, state.ErrInUse) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", cmd.Process.Pid)) {
		t.Errorf("error %v", err)
	}
	if err := errors.Join(cmd.Process.Kill(), stdin.Close()); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	f := openState(t)
	takeAcme(f, dir) // it was killed, and its write-ahead log is there
	assertTaken(f)
}

// openAndWaitChild opens a state and waits to be killed.
func openAndWaitChild(args []string) error {
	s, err := openDirectory(ctx, args[0], Options{})
	if err != nil {
		return err
	}
	if _, err := s.Streams(ctx); err != nil {
		return err
	}
	fmt.Println()
	_, err = os.Stdin.Read(make([]byte, 1))
	return err
}

// After a kill at any step, the state is whole, and the next call completes it.
func TestTakeOverKilled(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"stream copied", "stream moved", "recording stream", "stream recorded", "stream taken"} {
		for _, recovers := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, recovery %v", step, recovers), func(t *testing.T) {
				t.Parallel()
				f := openState(t)
				newOther(t, f.dir+"-old", true)
				cmd, stderr := newChild(t, "crash", f.dir, step, "take over")
				if err := cmd.Run(); !wasKilled(err) {
					t.Fatal(err, stderr)
				}
				if got := f.lastKnown(); got != "none" && got != "id-002/90/collected" {
					t.Errorf("last before recovery: %s", got)
				}
				if recovers {
					_, err := f.Recover(ctx, "okta", "acme", state.Policy{GuardDropPercent: 10})
					f.requireNoError(err)
				}
				takeAcme(f, f.dir+"-old")
				assertTaken(f)
				f.requireNoError(f.Sweep(ctx, keepHistory))
				f.checkDirs()
			})
		}
	}
}

// A state directory of an earlier version, with a run that was killed, is taken over, and
// keeps its schema.
func TestTakeOverEarlier(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "earlier")
	if err := os.CopyFS(dir, os.DirFS(earlierState)); err != nil {
		t.Fatal(err)
	}
	before := fingerprint(t, dir)
	f := openState(t)
	f.clock.Store(earlierTime.UnixMilli())
	result := takeAcme(f, dir)
	assertEqual(t, "the other directory", fingerprint(t, dir), before)
	earlier := openEarlier(t)
	held := 0
	for _, one := range result.Streams {
		if one.Held == state.TakenAdded {
			held++
		}
		sealed, info, err := earlier.Snapshots.LastKnown(ctx, one.Stream, "acme")
		if errors.Is(err, state.ErrNoSnapshot) {
			assertEqual(t, one.Stream, one.Snapshot, state.TakenNone)
			continue
		}
		f.requireNoError(err)
		assertEqual(t, one.Stream, one.Snapshot, state.TakenAdded)
		copied, copiedInfo, err := f.Snapshots.LastKnown(ctx, one.Stream, "acme")
		f.requireNoError(err)
		f.requireNoError(copied.Verify(ctx))
		assertEqual(t, "upload of "+one.Stream, copied.UploadID, sealed.UploadID)
		assertEqual(t, "time of "+one.Stream, copied.UploadTimestamp, sealed.UploadTimestamp)
		assertEqual(t, "records of "+one.Stream, copied.Records, sealed.Records)
		assertEqual(t, "source of "+one.Stream, copiedInfo, info)
	}
	assertEqual(t, "held", held, 1)
	want, err := earlier.Runs.OutcomeCounts(ctx)
	f.requireNoError(err)
	got, err := f.Runs.OutcomeCounts(ctx)
	f.requireNoError(err)
	assertEqual(t, "counts", fmt.Sprint(got), fmt.Sprint(want))
	f.checkDirs()
}
