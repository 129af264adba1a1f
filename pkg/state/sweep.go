package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"
)

// waits is the condition on a row of snapshots, s, under which it waits for
// Accept: it is held, newer than the last-known one, and the newest of these.
const waits = `(s.held
	AND s.id > coalesce((SELECT l.snapshot FROM last_known l WHERE l.stream = s.stream AND l.tenancy = s.tenancy), 0)
	AND s.id = (SELECT max(h.id) FROM snapshots h WHERE h.held AND h.stream = s.stream AND h.tenancy = s.tenancy))`

// pinned is the condition under which a snapshot's folder must stay in any case.
const pinned = `(s.id IN (SELECT snapshot FROM last_known) OR s.id IN (SELECT snapshot FROM deliveries))`

// sweepStream removes a stream's snapshots that nothing needs any more. What
// it is called after has happened, so that trouble is only logged.
func (s *State) sweepStream(ctx context.Context, stream, tenancy string) {
	err := s.sweep(ctx, `s.stream = ? AND s.tenancy = ? AND NOT `+pinned+` AND NOT `+waits, stream, tenancy)
	if err != nil {
		s.log.Warn("removing snapshots that nothing needs any more; it is tried again", zap.String("stream", stream), zap.Error(err))
	}
}

// Sweep removes the history older than keep, snapshots that nothing needs,
// and what restores that were cut off have left. Counts, the last-known
// snapshots and those that wait for Accept stay however old they are.
func (s *State) Sweep(ctx context.Context, keep time.Duration) error {
	before := toMillis(s.now().Add(-keep))
	if _, err := s.db.ExecContext(ctx, `DELETE FROM runs WHERE outcome <> '' AND ended < ?`, before); err != nil {
		return fmt.Errorf("sweep history: %w", err)
	}
	if err := s.sweep(ctx, `NOT `+pinned+` AND NOT `+waits); err != nil {
		return err
	}
	return errors.Join(s.sweepRestores(), s.sweepKept())
}

// sweep removes the snapshots for which where holds. The folder goes before
// the row: a row without a folder is swept again.
func (s *State) sweep(ctx context.Context, where string, args ...any) error {
	rows, err := queryAll(ctx, s.db, scanID, `SELECT s.id FROM snapshots s WHERE `+where, args...)
	if err != nil {
		return fmt.Errorf("sweep snapshots: %w", err)
	}
	for _, row := range rows {
		if err := s.sweepRow(ctx, row, where, args); err != nil {
			return fmt.Errorf("sweep snapshots: %w", err)
		}
		reached("swept")
	}
	s.emptyTrash()
	return nil
}

// sweepRow removes one snapshot unless something needs it by now.
func (s *State) sweepRow(ctx context.Context, row int64, where string, args []any) error {
	return s.transact(ctx, func(tx *sql.Tx) error {
		dirs, err := queryAll(ctx, tx, scanText, `SELECT s.dir FROM snapshots s WHERE (`+where+`) AND s.id = ?`, append(args[:len(args):len(args)], row)...)
		if err != nil || len(dirs) == 0 {
			return err
		}
		if err := s.discard(dirs[0]); err != nil {
			return err
		}
		reached("sweeping")
		_, err = tx.ExecContext(ctx, `DELETE FROM snapshots WHERE id = ?`, row)
		return err
	})
}

// sweepRestores removes what restores left that were cut off.
func (s *State) sweepRestores() error {
	dir := filepath.Join(s.dir, "spool", restoreDir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sweep restores: %w", err)
	}
	for _, e := range entries {
		lock, err := s.lock(e.Name(), "")
		if errors.Is(err, ErrLocked) {
			continue // it is under way
		}
		if err != nil {
			return fmt.Errorf("sweep restores: %w", err)
		}
		if err := errors.Join(os.RemoveAll(filepath.Join(dir, e.Name())), lock.Unlock()); err != nil {
			return fmt.Errorf("sweep restores: %w", err)
		}
	}
	return nil
}
