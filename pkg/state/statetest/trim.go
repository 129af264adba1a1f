package statetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/state"
)

// undeliveredOf returns what a tenancy's destinations did not receive, oldest first,
// each as "id>sink:outcome".
func (f *Fixture) undeliveredOf(tenancy string) string {
	f.T.Helper()
	all, err := f.Queue.ListUndelivered(ctx, tenancy, 100)
	f.RequireNoError(err)
	var words []string
	for i := len(all) - 1; i >= 0; i-- {
		words = append(words, fmt.Sprintf("%s>%s:%s", all[i].UploadID, all[i].Sink, all[i].Outcome))
	}
	return strings.Join(words, " ")
}

// markDeliveredTo marks everything that is queued for a sink as delivered.
func (f *Fixture) markDeliveredTo(sink string) {
	f.T.Helper()
	queue, err := f.Queue.List(ctx)
	f.RequireNoError(err)
	for _, d := range queue {
		if d.Sink == sink {
			f.RequireNoError(f.Queue.MarkDelivered(ctx, d))
		}
	}
}

// Where a newer snapshot replaces the older one only the newest waits, with the
// failed attempts of the first; other destinations keep all.
func testOnlyNewestWaits(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	p := state.Policy{Sinks: []string{"file", "postgres"}, NewestOnly: []string{"file"}}
	f.CollectUsers(1, 5, p)
	queue, err := f.Queue.List(ctx)
	f.RequireNoError(err)
	next := f.Now().Add(time.Hour)
	f.RequireNoError(f.Queue.ScheduleRetry(ctx, queue[0], errors.New("no space"), state.Refused, next))
	f.AdvanceClock(time.Minute)
	f.CollectUsers(2, 6, p)
	AssertEqual(t, "queue", f.QueuedDeliveries(), "id-001>postgres id-002>file id-002>postgres")
	f.CollectUsers(3, 7, p)
	AssertEqual(t, "queue", f.QueuedDeliveries(), "id-001>postgres id-002>postgres id-003>file id-003>postgres")
	AssertEqual(t, "not delivered", f.undeliveredOf("acme"), "id-001>file:superseded id-002>file:superseded")
	heads, err := f.Queue.Next(ctx, "acme")
	f.RequireNoError(err)
	head := heads[1]
	AssertEqual(t, "the newest waits as the first did",
		fmt.Sprint(head.UploadID, head.Attempts, head.Class, head.Err, head.NextTry.Equal(next), head.Queued.Equal(queue[0].Queued)),
		fmt.Sprint("id-003", 1, state.Refused, "no space", true, true))
	statuses, err := f.Queue.SinkStatuses(ctx)
	f.RequireNoError(err)
	AssertEqual(t, "counts", statuses[0], state.SinkStatus{Stream: "okta_users", Tenancy: "acme", Sink: "file",
		LastFailure: f.Now().Add(-time.Minute), Failures: 1, Superseded: 2})
	f.markDeliveredTo("postgres")
	AssertEqual(t, "directories", f.CheckStored(), "id-003")
}

// A delivery in progress is not superseded.
func testDeliveryInProgressStays(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	p := state.Policy{Sinks: []string{"file"}, NewestOnly: []string{"file"}}
	f.CollectUsers(1, 5, p)
	lock, err := f.Locks.LockDelivery("file", "okta_users", "acme")
	f.RequireNoError(err)
	f.CollectUsers(2, 6, p)
	f.RequireNoError(f.Queue.SupersedeAll(ctx, "acme", p))
	AssertEqual(t, "queue during the delivery", f.QueuedDeliveries(), "id-001>file id-002>file")
	f.RequireNoError(lock.Unlock())
	f.RequireNoError(f.Queue.SupersedeAll(ctx, "acme", p))
	AssertEqual(t, "queue", f.QueuedDeliveries(), "id-002>file")
}

// The bound of the spool counts per destination and stops no run. A destination that is
// over it keeps its oldest snapshots and the newest; the others receive everything.
func testSpoolBound(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	f.CollectUsers(1, 500, state.Policy{Sinks: []string{"postgres"}})
	queue, err := f.Queue.List(ctx)
	f.RequireNoError(err)
	sealed, err := f.Queue.Open(ctx, queue[0])
	f.RequireNoError(err)
	p := state.Policy{Sinks: []string{"file", "postgres"}, SpoolMax: 5 * sealed.SpoolBytes / 2}
	var skipped []string
	for n := 2; n <= 6; n++ {
		done, err := CollectSnapshot(f.State, NewHeader("okta_users", "acme", n), 500, p)
		f.RequireNoError(err)
		if done.Outcome != state.Success {
			t.Errorf("run %d: %s, want success", n, done.Outcome)
		}
		skipped = append(skipped, fmt.Sprintf("%d%v", n, done.Skipped))
		f.markDeliveredTo("file")
	}
	AssertEqual(t, "skipped", strings.Join(skipped, " "), "2[] 3[postgres] 4[postgres] 5[postgres] 6[postgres]")
	AssertEqual(t, "queue", f.QueuedDeliveries(), "id-001>postgres id-006>postgres")
	AssertEqual(t, "not delivered", f.undeliveredOf("acme"),
		"id-002>postgres:skipped id-003>postgres:skipped id-004>postgres:skipped id-005>postgres:skipped")
	if n := f.Logs.FilterMessageSnippet("larger than STORE_SPOOL_MAX").Len(); n != 4 {
		t.Errorf("%d log lines about it, want 4", n)
	}
	// Another stream's first snapshot is queued all the same: it is last-known and takes no more room.
	_, err = CollectSnapshot(f.State, NewHeader("okta_groups", "acme", 7), 500, p)
	f.RequireNoError(err)
	AssertEqual(t, "queue", f.QueuedDeliveries(), "id-001>postgres id-006>postgres id-007>file id-007>postgres")
	f.RequireNoError(DeliverAll(f.State))
	AssertEqual(t, "directories", f.CheckStored(), "id-007 id-006")
}

