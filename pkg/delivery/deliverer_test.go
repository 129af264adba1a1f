package delivery

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/store"
)

// blockingSink stores a snapshot when a value is sent to proceed, or returns the error of
// the context.
type blockingSink struct {
	store.Sink
	name    string
	proceed chan error
}

func newBlockingSink(name string) blockingSink {
	return blockingSink{name: name, proceed: make(chan error)}
}

func (b blockingSink) Name() string { return b.name }

func (b blockingSink) Write(ctx context.Context, _ *snapshot.Snapshot) error {
	select {
	case err := <-b.proceed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestStatusLabel(t *testing.T) {
	for _, tc := range []struct {
		name   string
		status Status
		want   string
	}{
		{name: "no attempt", status: Status{}, want: "-"},
		{name: "stored", status: Status{Stored: true}, want: "stored"},
		{name: "transient failure", status: Status{Err: errors.New("connection refused")}, want: "waiting"},
		{name: "refused", status: Status{Err: fmt.Errorf("no such bucket: %w", store.ErrRefused)}, want: "refused"},
	} {
		if got := tc.status.Label(); got != tc.want {
			t.Errorf("%s: label %q, want %q", tc.name, got, tc.want)
		}
	}
}

// TestDeliveriesFinishWithinTheirContext checks that RunGracefully starts no delivery after
// its first context is cancelled, but lets one in progress finish.
func TestDeliveriesFinishWithinTheirContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, sink := openState(t), newBlockingSink("slow")
		q := queueSnapshot(t, st, "slow")
		d := New(st, "default", []store.Sink{sink}, time.Hour, 0, zap.NewNop())
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			d.RunGracefully(ctx, t.Context())
		}()
		synctest.Wait()
		stop()
		synctest.Wait()
		select {
		case <-done:
			t.Fatal("RunGracefully returned during a delivery")
		default:
		}
		sink.proceed <- nil
		<-done
		if !d.DeliveryStatus(q.UploadID, q.Stream, q.Sink).Stored {
			t.Error("the delivery in progress was not finished")
		}
	})
}

// TestReplaceSinksWaitsForDeliveries checks that the old destinations are reported as
// unused only when no delivery to them is in progress, and that the new ones are used then.
func TestReplaceSinksWaitsForDeliveries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, before, after := openState(t), newBlockingSink("slow"), newBlockingSink("slow")
		q := queueSnapshot(t, st, "slow")
		d := New(st, "default", []store.Sink{before}, time.Second, 0, zap.NewNop())
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			d.Run(ctx)
		}()
		synctest.Wait()
		unused := make(chan struct{})
		d.ReplaceSinks([]store.Sink{after}, time.Second, 0, func() { close(unused) })
		synctest.Wait()
		select {
		case <-unused:
			t.Fatal("the old destinations were reported as unused during a delivery")
		default:
		}
		before.proceed <- errors.New("cut off")
		<-unused
		after.proceed <- nil
		synctest.Wait()
		if !d.DeliveryStatus(q.UploadID, q.Stream, q.Sink).Stored {
			t.Error("the new destination did not store the snapshot")
		}
		stop()
		<-done
	})
}

// TestRefusalByReplacedDestination checks that what the old destination refuses during a
// reload is attempted at once with the new settings.
func TestRefusalByReplacedDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, before, after := openState(t), newBlockingSink("slow"), newBlockingSink("slow")
		q := queueSnapshot(t, st, "slow")
		d := New(st, "default", []store.Sink{before}, time.Hour, 0, zap.NewNop())
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			d.Run(ctx)
		}()
		synctest.Wait()
		d.ReplaceSinks([]store.Sink{after}, time.Hour, 0, func() {})
		began := time.Now()
		before.proceed <- fmt.Errorf("%w: the key is withdrawn", store.ErrRefused)
		after.proceed <- nil
		synctest.Wait()
		if waited := time.Since(began); waited > 0 || !d.DeliveryStatus(q.UploadID, q.Stream, q.Sink).Stored {
			t.Errorf("the new destination stored the snapshot after %v: %+v", waited, d.DeliveryStatus(q.UploadID, q.Stream, q.Sink))
		}
		stop()
		<-done
	})
}

// TestWaitUntilDelivered checks that it returns at once when only refused deliveries are
// left, and otherwise when an attempt has ended or the context is cancelled.
func TestWaitUntilDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, sink := openState(t), newBlockingSink("slow")
		q := queueSnapshot(t, st, "slow")
		d := New(st, "default", []store.Sink{sink}, time.Hour, 0, zap.NewNop())
		short, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if queue, err := d.WaitUntilDelivered(short); err != nil || len(queue) != 1 || queue[0].ID != q.ID {
			t.Errorf("cancelled: %+v, error: %v", queue, err)
		}
		if err := st.Queue.ScheduleRetry(t.Context(), q, errors.New("no permission"), state.Refused, time.Now()); err != nil {
			t.Fatal(err)
		}
		if queue, err := d.WaitUntilDelivered(t.Context()); err != nil || len(queue) != 1 {
			t.Errorf("refused: %+v, error: %v", queue, err)
		}
		if err := st.Queue.MarkDelivered(t.Context(), q); err != nil {
			t.Fatal(err)
		}
		if queue, err := d.WaitUntilDelivered(t.Context()); err != nil || len(queue) != 0 {
			t.Errorf("delivered: %+v, error: %v", queue, err)
		}
	})
}
