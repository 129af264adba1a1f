package local

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
func (f *fixture) undeliveredOf(tenancy string) string {
	f.t.Helper()
	all, err := f.Queue.ListUndelivered(ctx, tenancy, 100)
	f.requireNoError(err)
	var words []string
	for i := len(all) - 1; i >= 0; i-- {
		words = append(words, fmt.Sprintf("%s>%s:%s", all[i].UploadID, all[i].Sink, all[i].Outcome))
	}
	return strings.Join(words, " ")
}

// markDeliveredTo marks everything that is queued for a sink as delivered.
func (f *fixture) markDeliveredTo(sink string) {
	f.t.Helper()
	queue, err := f.Queue.List(ctx)
	f.requireNoError(err)
	for _, d := range queue {
		if d.Sink == sink {
			f.requireNoError(f.Queue.MarkDelivered(ctx, d.ID))
		}
	}
}

// Where a newer snapshot replaces the older one only the newest waits, with the
// failed attempts of the first; other destinations keep all.
func TestOnlyNewestWaits(t *testing.T) {
	t.Parallel()
	f := openState(t)
	p := state.Policy{Sinks: []string{"file", "postgres"}, NewestOnly: []string{"file"}}
	f.collectUsers(1, 5, p)
	queue, err := f.Queue.List(ctx)
	f.requireNoError(err)
	next := f.now().Add(time.Hour)
	f.requireNoError(f.Queue.ScheduleRetry(ctx, queue[0].ID, errors.New("no space"), state.Refused, next))
	f.advanceClock(time.Minute)
	f.collectUsers(2, 6, p)
	assertEqual(t, "queue", f.queuedDeliveries(), "id-001>postgres id-002>file id-002>postgres")
	f.collectUsers(3, 7, p)
	assertEqual(t, "queue", f.queuedDeliveries(), "id-001>postgres id-002>postgres id-003>file id-003>postgres")
	assertEqual(t, "not delivered", f.undeliveredOf("acme"), "id-001>file:superseded id-002>file:superseded")
	heads, err := f.Queue.Next(ctx, "acme")
	f.requireNoError(err)
	head := heads[1]
	assertEqual(t, "the newest waits as the first did",
		fmt.Sprint(head.UploadID, head.Attempts, head.Class, head.Err, head.NextTry.Equal(next), head.Queued.Equal(queue[0].Queued)),
		fmt.Sprint("id-003", 1, state.Refused, "no space", true, true))
	statuses, err := f.Queue.SinkStatuses(ctx)
	f.requireNoError(err)
	assertEqual(t, "counts", statuses[0], state.SinkStatus{Stream: "okta_users", Tenancy: "acme", Sink: "file",
		LastFailure: f.now().Add(-time.Minute), Failures: 1, Superseded: 2})
	f.markDeliveredTo("postgres")
	assertEqual(t, "directories", f.checkDirs(), "id-003")
}

// A delivery in progress is not superseded.
func TestDeliveryInProgressStays(t *testing.T) {
	t.Parallel()
	f := openState(t)
	p := state.Policy{Sinks: []string{"file"}, NewestOnly: []string{"file"}}
	f.collectUsers(1, 5, p)
	lock, err := f.Locks.LockDelivery("file", "okta_users", "acme")
	f.requireNoError(err)
	f.collectUsers(2, 6, p)
	f.requireNoError(f.Queue.SupersedeAll(ctx, "acme", p))
	assertEqual(t, "queue during the delivery", f.queuedDeliveries(), "id-001>file id-002>file")
	f.requireNoError(lock.Unlock())
	f.requireNoError(f.Queue.SupersedeAll(ctx, "acme", p))
	assertEqual(t, "queue", f.queuedDeliveries(), "id-002>file")
}

// The bound of the spool counts per destination and stops no run. A destination that is
// over it keeps its oldest snapshots and the newest; the others receive everything.
func TestSpoolBound(t *testing.T) {
	t.Parallel()
	f := openState(t)
	f.collectUsers(1, 500, state.Policy{Sinks: []string{"postgres"}})
	queue, err := f.Queue.List(ctx)
	f.requireNoError(err)
	sealed, err := f.Queue.Open(ctx, queue[0])
	f.requireNoError(err)
	p := state.Policy{Sinks: []string{"file", "postgres"}, SpoolMax: 5 * sealed.SpoolBytes / 2}
	var skipped []string
	for n := 2; n <= 6; n++ {
		done, err := collectSnapshot(f.State, newHeader("okta_users", "acme", n), 500, p)
		f.requireNoError(err)
		if done.Outcome != state.Success {
			t.Errorf("run %d: %s, want success", n, done.Outcome)
		}
		skipped = append(skipped, fmt.Sprintf("%d%v", n, done.Skipped))
		f.markDeliveredTo("file")
	}
	assertEqual(t, "skipped", strings.Join(skipped, " "), "2[] 3[postgres] 4[postgres] 5[postgres] 6[postgres]")
	assertEqual(t, "queue", f.queuedDeliveries(), "id-001>postgres id-006>postgres")
	assertEqual(t, "not delivered", f.undeliveredOf("acme"),
		"id-002>postgres:skipped id-003>postgres:skipped id-004>postgres:skipped id-005>postgres:skipped")
	if n := f.logs.FilterMessageSnippet("larger than STORE_SPOOL_MAX").Len(); n != 4 {
		t.Errorf("%d log lines about it, want 4", n)
	}
	// Another stream's first snapshot is queued all the same: it is last-known and takes no more room.
	_, err = collectSnapshot(f.State, newHeader("okta_groups", "acme", 7), 500, p)
	f.requireNoError(err)
	assertEqual(t, "queue", f.queuedDeliveries(), "id-001>postgres id-006>postgres id-007>file id-007>postgres")
	f.requireNoError(deliverAll(f.State))
	assertEqual(t, "directories", f.checkDirs(), "id-007 id-006")
}

