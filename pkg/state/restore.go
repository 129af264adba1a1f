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

	"github.com/collectord/collectord/internal/durable"
	"github.com/collectord/collectord/pkg/snapshot"
)

// restoreDir is the directory within spool for snapshots from a backup.
const restoreDir = ".restore"

// restoreName returns the name of a stream's restore lock, and of its directory
// within restoreDir.
func restoreName(stream, tenancy string) string {
	return "restore~" + fileName(stream) + "~" + fileName(tenancy)
}

// restoreSpool returns the directory in which a stream is restored.
func (s *Snapshots) restoreSpool(h snapshot.Header) string {
	return filepath.Join(s.dir, "spool", restoreDir, restoreName(h.Stream, h.Tenancy))
}

// SpoolRestore starts a snapshot of records from a backup, which have
// collectord's members already. The caller holds the lock from LockRestore,
// fills the writer, and passes it to Restore or aborts it.
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

// A RestoreOutcome is the outcome of Restore.
type RestoreOutcome int

// The outcomes of Restore.
const (
	// RestoreUnneeded: the last-known snapshot stays, and nothing was changed.
	RestoreUnneeded RestoreOutcome = iota
	// RestoreDone: the backup is the last-known snapshot.
	RestoreDone
	// RestoreHeld: the backup waits for Accept.
	RestoreHeld
)

// Restore seals w, a writer from SpoolRestore, and makes the snapshot the
// last-known one of its stream with the source Restored. It holds the snapshot
// when p holds it, as it does for one that was collected. The last-known one
// stays when PrefersBackup says so; one that is missing or damaged is always
// replaced. Deliveries to the destinations of p are queued, and no run is added
// to the history. After an error the caller aborts w.
func (s *Snapshots) Restore(ctx context.Context, w *snapshot.Writer, p Policy) (outcome RestoreOutcome, err error) {
	h := w.Info().Header
	staging := filepath.Join(s.restoreSpool(h), "sealed")
	sealed, err := w.Seal(staging)
	if err != nil {
		return RestoreUnneeded, fmt.Errorf("restore %s: %w", h.Stream, errors.Join(err, os.RemoveAll(staging)))
	}
	crashPoint("restore sealed")
	dir := snapshotDir(h) + restoredSuffix
	if err = durable.MkdirBelow(s.dir, filepath.Dir(dir), 0o700); err == nil {
		err = s.inTransaction(ctx, func(tx *sql.Tx) (err error) {
			outcome, err = s.addRestored(ctx, tx, sealed, dir, p)
			return err
		})
	}
	if err != nil {
		// Recover removes the directory if it is in place but not in the database.
		return RestoreUnneeded, fmt.Errorf("restore %s: %w", h.Stream, errors.Join(err, os.RemoveAll(staging)))
	}
	crashPoint("restored")
	s.sweepStream(ctx, h.Stream, h.Tenancy)
	if err := os.RemoveAll(s.restoreSpool(h)); err != nil {
		return outcome, fmt.Errorf("restore %s: %w", h.Stream, err)
	}
	return outcome, nil
}

// PrefersBackup reports whether a backup with records, -1 for an unknown
// number, is to replace the last-known snapshot by its age: whether it is newer
// by the rule of time, see snapshot.IsFromFuture, and is not empty where the
// last-known one has records.
func PrefersBackup(taken time.Time, records int64, last snapshot.Info, now time.Time) bool {
	return snapshot.IsNewer(taken, last.UploadTimestamp, now) && (records != 0 || last.Records == 0)
}

// HasHeldBackup reports whether a snapshot that was restored from a backup is
// held.
func (s *Snapshots) HasHeldBackup(ctx context.Context, h snapshot.Header) (held bool, err error) {
	err = s.db.QueryRowContext(ctx,
		`SELECT EXISTS (SELECT 1 FROM snapshots WHERE held AND source = ? AND stream = ? AND tenancy = ? AND upload_id = ?)`,
		Restored, h.Stream, h.Tenancy, h.UploadID).Scan(&held)
	if err != nil {
		return false, fmt.Errorf("read the held snapshots: %w", err)
	}
	return held, nil
}

