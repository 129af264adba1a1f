package parquet

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/snapshot"
)

// originMemory bounds DuckDB's memory in bytes while it reads one row.
const originMemory = 64 << 20

// ReadOrigin returns what the first row of the Parquet file at path says of its
// snapshot: the tenancy, the upload id and the upload timestamp. The error wraps
// snapshot.ErrForeign when the file has no row.
func ReadOrigin(ctx context.Context, path string) (_ snapshot.Header, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return snapshot.Header{}, err
	}
	db, err := duckdb.Open(ctx, "", duckdb.Options{Memory: originMemory, TempDir: os.TempDir()})
	if err != nil {
		return snapshot.Header{}, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var h snapshot.Header
	var micros int64
	// epoch_us is the same for a timestamp with and without a time zone.
	err = db.QueryRowContext(ctx, "SELECT "+snapshot.MemberTenancy+", "+snapshot.MemberUploadID+", epoch_us("+snapshot.MemberUploadTimestamp+
		") FROM read_parquet("+duckdb.Literal(duckdb.EscapeGlob(path))+") LIMIT 1").Scan(&h.Tenancy, &h.UploadID, &micros)
	if errors.Is(err, sql.ErrNoRows) {
		return snapshot.Header{}, fmt.Errorf("%w: it has no rows", snapshot.ErrForeign)
	}
	if err != nil {
		return snapshot.Header{}, duckdb.Brief(err)
	}
	h.UploadTimestamp = time.UnixMicro(micros).UTC()
	return h, nil
}
