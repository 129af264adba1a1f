package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/collectord/collectord/pkg/state"
)

// ListUndelivered implements [state.Queue].
func (q *Queue) ListUndelivered(ctx context.Context, tenancy string, limit int) ([]state.Undelivered, error) {
	all, err := queryAll(ctx, q.db, func(rows *sql.Rows) (u state.Undelivered, err error) {
		var taken, ended int64
		err = rows.Scan(&u.Stream, &u.Tenancy, &u.Sink, &u.UploadID, &taken, &u.Outcome, &ended)
		u.Taken, u.Ended = fromMillis(taken), fromMillis(ended)
		return u, err
	}, `SELECT stream, tenancy, sink, upload_id, taken, outcome, ended FROM undelivered WHERE tenancy = $1 ORDER BY id DESC LIMIT $2`, tenancy, limit)
	if err != nil {
		return nil, fmt.Errorf("read the deliveries: %w", err)
	}
	return all, nil
}

// FindEnd implements [state.Queue].
func (q *Queue) FindEnd(ctx context.Context, d state.Delivery) (end state.DeliveryEnd, err error) {
	err = q.db.QueryRowContext(ctx,
		`SELECT outcome FROM undelivered WHERE upload_id = $1 AND stream = $2 AND sink = $3 AND tenancy = $4 ORDER BY id DESC LIMIT 1`,
		d.UploadID, d.Stream, d.Sink, d.Tenancy).Scan(&end)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("read the deliveries: %w", err)
	}
	return end, nil
}

// endUndelivered removes a delivery from the queue, records and counts its end,
// and returns its sink.
func endUndelivered(ctx context.Context, tx DB, id int64, end state.DeliveryEnd, now time.Time) (sink string, err error) {
	if column, counted := endColumns[end]; counted {
		if err := countDelivery(ctx, tx, id, column); err != nil {
			return "", err
		}
	}
	if _, err := tx.ExecContext(ctx,
		`INSERT INTO undelivered (stream, tenancy, sink, upload_id, taken, outcome, ended)
		 SELECT s.stream, s.tenancy, d.sink, s.upload_id, s.taken, $1, $2 FROM deliveries d JOIN snapshots s ON s.id = d.snapshot WHERE d.id = $3`,
		end, toMillis(now), id); err != nil {
		return "", err
	}
	err = tx.QueryRowContext(ctx, `DELETE FROM deliveries WHERE id = $1 RETURNING sink`, id).Scan(&sink)
	return sink, err
}

// MarkKeptOut implements [state.Queue].
func (q *Queue) MarkKeptOut(ctx context.Context, d state.Delivery) error {
	err := q.inUrgentTransaction(ctx, func(tx DB) error {
		_, err := endUndelivered(ctx, tx, d.ID, state.DeliveryKeptOut, q.now())
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
var endColumns = map[state.DeliveryEnd]string{
	state.DeliverySuperseded: "superseded", state.DeliverySkipped: "skipped", state.DeliveryDropped: "dropped",
	state.DeliveryKeptOut: "kept_out",
}

// deleteUndeliveredBefore deletes the records of deliveries that ended before t.
func (q *Queue) deleteUndeliveredBefore(ctx context.Context, t time.Time) error {
	if _, err := q.db.ExecContext(ctx, `DELETE FROM undelivered WHERE ended < $1`, toMillis(t)); err != nil {
		return fmt.Errorf("sweep deliveries: %w", q.engine.Explain(err))
	}
	return nil
}

// DropFirst implements [state.Queue].
func (q *Queue) DropFirst(ctx context.Context, sink, stream, tenancy, uploadID string) (first state.Delivery, left int, err error) {
	queue, err := q.listOf(ctx, sink, stream, tenancy)
	if err != nil {
		return state.Delivery{}, 0, err
	}
	if len(queue) == 0 {
		return state.Delivery{}, 0, fmt.Errorf("%w of %s to %s", state.ErrNoDelivery, stream, sink)
	}
	if uploadID != "" && queue[0].UploadID != uploadID {
		return state.Delivery{}, 0, fmt.Errorf("%s to %s: upload %s %w, which is %s", stream, sink, uploadID, state.ErrNotFirst, queue[0].UploadID)
	}
	err = q.inUrgentTransaction(ctx, func(tx DB) error {
		_, err := endUndelivered(ctx, tx, queue[0].ID, state.DeliveryDropped, q.now())
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return state.Delivery{}, 0, fmt.Errorf("%w of %s to %s", state.ErrNoDelivery, stream, sink)
	}
	if err != nil {
		return state.Delivery{}, 0, fmt.Errorf("drop the delivery of %s to %s: %w", stream, sink, err)
	}
	q.snapshots.sweepStream(ctx, stream, tenancy)
	return queue[0], len(queue) - 1, nil
}

// listOf returns the queued deliveries of a stream to a sink, in order.
func (q *Queue) listOf(ctx context.Context, sink, stream, tenancy string) ([]state.Delivery, error) {
	return q.listWhere(ctx, `WHERE d.sink = $1 AND s.stream = $2 AND s.tenancy = $3`, sink, stream, tenancy)
}

// DropSink implements [state.Queue].
func (q *Queue) DropSink(ctx context.Context, sink, tenancy string) (n int64, err error) {
	err = q.inUrgentTransaction(ctx, func(tx DB) error {
		ids, err := queryAll(ctx, tx, scanID, `SELECT id FROM deliveries WHERE `+ofTenancy+` AND sink = $2`, tenancy, sink)
		if err != nil {
			return err
		}
		n = int64(len(ids))
		for _, id := range ids {
			if _, err := endUndelivered(ctx, tx, id, state.DeliveryDropped, q.now()); err != nil {
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
