package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/collectord/collectord/pkg/snapshot"
)

// restoreDir is the folder within spool for snapshots from a backup.
const restoreDir = ".restore"

// restoreName names a stream's lock and its folder within restoreDir.
func restoreName(stream, tenancy string) string {
	return "restore~" + fileName(stream) + "~" + fileName(tenancy)
}

func (s *State) restoring(h snapshot.Header) string {
	return filepath.Join(s.dir, "spool", restoreDir, restoreName(h.Stream, h.Tenancy))
}

// SpoolRestore starts a snapshot that comes from a backup, whose records have
// collectord's members already. The caller holds
// the lock of LockRestore, fills the writer, and hands it to Restore or aborts
// it.
func (s *State) SpoolRestore(h snapshot.Header) (*snapshot.Writer, error) {
	dir := s.restoring(h)
	if err := os.RemoveAll(dir); err != nil { // of a process that died
		return nil, fmt.Errorf("spool: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	return snapshot.CreateCopy(filepath.Join(dir, "writing"), h)
}

// Restore seals w, which SpoolRestore made, and makes it the last-known
// snapshot of its stream with the source Restored. It leaves everything as it
// is and returns false when the last-known one is as new or newer by upload
// timestamp, or has records while w has none; a last-known one that is gone or
// damaged does not count. No deliveries are queued and the history has no run
// of it. After an error the caller aborts w.
func (s *State) Restore(ctx context.Context, w *snapshot.Writer) (taken bool, err error) {
	h := w.Read().Header
	staging := filepath.Join(s.restoring(h), "sealed")
	sealed, err := w.Seal(staging)
	if err != nil {
		return false, fmt.Errorf("restore %s: %w", h.Stream, errors.Join(err, os.RemoveAll(staging)))
	}
	reached("restore sealed")
	dir := folder(h) + restoredSuffix
	if err = mkdirs(s.dir, filepath.Dir(dir)); err == nil {
		err = s.transact(ctx, func(tx *sql.Tx) (err error) {
			taken, err = s.adopt(ctx, tx, sealed, dir)
			return err
		})
	}
	if err != nil {
		// What is in its place and not known is removed by Recover.
		return false, fmt.Errorf("restore %s: %w", h.Stream, errors.Join(err, os.RemoveAll(staging)))
	}
	reached("restored")
	s.sweepStream(ctx, h.Stream, h.Tenancy)
	if err := os.RemoveAll(s.restoring(h)); err != nil {
		return taken, fmt.Errorf("restore %s: %w", h.Stream, err)
	}
	return taken, nil
}

// adopt gives a restored snapshot its place in dir and makes it the
// last-known one, unless what is known is better. The move is made within the
// transaction, whose lock keeps Recover from seeing it as a leftover.
func (s *State) adopt(ctx context.Context, tx *sql.Tx, sealed *snapshot.Snapshot, dir string) (bool, error) {
	better, err := s.better(ctx, tx, sealed.Info)
	if err != nil || better {
		return false, err
	}
	if err := s.discard(dir); err != nil { // an unknown leftover of the same name
		return false, err
	}
	if err := os.Rename(sealed.Dir(), filepath.Join(s.dir, dir)); err != nil {
		return false, err
	}
	if err := syncDir(filepath.Dir(filepath.Join(s.dir, dir))); err != nil {
		return false, err
	}
	reached("restore moved")
	row, err := s.insertRestored(ctx, tx, sealed, dir)
	if err != nil {
		return false, err
	}
	if _, err := s.promote(ctx, tx, row, Policy{}); err != nil {
		return false, err
	}
	// A held snapshot that is newer than the backup still waits for Accept: it
	// counts as newer by its id.
	_, err = tx.ExecContext(ctx,
		`UPDATE snapshots SET id = (SELECT max(id) + 1 FROM snapshots) WHERE id = (
			SELECT max(id) FROM snapshots WHERE held AND stream = ? AND tenancy = ? AND taken > ?)`,
		sealed.Stream, sealed.Tenancy, toMillis(sealed.UploadTimestamp))
	return true, err
}

// better tells whether the last-known snapshot is to stay rather than info's.
func (s *State) better(ctx context.Context, tx *sql.Tx, info snapshot.Info) (bool, error) {
	var dir string
	var at, records int64
	err := tx.QueryRowContext(ctx,
		`SELECT s.dir, s.taken, s.records FROM last_known l JOIN snapshots s ON s.id = l.snapshot WHERE l.stream = ? AND l.tenancy = ?`,
		info.Stream, info.Tenancy).Scan(&dir, &at, &records)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if _, err := snapshot.Open(filepath.Join(s.dir, dir)); unusable(err) {
		return false, nil
	}
	return !info.UploadTimestamp.After(fromMillis(at)) || info.Records == 0 && records > 0, nil
}

// insertRestored adds a restored snapshot. When the database has the same one,
// whose folder was lost or which is held, its row gets the new folder.
func (s *State) insertRestored(ctx context.Context, tx *sql.Tx, sealed *snapshot.Snapshot, dir string) (row int64, err error) {
	err = tx.QueryRowContext(ctx, `SELECT id FROM snapshots WHERE stream = ? AND tenancy = ? AND upload_id = ?`,
		sealed.Stream, sealed.Tenancy, sealed.UploadID).Scan(&row)
	if errors.Is(err, sql.ErrNoRows) {
		return s.insertSnapshot(ctx, tx, sealed, dir, Restored, false)
	}
	if err != nil {
		return 0, err
	}
	_, err = tx.ExecContext(ctx,
		`UPDATE snapshots SET taken = ?, records = ?, bytes = ?, spool_bytes = ?, dir = ?, source = ?, held = 0 WHERE id = ?`,
		toMillis(sealed.UploadTimestamp), sealed.Records, sealed.Bytes, sealed.SpoolBytes, dir, Restored, row)
	return row, err
}
