package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// Queue has the deliveries that are still to be made.
type Queue struct {
	*core
	snapshots *Snapshots
}

// Next implements [state.Queue].
func (q *Queue) Next(ctx context.Context, tenancy string) ([]state.Delivery, error) {
	return q.listWhere(ctx, `WHERE d.id IN (
		SELECT min(e.id) FROM deliveries e JOIN snapshots t ON t.id = e.snapshot WHERE t.tenancy = $1 GROUP BY e.sink, t.stream)`, tenancy)
}

// List implements [state.Queue].
func (q *Queue) List(ctx context.Context) ([]state.Delivery, error) { return q.listWhere(ctx, "") }

func (q *Queue) listWhere(ctx context.Context, where string, args ...any) ([]state.Delivery, error) {
	all, err := queryAll(ctx, q.db, func(rows *sql.Rows) (d state.Delivery, err error) {
		var taken, queued, next int64
		err = rows.Scan(&d.ID, &d.Sink, &d.Collector, &d.Stream, &d.Tenancy, &d.UploadID, &taken, &d.Records, &d.SpoolBytes, &d.Place,
			&queued, &next, &d.Attempts, &d.Class, &d.Err, &d.Refill)
		d.Taken, d.Queued, d.NextTry = fromMillis(taken), fromMillis(queued), fromMillis(next)
		return d, err
	}, `SELECT d.id, d.sink, s.collector, s.stream, s.tenancy, s.upload_id, s.taken, s.records, s.spool_bytes, s.dir,
		d.queued, d.next_try, d.attempts, d.class, d.error, d.refill
		FROM deliveries d JOIN snapshots s ON s.id = d.snapshot `+where+` ORDER BY d.id`, args...)
	if err != nil {
		return nil, fmt.Errorf("read the queue: %w", err)
	}
	return all, nil
}

// Open implements [state.Queue].
func (q *Queue) Open(ctx context.Context, d state.Delivery) (*snapshot.Snapshot, error) {
	s, err := q.files.Open(ctx, d.Place)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", snapshot.ErrDamaged, err)
	}
	return s, err
}

// Contains implements [state.Queue].
func (q *Queue) Contains(ctx context.Context, d state.Delivery) (queued bool, err error) {
	if queued, err = isDeliveryQueued(ctx, q.db, d); err != nil {
		return false, fmt.Errorf("read the queue: %w", err)
	}
	return queued, nil
}

// isDeliveryQueued reports whether a delivery is queued. Its id alone does not identify it: a
// database that fails over to a standby which was behind gives the ids of lost rows again.
func isDeliveryQueued(ctx context.Context, db DB, d state.Delivery) (queued bool, err error) {
	err = db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM deliveries d JOIN snapshots s ON s.id = d.snapshot
		WHERE d.id = $1 AND d.sink = $2 AND s.stream = $3 AND s.tenancy = $4 AND s.upload_id = $5)`,
		d.ID, d.Sink, d.Stream, d.Tenancy, d.UploadID).Scan(&queued)
	return queued, err
}

// MarkDelivered implements [state.Queue].
func (q *Queue) MarkDelivered(ctx context.Context, d state.Delivery) error {
	var queued bool
	err := q.inUrgentTransaction(ctx, func(tx DB) (err error) {
		if queued, err = isDeliveryQueued(ctx, tx, d); err != nil || !queued {
			return err
		}
		if err := countSuccess(ctx, tx, d.ID, q.now()); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM deliveries WHERE id = $1`, d.ID)
		Reached("delivering")
		return err
	})
	if err != nil {
		return fmt.Errorf("record the delivery: %w", err)
	}
	if !queued {
		return nil
	}
	Reached("delivered")
	q.snapshots.sweepStream(ctx, d.Stream, d.Tenancy)
	return nil
}

// ScheduleRetry implements [state.Queue].
func (q *Queue) ScheduleRetry(ctx context.Context, d state.Delivery, cause error, class state.Class, next time.Time) error {
	err := q.inTransaction(ctx, func(tx DB) error {
		queued, err := isDeliveryQueued(ctx, tx, d)
		if err != nil || !queued {
			return err
		}
		if err := countFailure(ctx, tx, d.ID, q.now()); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx,
			`UPDATE deliveries SET attempts = attempts + 1, error = $1, class = $2, next_try = $3 WHERE id = $4`,
			q.withoutSecrets(cause.Error()), class, toMillis(next), d.ID)
		return err
	})
	if err != nil {
		return fmt.Errorf("record the failed delivery: %w", err)
	}
	return nil
}

// ofTenancy is the SQL condition for a row of deliveries that is of a tenancy.
const ofTenancy = `snapshot IN (SELECT id FROM snapshots WHERE tenancy = $1)`

// RetryAllNow implements [state.Queue].
func (q *Queue) RetryAllNow(ctx context.Context, tenancy string) error {
	return q.retryNowWhere(ctx, ofTenancy, tenancy)
}

// RetryRefusedNow implements [state.Queue].
func (q *Queue) RetryRefusedNow(ctx context.Context, tenancy string) error {
	return q.retryNowWhere(ctx, ofTenancy+` AND class = $2`, tenancy, state.Refused)
}

