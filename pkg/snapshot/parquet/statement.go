package parquet

import (
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/snapshot"
)

// copyStatement returns the SQL that writes the table function records to the
// file at path.
func copyStatement(s *snapshot.Snapshot, path string, rows rowEncoder, rules Rules) string {
	const (
		groupBytes = 32 << 20 // of records in a row group: DuckDB holds one in memory
		maxGroup   = 122_880  // rows
	)
	group := int64(maxGroup)
	if s.Records > 0 && s.Bytes > 0 {
		group = min(max(groupBytes/max(s.Bytes/s.Records, 1), 1), maxGroup)
	}
	columns := constantColumns(s, rules)
	if expression := rows.selectExpression(); expression != "" {
		columns = expression + ", " + columns
	}
	return "COPY (SELECT " + columns + " FROM records()) TO " + duckdb.Literal(path) +
		fmt.Sprintf(" (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE %d, USE_TMP_FILE false)", group)
}

// constantColumns returns the SQL of the columns that are the same in all records.
func constantColumns(s *snapshot.Snapshot, rules Rules) string {
	taken := "TIMESTAMP WITH TIME ZONE " + duckdb.Literal(s.UploadTimestamp.UTC().Format(snapshot.TimestampLayout+"+00"))
	id := duckdb.Literal(replaceNUL(s.UploadID))
	if rules == QueryRules {
		taken = "TIMESTAMP " + duckdb.Literal(s.UploadTimestamp.UTC().Format(snapshot.TimestampLayout))
		if uuid.Validate(s.UploadID) == nil {
			id += "::UUID"
		}
	}
	return duckdb.Literal(replaceNUL(s.Tenancy)) + " AS " + snapshot.MemberTenancy +
		", " + taken + " AS " + snapshot.MemberUploadTimestamp + ", " + id + " AS " + snapshot.MemberUploadID
}

// replaceNUL replaces NUL bytes, which a statement cannot contain.
func replaceNUL(s string) string { return strings.ReplaceAll(s, "\x00", "\ufffd") }
