package statetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/state"
)

// nextDeliveries returns the first delivery of each queue as "id>sink".
func (f *Fixture) nextDeliveries() string {
	f.T.Helper()
	all, err := f.Queue.Next(ctx, "acme")
	f.RequireNoError(err)
	var words []string
	for _, d := range all {
		words = append(words, d.UploadID+">"+d.Sink)
	}
	return strings.Join(words, " ")
}

func testQueueOrder(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	f.CollectUsers(1, 5, TwoSinks)
	_, err := CollectSnapshot(f.State, NewHeader("okta_groups", "acme", 2), 5, TwoSinks)
	f.RequireNoError(err)
	f.CollectUsers(3, 6, TwoSinks)
	AssertEqual(t, "next", f.nextDeliveries(), "id-001>file id-001>s3 id-002>file id-002>s3")
	queue, err := f.Queue.List(ctx)
	f.RequireNoError(err)
	f.RequireNoError(f.Queue.MarkDelivered(ctx, queue[0]))
	AssertEqual(t, "next", f.nextDeliveries(), "id-001>s3 id-002>file id-002>s3 id-003>file")
	AssertEqual(t, "directories", f.CheckStored(), "id-002 id-001 id-003")
	f.RequireNoError(f.Queue.MarkDelivered(ctx, queue[1]))
	AssertEqual(t, "next", f.nextDeliveries(), "id-002>file id-002>s3 id-003>file id-003>s3")
	AssertEqual(t, "directories", f.CheckStored(), "id-002 id-003")
	f.RequireNoError(DeliverAll(f.State))
	AssertEqual(t, "directories of the last-known snapshots", f.CheckStored(), "id-002 id-003")
	AssertEqual(t, "queue", f.QueuedDeliveries(), "")
}

func testDeliveryAttempts(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	f.CollectUsers(1, 5, TwoSinks)
	first := func() state.Delivery {
		t.Helper()
		next, err := f.Queue.Next(ctx, "acme")
		f.RequireNoError(err)
		return next[0]
	}
	fresh := first()
	sealed, err := f.Queue.Open(ctx, fresh)
	f.RequireNoError(err)
	AssertEqual(t, "fresh", fresh, state.Delivery{ID: fresh.ID, Sink: "file", Collector: "okta", Stream: "okta_users", Tenancy: "acme", UploadID: "id-001",
		Taken: Day.Add(time.Hour), Records: 5, SpoolBytes: sealed.SpoolBytes, Place: fresh.Place, Queued: f.Now()})
	next := f.Now().Add(time.Minute)
	f.RequireNoError(f.Queue.ScheduleRetry(ctx, fresh, errors.New("no route"), state.Transient, next))
	tried := fresh
	tried.Attempts, tried.Class, tried.Err, tried.NextTry = 1, state.Transient, "no route", next
	AssertEqual(t, "tried", first(), tried)
	counts := func() string {
		t.Helper()
		all, err := f.TenancyStreams(ctx, "acme")
		f.RequireNoError(err)
		return fmt.Sprint(len(all), all[0].Queued, all[0].Refused, all[0].Retried)
	}
	AssertEqual(t, "queued, refused and retried after a failure", counts(), "1 2 0 1")
	f.AdvanceClock(time.Hour)
	f.RequireNoError(f.Queue.ScheduleRetry(ctx, fresh, errors.New("denied"), state.Refused, next))
	tried.Attempts, tried.Class, tried.Err, tried.NextTry = 2, state.Refused, "denied", next
	AssertEqual(t, "refused", first(), tried)
	AssertEqual(t, "queued, refused and retried after a refusal", counts(), "1 2 1 0")
	f.RequireNoError(f.Queue.RetryAllNow(ctx, "acme"))
	tried.Class, tried.NextTry = "", time.Time{}
	AssertEqual(t, "due at once", first(), tried)
	AssertEqual(t, "queued, refused and retried, due at once", counts(), "1 2 0 1")

	// A lost delivery whose id the database has given again is not this one.
	lost := fresh
	lost.UploadID = "id-009"
	f.RequireNoError(f.Queue.ScheduleRetry(ctx, lost, errors.New("late"), state.Transient, next))
	f.RequireNoError(f.Queue.MarkDelivered(ctx, lost))
	AssertEqual(t, "after the end of the lost one", first(), tried)
	queued, err := f.Queue.Contains(ctx, lost)
	f.RequireNoError(err)
	AssertEqual(t, "the lost one is queued", queued, false)
	queued, err = f.Queue.Contains(ctx, fresh)
	f.RequireNoError(err)
	AssertEqual(t, "queued", queued, true)
	f.RequireNoError(f.Queue.MarkDelivered(ctx, fresh))
	queued, err = f.Queue.Contains(ctx, fresh)
	f.RequireNoError(err)
	AssertEqual(t, "queued", queued, false)
	// After another process has delivered it, calls succeed and count nothing.
	f.RequireNoError(f.Queue.MarkDelivered(ctx, fresh))
	f.RequireNoError(f.Queue.ScheduleRetry(ctx, fresh, errors.New("late"), state.Transient, next))
	stored, err := f.Queue.SinkStatuses(ctx)
	f.RequireNoError(err)
	AssertEqual(t, "statuses", len(stored), 1)
	AssertEqual(t, "counts", stored[0], state.SinkStatus{Stream: "okta_users", Tenancy: "acme", Sink: "file",
		LastSuccess: f.Now(), LastFailure: f.Now(), Successes: 1, Failures: 2})
}

