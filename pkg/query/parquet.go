package query

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/collectord/collectord/internal/duckdb"
)

// resultFile returns the path of the file that writeParquet writes before it is
// complete; "" for a task that writes none.
func (t *task) resultFile() string {
	if t.Kind != parquetTask {
		return ""
	}
	return t.Path + ".tmp"
}

// writeParquet writes resultView to the file of the task.
func (s *session) writeParquet(ctx context.Context) error {
	list, err := s.resultColumns(ctx)
	if err != nil {
		return fmt.Errorf("query: %w", err)
	}
	var columns []string
	for i, c := range list {
		columns = append(columns, columnAlias(i)+" AS "+duckdb.Quote(c.Name))
	}
	rows := "SELECT " + strings.Join(columns, ", ") + " FROM " + aliasedResult(len(list))
	if s.task.Rows > 0 {
		rows += fmt.Sprintf(" LIMIT %d", s.task.Rows)
	}
	temporary := s.task.resultFile()
	written, err := s.db.ExecContext(ctx, "COPY ("+rows+") TO "+duckdb.Literal(temporary)+" (FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false)")
	if err == nil {
		s.summary.Rows, err = written.RowsAffected()
	}
	if err == nil && s.task.Rows > 0 && s.summary.Rows == s.task.Rows {
		s.summary.Truncated, err = s.hasMoreRows(ctx)
	}
	if err != nil {
		_ = os.Remove(temporary) // there is none after some errors
		return fmt.Errorf("query: %w", err)
	}
	return os.Rename(temporary, s.task.Path)
}

// hasMoreRows reports whether resultView has more rows than the limit.
func (s *session) hasMoreRows(ctx context.Context) (more bool, err error) {
	err = s.db.QueryRowContext(ctx, fmt.Sprintf("SELECT count(*) > %d FROM (FROM %s LIMIT %[1]d + 1)", s.task.Rows, resultView)).Scan(&more)
	return more, err
}
