package query

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/snapshot"
)

// writeCopy writes the columnar copy of the only stream of the task. DuckDB's JSON
// reader infers the columns and their types, including nested ones. It reads the
// records from a copy if it cannot read them as they are. A snapshot that it refuses
// all the same is read record by record, and typed from the structure of the records.
func (s *session) writeCopy(ctx context.Context) error {
	source := s.task.Streams[0]
	sealed, err := snapshot.Open(source.Dir)
	if err != nil {
		return err
	}
	sum, err := inspectRecords(ctx, sealed)
	if err != nil {
		return err
	}
	err = s.copyJSON(ctx, sealed, sum)
	if err != nil && ctx.Err() == nil && duckdb.KindOf(err) != duckdb.Memory {
		if e := s.copyRecords(ctx, sealed); e != nil {
			err = errors.Join(err, e)
		} else {
			err = nil
		}
	}
	if err != nil {
		return duckdb.Brief(err)
	}
	return s.checkCopy(ctx, sealed)
}

// checkCopy checks that the copy has all records.
func (s *session) checkCopy(ctx context.Context, sealed *snapshot.Snapshot) error {
	err := s.db.QueryRowContext(ctx, "SELECT count(*) FROM "+parquetFile(s.task.Path)).Scan(&s.summary.Rows)
	if err == nil && s.summary.Rows != sealed.Records {
		err = fmt.Errorf("the copy has %d records, the snapshot %d", s.summary.Rows, sealed.Records)
	}
	return err
}

// copyTo returns the statement that writes the rows of a query to the copy.
func (s *session) copyTo(rows string, sealed *snapshot.Snapshot) string {
	return fmt.Sprintf("COPY (%s) TO %s (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE %d, USE_TMP_FILE false)",
		rows, duckdb.Literal(s.task.Path), duckdb.RowGroup(sealed.Records, sealed.Bytes))
}

// copyJSON writes the copy with DuckDB's JSON reader.
func (s *session) copyJSON(ctx context.Context, sealed *snapshot.Snapshot, sum recordsSummary) error {
	path, compression, added := sealed.Path(), "zstd", 0
	if sum.surrogate || sum.large > 0 {
		path, compression, added = filepath.Join(s.task.Dir, "records.ndjson"), "uncompressed", sum.large
		if err := writeRecords(ctx, sealed, path); err != nil {
			return err
		}
	}
	rows := fmt.Sprintf("SELECT * FROM read_json(%s, format = 'newline_delimited', compression = '%s', sample_size = -1, maximum_object_size = %d)",
		duckdb.Literal(path), compression, max(16<<20, sum.largest+largeRecord))
	if added > 0 {
		rows += fmt.Sprintf(" OFFSET %d", added)
	}
	_, err := s.db.ExecContext(ctx, s.copyTo(rows, sealed))
	return err
}

// copyRecords writes the copy without DuckDB's JSON reader.
func (s *session) copyRecords(ctx context.Context, sealed *snapshot.Snapshot) (err error) {
	r, err := sealed.Reader(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := os.Remove(s.task.Path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var buf []byte
	records, err := s.db.Source("records", []duckdb.Column{{Name: "record"}}, func(row *duckdb.Row) error {
		record, err := r.Next()
		if err != nil {
			return err
		}
		buf, _ = snapshot.EscapeSurrogates(buf[:0], record)
		row.SetText(0, buf)
		return nil
	})
	if err != nil {
		return err
	}
	_, err = s.db.ExecContext(ctx, "CREATE TABLE raw AS SELECT record::JSON AS record FROM records()")
	if err := records.Result(err); err != nil {
		return err
	}
	var structure sql.NullString
	if err := s.db.QueryRowContext(ctx, "SELECT json_group_structure(record)::VARCHAR FROM raw").Scan(&structure); err != nil {
		return err
	}
	if !structure.Valid {
		return io.ErrUnexpectedEOF
	}
	rows := "SELECT * REPLACE (_upload_timestamp::TIMESTAMP AS _upload_timestamp, _upload_id::UUID AS _upload_id) FROM (SELECT unnest(from_json(record, " +
		duckdb.Literal(structure.String) + ")) FROM raw)"
	_, err = s.db.ExecContext(ctx, s.copyTo(rows, sealed))
	return err
}

// parquetFile returns the SQL that reads one Parquet file.
func parquetFile(path string) string {
	return "read_parquet(" + duckdb.Literal(duckdb.EscapeGlob(path)) + ")"
}
