package query

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/collectord/collectord/internal/duckdb"
)

// writeParquet writes resultView to the file at path with a second database, since
// that of the session is denied access to files.
func (s *session) writeParquet(ctx context.Context, path string) (err error) {
	list, err := s.resultColumns(ctx)
	if err != nil {
		return fmt.Errorf("query: %w", err)
	}
	temporary := path + ".tmp"
	// What does not fit in memory is removed with the session, also when this
	// process is killed.
	writer, err := duckdb.Open(ctx, "", duckdb.Options{Memory: s.task.Memory, TempDir: filepath.Join(s.task.Dir, "spill")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, writer.Close()) }()
	rows, err := s.db.QueryContext(ctx, s.selectStatement(list, false))
	if err != nil {
		return fmt.Errorf("query: %w", err)
	}
	defer rows.Close()
	source, casts, err := s.newRowSource(writer, rows, list)
	if err != nil {
		return err
	}
	_, err = writer.ExecContext(ctx, "COPY (SELECT "+casts+" FROM rows()) TO "+duckdb.Literal(temporary)+
		" (FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false)")
	if err := source.Result(err); err != nil {
		_ = os.Remove(temporary) // there is none after some errors
		return fmt.Errorf("query: %w", err)
	}
	return os.Rename(temporary, path)
}

// newRowSource returns a source of the rows in db, and the SQL expressions that cast
// its texts to the types of the columns.
func (s *session) newRowSource(db *duckdb.DB, rows *sql.Rows, list []Column) (*duckdb.Source, string, error) {
	values, into := make([]sql.NullString, len(list)), make([]any, len(list))
	var texts []duckdb.Column
	var casts []string
	for i, c := range list {
		into[i] = &values[i]
		texts = append(texts, duckdb.Column{Name: columnAlias(i)})
		casts = append(casts, fmt.Sprintf("%s::%s AS %s", columnAlias(i), c.Type, duckdb.Quote(strings.ReplaceAll(c.Name, "\x00", " "))))
	}
	size := sizeOf(list, false)
	bytes := size.header
	source, err := db.Source("rows", texts, func(row *duckdb.Row) error {
		if !rows.Next() {
			if err := rows.Err(); err != nil {
				return err
			}
			return io.EOF
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		bytes += size.row
		for _, v := range values {
			bytes += int64(len(v.String))
		}
		if s.isFull(bytes) {
			s.summary.Truncated = true
			return io.EOF
		}
		for i, v := range values {
			if v.Valid {
				row.SetText(i, []byte(v.String))
			}
		}
		s.summary.Rows++
		return nil
	})
	return source, strings.Join(casts, ", "), err
}
