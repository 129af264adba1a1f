package state

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
)

// childVariable names what a re-executed test binary does instead of testing.
const childVariable = "COLLECTORD_STATE_TEST_CHILD"

// children are the programs that tests run as processes of their own.
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

// child prepares a process that runs one of children. Its errors are in the
// returned buffer.
func child(t *testing.T, name string, args ...string) (*exec.Cmd, *bytes.Buffer) {
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

// killed tells that cmd ended by SIGKILL.
func killed(err error) bool {
	e := (*exec.ExitError)(nil)
	if !errors.As(err, &e) {
		return false
	}
	status, ok := e.Sys().(syscall.WaitStatus)
	return ok && status.Signal() == syscall.SIGKILL
}

// dieAt makes the process end, as by the kernel's hand, at the named step.
func dieAt(step string) {
	reached = func(at string) {
		if at == step {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
}

var (
	ctx = context.Background()
	day = time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC)
	// twoSinks is the policy of most tests.
	twoSinks = Policy{Sinks: []string{"file", "s3"}, GuardDropPercent: 10}
)

// header is the nth snapshot of a stream of the collector okta.
func header(stream, tenancy string, n int) snapshot.Header {
	return snapshot.Header{
		Collector: "okta", Stream: stream, Tenancy: tenancy,
		UploadID: fmt.Sprintf("id-%03d", n), UploadTimestamp: day.Add(time.Duration(n) * time.Hour),
	}
}

// fill writes records into w.
func fill(w *snapshot.Writer, records int) error {
	if records == 0 {
		return nil
	}
	p := w.Page()
	defer p.Discard()
	for i := range records {
		if err := p.Append(fmt.Appendf(nil, `{"id":%d}`, i)); err != nil {
			return err
		}
	}
	return p.Commit()
}

// fillCopy writes records that have the members of h already.
func fillCopy(w *snapshot.Writer, h snapshot.Header, records int) error {
	p := w.Page()
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

// collect does what a run does.
func collect(s *State, h snapshot.Header, records int, p Policy) (Commitment, error) {
	id, err := s.Begin(ctx, Start{Header: h, Trigger: "test", Started: h.UploadTimestamp})
	if err != nil {
		return Commitment{}, err
	}
	done, err := commit(s, id, h, records, p)
	if err != nil {
		return done, errors.Join(err, s.Fail(ctx, id, Failed, err, Figures{}))
	}
	return done, nil
}

func commit(s *State, id RunID, h snapshot.Header, records int, p Policy) (Commitment, error) {
	w, err := s.Spool(ctx, h, 1<<30)
	if err != nil {
		return Commitment{}, err
	}
	if err := fill(w, records); err != nil {
		return Commitment{}, errors.Join(err, w.Abort())
	}
	done, err := s.Commit(ctx, id, w, Figures{Records: int64(records), Requests: 3}, p)
	if err != nil {
		return done, errors.Join(err, w.Abort())
	}
	return done, nil
}

// deliverAll delivers the whole queue, in order.
func deliverAll(s *State) error {
	queue, err := s.Queue(ctx)
	for _, d := range queue {
		err = errors.Join(err, s.Delivered(ctx, d.ID))
	}
	return err
}

// restore does what a restore from a backup does.
func restore(s *State, h snapshot.Header, records int) (bool, error) {
	lock, err := s.LockRestore(h.Stream, h.Tenancy)
	if err != nil {
		return false, err
	}
	w, err := s.SpoolRestore(h)
	if err != nil {
		return false, errors.Join(err, lock.Unlock())
	}
	taken, err := false, fillCopy(w, h, records)
	if err == nil {
		taken, err = s.Restore(ctx, w)
	}
	if err != nil {
		err = errors.Join(err, w.Abort())
	}
	return taken, errors.Join(err, lock.Unlock())
}

// fixture is a state in a folder of its own, whose clock the test sets.
type fixture struct {
	*State
	t     *testing.T
	clock atomic.Int64
	logs  *observer.ObservedLogs
}

func open(t *testing.T) *fixture { return openIn(t, filepath.Join(t.TempDir(), "state")) }

func openIn(t *testing.T, dir string) *fixture {
	t.Helper()
	f := &fixture{t: t}
	f.clock.Store(day.Add(24 * time.Hour).UnixMilli())
	core, logs := observer.New(zap.DebugLevel)
	f.logs = logs
	s, err := Open(ctx, dir, Options{Now: func() time.Time { return time.UnixMilli(f.clock.Load()).UTC() }, Log: zap.New(core)})
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

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) pass(d time.Duration) { f.clock.Add(d.Milliseconds()) }

// users collects the nth snapshot of okta_users.
func (f *fixture) users(n, records int, p Policy) Commitment {
	f.t.Helper()
	done, err := collect(f.State, header("okta_users", "acme", n), records, p)
	f.must(err)
	return done
}

// last is "id/records/source" of the last-known okta_users, verified; "none"
// without one.
func (f *fixture) last() string { f.t.Helper(); return f.lastOf("okta_users", "acme") }

func (f *fixture) lastOf(stream, tenancy string) string {
	f.t.Helper()
	sealed, last, err := f.LastKnown(ctx, stream, tenancy)
	if errors.Is(err, ErrNone) {
		return "none"
	}
	f.must(err)
	f.must(sealed.Verify(ctx))
	return fmt.Sprintf("%s/%d/%s", sealed.UploadID, sealed.Records, last.Source)
}

// queue is what is queued, in order, as "id>sink"; each must open.
func (f *fixture) queue() string {
	f.t.Helper()
	all, err := f.Queue(ctx)
	f.must(err)
	var words []string
	for _, d := range all {
		if _, err := snapshot.Open(d.Dir); err != nil {
			f.t.Error(err)
		}
		words = append(words, d.UploadID+">"+d.Sink)
	}
	return strings.Join(words, " ")
}

// outcomes are those of the history, oldest first.
func (f *fixture) outcomes() string {
	f.t.Helper()
	runs, err := f.Runs(ctx, "", 1000)
	f.must(err)
	var words []string
	for _, r := range slices.Backward(runs) {
		words = append(words, string(r.Outcome))
	}
	return strings.Join(words, " ")
}

// folders are the upload ids of the snapshots on disk. It fails when the
// database knows others, or anything else is left on disk.
func (f *fixture) folders() string {
	f.t.Helper()
	root := os.DirFS(f.dir)
	dirs, err := fs.Glob(root, "snapshots/*/*/*")
	f.must(err)
	rows, err := queryAll(ctx, f.db, scanText, `SELECT dir FROM snapshots`)
	f.must(err)
	slices.Sort(dirs)
	slices.Sort(rows)
	if !slices.Equal(dirs, rows) {
		f.t.Errorf("on disk: %q\nin the database: %q", dirs, rows)
	}
	for _, pattern := range []string{"spool/.trash-*", "spool/.probe-*", "spool/*/*", "spool/.restore/*"} {
		if left, err := fs.Glob(root, pattern); err != nil || len(left) > 0 {
			f.t.Errorf("left behind: %q %v", left, err)
		}
	}
	var ids []string
	for _, dir := range dirs {
		ids = append(ids, filepath.Base(dir)[len(stampLayout)+1:])
	}
	return strings.Join(ids, " ")
}

// want compares, with names for what is compared.
func want[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}
