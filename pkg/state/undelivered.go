package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// A DeliveryEnd is how a delivery ended without being made.
type DeliveryEnd string

// The ends. A delivery that was made has none.
const (
	DeliverySuperseded DeliveryEnd = "superseded" // a newer snapshot replaces it in the destination
	DeliverySkipped    DeliveryEnd = "skipped"    // the queue of the destination was full
	DeliveryDropped    DeliveryEnd = "dropped"    // a person gave it up
	DeliveryKeptOut    DeliveryEnd = "kept_out"   // the destination has one that must stay
	DeliveryDamaged    DeliveryEnd = "damaged"    // the snapshot could not be read
)

// An Undelivered is a snapshot that a destination did not receive.
type Undelivered struct {
	Stream, Tenancy, Sink, UploadID string
	Taken, Ended                    time.Time
	Outcome                         DeliveryEnd
}

// ListUndelivered returns the newest deliveries of a tenancy that ended without
// being made, at most limit, newest first.
func (q *Queue) ListUndelivered(ctx context.Context, tenancy string, limit int) ([]Undelivered, error) {
	all, err := queryAll(ctx, q.db, func(rows *sql.Rows) (u Undelivered, err error) {
		var taken, ended int64
		err = rows.Scan(&u.Stream, &u.Tenancy, &u.Sink, &u.UploadID, &taken, &u.Outcome, &ended)
		u.Taken, u.Ended = fromMillis(taken), fromMillis(ended)
		return u, err
	}, `SELECT stream, tenancy, sink, upload_id, taken, outcome, ended FROM undelivered WHERE tenancy = ? ORDER BY id DESC LIMIT ?`, tenancy, limit)
	if err != nil {
		return nil, fmt.Errorf("read the deliveries: %w", err)
	}
	return all, nil
}

// FindEnd returns how a delivery ended that is not queued any more; "" when it
// was made.
func (q *Queue) FindEnd(ctx context.Context, d Delivery) (end DeliveryEnd, err error) {
	err = q.db.QueryRowContext(ctx,
		`SELECT outcome FROM undelivered WHERE upload_id = ? AND stream = ? AND sink = ? AND tenancy = ? ORDER BY id DESC LIMIT 1`,
		d.UploadID, d.Stream, d.Sink, d.Tenancy).Scan(&end)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("read the deliveries: %w", err)
	}
	return end, nil
}

// endUndelivered removes a delivery from the queue, records and counts its end,
// and returns its sink.
func endUndelivered(ctx context.Context, tx *sql.Tx, id int64, end DeliveryEnd, now time.Time) (sink string, err error) {
	if column, counted := endColumns[end]; counted {
		if err := countDelivery(ctx, tx, id, column); err != nil {
			return "", err
		}
	}
	if _, err := tx.ExecContext(ctx,
		`INSERT INTO undelivered (stream, tenancy, sink, upload_id, taken, outcome, ended)
		 SELECT s.stream, s.tenancy, d.sink, s.upload_id, s.taken, ?, ? FROM deliveries d JOIN snapshots s ON s.id = d.snapshot WHERE d.id = ?`,
		end, toMillis(now), id); err != nil {
		return "", err
	}
	err = tx.QueryRowContext(ctx, `DELETE FROM deliveries WHERE id = ? RETURNING sink`, id).Scan(&sink)
	return sink, err
}

// MarkKeptOut removes a delivery from the queue: the sink has a snapshot that must
// stay in place of this one. A delivery that is not queued any more is no error.
func (q *Queue) MarkKeptOut(ctx context.Context, d Delivery) error {
	err := q.inReservedTransaction(ctx, func(tx *sql.Tx) error {
		_, err := endUndelivered(ctx, tx, d.ID, DeliveryKeptOut, q.now())
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("record the delivery: %w", err)
	}
	q.snapshots.sweepStream(ctx, d.Stream, d.Tenancy)
	return nil
}

// endColumns are the counts of the ends. A damaged snapshot counts as a failed
// delivery.
var endColumns = map[DeliveryEnd]string{
	DeliverySuperseded: "superseded", DeliverySkipped: "skipped", DeliveryDropped: "dropped",
	DeliveryKeptOut: "kept_out",
}

// deleteUndeliveredBefore deletes the records of deliveries that ended before t.
func (q *Queue) deleteUndeliveredBefore(ctx context.Context, t time.Time) error {
	if _, err := q.db.ExecContext(ctx, `DELETE FROM undelivered WHERE ended < ?`, toMillis(t)); err != nil {
		return fmt.Errorf("sweep deliveries: %w", explainSQLiteError(err))
	}
	return nil
}

// DropFirst gives up the first queued delivery of a stream to a sink, which the
// later ones wait for, and returns it and the number of those. With an upload id
// other than "", only that one is given up. The error wraps ErrNoDelivery when none
// is queued, and ErrNotFirst when the first is another one. The caller holds the
// lock from Locks.LockDelivery.
func (q *Queue) DropFirst(ctx context.Context, sink, stream, tenancy, uploadID string) (first Delivery, left int, err error) {
	queue, err := q.listOf(ctx, sink, stream, tenancy)
	if err != nil {
		return Delivery{}, 0, err
	}
	if len(queue) == 0 {
		return Delivery{}, 0, fmt.Errorf("%w of %s to %s", ErrNoDelivery, stream, sink)
	}
	if uploadID != "" && queue[0].UploadID != uploadID {
		return Delivery{}, 0, fmt.Errorf("%s to %s: upload %s %w, which is %s", stream, sink, uploadID, ErrNotFirst, queue[0].UploadID)
	}
	err = q.inReservedTransaction(ctx, func(tx *sql.Tx) error {
		_, err := endUndelivered(ctx, tx, queue[0].ID, DeliveryDropped, q.now())
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return Delivery{}, 0, fmt.Errorf("%w of %s to %s", ErrNoDelivery, stream, sink)
	}
	if err != nil {
		return Delivery{}, 0, fmt.Errorf("drop the delivery of %s to %s: %w", stream, sink, err)
	}
	q.snapshots.sweepStream(ctx, stream, tenancy)
	return queue[0], len(queue) - 1, nil
}

// Errors of DropFirst.
var (
	// ErrNoDelivery means that no such delivery is queued.
	ErrNoDelivery = errors.New("no queued delivery")
	// ErrNotFirst means that another delivery is queued before this one, or that this
	// one is not queued any more.
	ErrNotFirst = errors.New("is not the first in the queue")
)

// listOf returns the queued deliveries of a stream to a sink, in order.
func (q *Queue) listOf(ctx context.Context, sink, stream, tenancy string) ([]Delivery, error) {
	return q.listWhere(ctx, `WHERE d.sink = ? AND s.stream = ? AND s.tenancy = ?`, sink, stream, tenancy)
}

// DropSink gives up everything of a tenancy that is queued for a sink and
// returns the number of deliveries. Snapshots that nothing else needs are
// removed. A delivery that is in progress continues.
func (q *Queue) DropSink(ctx context.Context, sink, tenancy string) (n int64, err error) {
	err = q.inReservedTransaction(ctx, func(tx *sql.Tx) error {
		ids, err := queryAll(ctx, tx, scanID, `SELECT id FROM deliveries WHERE sink = ? AND `+ofTenancy, sink, tenancy)
		if err != nil {
			return err
		}
		n = int64(len(ids))
		for _, id := range ids {
			if _, err := endUndelivered(ctx, tx, id, DeliveryDropped, q.now()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("drop the deliveries to %s: %w", sink, err)
	}
	return n, q.snapshots.sweepUnneeded(ctx)
}
