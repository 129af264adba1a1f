package database

import (
	"context"
	"fmt"

	"go.uber.org/zap"
)

// waitsForAccept is the SQL condition for a row s of snapshots that waits for
// Accept: it is held, newer than the last-known snapshot and than the last run that
// found that to be still the vendor's data, and the newest of these.
const waitsForAccept = `(s.held
	AND s.id > coalesce((SELECT l.snapshot FROM last_known l WHERE l.stream = s.stream AND l.tenancy = s.tenancy), 0)
	AND s.taken > coalesce((SELECT l.checked FROM last_known l WHERE l.stream = s.stream AND l.tenancy = s.tenancy), 0)
	AND s.id = (SELECT max(h.id) FROM snapshots h WHERE h.held AND h.stream = s.stream AND h.tenancy = s.tenancy))`

// inUse is the SQL condition for a row s of snapshots that is last-known or
// queued. It looks up the row of the stream: a list of all that are last-known would be made
// for each run, as long as there are streams in all tenancies.
const inUse = `(EXISTS (SELECT 1 FROM last_known l WHERE l.stream = s.stream AND l.tenancy = s.tenancy AND l.snapshot = s.id)
	OR EXISTS (SELECT 1 FROM deliveries d WHERE d.snapshot = s.id))`

// unneeded is the SQL condition for a row s of snapshots that is to be removed.
const unneeded = `NOT ` + inUse + ` AND NOT ` + waitsForAccept

// sweepUnneeded removes the snapshots that are not needed any more.
func (s *Snapshots) sweepUnneeded(ctx context.Context) error { return s.sweepWhere(ctx, unneeded) }

// sweepStream removes a stream's snapshots that are not needed any more. It
// only logs an error, since what it is called after has succeeded.
func (s *Snapshots) sweepStream(ctx context.Context, stream, tenancy string) {
	err := s.sweepWhere(ctx, `s.stream = $1 AND s.tenancy = $2 AND `+unneeded, stream, tenancy)
	if err != nil {
		s.log.Warn("removing old snapshots failed; the next cleanup tries again", zap.String("stream", stream), zap.Error(err))
	}
}

// sweepWhere removes the snapshots for which the SQL condition where holds.
// The files are discarded before the row is deleted: a row without files is swept
// again.
func (s *Snapshots) sweepWhere(ctx context.Context, where string, args ...any) error {
	rows, err := queryAll(ctx, s.db, scanID, `SELECT s.id FROM snapshots s WHERE `+where, args...)
	if err != nil {
		return fmt.Errorf("sweep snapshots: %w", err)
	}
	// On a full disk a row cannot be deleted. Its files are in the trash by then, and
	// emptying that makes room.
	defer s.files.EmptyTrash()
	for _, row := range rows {
		if err := s.sweepRow(ctx, row, where, args); err != nil {
			return fmt.Errorf("sweep snapshots: %w", err)
		}
		Reached("swept")
	}
	return nil
}

// sweepRow removes one snapshot, unless where does not hold for it any more.
func (s *Snapshots) sweepRow(ctx context.Context, row int64, where string, args []any) error {
	return s.inTransaction(ctx, func(tx DB) error {
		places, err := queryAll(ctx, tx, scanText,
			`SELECT s.dir FROM snapshots s WHERE (`+where+fmt.Sprintf(`) AND s.id = $%d`, len(args)+1), append(args[:len(args):len(args)], row)...)
		if err != nil || len(places) == 0 {
			return err
		}
		if err := s.files.Discard(places[0]); err != nil {
			return err
		}
		Reached("sweeping")
		_, err = tx.ExecContext(ctx, `DELETE FROM snapshots WHERE id = $1`, row)
		return err
	})
}
