package delivery

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/internal/backoff"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/store"
)

// attempt makes one attempt of a delivery and records its outcome. A delivery that was made
// and could not be recorded is only recorded.
func (d *Deliverer) attempt(ctx context.Context, to *destinations, q state.Delivery) {
	log := d.Log.With(zap.String("stream", q.Stream), zap.String("sink", q.Sink), zap.String("upload_id", q.UploadID))
	lock, err := d.State.Locks.LockDelivery(q.Sink, q.Stream, q.Tenancy)
	if errors.Is(err, state.ErrLocked) {
		// Another process makes the delivery. Its outcome is in the queue by then.
		d.postpone(q, lockedWait)
		return
	}
	if err != nil {
		d.logStateFailure(log, q, "locking a delivery", err)
		return
	}
	defer func() {
		if err := lock.Unlock(); err != nil {
			log.Error("unlocking a delivery", zap.Error(err))
		}
	}()
	ctx, release := state.WithLock(ctx, lock, "the delivery to "+q.Sink)
	defer release()
	if !d.isQueued(ctx, log, q) {
		return
	}
	if !d.memoOf(q).stored {
		if d.supersedeOlder(ctx, log, to, q) {
			return
		}
		began := time.Now()
		traced, span := d.startDeliverySpan(ctx, q)
		var report store.Report
		err = d.writeSnapshot(store.WithReport(traced, &report), to.sinkNamed(q.Sink), q, to.timeout)
		endDeliverySpan(span, err)
		if err != nil && errors.Is(context.Cause(ctx), state.ErrLost) {
			// The queue has the outcome of the process that took over.
			d.postpone(q, lockedWait)
			log.Warn("the delivery was given up, since another process may make it", zap.Error(err))
			return
		}
		if err != nil {
			// The queue must record the outcome even when ctx was cancelled.
			d.recordFailure(context.WithoutCancel(ctx), log, q, failure{
				err: err, cancelled: ctx.Err() != nil, replaced: d.isReplaced(to), maxWait: to.maxWait,
			})
			return
		}
		if report.KeptOut() {
			d.recordKeptOut(context.WithoutCancel(ctx), log, q)
			return
		}
		d.setStatus(q, Status{Stored: true})
		log.Info("stored", zap.Int64("records", q.Records), zap.Duration("took", time.Since(began).Round(time.Millisecond)))
	}
	d.recordSuccess(context.WithoutCancel(ctx), log, q)
}

// isQueued reports whether a delivery is still queued. If it is not, another process has
// made it, or it has ended otherwise.
func (d *Deliverer) isQueued(ctx context.Context, log *zap.Logger, q state.Delivery) bool {
	queued, err := d.State.Queue.Contains(ctx, q)
	if err == nil && queued {
		return true
	}
	var end state.DeliveryEnd
	if err == nil {
		end, err = d.State.Queue.FindEnd(ctx, q)
	}
	switch {
	case err == nil:
		d.setStatus(q, Status{Stored: end == "", End: end})
	case ctx.Err() == nil:
		d.logStateFailure(log, q, "reading the queue", err)
	}
	return false
}

// supersedeOlder ends a delivery if a newer one of the stream is queued that replaces it in
// the destination. It reports whether it did; the newer one is then due as this one was.
func (d *Deliverer) supersedeOlder(ctx context.Context, log *zap.Logger, to *destinations, q state.Delivery) bool {
	if !store.ReplacesPrevious(to.sinkNamed(q.Sink)) {
		return false
	}
	newest, ended, err := d.State.Queue.SupersedeOlder(context.WithoutCancel(ctx), q.Sink, q.Stream, q.Tenancy)
	if err != nil {
		d.logStateFailure(log, q, "reading the queue", err)
		return true
	}
	if ended == 0 {
		return false
	}
	d.setStatus(q, Status{End: state.DeliverySuperseded})
	log.Info("not delivered: a newer snapshot replaces it", zap.String("newer_upload_id", newest.UploadID), zap.Int("snapshots", ended))
	return true
}

// recordSuccess removes a delivery that was made from the queue. If that fails, only the
// record is attempted again.
func (d *Deliverer) recordSuccess(ctx context.Context, log *zap.Logger, q state.Delivery) {
	if err := d.State.Queue.MarkDelivered(ctx, q); err != nil {
		d.updateMemo(q, func(m *memo) { m.stored = true })
		d.logStateFailure(log, q, "stored, but not recorded; the record is attempted again, the delivery is not", err)
		return
	}
	d.forgetMemo(q)
}

// recordKeptOut ends a delivery whose destination has a snapshot that must stay. If that
// fails, the delivery is attempted again, which stores nothing.
func (d *Deliverer) recordKeptOut(ctx context.Context, log *zap.Logger, q state.Delivery) {
	if err := d.State.Queue.MarkKeptOut(ctx, q); err != nil {
		d.logStateFailure(log, q, "not stored, since the destination has a snapshot that must stay, and not recorded", err)
		return
	}
	d.setStatus(q, Status{End: state.DeliveryKeptOut})
	d.forgetMemo(q)
	log.Info("not stored: the destination has a snapshot that must stay")
}

