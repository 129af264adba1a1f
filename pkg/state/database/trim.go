package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// SupersedeOlder implements [state.Queue].
func (q *Queue) SupersedeOlder(ctx context.Context, sink, stream, tenancy string) (newest state.Delivery, ended int, err error) {
	queue, err := q.listOf(ctx, sink, stream, tenancy)
	if err != nil || len(queue) == 0 {
		return state.Delivery{}, 0, err
	}
	ended = newestIndex(queue, q.now())
	first, newest := queue[0], queue[ended]
	if ended == 0 {
		return newest, 0, nil
	}
	err = q.inUrgentTransaction(ctx, func(tx DB) error {
		if err := takeOverAttempts(ctx, tx, first.ID, newest.ID); err != nil {
			return err
		}
		for _, d := range queue[:ended] {
			if _, err := endUndelivered(ctx, tx, d.ID, state.DeliverySuperseded, q.now()); err != nil && !errors.Is(err, sql.ErrNoRows) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return state.Delivery{}, 0, fmt.Errorf("supersede the older deliveries: %w", err)
	}
	q.snapshots.sweepStream(ctx, stream, tenancy)
	newest.Queued, newest.Attempts, newest.NextTry, newest.Class, newest.Err = first.Queued, first.Attempts, first.NextTry, first.Class, first.Err
	return newest, ended, nil
}

// newestIndex returns the index of the last delivery of a queue that is not from
// the future, or of the last one if all are.
func newestIndex(queue []state.Delivery, now time.Time) int {
	for i, d := range slices.Backward(queue) {
		if !snapshot.IsFromFuture(d.Taken, now) {
			return i
		}
	}
	return len(queue) - 1
}

// takeOverAttempts gives the failed attempts and the waits of the first delivery of
// a queue to the one that will be the first.
func takeOverAttempts(ctx context.Context, tx DB, first, next int64) error {
	_, err := tx.ExecContext(ctx,
		`UPDATE deliveries SET (queued, attempts, next_try, class, error) =
			(SELECT queued, attempts, next_try, class, error FROM deliveries WHERE id = $1)
		 WHERE id = $2 AND EXISTS (SELECT 1 FROM deliveries WHERE id = $1)`, first, next)
	return err
}

// trimQueues ends deliveries of a stream after a new snapshot of it was queued:
// all but the newest for the sinks in which that replaces the others, and the
// one before the newest for those whose queue is larger than the policy allows.
// The newest one always stays, since the last-known snapshot is kept anyway. A
// delivery in progress is not ended. trimQueues returns the sinks of which a
// delivery was skipped. It only logs an error, since what it is called after
// has succeeded, and the next call does the same.
func (q *Queue) trimQueues(ctx context.Context, stream, tenancy string, p state.Policy) (skipped []string) {
	for _, sink := range p.Sinks {
		wasSkipped, err := q.trimQueue(ctx, sink, stream, tenancy, p)
		if err != nil {
			q.log.Warn("shortening the queue of a destination failed; the next run tries again",
				zap.String("stream", stream), zap.String("sink", sink), zap.Error(err))
		}
		if wasSkipped {
			skipped = append(skipped, sink)
		}
	}
	return skipped
}

func (q *Queue) trimQueue(ctx context.Context, sink, stream, tenancy string, p state.Policy) (skipped bool, err error) {
	needed, _, err := q.needsTrim(ctx, sink, stream, tenancy, p)
	if err != nil || !needed {
		return false, err
	}
	lock, err := (&Locks{q.core}).LockDelivery(sink, stream, tenancy)
	if errors.Is(err, state.ErrLocked) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	needed, queue, err := q.needsTrim(ctx, sink, stream, tenancy, p) // a delivery may have ended meanwhile
	if err != nil || !needed {
		return false, err
	}
	if !slices.Contains(p.NewestOnly, sink) {
		return true, q.skipDelivery(ctx, queue, p)
	}
	_, ended, err := q.SupersedeOlder(ctx, sink, stream, tenancy)
	if ended > 0 {
		q.log.Info("older snapshots are not delivered, since a newer one replaces them",
			zap.String("stream", stream), zap.String("sink", sink), zap.Int("snapshots", ended))
	}
	return false, err
}

// needsTrim reports whether a delivery of a stream to a sink is to be ended, and
// returns the queue of the two.
func (q *Queue) needsTrim(ctx context.Context, sink, stream, tenancy string, p state.Policy) (needed bool, queue []state.Delivery, err error) {
	queue, err = q.listOf(ctx, sink, stream, tenancy)
	if err != nil || len(queue) < 2 {
		return false, queue, err
	}
	if slices.Contains(p.NewestOnly, sink) {
		return true, queue, nil
	}
	if p.SpoolMax <= 0 {
		return false, queue, nil
	}
	size, err := q.queuedBytes(ctx, sink, tenancy)
	return size > p.SpoolMax, queue, err
}

// queuedBytes returns the size of the snapshots of a tenancy that are queued
// for a sink.
func (q *Queue) queuedBytes(ctx context.Context, sink, tenancy string) (size int64, err error) {
	err = q.db.QueryRowContext(ctx,
		`SELECT coalesce(sum(s.spool_bytes), 0) FROM deliveries d JOIN snapshots s ON s.id = d.snapshot WHERE d.sink = $1 AND s.tenancy = $2`,
		sink, tenancy).Scan(&size)
	return size, err
}

// skipDelivery ends the delivery before the newest of a stream's queue because the
// queue of its sink is full.
func (q *Queue) skipDelivery(ctx context.Context, queue []state.Delivery, p state.Policy) error {
	d, newest := queue[len(queue)-2], queue[len(queue)-1]
	err := q.inUrgentTransaction(ctx, func(tx DB) error {
		if d.ID == queue[0].ID {
			if err := takeOverAttempts(ctx, tx, d.ID, newest.ID); err != nil {
				return err
			}
		}
		_, err := endUndelivered(ctx, tx, d.ID, state.DeliverySkipped, q.now())
		return err
	})
	if err != nil {
		return fmt.Errorf("skip a delivery: %w", err)
	}
	q.log.Error("a snapshot is not delivered: the queue of the destination is larger than STORE_SPOOL_MAX; newer ones are queued instead",
		zap.String("stream", d.Stream), zap.String("sink", d.Sink), zap.String("upload_id", d.UploadID), zap.Int64("max_bytes", p.SpoolMax))
	q.snapshots.sweepStream(ctx, d.Stream, d.Tenancy)
	return nil
}
