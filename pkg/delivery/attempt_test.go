package delivery

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/local"
	"github.com/collectord/collectord/pkg/store"
)

// hangingSink is a destination that neither stores nor refuses a snapshot.
type hangingSink struct{ store.Sink }

func (hangingSink) Name() string { return "hanging" }

func (hangingSink) Write(ctx context.Context, _ *snapshot.Snapshot) error {
	<-ctx.Done()
	return ctx.Err()
}

// panickingSink is a destination with a bug.
type panickingSink struct{ store.Sink }

func (panickingSink) Name() string { return "panicking" }

func (panickingSink) Write(context.Context, *snapshot.Snapshot) error {
	panic("a mistake in the destination")
}

// openState opens a state directory for the duration of the test.
func openState(t *testing.T) *state.State {
	t.Helper()
	st, err := local.Open(t.Context(), filepath.Join(t.TempDir(), "state"), local.Options{})
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

// queueSnapshot queues a snapshot for a destination and returns the delivery.
func queueSnapshot(t *testing.T, st *state.State, sink string) state.Delivery {
	t.Helper()
	collectSnapshot(t, st, "okta_users", 1, state.Policy{Sinks: []string{sink}})
	queue, err := st.Queue.List(t.Context())
	if err != nil || len(queue) != 1 {
		t.Fatalf("%d deliveries are queued, want 1; error: %v", len(queue), err)
	}
	return queue[0]
}

// collectSnapshot commits the nth snapshot of a stream of the tenancy default and returns
// its upload id.
func collectSnapshot(t *testing.T, st *state.State, stream string, n int, p state.Policy) string {
	t.Helper()
	h := snapshot.Header{Collector: "okta", Stream: stream, Tenancy: "default",
		UploadID:        fmt.Sprintf("00000000-0000-4000-8000-%012d", n),
		UploadTimestamp: time.Date(2026, 3, 1, 12, 0, n, 0, time.UTC)}
	id, err := st.Runs.Begin(t.Context(), state.RunStart{Header: h, Started: h.UploadTimestamp})
	if err != nil {
		t.Fatal(err)
	}
	w, err := st.Snapshots.Spool(h)
	if err != nil {
		t.Fatal(err)
	}
	batch := w.NewBatch()
	if err := errors.Join(batch.Append([]byte(`{"n":1}`)), batch.Commit()); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Runs.Commit(t.Context(), id, w, state.RunStats{}, p); err != nil {
		t.Fatal(err)
	}
	return h.UploadID
}

// TestHangingDestinationIsGivenUp checks that STORE_WRITE_TIMEOUT ends an attempt, which
// counts as a transient failure.
func TestHangingDestinationIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := openState(t)
		q := queueSnapshot(t, st, "hanging")
		d := New(st, "default", []store.Sink{hangingSink{}}, time.Hour, 20*time.Minute, zap.NewNop())
		began := time.Now()
		d.attempt(t.Context(), d.current, q)
		if took := time.Since(began); took != 20*time.Minute {
			t.Errorf("the attempt took %s, want 20m", took)
		}
		err := d.DeliveryStatus(q.UploadID, q.Stream, q.Sink).Err
		if err == nil || !strings.Contains(err.Error(), "STORE_WRITE_TIMEOUT") || errors.Is(err, store.ErrRefused) {
			t.Errorf("the error of the attempt is %v", err)
		}
		queue, err := st.Queue.List(t.Context())
		if err != nil || len(queue) != 1 || queue[0].Attempts != 1 || queue[0].Class != state.Transient {
			t.Errorf("queue: %+v, error: %v", queue, err)
		}
	})
}

// TestMissingSnapshotHoldsNothingUp checks that a queued snapshot whose directory was
// removed leaves the queue.
func TestMissingSnapshotHoldsNothingUp(t *testing.T) {
	st := openState(t)
	q := queueSnapshot(t, st, "hanging")
	if err := os.RemoveAll(filepath.Join(st.Dir(), q.Place)); err != nil {
		t.Fatal(err)
	}
	d := New(st, "default", []store.Sink{hangingSink{}}, time.Hour, time.Hour, zap.NewNop())
	d.attempt(t.Context(), d.current, q)
	if queue, err := st.Queue.List(t.Context()); err != nil || len(queue) != 0 {
		t.Errorf("queue: %+v, error: %v", queue, err)
	}
	if err := d.DeliveryStatus(q.UploadID, q.Stream, q.Sink).Err; err == nil {
		t.Error("the status has no error")
	}
}

// TestDestinationPanicFailsOnlyItsDelivery checks that a bug in the code of a destination
// fails the delivery, which stays queued.
func TestDestinationPanicFailsOnlyItsDelivery(t *testing.T) {
	st := openState(t)
	q := queueSnapshot(t, st, "panicking")
	d := New(st, "default", []store.Sink{panickingSink{}}, time.Hour, time.Hour, zap.NewNop())
	d.attempt(t.Context(), d.current, q)
	err := d.DeliveryStatus(q.UploadID, "okta_users", "panicking").Err
	if err == nil || !strings.Contains(err.Error(), "a mistake in the destination") {
		t.Errorf("the error of the attempt is %v", err)
	}
	if queue, err := st.Queue.List(t.Context()); err != nil || len(queue) != 1 || queue[0].Attempts != 1 {
		t.Errorf("queue: %+v, error: %v", queue, err)
	}
}