// Each tenancy has its own queue.
func testQueuesOfTenancies(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	p := state.Policy{Sinks: []string{"file"}, NewestOnly: []string{"file"}, SpoolMax: 1}
	f.CollectUsers(1, 5, p)
	_, err := CollectSnapshot(f.State, NewHeader("okta_users", "globex", 2), 5, p)
	f.RequireNoError(err)
	AssertEqual(t, "queue", f.QueuedDeliveries(), "id-001>file id-002>file")
	for tenancy, want := range map[string]string{"acme": "id-001", "globex": "id-002"} {
		next, err := f.Queue.Next(ctx, tenancy)
		f.RequireNoError(err)
		if len(next) != 1 || next[0].UploadID != want {
			t.Errorf("%s: next %+v, want %s", tenancy, next, want)
		}
	}
	first, err := f.Queue.Next(ctx, "acme")
	f.RequireNoError(err)
	f.RequireNoError(f.Queue.ScheduleRetry(ctx, first[0], errors.New("down"), state.Transient, f.Now().Add(time.Hour)))
	f.RequireNoError(f.Queue.RetryAllNow(ctx, "globex"))
	next, err := f.Queue.Next(ctx, "acme")
	f.RequireNoError(err)
	AssertEqual(t, "next attempt of acme", next[0].NextTry.Equal(f.Now().Add(time.Hour)), true)
	n, err := f.Queue.DropSink(ctx, "file", "acme")
	f.RequireNoError(err)
	AssertEqual(t, "dropped", n, 1)
	AssertEqual(t, "queue", f.QueuedDeliveries(), "id-002>file")
	AssertEqual(t, "not delivered", f.undeliveredOf("acme")+f.undeliveredOf("globex"), "id-001>file:dropped")
}

// One delivery that blocks the later ones can be dropped.
func testDropFirst(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	for n := 1; n <= 3; n++ {
		f.CollectUsers(n, 5, TwoSinks)
	}
	if _, _, err := f.Queue.DropFirst(ctx, "s3", "okta_users", "acme", "id-002"); !errors.Is(err, state.ErrNotFirst) {
		t.Errorf("the second one: error %v, want ErrNotFirst", err)
	}
	first, left, err := f.Queue.DropFirst(ctx, "s3", "okta_users", "acme", "id-001")
	f.RequireNoError(err)
	AssertEqual(t, "dropped", fmt.Sprint(first.UploadID, left), "id-0012")
	AssertEqual(t, "queue", f.QueuedDeliveries(), "id-001>file id-002>file id-002>s3 id-003>file id-003>s3")
	for _, missing := range [][3]string{{"s4", "okta_users", "acme"}, {"s3", "okta_none", "acme"}, {"s3", "okta_users", "globex"}} {
		if _, _, err := f.Queue.DropFirst(ctx, missing[0], missing[1], missing[2], ""); !errors.Is(err, state.ErrNoDelivery) {
			t.Errorf("%q: error %v, want ErrNoDelivery", missing, err)
		}
	}
	end, err := f.Queue.FindEnd(ctx, first)
	f.RequireNoError(err)
	AssertEqual(t, "end", end, state.DeliveryDropped)
	f.AdvanceClock(KeepHistory + time.Hour)
	f.RequireNoError(f.Sweep(ctx, KeepHistory))
	AssertEqual(t, "not delivered", f.undeliveredOf("acme"), "")
}

// A snapshot from the future supersedes none of the present, and is superseded.
func testFromTheFutureSupersedesNothing(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	p := state.Policy{Sinks: []string{"file"}, NewestOnly: []string{"file"}}
	f.CollectUsers(1, 10, p)
	f.CollectUsers(2, 10, p)
	f.CollectUsers(9000, 10, p)
	AssertEqual(t, "queue", f.QueuedDeliveries(), "id-002>file id-9000>file")
	f.CollectUsers(3, 10, p)
	AssertEqual(t, "queue", f.QueuedDeliveries(), "id-003>file")
	AssertEqual(t, "not delivered", f.undeliveredOf("acme"), "id-001>file:superseded id-002>file:superseded id-9000>file:superseded")
}
