package query

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/collectord/collectord/internal/duckdb"
)

// CheckSyntax returns an error unless DuckDB's parser finds text to be exactly one SELECT. It
// needs no data: whether the streams and columns exist is not checked.
func CheckSyntax(ctx context.Context, text string) (err error) {
	db, err := duckdb.Open(ctx, "", duckdb.Options{TempDir: os.TempDir()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var parsed string
	if err := db.QueryRowContext(ctx, "SELECT json_serialize_sql("+duckdb.Literal(text)+")::VARCHAR").Scan(&parsed); err != nil {
		return duckdb.Brief(err)
	}
	var tree struct {
		Type       string            `json:"error_type"`
		Message    string            `json:"error_message"`
		Statements []json.RawMessage `json:"statements"`
	}
	switch err := json.Unmarshal([]byte(parsed), &tree); {
	case err != nil:
		return fmt.Errorf("read the parsed query: %w", err)
	case tree.Type == "parser":
		return errors.New(strings.TrimSpace(tree.Message))
	case tree.Type != "":
		return ErrRefused
	case len(tree.Statements) == 0:
		return fmt.Errorf("%w: the query is empty", ErrRefused)
	case len(tree.Statements) > 1:
		return fmt.Errorf("%w: there are several statements", ErrRefused)
	}
	return nil
}
