package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Notes are small texts that outlive a process, of one tenancy.
type Notes struct {
	state   *State
	tenancy string
}

// Notes returns the notes of a tenancy.
func (s *State) Notes(tenancy string) *Notes { return &Notes{s, tenancy} }

func (n *Notes) key(key string) string { return n.tenancy + "\x00" + key }

// Note returns the text under key, "" when there is none.
func (n *Notes) Note(ctx context.Context, key string) (text string, err error) {
	err = n.state.db.QueryRowContext(ctx, `SELECT text FROM notes WHERE key = ?`, n.key(key)).Scan(&text)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("read note %q: %w", key, err)
	}
	return text, nil
}

// SetNote keeps text under key; "" removes it.
func (n *Notes) SetNote(ctx context.Context, key, text string) error {
	query, args := `INSERT INTO notes (key, text) VALUES (?, ?) ON CONFLICT DO UPDATE SET text = excluded.text`, []any{n.key(key), text}
	if text == "" {
		query, args = `DELETE FROM notes WHERE key = ?`, args[:1]
	}
	if _, err := n.state.db.ExecContext(ctx, query, args...); err != nil {
		return fmt.Errorf("keep note %q: %w", key, err)
	}
	return nil
}
