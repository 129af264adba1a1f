package parquet

import (
	"context"
	"errors"
	"strings"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/snapshot/columns"
)

// findView returns File.View for the types of the file. The casts from text are tried
// with all values.
func (f *File) findView(ctx context.Context, s *snapshot.Snapshot, o Options, types typing) (list string, err error) {
	list, fromText, ok := viewColumns(s, types.root, types.queries)
	if !ok || len(fromText) == 0 {
		return list, nil
	}
	db, err := duckdb.Open(ctx, "", duckdb.Options{Memory: o.Memory, TempDir: f.dir})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := limitDisk(ctx, db, o.Disk); err != nil {
		return "", err
	}
	counts := "count(" + strings.Join(fromText, "), count(") + ")"
	_, err = db.ExecContext(ctx, "SELECT "+counts+" FROM read_parquet("+duckdb.Literal(duckdb.EscapeGlob(f.path()))+")")
	if ctx.Err() != nil {
		return "", err
	}
	if err != nil {
		return "", nil // the queries have a file of their own
	}
	return list, nil
}

// viewColumns returns the SELECT list that turns the columns of file into those of
// queries, and those of its expressions that convert texts. ok is false when there is
// none that gives all values exactly.
func viewColumns(s *snapshot.Snapshot, file, queries *columns.Node) (list string, fromText []string, ok bool) {
	if file == nil || queries == nil || queries.Others != nil {
		return "", nil, false
	}
	var all []string
	for _, to := range queries.Members {
		from := file.LookUpMember(to.Vendor)
		if from == nil || !isCastExact(&from.Node, &to.Node) {
			return "", nil, false
		}
		expression := duckdb.Quote(from.Column)
		if sqlType(&from.Node) != sqlType(&to.Node) {
			if hasTextTime(&from.Node, &to.Node) {
				expression += "::" + sqlTypeWith(&to.Node, columns.Timestamp) // the text may have an offset
			}
			expression += "::" + sqlType(&to.Node)
			if convertsText(&from.Node, &to.Node) {
				fromText = append(fromText, expression)
			}
		}
		all = append(all, expression+" AS "+duckdb.Quote(to.Column))
	}
	return strings.Join(append(all, constantColumns(s, columns.QueryRules)), ", "), fromText, true
}

// isCastExact reports whether a cast from the type of from, which has all values of to,
// to that of to has the same values as the type of to has for the records.
func isCastExact(from, to *columns.Node) bool {
	if to.IsEmpty {
		return true
	}
	switch to.Type {
	case columns.Struct:
		return from.Type == columns.Struct && haveExactCasts(from, to)
	case columns.List:
		return from.Type == columns.List && isCastExact(from.Elements, to.Elements)
	case columns.JSON, columns.Varchar:
		return from.Type == to.Type
	case columns.UTCTimestamp:
		return from.Type == columns.Timestamp || from.Type == columns.Varchar
	case columns.Bigint: // whatever is DOUBLE in a file of integers has no rounded one
		return from.Type == columns.Bigint || from.Type == columns.Double || from.Type == columns.Varchar
	}
	return from.Type == to.Type || from.Type == columns.Varchar
}

// haveExactCasts reports whether isCastExact for each member of to, by a cast of the whole,
// which finds fields by their names.
func haveExactCasts(from, to *columns.Node) bool {
	for _, m := range to.Members {
		source := from.LookUpMember(m.Vendor)
		if source == nil || source.Column != m.Column || !isCastExact(&source.Node, &m.Node) {
			return false
		}
	}
	return true
}

// convertsText reports whether a cast from from to to reads texts.
func convertsText(from, to *columns.Node) bool {
	return anyCast(from, to, func(from, to *columns.Node) bool { return from.Type == columns.Varchar && to.Type != columns.Varchar })
}

// hasTextTime reports whether a cast from from to to reads texts as times with an offset.
func hasTextTime(from, to *columns.Node) bool {
	return anyCast(from, to, func(from, to *columns.Node) bool {
		return from.Type == columns.Varchar && to.Type == columns.UTCTimestamp
	})
}

// anyCast reports whether found returns true for from and to, or for what is in them.
func anyCast(from, to *columns.Node, found func(from, to *columns.Node) bool) bool {
	switch {
	case found(from, to):
		return true
	case to.Type == columns.List && from.Type == columns.List:
		return anyCast(from.Elements, to.Elements, found)
	case to.Type == columns.Struct:
		for _, m := range to.Members {
			if anyCast(&from.LookUpMember(m.Vendor).Node, &m.Node, found) {
				return true
			}
		}
	}
	return false
}
