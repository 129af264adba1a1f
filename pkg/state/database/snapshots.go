package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// Snapshots has the last-known snapshot of each stream, and adds new ones from
// runs and backups.
type Snapshots struct{ *core }

// queue returns the queue of the snapshots' deliveries.
func (s *Snapshots) queue() *Queue { return &Queue{s.core, s} }

// Spool implements [state.Snapshots].
func (s *Snapshots) Spool(h snapshot.Header) (*snapshot.Writer, error) {
	dir := filepath.Join(s.dir, "spool", FileName(h.Collector))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	return snapshot.Create(filepath.Join(dir, spoolPrefix(h.Stream, h.Tenancy)+FileName(h.UploadID)), h)
}

// spoolPrefix returns the start of the names of the unfinished snapshots of a stream and
// tenancy.
func spoolPrefix(stream, tenancy string) string {
	return FileName(stream) + "~" + FileName(tenancy) + "~"
}

// LastKnown implements [state.Snapshots].
func (s *Snapshots) LastKnown(ctx context.Context, stream, tenancy string) (*snapshot.Snapshot, state.LastKnownInfo, error) {
	for previous := ""; ; {
		place, info, err := s.lastKnownPlace(ctx, stream, tenancy)
		if err != nil {
			return nil, info, fmt.Errorf("%s: %w", stream, err)
		}
		sealed, err := s.files.Open(ctx, place)
		switch {
		case err == nil:
			return sealed, info, nil
		case !errors.Is(err, fs.ErrNotExist):
			return nil, info, fmt.Errorf("%s: %w", stream, err)
		case place == previous:
			return nil, info, fmt.Errorf("%s: %w: %w", stream, snapshot.ErrDamaged, err)
		}
		previous = place // a newer snapshot may have replaced it meanwhile
	}
}

// EachRecord implements [state.Snapshots].
func (s *Snapshots) EachRecord(ctx context.Context, stream, tenancy string, visit func(record []byte) error) (*snapshot.Snapshot, error) {
	for previous := ""; ; {
		sealed, _, err := s.LastKnown(ctx, stream, tenancy)
		if err != nil {
			return nil, err
		}
		r, err := sealed.Reader(ctx)
		if errors.Is(err, fs.ErrNotExist) && sealed.UploadID != previous {
			previous = sealed.UploadID // a newer snapshot may have replaced it meanwhile
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", stream, err)
		}
		return sealed, errors.Join(visitRecords(r, stream, visit), r.Close())
	}
}

// visitRecords calls visit with each record of a reader.
func visitRecords(r *snapshot.Reader, stream string, visit func(record []byte) error) error {
	for {
		record, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", stream, err)
		}
		if err := visit(record); errors.Is(err, state.ErrEnough) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func (s *Snapshots) lastKnownPlace(ctx context.Context, stream, tenancy string) (place string, info state.LastKnownInfo, err error) {
	var since, checked int64
	err = s.db.QueryRowContext(ctx,
		`SELECT s.dir, s.source, l.since, l.checked, l.fallback FROM last_known l JOIN snapshots s ON s.id = l.snapshot
		 WHERE l.stream = $1 AND l.tenancy = $2`,
		stream, tenancy).Scan(&place, &info.Source, &since, &checked, &info.Fallback)
	if errors.Is(err, sql.ErrNoRows) {
		return "", state.LastKnownInfo{}, fmt.Errorf("%w is known", state.ErrNoSnapshot)
	}
	if err != nil {
		return "", state.LastKnownInfo{}, fmt.Errorf("read the last-known snapshot: %w", err)
	}
	info.Since, info.Checked = fromMillis(since), fromMillis(checked)
	return place, info, nil
}

// lastKnownRecords returns the number of records of the last-known snapshot; 0
// when there is none.
func lastKnownRecords(ctx context.Context, tx DB, stream, tenancy string) (n int64, err error) {
	err = tx.QueryRowContext(ctx,
		`SELECT s.records FROM last_known l JOIN snapshots s ON s.id = l.snapshot WHERE l.stream = $1 AND l.tenancy = $2`,
		stream, tenancy).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return n, err
}

// Accept implements [state.Snapshots].
func (s *Snapshots) Accept(ctx context.Context, stream, tenancy string, p state.Policy) (snapshot.Info, error) {
	info, err := s.releaseHeld(ctx, stream, tenancy, p)
	if err != nil {
		return snapshot.Info{}, fmt.Errorf("accept %s: %w", stream, err)
	}
	s.queue().trimQueues(ctx, stream, tenancy, p)
	s.sweepStream(ctx, stream, tenancy)
	return info, nil
}

func (s *Snapshots) releaseHeld(ctx context.Context, stream, tenancy string, p state.Policy) (snapshot.Info, error) {
	row, place, err := findHeld(ctx, s.db, stream, tenancy)
	if err != nil {
		return snapshot.Info{}, err
	}
	// Verifying takes long, and would block other writers inside the transaction.
	sealed, err := s.openVerified(ctx, place)
	if err != nil {
		return snapshot.Info{}, err
	}
	return sealed.Info, s.inTransaction(ctx, func(tx DB) error {
		current, _, err := findHeld(ctx, tx, stream, tenancy)
		if err != nil {
			return err
		}
		if current != row {
			return errors.New("a newer snapshot was held meanwhile: check it and accept again")
		}
		if _, err := tx.ExecContext(ctx, `UPDATE snapshots SET held = FALSE WHERE id = $1`, row); err != nil {
			return err
		}
		_, err = s.makeLastKnown(ctx, tx, row, p)
		return err
	})
}

// findHeld returns the snapshot of a stream that waits for Accept.
func findHeld(ctx context.Context, db DB, stream, tenancy string) (row int64, place string, err error) {
	err = db.QueryRowContext(ctx,
		`SELECT s.id, s.dir FROM snapshots s WHERE s.stream = $1 AND s.tenancy = $2 AND `+waitsForAccept, stream, tenancy).Scan(&row, &place)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, "", fmt.Errorf("%w is held, or the last-known one is newer", state.ErrNoSnapshot)
	}
	return row, place, err
}

