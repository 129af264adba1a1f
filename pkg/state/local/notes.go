package local

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

func (n *Notes) key(key string) string { return n.tenancy + "\x00" + key }

// Note implements [state.Notes].
func (n *Notes) Note(ctx context.Context, key string) (text string, err error) {
	err = n.core.db.QueryRowContext(ctx, `SELECT text FROM notes WHERE key = ?`, n.key(key)).Scan(&text)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("read note %q: %w", key, err)
	}
	return text, nil
}

// SwapNote implements [state.Notes].
func (n *Notes) SwapNote(ctx context.Context, key, old, text string) (swapped bool, err error) {
	err = n.core.inTransaction(ctx, func(tx *sql.Tx) error {
		var there string
		err := tx.QueryRowContext(ctx, `SELECT text FROM notes WHERE key = ?`, n.key(key)).Scan(&there)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if swapped = there == old; !swapped {
			return nil
		}
		return n.store(ctx, tx, key, text)
	})
	if err != nil {
		return false, fmt.Errorf("store note %q: %w", key, err)
	}
	return swapped, nil
}

// SetNote implements [state.Notes].
func (n *Notes) SetNote(ctx context.Context, key, text string) error {
	if err := n.store(ctx, n.core.db, key, text); err != nil {
		return fmt.Errorf("store note %q: %w", key, err)
	}
	return nil
}

// store stores text under key with db.
func (n *Notes) store(ctx context.Context, db interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}, key, text string) error {
	query, args := `INSERT INTO notes (key, text) VALUES (?, ?) ON CONFLICT DO UPDATE SET text = excluded.text`, []any{n.key(key), text}
	if text == "" {
		query, args = `DELETE FROM notes WHERE key = ?`, args[:1]
	}
	_, err := db.ExecContext(ctx, query, args...)
	return err
}
