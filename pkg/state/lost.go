package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/collectord/collectord/pkg/snapshot"
)

// DropDamaged reads the snapshot of a delivery and, when it is gone or
// damaged, takes it off the queues of all sinks and out of the last-known
// ones: it can never be delivered and would hold up those behind it. It
// returns false when the snapshot is sound or the delivery is not queued any
// more. Each drop counts as a failed delivery.
func (s *State) DropDamaged(ctx context.Context, id int64) (bool, error) {
	var row int64
	var dir, stream, tenancy string
	err := s.db.QueryRowContext(ctx,
		`SELECT s.id, s.dir, s.stream, s.tenancy FROM deliveries d JOIN snapshots s ON s.id = d.snapshot WHERE d.id = ?`, id).
		Scan(&row, &dir, &stream, &tenancy)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the queue: %w", err)
	}
	_, err = s.verified(ctx, dir)
	if !unusable(err) {
		return false, err
	}
	if _, err := s.forget(ctx, row); err != nil {
		return false, fmt.Errorf("drop a damaged snapshot: %w", err)
	}
	s.sweepStream(ctx, stream, tenancy)
	return true, nil
}

// forgetLost finds last-known and queued snapshots of the collector that
// cannot be opened.
func (s *State) forgetLost(ctx context.Context, collector string, _ Policy, found *Recovered) error {
	type pinnedRow struct {
		id                   int64
		dir, stream, tenancy string
	}
	all, err := queryAll(ctx, s.db, func(rows *sql.Rows) (r pinnedRow, err error) {
		err = rows.Scan(&r.id, &r.dir, &r.stream, &r.tenancy)
		return r, err
	}, `SELECT s.id, s.dir, s.stream, s.tenancy FROM snapshots s WHERE s.collector = ? AND `+pinned, collector)
	if err != nil {
		return err
	}
	for _, r := range all {
		_, err := snapshot.Open(filepath.Join(s.dir, r.dir))
		if err == nil {
			continue
		}
		if !unusable(err) {
			found.Lost = append(found.Lost, fmt.Errorf("%s: %w", r.stream, err))
			continue
		}
		sinks, e := s.forget(ctx, r.id)
		if e != nil {
			return e
		}
		if len(sinks) > 0 {
			err = fmt.Errorf("%w: it is not delivered to %s", err, strings.Join(sinks, ", "))
		}
		found.Lost = append(found.Lost, fmt.Errorf("%s: %w", r.stream, err))
		s.sweepStream(ctx, r.stream, r.tenancy)
	}
	return nil
}

// forget takes a snapshot off every queue and out of the last-known ones, and
// returns the sinks that do not get it.
func (s *State) forget(ctx context.Context, row int64) (sinks []string, err error) {
	err = s.transact(ctx, func(tx *sql.Tx) error {
		queued, err := queryAll(ctx, tx, scanID, `SELECT id FROM deliveries WHERE snapshot = ? ORDER BY sink`, row)
		if err != nil {
			return err
		}
		for _, id := range queued {
			if err := s.tally(ctx, tx, id, "last_failure", "failures"); err != nil {
				return err
			}
		}
		if sinks, err = queryAll(ctx, tx, scanText, `DELETE FROM deliveries WHERE snapshot = ? RETURNING sink`, row); err != nil {
			return err
		}
		next, err := s.nextBest(ctx, tx, row)
		if err != nil {
			return err
		}
		if next == 0 {
			_, err = tx.ExecContext(ctx, `DELETE FROM last_known WHERE snapshot = ?`, row)
		} else {
			_, err = tx.ExecContext(ctx, `UPDATE last_known SET snapshot = ? WHERE snapshot = ?`, next, row)
		}
		return err
	})
	return sinks, err
}

// nextBest is the newest usable snapshot of the same stream; 0 when there is
// none. Held ones are not considered.
func (s *State) nextBest(ctx context.Context, tx *sql.Tx, row int64) (int64, error) {
	type other struct {
		id  int64
		dir string
	}
	others, err := queryAll(ctx, tx, func(rows *sql.Rows) (o other, err error) {
		err = rows.Scan(&o.id, &o.dir)
		return o, err
	}, `SELECT o.id, o.dir FROM snapshots o JOIN snapshots s ON o.stream = s.stream AND o.tenancy = s.tenancy
		WHERE s.id = ? AND o.id <> s.id AND NOT o.held ORDER BY o.id DESC`, row)
	if err != nil {
		return 0, err
	}
	for _, o := range others {
		if _, err := snapshot.Open(filepath.Join(s.dir, o.dir)); err == nil {
			return o.id, nil
		}
	}
	return 0, nil
}
