package state

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
)

func (f *fixture) heads() string {
	f.t.Helper()
	all, err := f.Heads(ctx)
	f.must(err)
	var words []string
	for _, d := range all {
		words = append(words, d.UploadID+">"+d.Sink)
	}
	return strings.Join(words, " ")
}

func TestQueueInOrder(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.users(1, 5, twoSinks)
	_, err := collect(f.State, header("okta_groups", "acme", 2), 5, twoSinks)
	f.must(err)
	f.users(3, 6, twoSinks)
	want(t, "heads", f.heads(), "id-001>file id-001>s3 id-002>file id-002>s3")
	queue, err := f.Queue(ctx)
	f.must(err)
	f.must(f.Delivered(ctx, queue[0].ID))
	want(t, "heads", f.heads(), "id-001>s3 id-002>file id-002>s3 id-003>file")
	want(t, "still needed", f.folders(), "id-002 id-001 id-003")
	f.must(f.Delivered(ctx, queue[1].ID))
	want(t, "heads", f.heads(), "id-002>file id-002>s3 id-003>file id-003>s3")
	want(t, "folders", f.folders(), "id-002 id-003")
	f.must(deliverAll(f.State))
	want(t, "the last-known ones stay", f.folders(), "id-002 id-003")
	want(t, "queue", f.queue(), "")
}

func TestTries(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.users(1, 5, twoSinks)
	head := func() Delivery {
		t.Helper()
		heads, err := f.Heads(ctx)
		f.must(err)
		return heads[0]
	}
	first := head()
	sealed, err := snapshot.Open(first.Dir)
	f.must(err)
	want(t, "fresh", first, Delivery{ID: first.ID, Sink: "file", Collector: "okta", Stream: "okta_users", Tenancy: "acme", UploadID: "id-001",
		Records: 5, SpoolBytes: sealed.SpoolBytes, Dir: sealed.Dir(), Queued: f.now()})
	next := f.now().Add(time.Minute)
	f.must(f.Retry(ctx, first.ID, errors.New("no route"), Transient, next))
	tried := first
	tried.Attempts, tried.Class, tried.Err, tried.NextTry = 1, Transient, "no route", next
	want(t, "tried", head(), tried)
	f.pass(time.Hour)
	f.must(f.Retry(ctx, first.ID, errors.New("denied"), Refused, next))
	f.must(f.Postpone(ctx, first.ID, next.Add(time.Hour)))
	tried.Attempts, tried.Class, tried.Err, tried.NextTry = 2, Refused, "denied", next.Add(time.Hour)
	want(t, "postponed", head(), tried)
	f.must(f.RetryNow(ctx))
	tried.Class, tried.NextTry = "", time.Time{}
	want(t, "due at once", head(), tried)

	queued, err := f.Queued(ctx, first.ID)
	f.must(err)
	want(t, "queued", queued, true)
	f.must(f.Delivered(ctx, first.ID))
	queued, err = f.Queued(ctx, first.ID)
	f.must(err)
	want(t, "queued", queued, false)
	// Another process has delivered it: nothing is an error, nothing is counted.
	f.must(f.Delivered(ctx, first.ID))
	f.must(f.Retry(ctx, first.ID, errors.New("late"), Transient, next))
	f.must(f.Postpone(ctx, first.ID, next))
	stored, err := f.Stored(ctx)
	f.must(err)
	want(t, "counted streams and sinks", len(stored), 1)
	want(t, "counts", stored[0], Stored{Stream: "okta_users", Tenancy: "acme", Sink: "file",
		LastSuccess: f.now(), LastFailure: f.now(), Successes: 1, Failures: 2})
}

func TestDropDamaged(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.users(1, 50, twoSinks)
	f.users(2, 50, twoSinks)
	f.users(3, 50, twoSinks)
	queue, err := f.Queue(ctx)
	f.must(err)
	dropped, err := f.DropDamaged(ctx, queue[0].ID)
	f.must(err)
	want(t, "a sound one is dropped", dropped, false)
	spoil(t, queue[0].Dir)
	spoil(t, queue[4].Dir) // the last-known one
	for _, i := range []int{0, 5} {
		dropped, err := f.DropDamaged(ctx, queue[i].ID)
		f.must(err)
		want(t, "dropped", dropped, true)
	}
	dropped, err = f.DropDamaged(ctx, queue[0].ID)
	f.must(err)
	want(t, "dropped again", dropped, false)
	want(t, "queue", f.queue(), "id-002>file id-002>s3")
	want(t, "last", f.last(), "id-002/50/collected")
	want(t, "folders", f.folders(), "id-002")
	stored, err := f.Stored(ctx)
	f.must(err)
	for _, s := range stored {
		want(t, s.Sink+" failures", s.Failures, 2)
	}
}
