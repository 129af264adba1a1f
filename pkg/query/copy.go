package query

import (
	"context"
	"errors"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/snapshot/columns"
	"github.com/collectord/collectord/pkg/snapshot/parquet"
)

// writeCopy writes the columnar copy of the only stream of the task.
func (t *task) writeCopy(ctx context.Context) (err error) {
	sealed, err := snapshot.Open(t.Streams[0].Dir)
	if err != nil {
		return err
	}
	encoded, err := parquet.Encode(ctx, sealed, parquet.Options{Memory: t.Memory, Disk: t.Disk, TempDir: t.Dir, Rules: columns.QueryRules})
	if err != nil {
		return err
	}
	return errors.Join(encoded.MoveTo(t.Path), encoded.Close())
}

// parquetFile returns the SQL that reads one Parquet file.
func parquetFile(path string) string {
	return "read_parquet(" + duckdb.Literal(duckdb.EscapeGlob(path)) + ")"
}
