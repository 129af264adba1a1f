package database

import (
	"context"
	"database/sql"
	"strings"
	"time"
)

// A DB executes statements: in a transaction, or each in one of its own.
type DB interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// queryAll returns the result of scan for each row.
func queryAll[T any](ctx context.Context, db DB, scan func(*sql.Rows) (T, error), query string, args ...any) ([]T, error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

func scanID(rows *sql.Rows) (id int64, err error)      { err = rows.Scan(&id); return id, err }
func scanText(rows *sql.Rows) (text string, err error) { err = rows.Scan(&text); return text, err }

// toMillis returns t as the database stores it: Unix milliseconds, 0 for the
// zero time.
func toMillis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// fromMillis is the inverse of toMillis. The time is in UTC.
func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// withoutSecrets returns an error's text for the database, which pages, the API and backups
// show. The error of one tenancy's vendor may have a secret of another tenancy.
func (c *core) withoutSecrets(text string) string {
	if c.redact != nil {
		text = c.redact(text)
	}
	return TruncateText(text)
}

// TruncateText bounds a text for the database, such as an error that contains a stack trace, and
// removes what Postgres has no text for.
func TruncateText(text string) string {
	const maxBytes = 8 << 10
	cut := ""
	if len(text) > maxBytes {
		text, cut = strings.ToValidUTF8(text[:maxBytes], ""), " (cut)"
	}
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\ufffd"), "\x00", "") + cut
}
