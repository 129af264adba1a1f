package local

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

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/database"
)

// childVariable is an environment variable. It selects what the test binary does
// instead of running tests.
const childVariable = "COLLECTORD_STATE_TEST_CHILD"

// children are the functions that tests run in child processes.
var children map[string]func(args []string) error

func TestMain(m *testing.M) {
	if name := os.Getenv(childVariable); name != "" {
		if err := children[name](os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// newChild returns a command that runs one of children, and the buffer that receives
// its standard error.
func newChild(t *testing.T, name string, args ...string) (*exec.Cmd, *bytes.Buffer) {
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

// wasKilled reports whether err means that a command ended by SIGKILL.
func wasKilled(err error) bool {
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
	day = time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC)
	// twoSinks is the policy in most tests.
	twoSinks = state.Policy{Sinks: []string{"file", "s3"}, GuardDropPercent: 10}
)

// newHeader returns the header of the nth snapshot of a stream, of the collector
// okta.
func newHeader(stream, tenancy string, n int) snapshot.Header {
	return snapshot.Header{
		Collector: "okta", Stream: stream, Tenancy: tenancy,
		UploadID: fmt.Sprintf("id-%03d", n), UploadTimestamp: day.Add(time.Duration(n) * time.Hour),
	}
}

// fillWriter commits records to w in one batch.
func fillWriter(w *snapshot.Writer, records int) error {
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

// fillCopyWriter is fillWriter for records that have the reserved members of h
// already.
func fillCopyWriter(w *snapshot.Writer, h snapshot.Header, records int) error {
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

// collectSnapshot begins a run, writes its records and commits it.
func collectSnapshot(s *State, h snapshot.Header, records int, p state.Policy) (state.CommitResult, error) {
	id, err := s.Runs.Begin(ctx, state.RunStart{Header: h, Trigger: "test", Started: h.UploadTimestamp})
	if err != nil {
		return state.CommitResult{}, err
	}
	done, err := commitSnapshot(s, id, h, records, p)
	if err != nil {
		return done, errors.Join(err, s.Runs.Fail(ctx, id, state.Failed, err, state.RunStats{}))
	}
	return done, nil
}

// commitSnapshot writes the records of a run and commits it.
func commitSnapshot(s *State, id state.RunID, h snapshot.Header, records int, p state.Policy) (state.CommitResult, error) {
	w, err := s.Snapshots.Spool(h)
	if err != nil {
		return state.CommitResult{}, err
	}
	if err := fillWriter(w, records); err != nil {
		return state.CommitResult{}, errors.Join(err, w.Abort())
	}
	done, err := s.Runs.Commit(ctx, id, w, state.RunStats{Records: int64(records), Requests: 3}, p)
	if err != nil {
		return done, errors.Join(err, w.Abort())
	}
	return done, nil
}

// deliverAll marks everything in the queue as delivered, in order.
func deliverAll(s *State) error {
	queue, err := s.Queue.List(ctx)
	for _, d := range queue {
		err = errors.Join(err, s.Queue.MarkDelivered(ctx, d.ID))
	}
	return err
}

// restoreSnapshot restores a snapshot as from a backup. It reports whether that
// became the last-known one.
func restoreSnapshot(s *State, h snapshot.Header, records int, p state.Policy) (bool, error) {
	lock, err := s.Locks.LockRestore(h.Stream, h.Tenancy)
	if err != nil {
		return false, err
	}
	w, err := s.Snapshots.SpoolRestore(h)
	if err != nil {
		return false, errors.Join(err, lock.Unlock())
	}
	restored, err := false, fillCopyWriter(w, h, records)
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

// A fixture is a state in a temporary directory, with a clock that the test sets.
type fixture struct {
	*State
	t     *testing.T
	clock atomic.Int64
	logs  *observer.ObservedLogs
}

// openState opens a new state.
func openState(t *testing.T) *fixture { return openStateIn(t, filepath.Join(t.TempDir(), "state")) }

func openStateIn(t *testing.T, dir string) *fixture {
	t.Helper()
	f := &fixture{t: t}
	f.clock.Store(day.Add(24 * time.Hour).UnixMilli())
	core, logs := observer.New(zap.DebugLevel)
	f.logs = logs
	s, err := openDirectory(ctx, dir, Options{Now: func() time.Time { return time.UnixMilli(f.clock.Load()).UTC() }, Log: zap.New(core)})
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

func (f *fixture) requireNoError(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// advanceClock sets the clock forward by d.
func (f *fixture) advanceClock(d time.Duration) { f.clock.Add(d.Milliseconds()) }

// collectUsers collects the nth snapshot of okta_users, which must succeed.
func (f *fixture) collectUsers(n, records int, p state.Policy) state.CommitResult {
	f.t.Helper()
	done, err := collectSnapshot(f.State, newHeader("okta_users", "acme", n), records, p)
	f.requireNoError(err)
	return done
}

// lastKnown returns the last-known snapshot of okta_users as "id/records/source", or
// "none". It verifies the snapshot.
func (f *fixture) lastKnown() string { f.t.Helper(); return f.lastKnownOf("okta_users", "acme") }

func (f *fixture) lastKnownOf(stream, tenancy string) string {
	f.t.Helper()
	sealed, last, err := f.Snapshots.LastKnown(ctx, stream, tenancy)
	if errors.Is(err, state.ErrNoSnapshot) {
		return "none"
	}
	f.requireNoError(err)
	f.requireNoError(sealed.Verify(ctx))
	return fmt.Sprintf("%s/%d/%s", sealed.UploadID, sealed.Records, last.Source)
}

// queuedDeliveries returns the queue in order, each delivery as "id>sink". It checks
// that each snapshot opens.
func (f *fixture) queuedDeliveries() string {
	f.t.Helper()
	all, err := f.Queue.List(ctx)
	f.requireNoError(err)
	var words []string
	for _, d := range all {
		if _, err := f.Queue.Open(ctx, d); err != nil {
			f.t.Error(err)
		}
		words = append(words, d.UploadID+">"+d.Sink)
	}
	return strings.Join(words, " ")
}

// outcomes returns the outcomes in the history, oldest first.
func (f *fixture) outcomes() string {
	f.t.Helper()
	runs, err := f.Runs.List(ctx, "", 1000)
	f.requireNoError(err)
	var words []string
	for _, r := range slices.Backward(runs) {
		words = append(words, string(r.Outcome))
	}
	return strings.Join(words, " ")
}

// queryTexts returns the first column of the rows of a query.
func (f *fixture) queryTexts(query string, args ...any) (texts []string) {
	f.t.Helper()
	rows, err := f.db.Query(query, args...)
	f.requireNoError(err)
	defer rows.Close()
	for rows.Next() {
		var text string
		f.requireNoError(rows.Scan(&text))
		texts = append(texts, text)
	}
	f.requireNoError(rows.Err())
	return texts
}

// checkDirs returns the upload ids of the snapshots on disk. It fails the test when
// the database has others, or when temporary files are left on disk.
func (f *fixture) checkDirs() string {
	f.t.Helper()
	root := os.DirFS(f.dir)
	dirs, err := fs.Glob(root, "snapshots/*/*/*")
	f.requireNoError(err)
	rows := f.queryTexts(`SELECT dir FROM snapshots`)
	slices.Sort(dirs)
	slices.Sort(rows)
	if !slices.Equal(dirs, rows) {
		f.t.Errorf("on disk: %q\nin the database: %q", dirs, rows)
	}
	for _, pattern := range []string{"spool/.trash-*", "spool/.probe-*", "spool/*/*", "spool/.restore/*"} {
		if left, err := fs.Glob(root, pattern); err != nil || len(left) > 0 {
			f.t.Errorf("temporary files left: %q, error %v", left, err)
		}
	}
	var ids []string
	for _, dir := range dirs {
		ids = append(ids, filepath.Base(dir)[len(database.StampLayout)+1:])
	}
	return strings.Join(ids, " ")
}

// assertEqual reports an error unless got is equal to want.
func assertEqual[T comparable](t *testing.T, name string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", name, got, want)
	}
}
