package parquet

import (
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/snapshot/columns"
)

// copyStatement returns the SQL that writes the table function records to the
// file at path.
func copyStatement(s *snapshot.Snapshot, path string, rows rowEncoder, rules columns.Rules) string {
	const (
		groupBytes = 32 << 20 // of records in a row group: DuckDB holds one in memory
		maxGroup   = 122_880  // rows
	)
	group := int64(maxGroup)
	if s.Records > 0 && s.Bytes > 0 {
		group = min(max(groupBytes/max(s.Bytes/s.Records, 1), 1), maxGroup)
	}
	selected := constantColumns(s, rules)
	if expression := rows.selectExpression(); expression != "" {
		selected = expression + ", " + selected
	}
	return "COPY (SELECT " + selected + " FROM records()) TO " + duckdb.Literal(path) +
		fmt.Sprintf(" (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE %d, USE_TMP_FILE false)", group)
}

// constantColumns returns the SQL of the columns that are the same in all records.
func constantColumns(s *snapshot.Snapshot, rules columns.Rules) string {
	taken := "TIMESTAMP WITH TIME ZONE " + duckdb.Literal(s.UploadTimestamp.UTC().Format(snapshot.TimestampLayout+"+00"))
	id := duckdb.Literal(replaceNUL(s.UploadID))
	if rules == columns.QueryRules {
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

// needsCast reports whether n or what is in it has another type in the structure for
// from_json than in the file.
func needsCast(n *columns.Node) bool {
	for _, m := range n.Members {
		if needsCast(&m.Node) {
			return true
		}
	}
	return n.Type == columns.JSON || n.Type == columns.UTCTimestamp || n.Elements != nil && needsCast(n.Elements)
}

// appendStructure appends the type of n in the form that DuckDB's from_json
// takes. JSON is VARCHAR there, and times have an offset, see sqlType.
func appendStructure(dst []byte, n *columns.Node) []byte {
	switch n.Type {
	case columns.Struct:
		for i, m := range n.Members {
			dst = append(dst, "{,"[min(i, 1)])
			dst = append(append(dst, m.Field...), ':')
			dst = appendStructure(dst, &m.Node)
		}
		return append(dst, '}')
	case columns.List:
		return append(appendStructure(append(dst, '['), n.Elements), ']')
	case columns.JSON:
		return append(dst, `"VARCHAR"`...)
	case columns.UTCTimestamp: // from_json ignores the offset in a TIMESTAMP
		return append(dst, `"TIMESTAMP WITH TIME ZONE"`...)
	}
	return append(append(append(dst, '"'), n.Type.String()...), '"')
}

// sqlType returns the type of n in SQL.
func sqlType(n *columns.Node) string { return sqlTypeWith(n, columns.UTCTimestamp) }

// sqlTypeWith returns the type of n in SQL, with utc in place of UTCTimestamp.
func sqlTypeWith(n *columns.Node, utc columns.Type) string {
	switch n.Type {
	case columns.Struct:
		var fields []string
		for _, m := range n.Members {
			fields = append(fields, duckdb.Quote(m.Column)+" "+sqlTypeWith(&m.Node, utc))
		}
		return "STRUCT(" + strings.Join(fields, ", ") + ")"
	case columns.List:
		return sqlTypeWith(n.Elements, utc) + "[]"
	case columns.UTCTimestamp:
		return utc.String()
	}
	return n.Type.String()
}
