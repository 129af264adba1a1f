package statetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/database"
)

// childVariable is an environment variable. It selects what the test binary does
// instead of running tests.
const childVariable = "COLLECTORD_STATE_TEST_CHILD"

// RunChild ends the process in a child process that NewChild has started, after it has run
// the function of that name: one of this package, or of more. TestMain calls it first.
func RunChild(harness Harness, more map[string]func(args []string) error) {
	name := os.Getenv(childVariable)
	if name == "" {
		return
	}
	run, found := more[name]
	if !found {
		run = func(args []string) error { return children[name](harness, args) }
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// children are the functions that the tests run in child processes.
var children = map[string]func(harness Harness, args []string) error{
	"lock":  lockChild,
	"crash": crashChild,
	"work":  workChild,
}

// NewChild returns a command that runs a function in a child process, see RunChild, and the
// buffer that receives its standard error.
func NewChild(t *testing.T, name string, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Env = append(os.Environ(), childVariable+"="+name)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	return cmd, &stderr
}

// WasKilled reports whether err means that a command ended by SIGKILL.
func WasKilled(err error) bool {
	e := (*exec.ExitError)(nil)
	if !errors.As(err, &e) {
		return false
	}
	status, ok := e.Sys().(syscall.WaitStatus)
	return ok && status.Signal() == syscall.SIGKILL
}

// killAt kills the process with SIGKILL at a crash point.
func killAt(step string) {
	database.Reached = func(at string) {
		if at == step {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
}

var (
	ctx = context.Background()
	// Day is shortly before the snapshots of the tests are taken.
	Day = time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC)
	// TwoSinks is the policy in most tests.
	TwoSinks = state.Policy{Sinks: []string{"file", "s3"}, GuardDropPercent: 10}
)

// NewHeader returns the header of the nth snapshot of a stream, of the collector
// okta.
func NewHeader(stream, tenancy string, n int) snapshot.Header {
	return snapshot.Header{
		Collector: "okta", Stream: stream, Tenancy: tenancy,
		UploadID: fmt.Sprintf("id-%03d", n), UploadTimestamp: Day.Add(time.Duration(n) * time.Hour),
	}
}

// FillWriter commits records to w in one batch.
func FillWriter(w *snapshot.Writer, records int) error {
	if records == 0 {
		return nil
	}
	p := w.NewBatch()
	defer p.Discard()
	for i := range records {
		if err := p.Append(fmt.Appendf(nil, `{"id":%d}`, i)); err != nil {
			return err
		}
	}
	return p.Commit()
}

// FillCopyWriter is FillWriter for records that have the reserved members of h
// already.
func FillCopyWriter(w *snapshot.Writer, h snapshot.Header, records int) error {
	p := w.NewBatch()
	defer p.Discard()
	for i := range records {
		record, _, err := snapshot.NewSplicer(h).Append(nil, fmt.Appendf(nil, `{"id":%d}`, i))
		if err == nil {
			err = p.Append(record)
		}
		if err != nil {
			return err
		}
	}
	return p.Commit()
}

// CollectSnapshot begins a run, writes its records and commits it, with the lock of the stream.
func CollectSnapshot(s *state.State, h snapshot.Header, records int, p state.Policy) (done state.CommitResult, err error) {
	lock, err := s.Locks.LockStream(h.Stream, h.Tenancy)
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	id, err := s.Runs.Begin(ctx, state.RunStart{Header: h, Trigger: "test", Started: h.UploadTimestamp})
	if err != nil {
		return done, err
	}
	done, err = CommitSnapshot(s, id, h, records, p)
	if err != nil {
		return done, errors.Join(err, s.Runs.Fail(ctx, id, state.Failed, err, state.RunStats{}))
	}
	return done, nil
}

// CommitSnapshot writes the records of a run and commits it.
func CommitSnapshot(s *state.State, id state.RunID, h snapshot.Header, records int, p state.Policy) (state.CommitResult, error) {
	w, err := s.Snapshots.Spool(h)
	if err != nil {
		return state.CommitResult{}, err
	}
	if err := FillWriter(w, records); err != nil {
		return state.CommitResult{}, errors.Join(err, w.Abort())
	}
	done, err := s.Runs.Commit(ctx, id, w, state.RunStats{Records: int64(records), Requests: 3}, p)
	if err != nil {
		return done, errors.Join(err, w.Abort())
	}
	return done, nil
}

// DeliverAll marks everything in the queue as delivered, in order.
func DeliverAll(s *state.State) error {
	queue, err := s.Queue.List(ctx)
	for _, d := range queue {
		err = errors.Join(err, s.Queue.MarkDelivered(ctx, d))
	}
	return err
}

// RestoreSnapshot restores a snapshot as from a backup. It reports whether that
// became the last-known one.
func RestoreSnapshot(s *state.State, h snapshot.Header, records int, p state.Policy) (bool, error) {
	lock, err := s.Locks.LockRestore(h.Stream, h.Tenancy)
	if err != nil {
		return false, err
	}
	w, err := s.Snapshots.SpoolRestore(h)
	if err != nil {
		return false, errors.Join(err, lock.Unlock())
	}
	restored, err := false, FillCopyWriter(w, h, records)
	if err == nil {
		var outcome state.RestoreOutcome
		outcome, err = s.Snapshots.Restore(ctx, w, p)
		restored = outcome == state.RestoreDone
	}
	if err != nil {
		err = errors.Join(err, w.Abort())
	}
	return restored, errors.Join(err, lock.Unlock())
}

// A Fixture is an open state with a clock that the test sets.
type Fixture struct {
	*state.State
	T *testing.T
	// Place is that of Harness.New.
	Place   string
	Logs    *observer.ObservedLogs
	harness Harness
	clock   atomic.Int64
}

// NewState opens a new state.
func (h Harness) NewState(t *testing.T) *Fixture { t.Helper(); return h.OpenState(t, h.New(t)) }

// OpenState opens the state at a place. It is closed at the end of the test.
func (h Harness) OpenState(t *testing.T, place string) *Fixture {
	t.Helper()
	f := &Fixture{T: t, Place: place, harness: h}
	f.SetClock(Day.Add(24 * time.Hour))
	core, logs := observer.New(zap.DebugLevel)
	f.Logs = logs
	s, err := h.Open(ctx, place, Options{Now: f.Now, Log: zap.New(core)})
	if err != nil {
		t.Fatal(err)
	}
	f.State = s
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// Now returns the time of the fixture's clock.
func (f *Fixture) Now() time.Time { return time.UnixMilli(f.clock.Load()).UTC() }

// SetClock sets the clock.
func (f *Fixture) SetClock(to time.Time) { f.clock.Store(to.UnixMilli()) }

// RequireNoError ends the test at an error.
func (f *Fixture) RequireNoError(err error) {
	f.T.Helper()
	if err != nil {
		f.T.Fatal(err)
	}
}

// AdvanceClock sets the clock forward by d.
func (f *Fixture) AdvanceClock(d time.Duration) { f.clock.Add(d.Milliseconds()) }

// CollectUsers collects the nth snapshot of okta_users, which must succeed.
func (f *Fixture) CollectUsers(n, records int, p state.Policy) state.CommitResult {
	f.T.Helper()
	done, err := CollectSnapshot(f.State, NewHeader("okta_users", "acme", n), records, p)
	f.RequireNoError(err)
	return done
}

// LastKnown returns the last-known snapshot of okta_users as "id/records/source", or
// "none". It verifies the snapshot.
func (f *Fixture) LastKnown() string { f.T.Helper(); return f.LastKnownOf("okta_users", "acme") }

// LastKnownOf is LastKnown for a stream of a tenancy.
func (f *Fixture) LastKnownOf(stream, tenancy string) string {
	f.T.Helper()
	sealed, last, err := f.Snapshots.LastKnown(ctx, stream, tenancy)
	if errors.Is(err, state.ErrNoSnapshot) {
		return "none"
	}
	f.RequireNoError(err)
	f.RequireNoError(sealed.Verify(ctx))
	return fmt.Sprintf("%s/%d/%s", sealed.UploadID, sealed.Records, last.Source)
}

// QueuedDeliveries returns the queue in order, each delivery as "id>sink". It checks
// that each snapshot opens.
func (f *Fixture) QueuedDeliveries() string {
	f.T.Helper()
	all, err := f.Queue.List(ctx)
	f.RequireNoError(err)
	var words []string
	for _, d := range all {
		if _, err := f.Queue.Open(ctx, d); err != nil {
			f.T.Error(err)
		}
		words = append(words, d.UploadID+">"+d.Sink)
	}
	return strings.Join(words, " ")
}

// Outcomes returns the outcomes in the history, oldest first.
func (f *Fixture) Outcomes() string {
	f.T.Helper()
	runs, err := f.Runs.List(ctx, "", 1000)
	f.RequireNoError(err)
	var words []string
	for _, r := range slices.Backward(runs) {
		words = append(words, string(r.Outcome))
	}
	return strings.Join(words, " ")
}

// QueryTexts returns the first column of the rows of a query.
func (f *Fixture) QueryTexts(query string, args ...any) (texts []string) {
	f.T.Helper()
	rows, err := f.store().DB.QueryContext(ctx, query, args...)
	f.RequireNoError(err)
	defer rows.Close()
	for rows.Next() {
		var text string
		f.RequireNoError(rows.Scan(&text))
		texts = append(texts, text)
	}
	f.RequireNoError(rows.Err())
	return texts
}

// store returns where the state keeps its data.
func (f *Fixture) store() Store { return f.harness.Store(f.State) }

// CheckStored returns the upload ids of the stored snapshots, in the order of their places. It
// fails the test when the database has others, or when temporary files are left.
func (f *Fixture) CheckStored() string {
	f.T.Helper()
	places := f.findAll(os.DirFS(f.store().Snapshots), "snapshots/*/*/*")
	rows := f.QueryTexts(`SELECT dir FROM snapshots`)
	slices.Sort(places)
	slices.Sort(rows)
	if !slices.Equal(places, rows) {
		f.T.Errorf("stored: %q\nin the database: %q", places, rows)
	}
	if f.store().Copies != "" {
		for _, place := range f.findAll(os.DirFS(f.store().Copies), "snapshots/*/*/*") {
			if !slices.Contains(rows, place) {
				f.T.Errorf("a copy is left of %s", place)
			}
		}
	}
	for _, pattern := range []string{"spool/.*-*", "spool/*/*", "spool/.restore/*"} {
		if left := f.findAll(os.DirFS(f.Dir()), pattern); len(left) > 0 {
			f.T.Errorf("temporary files left: %q", left)
		}
	}
	var ids []string
	for _, place := range places {
		ids = append(ids, f.QueryTexts(`SELECT upload_id FROM snapshots WHERE dir = $1`, place)...)
	}
	return strings.Join(ids, " ")
}

// findAll returns the names of the files that match a pattern.
func (f *Fixture) findAll(root fs.FS, pattern string) []string {
	f.T.Helper()
	names, err := fs.Glob(root, pattern)
	f.RequireNoError(err)
	return names
}

// The files of a stored snapshot.
const (
	Records  = "records.ndjson.zst"
	Manifest = "manifest.json"
)

// Alter replaces the content of a file of the stored snapshot of h by the result of change, or
// removes the file when that is nil. Copies of the snapshot are removed.
func (f *Fixture) Alter(h snapshot.Header, file string, change func(content []byte) []byte) {
	f.T.Helper()
	places := f.QueryTexts(`SELECT dir FROM snapshots WHERE stream = $1 AND tenancy = $2 AND upload_id = $3`, h.Stream, h.Tenancy, h.UploadID)
	if len(places) != 1 {
		f.T.Fatalf("%d snapshots %s of %s, want 1", len(places), h.UploadID, h.Stream)
	}
	path := filepath.Join(f.store().Snapshots, filepath.FromSlash(places[0]), file)
	content, err := os.ReadFile(path)
	f.RequireNoError(err)
	if content = change(content); content == nil {
		f.RequireNoError(os.Remove(path))
	} else {
		f.RequireNoError(os.WriteFile(path, content, 0o600))
	}
	if copies := f.store().Copies; copies != "" {
		f.RequireNoError(os.RemoveAll(filepath.Join(copies, filepath.FromSlash(places[0]))))
	}
}

// FlipBit changes one bit in a text, for Alter.
func FlipBit(content []byte) []byte { content[len(content)/2] ^= 1; return content }

// Shorten cuts a text, for Alter.
func Shorten(content []byte) []byte { return content[:3] }

// Remove is nil for every text, for Alter.
func Remove([]byte) []byte { return nil }

// RemoveGarbage removes what a process that was killed leaves until a later cleanup.
func (f *Fixture) RemoveGarbage() {
	f.T.Helper()
	if f.harness.RemoveGarbage != nil {
		f.harness.RemoveGarbage(f.T, f.State)
	}
}

// AfterOwnerDied calls do again while it returns an error that wraps state.ErrLocked, until the
// locks of a process that was killed have expired.
func (f *Fixture) AfterOwnerDied(do func() error) {
	f.T.Helper()
	limit := time.Now().Add(time.Minute)
	err := do()
	for f.harness.LocksExpire && errors.Is(err, state.ErrLocked) && time.Now().Before(limit) {
		time.Sleep(20 * time.Millisecond)
		err = do()
	}
	f.RequireNoError(err)
}

// LockDead returns the lock of okta_users after its owner was killed, which may have had that for
// restoring it as well.
func (f *Fixture) LockDead() (lock state.Lock) {
	f.T.Helper()
	f.AfterOwnerDied(func() error {
		restore, err := f.Locks.LockRestore("okta_users", "acme")
		if err != nil {
			return err
		}
		return restore.Unlock()
	})
	f.AfterOwnerDied(func() (err error) {
		lock, err = f.Locks.LockStream("okta_users", "acme")
		return err
	})
	return lock
}

// AssertEqual reports an error unless got is equal to want.
func AssertEqual[T comparable](t *testing.T, name string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", name, got, want)
	}
}