// testLastSuccessOfAWrongClock checks that the last success is that of the newest run,
// also when an earlier one ended with a clock that was ahead.
func testLastSuccessOfAWrongClock(t *testing.T, harness Harness) {
	f := harness.NewState(t)
	f.CollectUsers(1, 0, state.Policy{})
	if _, err := f.store().DB.ExecContext(ctx, `UPDATE counters SET ended = ended + $1`, (400 * 24 * time.Hour).Milliseconds()); err != nil {
		t.Fatal(err)
	}
	f.AdvanceClock(time.Hour)
	f.CollectUsers(2, 100, state.Policy{})
	status, err := f.Streams(ctx)
	f.RequireNoError(err)
	AssertEqual(t, "last success", status[0].LastSuccess, f.Now())
}

func testDropDamaged(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	f.CollectUsers(1, 50, TwoSinks)
	f.CollectUsers(2, 50, TwoSinks)
	f.CollectUsers(3, 50, TwoSinks)
	queue, err := f.Queue.List(ctx)
	f.RequireNoError(err)
	dropped, err := f.Queue.DropDamaged(ctx, queue[0])
	f.RequireNoError(err)
	AssertEqual(t, "intact snapshot dropped", dropped, false)
	f.Alter(NewHeader("okta_users", "acme", 1), Records, FlipBit)
	f.Alter(NewHeader("okta_users", "acme", 3), Records, FlipBit) // the last-known one
	for _, i := range []int{0, 5} {
		dropped, err := f.Queue.DropDamaged(ctx, queue[i])
		f.RequireNoError(err)
		AssertEqual(t, "dropped", dropped, true)
	}
	dropped, err = f.Queue.DropDamaged(ctx, queue[0])
	f.RequireNoError(err)
	AssertEqual(t, "dropped again", dropped, false)
	AssertEqual(t, "queue", f.QueuedDeliveries(), "id-002>file id-002>s3")
	AssertEqual(t, "last", f.LastKnown(), "id-002/50/collected")
	AssertEqual(t, "directories", f.CheckStored(), "id-002")
	stored, err := f.Queue.SinkStatuses(ctx)
	f.RequireNoError(err)
	for _, s := range stored {
		AssertEqual(t, s.Sink+" failures", s.Failures, 2)
	}
}
