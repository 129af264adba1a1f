package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/collectord/collectord/pkg/state"
)

// RegisterSinks implements [state.Queue].
func (q *Queue) RegisterSinks(ctx context.Context, tenancy string, targets map[string]string, p state.Policy) (changes []state.SinkChange, err error) {
	// At most starts nothing has changed, and a transaction would wait for those of others.
	known, err := knownTargets(ctx, q.db, tenancy)
	if err == nil && hasTargets(known, p.Sinks, targets) {
		return nil, nil
	}
	err = q.inTransaction(ctx, func(tx DB) error {
		changes = nil
		known, err := knownTargets(ctx, tx, tenancy)
		if err != nil {
			return err
		}
		for _, sink := range p.Sinks {
			before, isKnown := known[sink]
			delete(known, sink)
			if isKnown && before == targets[sink] {
				continue
			}
			if _, err := tx.ExecContext(ctx,
				`INSERT INTO sinks (tenancy, sink, target) VALUES ($1, $2, $3) ON CONFLICT (tenancy, sink) DO UPDATE SET target = excluded.target`,
				tenancy, sink, targets[sink]); err != nil {
				return err
			}
			if isKnown && before == "" { // an earlier collectord did not record it
				continue
			}
			queued, err := queueLastKnown(ctx, tx, tenancy, sink, p, q.now())
			if err != nil {
				return err
			}
			changes = append(changes, state.SinkChange{Sink: sink, Before: before, Queued: queued})
		}
		for sink := range known {
			if _, err := tx.ExecContext(ctx, `DELETE FROM sinks WHERE tenancy = $1 AND sink = $2`, tenancy, sink); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("record the destinations: %w", err)
	}
	return changes, nil
}

// hasTargets reports whether known has exactly the sinks, each with its target.
func hasTargets(known map[string]string, sinks []string, targets map[string]string) bool {
	return len(known) == len(sinks) && !slices.ContainsFunc(sinks, func(sink string) bool {
		target, isKnown := known[sink]
		return !isKnown || target != targets[sink]
	})
}

// knownTargets returns the targets of the destinations that are recorded.
func knownTargets(ctx context.Context, from DB, tenancy string) (map[string]string, error) {
	type row struct{ sink, target string }
	rows, err := queryAll(ctx, from, func(rows *sql.Rows) (r row, err error) {
		err = rows.Scan(&r.sink, &r.target)
		return r, err
	}, `SELECT sink, target FROM sinks WHERE tenancy = $1`, tenancy)
	known := map[string]string{}
	for _, r := range rows {
		known[r.sink] = r.target
	}
	return known, err
}

// queueLastKnown queues the last-known snapshot of each stream for a sink,
// unless it is queued, and returns how many it queued.
func queueLastKnown(ctx context.Context, tx DB, tenancy, sink string, p state.Policy, now time.Time) (queued int, err error) {
	rows, err := queryAll(ctx, tx, scanID,
		`SELECT s.id FROM last_known l JOIN snapshots s ON s.id = l.snapshot
		 WHERE l.tenancy = $1 AND (s.records > 0 OR $2) ORDER BY s.id`, tenancy, p.StoreEmpty)
	if err != nil {
		return 0, err
	}
	for _, row := range rows {
		n, err := queueDeliveries(ctx, tx, row, []string{sink}, now)
		if err != nil {
			return 0, err
		}
		queued += n
	}
	return queued, nil
}

// Refill implements [state.Queue].
func (q *Queue) Refill(ctx context.Context, stream, tenancy string, p state.Policy) (uploadID string, err error) {
	err = q.inTransaction(ctx, func(tx DB) error {
		var row, records int64
		err := tx.QueryRowContext(ctx, `SELECT s.id, s.upload_id, s.records FROM last_known l JOIN snapshots s ON s.id = l.snapshot
			WHERE l.stream = $1 AND l.tenancy = $2`, stream, tenancy).Scan(&row, &uploadID, &records)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("%s: %w is known", stream, state.ErrNoSnapshot)
		}
		if err != nil {
			return err
		}
		if records == 0 && !p.StoreEmpty {
			uploadID = ""
			return nil
		}
		if _, err := queueDeliveries(ctx, tx, row, p.Sinks, q.now()); err != nil {
			return err
		}
		for _, sink := range p.Sinks {
			if err := q.markRefill(ctx, tx, row, sink); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("queue the last-known snapshot: %w", err)
	}
	return uploadID, nil
}

// RefillLost implements [state.Queue].
func (q *Queue) RefillLost(ctx context.Context, stream, tenancy string, sinks []string) (refilled []string, err error) {
	err = q.inTransaction(ctx, func(tx DB) error {
		refilled = nil
		for _, sink := range sinks {
			var row int64
			err := tx.QueryRowContext(ctx, `SELECT s.id FROM last_known l JOIN snapshots s ON s.id = l.snapshot
				WHERE l.stream = $1 AND l.tenancy = $2
				AND NOT EXISTS (SELECT 1 FROM deliveries d JOIN snapshots o ON o.id = d.snapshot WHERE d.sink = $3 AND o.stream = $1 AND o.tenancy = $2)
				AND NOT EXISTS (SELECT 1 FROM undelivered u WHERE u.sink = $3 AND u.upload_id = s.upload_id AND u.stream = $1 AND u.tenancy = $2)`,
				stream, tenancy, sink).Scan(&row)
			if errors.Is(err, sql.ErrNoRows) {
				continue
			}
			if err != nil {
				return err
			}
			if _, err := queueDeliveries(ctx, tx, row, []string{sink}, q.now()); err != nil {
				return err
			}
			if err := q.markRefill(ctx, tx, row, sink); err != nil {
				return err
			}
			refilled = append(refilled, sink)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("queue the last-known snapshot: %w", err)
	}
	return refilled, nil
}

// markRefill marks the delivery of a snapshot as a refill, and makes it and those
// that are queued before it due.
func (q *Queue) markRefill(ctx context.Context, tx DB, snapshot int64, sink string) error {
	if _, err := tx.ExecContext(ctx, `UPDATE deliveries SET refill = TRUE WHERE snapshot = $1 AND sink = $2`, snapshot, sink); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx,
		`UPDATE deliveries SET next_try = 0, class = '' WHERE sink = $1 AND snapshot IN (
			SELECT o.id FROM snapshots o JOIN snapshots s ON o.stream = s.stream AND o.tenancy = s.tenancy WHERE s.id = $2)`, sink, snapshot)
	return err
}

// SupersedeAll implements [state.Queue].
func (q *Queue) SupersedeAll(ctx context.Context, tenancy string, p state.Policy) error {
	next, err := q.Next(ctx, tenancy)
	if err != nil {
		return err
	}
	for _, d := range next {
		if slices.Contains(p.NewestOnly, d.Sink) {
			q.trimQueues(ctx, d.Stream, tenancy, state.Policy{Sinks: []string{d.Sink}, NewestOnly: p.NewestOnly})
		}
	}
	return nil
}
