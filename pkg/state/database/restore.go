package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// restoreDir is the directory within spool for snapshots from a backup.
const restoreDir = ".restore"

// restoreName returns the name of a stream's restore lock, and of its directory
// within restoreDir.
func restoreName(stream, tenancy string) string {
	return "restore~" + FileName(stream) + "~" + FileName(tenancy)
}

// restoreSpool returns the directory in which a stream is restored.
func (s *Snapshots) restoreSpool(h snapshot.Header) string {
	return filepath.Join(s.dir, "spool", restoreDir, restoreName(h.Stream, h.Tenancy))
}

// SpoolRestore implements [state.Snapshots].
func (s *Snapshots) SpoolRestore(h snapshot.Header) (*snapshot.Writer, error) {
	dir := s.restoreSpool(h)
	if err := os.RemoveAll(dir); err != nil { // from a process that died
		return nil, fmt.Errorf("spool: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	return snapshot.CreateCopy(filepath.Join(dir, "writing"), h)
}

// Restore implements [state.Snapshots].
func (s *Snapshots) Restore(ctx context.Context, w *snapshot.Writer, p state.Policy) (outcome state.RestoreOutcome, err error) {
	h := w.Info().Header
	staging := filepath.Join(s.restoreSpool(h), "sealed")
	sealed, err := w.Seal(staging)
	if err != nil {
		return state.RestoreUnneeded, fmt.Errorf("restore %s: %w", h.Stream, errors.Join(err, os.RemoveAll(staging)))
	}
	Reached("restore sealed")
	outcome, err = s.recordRestored(ctx, sealed, p)
	if err != nil {
		// Recover removes the files if they are in place but not in the database.
		return state.RestoreUnneeded, fmt.Errorf("restore %s: %w", h.Stream, errors.Join(err, os.RemoveAll(staging)))
	}
	Reached("restored")
	s.sweepStream(ctx, h.Stream, h.Tenancy)
	if err := os.RemoveAll(s.restoreSpool(h)); err != nil {
		return outcome, fmt.Errorf("restore %s: %w", h.Stream, err)
	}
	return outcome, nil
}

// recordRestored adds a restored snapshot that is sealed in the spool, if it is needed.
func (s *Snapshots) recordRestored(ctx context.Context, sealed *snapshot.Snapshot, p state.Policy) (outcome state.RestoreOutcome, err error) {
	place, err := s.files.Stage(ctx, sealed, state.Restored)
	if err != nil {
		return state.RestoreUnneeded, err
	}
	var replaced string
	err = s.inTransaction(ctx, func(tx DB) (err error) {
		outcome, replaced, err = s.addRestored(ctx, tx, sealed, place, p)
		return err
	})
	switch {
	case err != nil || outcome == state.RestoreUnneeded:
		return outcome, errors.Join(err, s.files.Unstage(place))
	case replaced != "" && replaced != place:
		if err := s.files.Discard(replaced); err != nil {
			s.log.Warn("removing a snapshot that a backup replaces failed; the next recovery tries again", zap.String("stream", sealed.Stream), zap.Error(err))
		}
	}
	return outcome, nil
}

// HasHeldBackup implements [state.Snapshots].
func (s *Snapshots) HasHeldBackup(ctx context.Context, h snapshot.Header) (held bool, err error) {
	err = s.db.QueryRowContext(ctx,
		`SELECT EXISTS (SELECT 1 FROM snapshots WHERE held AND source = $1 AND stream = $2 AND tenancy = $3 AND upload_id = $4)`,
		state.Restored, h.Stream, h.Tenancy, h.UploadID).Scan(&held)
	if err != nil {
		return false, fmt.Errorf("read the held snapshots: %w", err)
	}
	return held, nil
}

// addRestored moves a restored snapshot to its place and makes it the last-known one,
// or holds it, unless the last-known one is preferred. It moves within the
// transaction, whose lock keeps Recover from treating the files as a leftover.
// replaced is the earlier place of the same snapshot, "" for none.
func (s *Snapshots) addRestored(
	ctx context.Context, tx DB, sealed *snapshot.Snapshot, place string, p state.Policy,
) (outcome state.RestoreOutcome, replaced string, err error) {
	last, err := s.usableLastKnown(ctx, tx, sealed.Header)
	if err != nil || last != nil && !state.PrefersBackup(sealed.UploadTimestamp, sealed.Records, *last, s.now()) {
		return state.RestoreUnneeded, "", err
	}
	outcome = state.RestoreDone
	if last != nil && isSuddenLoss(sealed.Records, last.Records, p) {
		accepted, err := hasHeldRun(ctx, tx, sealed.Header)
		if err != nil {
			return state.RestoreUnneeded, "", err
		}
		if !accepted {
			outcome = state.RestoreHeld
		}
	}
	if err := s.files.Place(sealed, place); err != nil {
		return state.RestoreUnneeded, "", err
	}
	Reached("restore moved")
	row, replaced, err := s.insertRestored(ctx, tx, sealed, place, outcome == state.RestoreHeld)
	if err != nil || outcome == state.RestoreHeld {
		return outcome, replaced, err
	}
	if _, err := s.makeLastKnown(ctx, tx, row, p); err != nil {
		return state.RestoreUnneeded, "", err
	}
	return outcome, replaced, s.keepHeldNewest(ctx, tx, sealed.Header)
}

// keepHeldNewest lets a held snapshot that is newer than h, the header of the last-known one,
// still wait for Accept, which requires the highest id.
func (s *Snapshots) keepHeldNewest(ctx context.Context, tx DB, h snapshot.Header) error {
	_, err := tx.ExecContext(ctx,
		`UPDATE snapshots SET id = `+s.engine.NextSnapshotID()+` WHERE id = (
			SELECT max(id) FROM snapshots WHERE held AND stream = $1 AND tenancy = $2 AND taken > $3)`,
		h.Stream, h.Tenancy, toMillis(h.UploadTimestamp))
	return err
}

// hasHeldRun reports whether the snapshot of h was collected here and is held.
// Only accepted snapshots have backups, so it was accepted elsewhere.
func hasHeldRun(ctx context.Context, tx DB, h snapshot.Header) (found bool, err error) {
	err = tx.QueryRowContext(ctx,
		`SELECT EXISTS (SELECT 1 FROM snapshots WHERE held AND source = $1 AND stream = $2 AND tenancy = $3 AND upload_id = $4)`,
		state.Collected, h.Stream, h.Tenancy, h.UploadID).Scan(&found)
	return found, err
}

// usableLastKnown describes the last-known snapshot of a stream, nil when there
// is none that can be used.
func (s *Snapshots) usableLastKnown(ctx context.Context, tx DB, h snapshot.Header) (*snapshot.Info, error) {
	var place string
	err := tx.QueryRowContext(ctx,
		`SELECT s.dir FROM last_known l JOIN snapshots s ON s.id = l.snapshot WHERE l.stream = $1 AND l.tenancy = $2`,
		h.Stream, h.Tenancy).Scan(&place)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	last, err := s.files.Check(ctx, place)
	if snapshot.IsUnusable(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &last, nil
}

// insertRestored adds a restored snapshot and returns its row. When the database
// has the same snapshot, held or with lost files, its row gets the new place, and
// the earlier one is returned.
func (s *Snapshots) insertRestored(
	ctx context.Context, tx DB, sealed *snapshot.Snapshot, place string, held bool,
) (row int64, replaced string, err error) {
	err = tx.QueryRowContext(ctx, `SELECT id, dir FROM snapshots WHERE stream = $1 AND tenancy = $2 AND upload_id = $3`,
		sealed.Stream, sealed.Tenancy, sealed.UploadID).Scan(&row, &replaced)
	if errors.Is(err, sql.ErrNoRows) {
		row, err = s.insertSnapshot(ctx, tx, sealed, place, state.Restored, held)
		return row, "", err
	}
	if err != nil {
		return 0, "", err
	}
	_, err = tx.ExecContext(ctx,
		`UPDATE snapshots SET taken = $1, records = $2, bytes = $3, spool_bytes = $4, dir = $5, source = $6, held = $7, doubts = $8 WHERE id = $9`,
		toMillis(sealed.UploadTimestamp), sealed.Records, sealed.Bytes, sealed.SpoolBytes, place, state.Restored, held, encodeDoubts(sealed.Doubts), row)
	return row, replaced, err
}

// sweepRestores removes the spools of interrupted restores.
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
		lock, err := s.locker.Acquire(e.Name(), "")
		if errors.Is(err, state.ErrLocked) {
			continue // the restore is in progress
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
