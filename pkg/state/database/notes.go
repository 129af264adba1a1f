package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/collectord/collectord/pkg/state"
)

// Notes are short texts of one tenancy that are kept between runs, each under a
// key.
type Notes struct {
	core    *core
	tenancy string
}

// Notes implements [state.Backend].
func (s *State) Notes(tenancy string) state.Notes { return &Notes{s.core, tenancy} }

// Note implements [state.Notes].
func (n *Notes) Note(ctx context.Context, key string) (text string, err error) {
	if text, err = n.readNote(ctx, n.core.db, key); err != nil {
		return "", fmt.Errorf("read note %q: %w", key, err)
	}
	return text, nil
}

// SwapNote implements [state.Notes].
func (n *Notes) SwapNote(ctx context.Context, key, old, text string) (swapped bool, err error) {
	err = n.core.inTransaction(ctx, func(tx DB) error {
		there, err := n.readNote(ctx, tx, key)
		if swapped = err == nil && there == old; !swapped {
			return err
		}
		return n.storeNote(ctx, tx, key, text)
	})
	if err != nil {
		return false, fmt.Errorf("store note %q: %w", key, err)
	}
	return swapped, nil
}

// SetNote implements [state.Notes].
func (n *Notes) SetNote(ctx context.Context, key, text string) error {
	// A statement that changes nothing would wait for the transactions of others.
	there, err := n.readNote(ctx, n.core.db, key)
	if err == nil && there != text {
		err = n.storeNote(ctx, n.core.db, key, text)
	}
	if err != nil {
		return fmt.Errorf("store note %q: %w", key, err)
	}
	return nil
}

// readNote returns the text under key, "" when there is none.
func (n *Notes) readNote(ctx context.Context, db DB, key string) (text string, err error) {
	err = db.QueryRowContext(ctx, `SELECT text FROM notes WHERE tenancy = $1 AND key = $2`, n.tenancy, key).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return text, err
}

// storeNote stores text under key with db.
func (n *Notes) storeNote(ctx context.Context, db DB, key, text string) error {
	if text == "" {
		_, err := db.ExecContext(ctx, `DELETE FROM notes WHERE tenancy = $1 AND key = $2`, n.tenancy, key)
		return err
	}
	_, err := db.ExecContext(ctx, `INSERT INTO notes (tenancy, key, text) VALUES ($1, $2, $3)
		ON CONFLICT (tenancy, key) DO UPDATE SET text = excluded.text`, n.tenancy, key, text)
	return err
}