// addRestored moves a restored snapshot to dir and makes it the last-known one,
// or holds it, unless the last-known one is preferred. It moves within the
// transaction, whose lock keeps Recover from treating the directory as a
// leftover.
func (s *Snapshots) addRestored(ctx context.Context, tx *sql.Tx, sealed *snapshot.Snapshot, dir string, p Policy) (RestoreOutcome, error) {
	last, err := s.usableLastKnown(ctx, tx, sealed.Header)
	if err != nil || last != nil && !PrefersBackup(sealed.UploadTimestamp, sealed.Records, *last, s.now()) {
		return RestoreUnneeded, err
	}
	outcome := RestoreDone
	if last != nil && isSuddenLoss(sealed.Records, last.Records, p) {
		accepted, err := hasHeldRun(ctx, tx, sealed.Header)
		if err != nil {
			return RestoreUnneeded, err
		}
		if !accepted {
			outcome = RestoreHeld
		}
	}
	if err := s.discardDir(dir); err != nil { // a leftover of the same name
		return RestoreUnneeded, err
	}
	if err := os.Rename(sealed.Dir(), filepath.Join(s.dir, dir)); err != nil {
		return RestoreUnneeded, err
	}
	if err := durable.SyncDir(filepath.Dir(filepath.Join(s.dir, dir))); err != nil {
		return RestoreUnneeded, err
	}
	crashPoint("restore moved")
	row, err := s.insertRestored(ctx, tx, sealed, dir, outcome == RestoreHeld)
	if err != nil || outcome == RestoreHeld {
		return outcome, err
	}
	if _, err := s.makeLastKnown(ctx, tx, row, p); err != nil {
		return RestoreUnneeded, err
	}
	return outcome, keepHeldNewest(ctx, tx, sealed.Header)
}

// keepHeldNewest lets a held snapshot that is newer than h, the header of the last-known one,
// still wait for Accept, which requires the highest id.
func keepHeldNewest(ctx context.Context, tx *sql.Tx, h snapshot.Header) error {
	_, err := tx.ExecContext(ctx,
		`UPDATE snapshots SET id = (SELECT max(id) + 1 FROM snapshots) WHERE id = (
			SELECT max(id) FROM snapshots WHERE held AND stream = ? AND tenancy = ? AND taken > ?)`,
		h.Stream, h.Tenancy, toMillis(h.UploadTimestamp))
	return err
}

// hasHeldRun reports whether the snapshot of h was collected here and is held.
// Only accepted snapshots have backups, so it was accepted elsewhere.
func hasHeldRun(ctx context.Context, tx *sql.Tx, h snapshot.Header) (found bool, err error) {
	err = tx.QueryRowContext(ctx,
		`SELECT EXISTS (SELECT 1 FROM snapshots WHERE held AND source = ? AND stream = ? AND tenancy = ? AND upload_id = ?)`,
		Collected, h.Stream, h.Tenancy, h.UploadID).Scan(&found)
	return found, err
}

// usableLastKnown describes the last-known snapshot of a stream, nil when there
// is none that can be used.
func (s *Snapshots) usableLastKnown(ctx context.Context, tx *sql.Tx, h snapshot.Header) (*snapshot.Info, error) {
	var dir string
	err := tx.QueryRowContext(ctx,
		`SELECT s.dir FROM last_known l JOIN snapshots s ON s.id = l.snapshot WHERE l.stream = ? AND l.tenancy = ?`,
		h.Stream, h.Tenancy).Scan(&dir)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	last, err := snapshot.Open(filepath.Join(s.dir, dir))
	if isUnusable(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &last.Info, nil
}

// insertRestored adds a restored snapshot and returns its row. When the database
// has the same snapshot, held or with a lost directory, its row gets the new
// directory.
func (s *Snapshots) insertRestored(ctx context.Context, tx *sql.Tx, sealed *snapshot.Snapshot, dir string, held bool) (row int64, err error) {
	err = tx.QueryRowContext(ctx, `SELECT id FROM snapshots WHERE stream = ? AND tenancy = ? AND upload_id = ?`,
		sealed.Stream, sealed.Tenancy, sealed.UploadID).Scan(&row)
	if errors.Is(err, sql.ErrNoRows) {
		return s.insertSnapshot(ctx, tx, sealed, dir, Restored, held)
	}
	if err != nil {
		return 0, err
	}
	_, err = tx.ExecContext(ctx,
		`UPDATE snapshots SET taken = ?, records = ?, bytes = ?, spool_bytes = ?, dir = ?, source = ?, held = ?, doubts = ? WHERE id = ?`,
		toMillis(sealed.UploadTimestamp), sealed.Records, sealed.Bytes, sealed.SpoolBytes, dir, Restored, held, encodeDoubts(sealed.Doubts), row)
	return row, err
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
		lock, err := s.Locks.acquire(e.Name(), "")
		if errors.Is(err, ErrLocked) {
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
