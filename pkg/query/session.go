package query

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	driver "github.com/duckdb/duckdb-go/v2"

	"github.com/collectord/collectord/internal/duckdb"
)

// A session is the database of one task. It is in a worker process.
type session struct {
	task    *task
	summary Summary
	db      *duckdb.DB
}

// openSession creates a database in memory.
func (t *task) openSession(ctx context.Context) (*session, error) {
	db, err := duckdb.Open(ctx, "", duckdb.Options{Memory: t.Memory, Threads: t.Threads, TempDir: filepath.Join(t.Dir, "spill")})
	if err != nil {
		return nil, err
	}
	for _, statement := range []string{
		"SET max_temp_directory_size = " + duckdb.Literal(t.Disk),
		// The views of a query are bound several times, and no file changes meanwhile.
		"SET parquet_metadata_cache = true",
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return nil, errors.Join(duckdb.Brief(err), db.Close())
		}
	}
	return &session{task: t, db: db}, nil
}

func (s *session) close() { _ = s.db.Close() }

// confine denies access to files, network and settings, except for the files of the
// views and of the result, and the directory for what does not fit in memory.
func (s *session) confine(ctx context.Context) error {
	for _, statement := range []string{
		s.allowFiles(),
		"SET TimeZone = 'UTC'",
		"SET enable_external_access = false",
		"SET lock_configuration = true",
	} {
		if _, err := s.db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("query: %s: %w", statement, duckdb.Brief(err))
		}
	}
	return nil
}

// resultView is the name of the view of the query's result. Since the query is a
// view and not run directly, this package decides how the result is read.
const resultView = "query_result"

// defineResult creates resultView, if DuckDB's own parser finds text to be exactly
// one SELECT.
func (s *session) defineResult(ctx context.Context, text string) error {
	if strings.TrimSpace(text) == "" {
		return fmt.Errorf("%w: the query is empty", ErrRefused)
	}
	if err := s.db.Raw(func(c any) error { return checkSelect(c.(*driver.Conn), text) }); err != nil {
		return s.explainUnknownTable(err)
	}
	definition := text
	if inner, ok := cutDescribe(text); ok {
		definition = "FROM (" + inner + "\n)"
	}
	if _, err := s.db.ExecContext(ctx, "CREATE TEMP VIEW "+resultView+" AS "+definition); err != nil {
		return s.explainUnknownTable(err)
	}
	return nil
}

// checkSelect returns ErrRefused unless text is one SELECT without parameters.
func checkSelect(c *driver.Conn, text string) error {
	prepared, err := c.Prepare(text)
	if err != nil {
		if strings.Contains(err.Error(), "PrepareContext") {
			if pivotPattern.MatchString(text) {
				return fmt.Errorf("%w: a PIVOT needs its values, as in: PIVOT okta_users ON status IN ('ACTIVE', 'SUSPENDED') USING count(*)", ErrRefused)
			}
			return fmt.Errorf("%w: there are several statements", ErrRefused)
		}
		return err
	}
	statement := prepared.(*driver.Stmt)
	kind, err := statement.StatementType()
	parameters := statement.NumInput()
	if err := errors.Join(err, statement.Close()); err != nil {
		return err
	}
	switch {
	case kind != driver.STATEMENT_TYPE_SELECT:
		return ErrRefused
	case parameters > 0:
		return fmt.Errorf("%w: parameters are not supported", ErrRefused)
	}
	return nil
}

// cutDescribe reports whether text is a DESCRIBE, SHOW or SUMMARIZE, which a view
// can only have as a subquery, and returns it without its semicolon.
func cutDescribe(text string) (inner string, ok bool) {
	inner = strings.TrimRight(strings.TrimSpace(text), "; \t\r\n")
	switch firstWord(inner) {
	case "DESCRIBE", "DESC", "SUMMARIZE":
		return inner, true
	case "SHOW":
		return "SELECT * FROM (" + inner + "\n) WHERE name IS DISTINCT FROM '" + resultView + "'", true
	}
	return text, false
}

// firstWord returns the first word of text in upper case. Comments before it are
// skipped.
func firstWord(text string) string {
	return strings.ToUpper(leadingWord.FindStringSubmatch(text)[1])
}

var leadingWord = regexp.MustCompile(`^(?:\s|--[^\n]*\n|/\*(?s:.*?)\*/)*(\w*)`)

// pivotPattern matches a PIVOT. DuckDB executes one without IN as several statements.
var pivotPattern = regexp.MustCompile(`(?i)\bPIVOT(_WIDER)?\b`)

// explainUnknownTable adds the names of the streams to an error about an unknown
// table.
func (s *session) explainUnknownTable(err error) error {
	text := err.Error()
	if strings.Contains(text, "Catalog Error: Table with name") {
		var names []string
		for _, sources := range byStream(s.task.Streams) {
			names = append(names, sources[0].Stream)
		}
		if len(names) > 0 {
			return fmt.Errorf("query: %w\nThe streams that have data are: %s", duckdb.Brief(err), strings.Join(names, ", "))
		}
		return fmt.Errorf("query: %w\nNo stream has data yet", duckdb.Brief(err))
	}
	return fmt.Errorf("query: %w", err)
}
