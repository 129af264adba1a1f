package delivery

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/store"
)

// maxCountedWrites is far above what a test expects. A countingSink that is written to more
// often stops, so that a test of a loop without waits ends.
const maxCountedWrites = 5000

// countingSink counts the attempts to write and returns err.
type countingSink struct {
	store.Sink
	writes   atomic.Int64
	replaces bool

	mu     sync.Mutex
	err    error
	stored []string // upload ids
}

// works makes the writes from now on succeed.
func (c *countingSink) works() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = nil
}

func (c *countingSink) Name() string { return "counting" }

func (c *countingSink) ReplacesPrevious() bool { return c.replaces }

func (c *countingSink) Write(ctx context.Context, s *snapshot.Snapshot) error {
	if c.writes.Add(1) > maxCountedWrites {
		<-ctx.Done()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.stored = append(c.stored, s.UploadID)
	}
	return c.err
}

// blockQueue makes every change of the queue fail, as a full or read-only disk does, and
// returns a function that ends that. A trigger stands in for the disk, since the clock is
// not the real one.
func blockQueue(t *testing.T, st *state.State) (unblock func()) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(st.Dir(), "collectord.db"))
	if err != nil {
		t.Fatal(err)
	}
	exec := func(statement string) {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	for _, change := range []string{"UPDATE", "DELETE"} {
		exec(fmt.Sprintf("CREATE TRIGGER block_%s BEFORE %s ON deliveries BEGIN SELECT RAISE(FAIL, 'disk is full'); END", change, change))
	}
	return func() {
		t.Helper()
		exec("DROP TRIGGER block_UPDATE")
		exec("DROP TRIGGER block_DELETE")
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestStateThatCannotWrite checks what happens while the queue cannot be changed: what was
// stored is not stored again, failed attempts are repeated with their waits, the log stays
// short, and all is recorded when the queue can be changed again.
func TestStateThatCannotWrite(t *testing.T) {
	const streams, blocked = 20, 10 * time.Minute
	for _, tc := range []struct {
		name string
		err  error
		// attempts bounds the attempts to write in the time, per delivery, and logLines the
		// lines in the log.
		minAttempts, maxAttempts, maxLogLines int
	}{
		{name: "stored", minAttempts: 1, maxAttempts: 1, maxLogLines: 7},
		{name: "failed", err: errors.New("down"), minAttempts: 6, maxAttempts: 9, maxLogLines: 10},
		{name: "refused", err: fmt.Errorf("%w: no permission", store.ErrRefused), minAttempts: 1, maxAttempts: 1, maxLogLines: 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := openState(t)
				for n := range streams {
					collectSnapshot(t, st, fmt.Sprintf("okta_%d", n), 1, state.Policy{Sinks: []string{"counting"}})
				}
				unblock := blockQueue(t, st)
				core, logs := observer.New(zap.InfoLevel)
				sink := &countingSink{err: tc.err}
				d := New(st, "default", []store.Sink{sink}, 15*time.Minute, 0, zap.New(core))
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() {
					defer close(done)
					d.Run(ctx)
				}()
				time.Sleep(blocked)
				synctest.Wait()
				attempts := int(sink.writes.Load())
				if attempts < streams*tc.minAttempts || attempts > streams*tc.maxAttempts {
					t.Errorf("%d attempts for %d deliveries, want %d to %d for each", attempts, streams, tc.minAttempts, tc.maxAttempts)
				}
				if n := logs.Len(); n > streams*tc.maxLogLines {
					t.Errorf("%d log lines for %d deliveries, want at most %d for each", n, streams, tc.maxLogLines)
				}
				unblock()
				time.Sleep(16 * time.Minute)
				synctest.Wait()
				queue, err := st.Queue.List(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if tc.err == nil && (len(queue) != 0 || int(sink.writes.Load()) != attempts) {
					t.Errorf("later %d are queued and %d attempts were made, want 0 and %d", len(queue), sink.writes.Load(), attempts)
				}
				if tc.err != nil && (len(queue) != streams || queue[0].Attempts == 0) {
					t.Errorf("later the queue is %+v, want %d deliveries with attempts", queue, streams)
				}
				if len(d.memos) > streams {
					t.Errorf("%d memos, want at most %d", len(d.memos), streams)
				}
				stop()
				<-done
			})
		})
	}
}

// TestRetryNowEndsUnrecordedWaits checks that a wait that the queue could not record ends
// when all deliveries are to be retried.
func TestRetryNowEndsUnrecordedWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := openState(t)
		q := queueSnapshot(t, st, "counting")
		unblock := blockQueue(t, st)
		defer unblock()
		sink := &countingSink{err: fmt.Errorf("%w: no permission", store.ErrRefused)}
		d := New(st, "default", []store.Sink{sink}, time.Hour, 0, zap.NewNop())
		d.attempt(t.Context(), d.current, q)
		if wait := time.Until(d.dueAt(q)); wait != time.Hour {
			t.Errorf("the wait is %s, want 1h", wait)
		}
		d.RetryNow()
		if at := d.dueAt(q); at.After(time.Now()) {
			t.Errorf("due at %s, want now", at)
		}
	})
}

