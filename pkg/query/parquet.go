package query

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

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
	copying, stop := s.limitResultFile(ctx)
	defer stop(nil)
	written, err := s.db.ExecContext(copying, "COPY ("+rows+") TO "+duckdb.Literal(temporary)+" (FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false)")
	if err == nil {
		s.summary.Rows, err = written.RowsAffected()
	}
	if err == nil && s.task.Rows > 0 && s.summary.Rows == s.task.Rows {
		s.summary.Truncated, err = s.hasMoreRows(ctx)
	}
	if err == nil {
		err = s.checkResultFile()
	} else if errors.Is(context.Cause(copying), errLargeFile) {
		err = context.Cause(copying)
	}
	if err != nil {
		_ = os.Remove(temporary) // there is none after some errors
		return fmt.Errorf("query: %w", err)
	}
	return os.Rename(temporary, s.task.Path)
}

// limitResultFile returns a context that ends while the file of the result has more bytes
// than the task allows.
// The cause is the error of checkResultFile then.
func (s *session) limitResultFile(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, stop := context.WithCancelCause(ctx)
	if s.task.Bytes == 0 {
		return ctx, stop
	}
	go func() {
		const interval = 50 * time.Millisecond
		for tick := time.Tick(interval); ; {
			select {
			case <-ctx.Done():
				return
			case <-tick:
				if err := s.checkResultFile(); err != nil {
					stop(err)
				}
			}
		}
	}()
	return ctx, stop
}

// errLargeFile is in the errors of checkResultFile.
var errLargeFile = errors.New("select fewer rows or columns")

// checkResultFile returns an error if the file of the result has more bytes than the task
// allows.
func (s *session) checkResultFile() error {
	info, err := os.Stat(s.task.resultFile())
	if err != nil || s.task.Bytes == 0 || info.Size() <= s.task.Bytes {
		return nil // the COPY reports that there is no file
	}
	return fmt.Errorf("the result has more than the %s that a Parquet file may have here: %w", humanize.IBytes(uint64(s.task.Bytes)), errLargeFile)
}

// hasMoreRows reports whether resultView has more rows than the limit.
func (s *session) hasMoreRows(ctx context.Context) (more bool, err error) {
	err = s.db.QueryRowContext(ctx, fmt.Sprintf("SELECT count(*) > %d FROM (FROM %s LIMIT %[1]d + 1)", s.task.Rows, resultView)).Scan(&more)
	return more, err
}
