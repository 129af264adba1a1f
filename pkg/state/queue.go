package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// A Class says what a failed delivery means.
type Class string

// The classes. A delivery that was never tried has none.
const (
	Transient Class = "transient" // it may pass by itself
	Refused   Class = "refused"   // somebody must change something first
)

// A Delivery is a snapshot that is queued for one sink.
type Delivery struct {
	ID                int64
	Sink              string
	Collector, Stream string
	Tenancy, UploadID string
	Records           int64
	SpoolBytes        int64  // what the snapshot takes on disk
	Dir               string // the snapshot's folder
	Queued, NextTry   time.Time
	Attempts          int
	Class             Class
	Err               string // the last failure, in words
}

// Heads returns, for each stream, tenancy and sink, the delivery that was
// queued first: the others must wait for it. They are in the order in which they were
// queued.
func (s *State) Heads(ctx context.Context) ([]Delivery, error) {
	return s.deliveries(ctx, `WHERE d.id IN (
		SELECT min(e.id) FROM deliveries e JOIN snapshots t ON t.id = e.snapshot GROUP BY e.sink, t.stream, t.tenancy)`)
}

// Queue returns everything that is queued, in order.
func (s *State) Queue(ctx context.Context) ([]Delivery, error) { return s.deliveries(ctx, "") }

func (s *State) deliveries(ctx context.Context, where string) ([]Delivery, error) {
	all, err := queryAll(ctx, s.db, func(rows *sql.Rows) (d Delivery, err error) {
		var queued, next int64
		err = rows.Scan(&d.ID, &d.Sink, &d.Collector, &d.Stream, &d.Tenancy, &d.UploadID, &d.Records, &d.SpoolBytes, &d.Dir,
			&queued, &next, &d.Attempts, &d.Class, &d.Err)
		d.Dir = filepath.Join(s.dir, d.Dir)
		d.Queued, d.NextTry = fromMillis(queued), fromMillis(next)
		return d, err
	}, `SELECT d.id, d.sink, s.collector, s.stream, s.tenancy, s.upload_id, s.records, s.spool_bytes, s.dir,
		d.queued, d.next_try, d.attempts, d.class, d.error
		FROM deliveries d JOIN snapshots s ON s.id = d.snapshot `+where+` ORDER BY d.id`)
	if err != nil {
		return nil, fmt.Errorf("read the queue: %w", err)
	}
	return all, nil
}

// Queued tells whether a delivery is still queued.
func (s *State) Queued(ctx context.Context, id int64) (queued bool, err error) {
	if err := s.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM deliveries WHERE id = ?)`, id).Scan(&queued); err != nil {
		return false, fmt.Errorf("read the queue: %w", err)
	}
	return queued, nil
}

// Delivered takes a delivery off the queue: the sink has the snapshot. Its
// folder is removed when nothing else needs it. A delivery that is not queued
// any more is no error: another process has delivered the same.
func (s *State) Delivered(ctx context.Context, id int64) error {
	var stream, tenancy string
	err := s.transact(ctx, func(tx *sql.Tx) error {
		if err := tx.QueryRowContext(ctx,
			`SELECT s.stream, s.tenancy FROM deliveries d JOIN snapshots s ON s.id = d.snapshot WHERE d.id = ?`, id).Scan(&stream, &tenancy); err != nil {
			return err
		}
		if err := s.tally(ctx, tx, id, "last_success", "successes"); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM deliveries WHERE id = ?`, id)
		reached("delivering")
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("note the delivery: %w", err)
	}
	reached("delivered")
	s.sweepStream(ctx, stream, tenancy)
	return nil
}

// tally counts an end of a try in the columns named.
func (s *State) tally(ctx context.Context, tx *sql.Tx, id int64, when, count string) error {
	_, err := tx.ExecContext(ctx,
		`INSERT INTO stored (stream, tenancy, sink, `+when+`, `+count+`)
		 SELECT s.stream, s.tenancy, d.sink, ?, 1 FROM deliveries d JOIN snapshots s ON s.id = d.snapshot WHERE d.id = ?
		 ON CONFLICT DO UPDATE SET `+when+` = excluded.`+when+`, `+count+` = `+count+` + 1`, toMillis(s.now()), id)
	return err
}

// Retry notes a failed try and when the next one is due. A delivery that is
// not queued any more is no error.
func (s *State) Retry(ctx context.Context, id int64, cause error, class Class, next time.Time) error {
	err := s.transact(ctx, func(tx *sql.Tx) error {
		if err := s.tally(ctx, tx, id, "last_failure", "failures"); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx,
			`UPDATE deliveries SET attempts = attempts + 1, error = ?, class = ?, next_try = ? WHERE id = ?`,
			clip(cause.Error()), class, toMillis(next), id)
		return err
	})
	if err != nil {
		return fmt.Errorf("note the failed delivery: %w", err)
	}
	return nil
}

// Postpone moves a delivery's next try to until. It counts no try.
func (s *State) Postpone(ctx context.Context, id int64, until time.Time) error {
	if _, err := s.db.ExecContext(ctx, `UPDATE deliveries SET next_try = ? WHERE id = ?`, toMillis(until), id); err != nil {
		return fmt.Errorf("postpone the delivery: %w", err)
	}
	return nil
}

// RetryNow makes every queued delivery due at once.
func (s *State) RetryNow(ctx context.Context) error {
	if _, err := s.db.ExecContext(ctx, `UPDATE deliveries SET next_try = 0, class = ''`); err != nil {
		return fmt.Errorf("make deliveries due: %w", err)
	}
	return nil
}

// DropSink takes everything that is queued for a sink off the queue and
// returns how many deliveries that were. Snapshots that nothing else needs go.
// A delivery that is under way ends as it would have.
func (s *State) DropSink(ctx context.Context, sink string) (int64, error) {
	result, err := s.db.ExecContext(ctx, `DELETE FROM deliveries WHERE sink = ?`, sink)
	if err != nil {
		return 0, fmt.Errorf("drop the deliveries to %s: %w", sink, explain(err))
	}
	n, err := result.RowsAffected()
	if err != nil {
		return 0, fmt.Errorf("drop the deliveries to %s: %w", sink, err)
	}
	return n, s.sweep(ctx, `NOT `+pinned+` AND NOT `+waits)
}

// Stored is how the deliveries of a stream to a sink went, over all time.
type Stored struct {
	Stream, Tenancy, Sink    string
	LastSuccess, LastFailure time.Time // zero for never
	Successes, Failures      int64
}

// Stored returns the counts of every stream and sink.
func (s *State) Stored(ctx context.Context) ([]Stored, error) {
	all, err := queryAll(ctx, s.db, func(rows *sql.Rows) (st Stored, err error) {
		var success, failure int64
		err = rows.Scan(&st.Stream, &st.Tenancy, &st.Sink, &success, &failure, &st.Successes, &st.Failures)
		st.LastSuccess, st.LastFailure = fromMillis(success), fromMillis(failure)
		return st, err
	}, `SELECT stream, tenancy, sink, last_success, last_failure, successes, failures FROM stored ORDER BY stream, tenancy, sink`)
	if err != nil {
		return nil, fmt.Errorf("read the deliveries: %w", err)
	}
	return all, nil
}