// TestDeliveryOfAnotherProcess checks that a delivery that another process has locked is
// postponed in this process alone, and one that it has made counts as stored.
func TestDeliveryOfAnotherProcess(t *testing.T) {
	st := openState(t)
	q := queueSnapshot(t, st, "hanging")
	d := New(st, "default", []store.Sink{hangingSink{}}, time.Hour, time.Hour, zap.NewNop())
	lock, err := st.Locks.LockDelivery(q.Sink, q.Stream, q.Tenancy)
	if err != nil {
		t.Fatal(err)
	}
	// The other process has failed and waits: its wait stays.
	later := time.Now().Add(15 * time.Minute).UTC().Truncate(time.Millisecond)
	if err := st.Queue.ScheduleRetry(t.Context(), q, errors.New("down"), state.Transient, later); err != nil {
		t.Fatal(err)
	}
	before := time.Now()
	d.attempt(t.Context(), d.current, q)
	queue, err := st.Queue.List(t.Context())
	if err != nil || len(queue) != 1 || queue[0].Attempts != 1 || !queue[0].NextTry.Equal(later) {
		t.Errorf("locked: queue: %+v, error: %v, want one attempt and the next at %s", queue, err, later)
	}
	if at := d.dueAt(q); at.Before(before.Add(lockedWait)) {
		t.Errorf("locked: due at %s, want a second after %s", at, before)
	}
	if err := errors.Join(st.Queue.MarkDelivered(t.Context(), q), lock.Unlock()); err != nil {
		t.Fatal(err)
	}
	d.attempt(t.Context(), d.current, q)
	if got := d.DeliveryStatus(q.UploadID, q.Stream, q.Sink); !got.Stored || got.Err != nil {
		t.Errorf("stored by another process: status %+v", got)
	}
}

// keepingSink is a destination that has a snapshot which must stay.
type keepingSink struct{ store.Sink }

func (keepingSink) Name() string { return "keeping" }

func (keepingSink) Write(ctx context.Context, s *snapshot.Snapshot) error {
	store.ReportPlacement(ctx, nil, s, "the file", store.Older)
	return nil
}

// TestKeptOut checks that a snapshot which a destination keeps out leaves the queue, and that
// the status, the counts and the history say so.
func TestKeptOut(t *testing.T) {
	st := openState(t)
	q := queueSnapshot(t, st, "keeping")
	d := New(st, "default", []store.Sink{keepingSink{}}, time.Hour, 0, zap.NewNop())
	d.attempt(t.Context(), d.current, q)
	if got := d.DeliveryStatus(q.UploadID, q.Stream, q.Sink); got.Stored || got.Label() != "kept_out" {
		t.Errorf("status %+v, label %s", got, got.Label())
	}
	counts, err := st.Queue.SinkStatuses(t.Context())
	if err != nil || len(counts) != 1 || counts[0].KeptOut != 1 || counts[0].Successes != 0 || counts[0].Failures != 0 {
		t.Errorf("counts %+v, %v", counts, err)
	}
	ended, err := st.Queue.ListUndelivered(t.Context(), "default", 10)
	if err != nil || len(ended) != 1 || ended[0].Outcome != state.DeliveryKeptOut || ended[0].UploadID != q.UploadID {
		t.Errorf("history %+v, %v", ended, err)
	}
	if queue, err := st.Queue.List(t.Context()); err != nil || len(queue) != 0 {
		t.Errorf("queue %+v, %v", queue, err)
	}
	if err := st.Queue.MarkKeptOut(t.Context(), q); err != nil {
		t.Errorf("once more: %v", err)
	}
}

// lostLocks are locks of a state. That of a delivery is lost when lose is closed.
type lostLocks struct {
	state.Locks
	lose chan struct{}
}

// A lostLock is a lock of lostLocks.
type lostLock struct {
	state.Lock
	lose chan struct{}
}

func (l lostLock) Lost() <-chan struct{} { return l.lose }

func (l lostLocks) LockDelivery(sink, stream, tenancy string) (state.Lock, error) {
	lock, err := l.Locks.LockDelivery(sink, stream, tenancy)
	return lostLock{lock, l.lose}, err
}

// losingSink is a destination that loses the lock while it stores a snapshot.
type losingSink struct {
	hangingSink
	lose chan struct{}
}

func (l losingSink) Write(ctx context.Context, s *snapshot.Snapshot) error {
	close(l.lose)
	return l.hangingSink.Write(ctx, s)
}

// TestLostDelivery checks that a delivery ends when its lock is lost, and that this is no
// failed attempt: another process may make it.
func TestLostDelivery(t *testing.T) {
	st := openState(t)
	q := queueSnapshot(t, st, "hanging")
	locks := lostLocks{st.Locks, make(chan struct{})}
	st.Locks = locks
	d := New(st, "default", []store.Sink{losingSink{hangingSink{}, locks.lose}}, time.Hour, 0, zap.NewNop())
	before := time.Now()
	d.attempt(t.Context(), d.current, q)
	queue, err := st.Queue.List(t.Context())
	if err != nil || len(queue) != 1 || queue[0].Attempts != 0 || queue[0].Err != "" {
		t.Errorf("queue: %+v, error: %v, want no attempt", queue, err)
	}
	if at := d.dueAt(q); at.Before(before.Add(lockedWait)) {
		t.Errorf("due at %s, want a second after %s", at, before)
	}
}