func (q *Queue) retryNowWhere(ctx context.Context, where string, args ...any) error {
	where = ` WHERE (next_try > 0 OR class <> '') AND ` + where
	// Usually there are none, and a statement that writes would wait for the transactions of
	// others.
	var isAny bool
	err := q.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM deliveries`+where+`)`, args...).Scan(&isAny)
	if err == nil && isAny {
		_, err = q.db.ExecContext(ctx, `UPDATE deliveries SET next_try = 0, class = ''`+where, args...)
	}
	if err != nil {
		return fmt.Errorf("make deliveries due: %w", q.engine.Explain(err))
	}
	return nil
}

// DropDamaged implements [state.Queue].
func (q *Queue) DropDamaged(ctx context.Context, d state.Delivery) (bool, error) {
	var row int64
	var dir string
	err := q.db.QueryRowContext(ctx,
		`SELECT s.id, s.dir FROM deliveries d JOIN snapshots s ON s.id = d.snapshot WHERE d.id = $1 AND s.upload_id = $2`, d.ID, d.UploadID).
		Scan(&row, &dir)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the queue: %w", err)
	}
	_, err = q.files.OpenVerified(ctx, dir)
	if !snapshot.IsUnusable(err) {
		return false, err
	}
	if _, err := q.snapshots.dropUnusable(ctx, row); err != nil {
		return false, fmt.Errorf("drop a damaged snapshot: %w", err)
	}
	q.snapshots.sweepStream(ctx, d.Stream, d.Tenancy)
	return true, nil
}

// SinkStatuses implements [state.Queue].
func (q *Queue) SinkStatuses(ctx context.Context) ([]state.SinkStatus, error) {
	all, err := queryAll(ctx, q.db, func(rows *sql.Rows) (st state.SinkStatus, err error) {
		var success, failure int64
		err = rows.Scan(&st.Stream, &st.Tenancy, &st.Sink, &success, &failure, &st.Successes, &st.Failures,
			&st.Superseded, &st.Skipped, &st.Dropped, &st.KeptOut)
		st.LastSuccess, st.LastFailure = fromMillis(success), fromMillis(failure)
		return st, err
	}, `SELECT stream, tenancy, sink, last_success, last_failure, successes, failures, superseded, skipped, dropped, kept_out
		FROM stored ORDER BY stream, tenancy, sink`)
	if err != nil {
		return nil, fmt.Errorf("read the deliveries: %w", err)
	}
	return all, nil
}

// queueDeliveries queues a delivery of the snapshot for each sink that does not
// have one, and returns how many it queued.
func queueDeliveries(ctx context.Context, tx DB, snapshot int64, sinks []string, now time.Time) (queued int, err error) {
	for _, sink := range sinks {
		result, err := tx.ExecContext(ctx,
			`INSERT INTO deliveries (snapshot, sink, queued) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, snapshot, sink, toMillis(now))
		if err != nil {
			return 0, err
		}
		n, err := result.RowsAffected()
		if err != nil {
			return 0, err
		}
		queued += int(n)
		if _, err := tx.ExecContext(ctx,
			`DELETE FROM undelivered WHERE sink = $1 AND (stream, tenancy, upload_id) IN (SELECT stream, tenancy, upload_id FROM snapshots WHERE id = $2)`,
			sink, snapshot); err != nil {
			return 0, err
		}
	}
	return queued, nil
}

// dropDeliveries removes all deliveries of the snapshot, counts each as failed,
// and returns their sinks.
func dropDeliveries(ctx context.Context, tx DB, snapshot int64, now time.Time) (sinks []string, err error) {
	queued, err := queryAll(ctx, tx, scanID, `SELECT id FROM deliveries WHERE snapshot = $1 ORDER BY sink`, snapshot)
	if err != nil {
		return nil, err
	}
	for _, id := range queued {
		if err := countFailure(ctx, tx, id, now); err != nil {
			return nil, err
		}
		sink, err := endUndelivered(ctx, tx, id, state.DeliveryDamaged, now)
		if err != nil {
			return nil, err
		}
		sinks = append(sinks, sink)
	}
	return sinks, nil
}

// countSuccess counts a successful attempt of a delivery.
func countSuccess(ctx context.Context, tx DB, id int64, now time.Time) error {
	return countAttempt(ctx, tx, id, now, "last_success", "successes")
}

// countFailure counts a failed attempt of a delivery.
func countFailure(ctx context.Context, tx DB, id int64, now time.Time) error {
	return countAttempt(ctx, tx, id, now, "last_failure", "failures")
}

func countAttempt(ctx context.Context, tx DB, id int64, now time.Time, timeColumn, countColumn string) error {
	if err := countDelivery(ctx, tx, id, countColumn); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx,
		`UPDATE stored SET `+timeColumn+` = $1 WHERE (stream, tenancy, sink) IN (
			SELECT s.stream, s.tenancy, d.sink FROM deliveries d JOIN snapshots s ON s.id = d.snapshot WHERE d.id = $2)`, toMillis(now), id)
	return err
}

// countDelivery adds 1 to a count of the stream and sink of a delivery.
func countDelivery(ctx context.Context, tx DB, id int64, column string) error {
	_, err := tx.ExecContext(ctx,
		`INSERT INTO stored (stream, tenancy, sink, `+column+`)
		 SELECT s.stream, s.tenancy, d.sink, 1 FROM deliveries d JOIN snapshots s ON s.id = d.snapshot WHERE d.id = $1
		 ON CONFLICT (stream, tenancy, sink) DO UPDATE SET `+column+` = stored.`+column+` + 1`, id)
	return err
}
