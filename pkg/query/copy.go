package query

import (
	"context"
	"errors"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/snapshot/columns"
	"github.com/collectord/collectord/pkg/snapshot/parquet"
)

// writeCopy writes the columnar copy of the only stream of the task: that for queries, or
// that for destinations with its description.
func (t *task) writeCopy(ctx context.Context) (err error) {
	sealed, err := snapshot.Open(t.Streams[0].Dir)
	if err != nil {
		return err
	}
	o := parquet.Options{Memory: t.Memory, Disk: t.Disk, TempDir: t.Dir, Rules: columns.QueryRules, Declared: t.Streams[0].Declared}
	if t.File != nil {
		o.Rules, o.Types, o.Repair, o.Untyped = columns.FileRules, t.File.Types, t.File.Repair, t.File.Untyped
	}
	encoded, err := parquet.Encode(ctx, sealed, o)
	if err != nil {
		return err
	}
	err = errors.Join(encoded.MoveTo(t.Path), encoded.Close())
	if err == nil && t.File != nil {
		err = describeFile(t.Path, encoded, t.File.Repair)
	}
	return err
}

// parquetFile returns the SQL that reads one Parquet file.
func parquetFile(path string) string {
	return "read_parquet(" + duckdb.Literal(duckdb.EscapeGlob(path)) + ")"
}
