package local

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/state"
)

// nextDeliveries returns the first delivery of each queue as "id>sink".
func (f *fixture) nextDeliveries() string {
	f.t.Helper()
	all, err := f.Queue.Next(ctx, "acme")
	f.requireNoError(err)
	var words []string
	for _, d := range all {
		words = append(words, d.UploadID+">"+d.Sink)
	}
	return strings.Join(words, " ")
}

func TestQueueOrder(t *testing.T) {
	t.Parallel()
	f := openState(t)
	f.collectUsers(1, 5, twoSinks)
	_, err := collectSnapshot(f.State, newHeader("okta_groups", "acme", 2), 5, twoSinks)
	f.requireNoError(err)
	f.collectUsers(3, 6, twoSinks)
	assertEqual(t, "next", f.nextDeliveries(), "id-001>file id-001>s3 id-002>file id-002>s3")
	queue, err := f.Queue.List(ctx)
	f.requireNoError(err)
	f.requireNoError(f.Queue.MarkDelivered(ctx, queue[0].ID))
	assertEqual(t, "next", f.nextDeliveries(), "id-001>s3 id-002>file id-002>s3 id-003>file")
	assertEqual(t, "directories", f.checkDirs(), "id-002 id-001 id-003")
	f.requireNoError(f.Queue.MarkDelivered(ctx, queue[1].ID))
	assertEqual(t, "next", f.nextDeliveries(), "id-002>file id-002>s3 id-003>file id-003>s3")
	assertEqual(t, "directories", f.checkDirs(), "id-002 id-003")
	f.requireNoError(deliverAll(f.State))
	assertEqual(t, "directories of the last-known snapshots", f.checkDirs(), "id-002 id-003")
	assertEqual(t, "queue", f.queuedDeliveries(), "")
}

func TestDeliveryAttempts(t *testing.T) {
	t.Parallel()
	f := openState(t)
	f.collectUsers(1, 5, twoSinks)
	first := func() state.Delivery {
		t.Helper()
		next, err := f.Queue.Next(ctx, "acme")
		f.requireNoError(err)
		return next[0]
	}
	fresh := first()
	sealed, err := f.Queue.Open(ctx, fresh)
	f.requireNoError(err)
	assertEqual(t, "fresh", fresh, state.Delivery{ID: fresh.ID, Sink: "file", Collector: "okta", Stream: "okta_users", Tenancy: "acme", UploadID: "id-001",
		Taken: day.Add(time.Hour), Records: 5, SpoolBytes: sealed.SpoolBytes, Place: fresh.Place, Queued: f.now()})
	next := f.now().Add(time.Minute)
	f.requireNoError(f.Queue.ScheduleRetry(ctx, fresh.ID, errors.New("no route"), state.Transient, next))
	tried := fresh
	tried.Attempts, tried.Class, tried.Err, tried.NextTry = 1, state.Transient, "no route", next
	assertEqual(t, "tried", first(), tried)
	f.advanceClock(time.Hour)
	f.requireNoError(f.Queue.ScheduleRetry(ctx, fresh.ID, errors.New("denied"), state.Refused, next))
	tried.Attempts, tried.Class, tried.Err, tried.NextTry = 2, state.Refused, "denied", next
	assertEqual(t, "refused", first(), tried)
	f.requireNoError(f.Queue.RetryAllNow(ctx, "acme"))
	tried.Class, tried.NextTry = "", time.Time{}
	assertEqual(t, "due at once", first(), tried)

	queued, err := f.Queue.Contains(ctx, fresh.ID)
	f.requireNoError(err)
	assertEqual(t, "queued", queued, true)
	f.requireNoError(f.Queue.MarkDelivered(ctx, fresh.ID))
	queued, err = f.Queue.Contains(ctx, fresh.ID)
	f.requireNoError(err)
	assertEqual(t, "queued", queued, false)
	// After another process has delivered it, calls succeed and count nothing.
	f.requireNoError(f.Queue.MarkDelivered(ctx, fresh.ID))
	f.requireNoError(f.Queue.ScheduleRetry(ctx, fresh.ID, errors.New("late"), state.Transient, next))
	stored, err := f.Queue.SinkStatuses(ctx)
	f.requireNoError(err)
	assertEqual(t, "statuses", len(stored), 1)
	assertEqual(t, "counts", stored[0], state.SinkStatus{Stream: "okta_users", Tenancy: "acme", Sink: "file",
		LastSuccess: f.now(), LastFailure: f.now(), Successes: 1, Failures: 2})
}

// TestLastSuccessOfAWrongClock checks that the last success is that of the newest run,
// also when an earlier one ended with a clock that was ahead.
func TestLastSuccessOfAWrongClock(t *testing.T) {
	f := openState(t)
	f.collectUsers(1, 0, state.Policy{})
	if _, err := f.db.ExecContext(ctx, `UPDATE counters SET ended = ended + ?`, (400 * 24 * time.Hour).Milliseconds()); err != nil {
		t.Fatal(err)
	}
	f.advanceClock(time.Hour)
	f.collectUsers(2, 100, state.Policy{})
	status, err := f.Streams(ctx)
	f.requireNoError(err)
	assertEqual(t, "last success", status[0].LastSuccess, f.now())
}

func TestDropDamaged(t *testing.T) {
	t.Parallel()
	f := openState(t)
	f.collectUsers(1, 50, twoSinks)
	f.collectUsers(2, 50, twoSinks)
	f.collectUsers(3, 50, twoSinks)
	queue, err := f.Queue.List(ctx)
	f.requireNoError(err)
	dropped, err := f.Queue.DropDamaged(ctx, queue[0].ID)
	f.requireNoError(err)
	assertEqual(t, "intact snapshot dropped", dropped, false)
	flipBit(t, filepath.Join(f.dir, queue[0].Place))
	flipBit(t, filepath.Join(f.dir, queue[4].Place)) // the last-known one
	for _, i := range []int{0, 5} {
		dropped, err := f.Queue.DropDamaged(ctx, queue[i].ID)
		f.requireNoError(err)
		assertEqual(t, "dropped", dropped, true)
	}
	dropped, err = f.Queue.DropDamaged(ctx, queue[0].ID)
	f.requireNoError(err)
	assertEqual(t, "dropped again", dropped, false)
	assertEqual(t, "queue", f.queuedDeliveries(), "id-002>file id-002>s3")
	assertEqual(t, "last", f.lastKnown(), "id-002/50/collected")
	assertEqual(t, "directories", f.checkDirs(), "id-002")
	stored, err := f.Queue.SinkStatuses(ctx)
	f.requireNoError(err)
	for _, s := range stored {
		assertEqual(t, s.Sink+" failures", s.Failures, 2)
	}
}