// hasPlace reports whether the database has a snapshot at a place.
func (s *Snapshots) hasPlace(ctx context.Context, place string) (found bool, err error) {
	err = s.inTransaction(ctx, func(tx DB) error {
		return tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM snapshots WHERE dir = $1)`, place).Scan(&found)
	})
	return found, err
}

// addCollected adds a collected snapshot and, unless it is held, makes it the
// last-known one. It returns the number of deliveries that were queued.
func (s *Snapshots) addCollected(
	ctx context.Context, tx DB, sealed *snapshot.Snapshot, place string, held bool, p state.Policy,
) (queued int, err error) {
	row, err := s.insertSnapshot(ctx, tx, sealed, place, state.Collected, held)
	if err != nil || held {
		return 0, err
	}
	return s.makeLastKnown(ctx, tx, row, p)
}

// insertSnapshot adds a sealed snapshot and returns its row.
func (s *Snapshots) insertSnapshot(
	ctx context.Context, tx DB, sealed *snapshot.Snapshot, place string, source state.Source, held bool,
) (row int64, err error) {
	err = tx.QueryRowContext(ctx,
		`INSERT INTO snapshots (collector, stream, tenancy, upload_id, taken, records, bytes, spool_bytes, dir, source, held, added, doubts)
		 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) RETURNING id`,
		sealed.Collector, sealed.Stream, sealed.Tenancy, sealed.UploadID, toMillis(sealed.UploadTimestamp),
		sealed.Records, sealed.Bytes, sealed.SpoolBytes, place, source, held, toMillis(s.now()), encodeDoubts(sealed.Doubts)).Scan(&row)
	return row, err
}

// makeLastKnown makes a snapshot the last-known one and queues its deliveries.
// It returns the number of these.
func (s *Snapshots) makeLastKnown(ctx context.Context, tx DB, row int64, p state.Policy) (queued int, err error) {
	if _, err := tx.ExecContext(ctx,
		`INSERT INTO last_known (stream, tenancy, snapshot, since) SELECT stream, tenancy, id, $1 FROM snapshots WHERE id = $2
		 ON CONFLICT (stream, tenancy) DO UPDATE SET snapshot = excluded.snapshot, since = excluded.since, checked = 0, fallback = FALSE`, toMillis(s.now()), row); err != nil {
		return 0, err
	}
	var records int64
	if err := tx.QueryRowContext(ctx, `SELECT records FROM snapshots WHERE id = $1`, row).Scan(&records); err != nil {
		return 0, err
	}
	if records == 0 && !p.StoreEmpty {
		return 0, nil
	}
	return queueDeliveries(ctx, tx, row, p.Sinks, s.now())
}

// dropUnusable removes a snapshot from every queue, and replaces it as the
// last-known one by the newest usable snapshot of the stream, if any. It
// returns the sinks that the snapshot was queued for. Each counts a failed
// delivery.
func (s *Snapshots) dropUnusable(ctx context.Context, row int64) (sinks []string, err error) {
	err = s.inTransaction(ctx, func(tx DB) error {
		if sinks, err = dropDeliveries(ctx, tx, row, s.now()); err != nil {
			return err
		}
		next, err := s.newestUsable(ctx, tx, row)
		if err != nil {
			return err
		}
		if next == 0 {
			_, err = tx.ExecContext(ctx, `DELETE FROM last_known WHERE snapshot = $1`, row)
		} else {
			_, err = tx.ExecContext(ctx, `UPDATE last_known SET snapshot = $1, checked = 0, fallback = TRUE WHERE snapshot = $2`, next, row)
		}
		return err
	})
	return sinks, err
}

// newestUsable returns the newest snapshot of the same stream that can be
// opened and is not held; 0 when there is none.
func (s *Snapshots) newestUsable(ctx context.Context, tx DB, row int64) (int64, error) {
	type candidate struct {
		id    int64
		place string
	}
	candidates, err := queryAll(ctx, tx, func(rows *sql.Rows) (c candidate, err error) {
		err = rows.Scan(&c.id, &c.place)
		return c, err
	}, `SELECT o.id, o.dir FROM snapshots o JOIN snapshots s ON o.stream = s.stream AND o.tenancy = s.tenancy
		WHERE s.id = $1 AND o.id <> s.id AND NOT o.held ORDER BY o.id DESC`, row)
	if err != nil {
		return 0, err
	}
	for _, c := range candidates {
		if _, err := s.files.Check(ctx, c.place); err == nil {
			return c.id, nil
		}
	}
	return 0, nil
}

// openVerified opens the snapshot at a place and checks its sum.
func (s *Snapshots) openVerified(ctx context.Context, place string) (*snapshot.Snapshot, error) {
	sealed, err := s.files.Open(ctx, place)
	if err != nil {
		return nil, err
	}
	return sealed, sealed.Verify(ctx)
}