// TestMemoryOfDeliveriesIsBounded checks that neither statuses nor memos remain of
// deliveries that have ended.
func TestMemoryOfDeliveriesIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := openState(t)
		sink := &countingSink{}
		d := New(st, "default", []store.Sink{sink}, time.Hour, 0, zap.NewNop())
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			d.Run(ctx)
		}()
		var last string
		for n := range 50 {
			last = collectSnapshot(t, st, "okta_users", n, state.Policy{Sinks: []string{"counting"}})
			d.Wake()
			synctest.Wait()
		}
		if len(d.statuses) != 1 || len(d.memos) != 0 || !d.DeliveryStatus(last, "okta_users", "counting").Stored {
			t.Errorf("%d statuses, %d memos after %d writes, want 1 and 0", len(d.statuses), len(d.memos), sink.writes.Load())
		}
		stop()
		<-done
	})
}

// TestOnlyNewestIsDelivered checks that a destination in which a newer snapshot replaces the
// older one is not attempted more often when there are more snapshots, and receives only the
// newest when it works again.
func TestOnlyNewestIsDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		st := openState(t)
		sink := &countingSink{err: errors.New("down"), replaces: true}
		d := New(st, "default", []store.Sink{sink}, 15*time.Minute, 0, zap.New(core))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			d.Run(ctx)
		}()
		const days = 1
		var last string
		for n := range days * 24 * 4 {
			last = collectSnapshot(t, st, "okta_users", n, state.Policy{Sinks: []string{"counting"}, NewestOnly: []string{"counting"}})
			d.Wake()
			time.Sleep(15 * time.Minute)
		}
		synctest.Wait()
		// The waits grow to 15 minutes, of which a quarter is random.
		if n := sink.writes.Load(); n < days*90 || n > days*24*4*3/2 {
			t.Errorf("%d attempts in %d days", n, days)
		}
		if n := logs.FilterMessage("not stored; it stays queued").Len(); n > 12 {
			t.Errorf("%d log lines in %d days, want at most 12", n, days)
		}
		queue, err := st.Queue.List(ctx)
		if err != nil || len(queue) != 1 || queue[0].UploadID != last {
			t.Errorf("queue %+v, error %v, want the newest, %s", queue, err, last)
		}
		sink.works()
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		if fmt.Sprint(sink.stored) != fmt.Sprint([]string{last}) {
			t.Errorf("stored %v, want %s alone", sink.stored, last)
		}
		stop()
		<-done
	})
}

// TestOlderDeliveryIsSuperseded checks that a delivery that was queued before its destination
// replaced older snapshots is not made.
func TestOlderDeliveryIsSuperseded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := openState(t)
		var uploads []string
		for n := range 3 {
			uploads = append(uploads, collectSnapshot(t, st, "okta_users", n, state.Policy{Sinks: []string{"counting"}}))
		}
		sink := &countingSink{replaces: true}
		d := New(st, "default", []store.Sink{sink}, time.Hour, 0, zap.NewNop())
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			d.Run(ctx)
		}()
		synctest.Wait()
		if fmt.Sprint(sink.stored) != fmt.Sprint(uploads[2:]) {
			t.Errorf("stored %v, want %v", sink.stored, uploads[2:])
		}
		stop()
		<-done
		undelivered, err := st.Queue.ListUndelivered(t.Context(), "default", 10)
		if err != nil || len(undelivered) != 2 || undelivered[1].UploadID != uploads[0] || undelivered[1].Outcome != state.DeliverySuperseded {
			t.Errorf("not delivered: %+v, error %v", undelivered, err)
		}
	})
}

// TestTenanciesDoNotMix checks that a process delivers the snapshots of its tenancy alone,
// also when the state directory has those of another.
func TestTenanciesDoNotMix(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := openState(t)
		queueSnapshot(t, st, "counting")
		sink := &countingSink{}
		d := New(st, "globex", []store.Sink{sink}, time.Hour, 0, zap.NewNop())
		ctx, stop := context.WithTimeout(t.Context(), time.Hour)
		defer stop()
		d.Run(ctx)
		queue, err := st.Queue.List(t.Context())
		if sink.writes.Load() != 0 || err != nil || len(queue) != 1 {
			t.Errorf("%d attempts, queue %+v, error %v, want none and one delivery", sink.writes.Load(), queue, err)
		}
		if left, err := d.WaitUntilDelivered(t.Context()); err != nil || len(left) != 0 {
			t.Errorf("globex waits for %+v, error %v", left, err)
		}
	})
}