// Each tenancy has its own queue.
func TestQueuesOfTenancies(t *testing.T) {
	t.Parallel()
	f := openState(t)
	p := state.Policy{Sinks: []string{"file"}, NewestOnly: []string{"file"}, SpoolMax: 1}
	f.collectUsers(1, 5, p)
	_, err := collectSnapshot(f.State, newHeader("okta_users", "globex", 2), 5, p)
	f.requireNoError(err)
	assertEqual(t, "queue", f.queuedDeliveries(), "id-001>file id-002>file")
	for tenancy, want := range map[string]string{"acme": "id-001", "globex": "id-002"} {
		next, err := f.Queue.Next(ctx, tenancy)
		f.requireNoError(err)
		if len(next) != 1 || next[0].UploadID != want {
			t.Errorf("%s: next %+v, want %s", tenancy, next, want)
		}
	}
	f.requireNoError(f.Queue.ScheduleRetry(ctx, 1, errors.New("down"), state.Transient, f.now().Add(time.Hour)))
	f.requireNoError(f.Queue.RetryAllNow(ctx, "globex"))
	next, err := f.Queue.Next(ctx, "acme")
	f.requireNoError(err)
	assertEqual(t, "next attempt of acme", next[0].NextTry.Equal(f.now().Add(time.Hour)), true)
	n, err := f.Queue.DropSink(ctx, "file", "acme")
	f.requireNoError(err)
	assertEqual(t, "dropped", n, 1)
	assertEqual(t, "queue", f.queuedDeliveries(), "id-002>file")
	assertEqual(t, "not delivered", f.undeliveredOf("acme")+f.undeliveredOf("globex"), "id-001>file:dropped")
}

// One delivery that blocks the later ones can be dropped.
func TestDropFirst(t *testing.T) {
	t.Parallel()
	f := openState(t)
	for n := 1; n <= 3; n++ {
		f.collectUsers(n, 5, twoSinks)
	}
	if _, _, err := f.Queue.DropFirst(ctx, "s3", "okta_users", "acme", "id-002"); !errors.Is(err, state.ErrNotFirst) {
		t.Errorf("the second one: error %v, want ErrNotFirst", err)
	}
	first, left, err := f.Queue.DropFirst(ctx, "s3", "okta_users", "acme", "id-001")
	f.requireNoError(err)
	assertEqual(t, "dropped", fmt.Sprint(first.UploadID, left), "id-0012")
	assertEqual(t, "queue", f.queuedDeliveries(), "id-001>file id-002>file id-002>s3 id-003>file id-003>s3")
	for _, missing := range [][3]string{{"s4", "okta_users", "acme"}, {"s3", "okta_none", "acme"}, {"s3", "okta_users", "globex"}} {
		if _, _, err := f.Queue.DropFirst(ctx, missing[0], missing[1], missing[2], ""); !errors.Is(err, state.ErrNoDelivery) {
			t.Errorf("%q: error %v, want ErrNoDelivery", missing, err)
		}
	}
	end, err := f.Queue.FindEnd(ctx, first)
	f.requireNoError(err)
	assertEqual(t, "end", end, state.DeliveryDropped)
	f.advanceClock(keepHistory + time.Hour)
	f.requireNoError(f.Sweep(ctx, keepHistory))
	assertEqual(t, "not delivered", f.undeliveredOf("acme"), "")
}

// A snapshot from the future supersedes none of the present, and is superseded.
func TestFromTheFutureSupersedesNothing(t *testing.T) {
	t.Parallel()
	f := openState(t)
	p := state.Policy{Sinks: []string{"file"}, NewestOnly: []string{"file"}}
	f.collectUsers(1, 10, p)
	f.collectUsers(2, 10, p)
	f.collectUsers(9000, 10, p)
	assertEqual(t, "queue", f.queuedDeliveries(), "id-002>file id-9000>file")
	f.collectUsers(3, 10, p)
	assertEqual(t, "queue", f.queuedDeliveries(), "id-003>file")
	assertEqual(t, "not delivered", f.undeliveredOf("acme"), "id-001>file:superseded id-002>file:superseded id-9000>file:superseded")
}
