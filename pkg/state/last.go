package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
)

// ErrNone means that there is no such snapshot.
var ErrNone = errors.New("no snapshot")

// A Source is where a last-known snapshot came from.
type Source string

// The sources.
const (
	Collected Source = "collected"
	Restored  Source = "restored"
)

// Last says how a snapshot became the last-known one.
type Last struct {
	Source Source
	Since  time.Time
}

// LastKnown opens the last-known snapshot of a stream. The error wraps ErrNone
// when there is none, snapshot.ErrDamaged when it cannot be used. A newer one
// may take its place, and its folder go, while the caller reads.
func (s *State) LastKnown(ctx context.Context, stream, tenancy string) (*snapshot.Snapshot, Last, error) {
	for previous := ""; ; {
		dir, last, err := s.lastDir(ctx, stream, tenancy)
		if err != nil {
			return nil, last, fmt.Errorf("%s: %w", stream, err)
		}
		sealed, err := snapshot.Open(filepath.Join(s.dir, dir))
		switch {
		case err == nil:
			return sealed, last, nil
		case !errors.Is(err, fs.ErrNotExist):
			return nil, last, fmt.Errorf("%s: %w", stream, err)
		case dir == previous:
			return nil, last, fmt.Errorf("%s: %w: %w", stream, snapshot.ErrDamaged, err)
		}
		previous = dir // another may have taken its place meanwhile
	}
}

func (s *State) lastDir(ctx context.Context, stream, tenancy string) (dir string, last Last, err error) {
	var since int64
	err = s.db.QueryRowContext(ctx,
		`SELECT s.dir, s.source, l.since FROM last_known l JOIN snapshots s ON s.id = l.snapshot WHERE l.stream = ? AND l.tenancy = ?`,
		stream, tenancy).Scan(&dir, &last.Source, &since)
	if errors.Is(err, sql.ErrNoRows) {
		return "", Last{}, fmt.Errorf("%w is known", ErrNone)
	}
	if err != nil {
		return "", Last{}, fmt.Errorf("read the last-known snapshot: %w", err)
	}
	last.Since = fromMillis(since)
	return dir, last, nil
}

// Accept releases the newest snapshot of a stream that was held back: it
// becomes the last-known one and its deliveries are queued. The error wraps
// ErrNone when none is held, or something newer is known by now;
// snapshot.ErrDamaged when it cannot be used.
func (s *State) Accept(ctx context.Context, stream, tenancy string, p Policy) (snapshot.Info, error) {
	info, err := s.accept(ctx, stream, tenancy, p)
	if err != nil {
		return snapshot.Info{}, fmt.Errorf("accept %s: %w", stream, err)
	}
	s.sweepStream(ctx, stream, tenancy)
	return info, nil
}

func (s *State) accept(ctx context.Context, stream, tenancy string, p Policy) (snapshot.Info, error) {
	row, dir, err := heldRow(ctx, s.db, stream, tenancy)
	if err != nil {
		return snapshot.Info{}, err
	}
	// Checking takes long and must not keep others from the database.
	sealed, err := s.verified(ctx, dir)
	if err != nil {
		return snapshot.Info{}, err
	}
	return sealed.Info, s.transact(ctx, func(tx *sql.Tx) error {
		now, _, err := heldRow(ctx, tx, stream, tenancy)
		if err != nil {
			return err
		}
		if now != row {
			return errors.New("another snapshot was held back meanwhile: look at it and accept again")
		}
		if _, err := tx.ExecContext(ctx, `UPDATE snapshots SET held = 0 WHERE id = ?`, row); err != nil {
			return err
		}
		_, err = s.promote(ctx, tx, row, p)
		return err
	})
}

// heldRow finds the snapshot of a stream that waits for Accept.
func heldRow(ctx context.Context, q querier, stream, tenancy string) (row int64, dir string, err error) {
	err = q.QueryRowContext(ctx, `SELECT s.id, s.dir FROM snapshots s WHERE s.stream = ? AND s.tenancy = ? AND `+waits, stream, tenancy).Scan(&row, &dir)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, "", fmt.Errorf("%w is held back, or something newer is known by now", ErrNone)
	}
	return row, dir, err
}