// logStateFailure postpones a delivery that the state could not lock, read or record, and
// logs the error at the 1st, 2nd, 4th, 8th time and so on.
func (d *Deliverer) logStateFailure(log *zap.Logger, q state.Delivery, message string, err error) {
	failures, wait := d.postponeForState(q)
	if isLoggedAttempt(failures) {
		log.Error(message, zap.Error(err), zap.Int("attempts", failures), zap.Duration("next_try_in", wait.Round(time.Second)))
	}
}

// writeSnapshot writes the snapshot to sink within timeout; 0 means no timeout. It
// returns a panic as an error.
func (d *Deliverer) writeSnapshot(ctx context.Context, sink store.Sink, q state.Delivery, timeout time.Duration) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: panic: %v\n%s", sink.Name(), p, debug.Stack())
		}
	}()
	s, err := d.State.Queue.Open(ctx, q)
	if err != nil {
		return err
	}
	if q.Refill {
		ctx = store.WithRefill(ctx)
	}
	if timeout <= 0 {
		return sink.Write(ctx, s)
	}
	tooLong := fmt.Errorf("it took longer than STORE_WRITE_TIMEOUT, %s", timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, tooLong)
	defer cancel()
	err = sink.Write(ctx, s)
	if err != nil && context.Cause(ctx) == tooLong && !errors.Is(err, tooLong) {
		return fmt.Errorf("%w: %w", tooLong, err)
	}
	return err
}

// A failure is an attempt that failed.
type failure struct {
	err       error
	cancelled bool // whether the context of the attempt was cancelled
	replaced  bool // whether the settings of the destinations were changed meanwhile
	maxWait   time.Duration
}

// recordFailure records a failed attempt and queues the next one. It drops a damaged
// snapshot.
func (d *Deliverer) recordFailure(ctx context.Context, log *zap.Logger, q state.Delivery, f failure) {
	err := f.err
	d.setStatus(q, Status{Err: err})
	if errors.Is(err, snapshot.ErrDamaged) {
		// It can never be delivered and would block the snapshots behind it.
		dropped, dropErr := d.State.Queue.DropDamaged(ctx, q)
		if dropErr != nil {
			err = errors.Join(err, dropErr)
		} else if dropped {
			log.Error("a damaged snapshot was removed from the queue; it is lost for this destination", zap.Error(err))
			return
		}
	}
	attempts := q.Attempts + d.memoOf(q).attempts + 1
	wait := deliveryBackoff(f.maxWait).Wait(attempts)
	class := state.Transient
	switch {
	case f.cancelled:
		wait = 0 // the destination did not fail: the next process retries at once
	case f.replaced:
		wait = 0 // what was refused may be what was changed
	case errors.Is(err, store.ErrRefused):
		class, wait = state.Refused, f.maxWait
	}
	known := d.recordRetry(ctx, log, q, err, class, wait)
	if f.cancelled {
		return
	}
	logAttempt := log.Warn
	switch {
	case !isLoggedAttempt(attempts) && class == known:
		logAttempt = log.Debug
	case class == state.Refused:
		logAttempt = log.Error
	}
	logAttempt("not stored; it stays queued", zap.Error(err), zap.Int("attempts", attempts),
		zap.Duration("next_try_in", wait.Round(time.Second)))
}

// recordRetry queues the next attempt of a delivery, and remembers it when the queue cannot
// record it. It returns the class of the attempt before.
func (d *Deliverer) recordRetry(
	ctx context.Context, log *zap.Logger, q state.Delivery, cause error, class state.Class, wait time.Duration,
) (before state.Class) {
	before, at := q.Class, d.timeNow().Add(wait)
	err := d.State.Queue.ScheduleRetry(ctx, q, cause, class, at)
	if err == nil {
		d.forgetMemo(q)
		return before
	}
	m := d.updateMemo(q, func(m *memo) {
		if m.attempts > 0 {
			before = m.class
		}
		m.attempts++
		m.stateFailures++
		m.class, m.notBefore = class, at
	})
	if isLoggedAttempt(m.stateFailures) {
		log.Error("recording a failed delivery", zap.Error(err), zap.Int("attempts", m.stateFailures))
	}
	return before
}

// isLoggedAttempt reports whether a failed attempt is logged above the debug level:
// attempts 1, 2, 4, 8 and so on are.
func isLoggedAttempt(attempts int) bool { return attempts&(attempts-1) == 0 }

// deliveryBackoff returns the waits between the attempts of a delivery: they double up to
// longest, and a quarter of each is random.
func deliveryBackoff(longest time.Duration) backoff.Policy {
	return backoff.Policy{First: firstDeliveryWait, Longest: longest, Random: 0.25}
}
