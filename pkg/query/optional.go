package query

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/collectord/collectord/internal/duckdb"
)

// optionalMember is a member that records may lack, with those of its own.
type optionalMember struct {
	name    string
	isList  bool // an array of objects
	members []*optionalMember
}

// optionalColumns returns the SELECT list of columns for optional members, which are
// paths such as "cve.severity" and "remediation.entities[].title". All values are NULL
// without a type, so that the type is that of the data where there is some.
func optionalColumns(paths []string) string {
	root := &optionalMember{}
	for _, path := range paths {
		m := root
		for name := range strings.SplitSeq(path, ".") {
			m = m.findMember(name)
		}
	}
	var columns []string
	for _, m := range root.members {
		columns = append(columns, m.nullValue()+" AS "+duckdb.Quote(m.name))
	}
	return strings.Join(columns, ", ")
}

// findMember returns the member with a name, which it adds if there is none. A name
// that ends in [] is that of an array.
func (o *optionalMember) findMember(name string) *optionalMember {
	name, isList := strings.CutSuffix(name, "[]")
	for _, known := range o.members {
		if known.name == name {
			return known
		}
	}
	added := &optionalMember{name: name, isList: isList}
	o.members = append(o.members, added)
	return added
}

// nullValue returns an SQL value with the member's own members, which are NULL.
func (o *optionalMember) nullValue() string {
	value := "NULL"
	if len(o.members) > 0 {
		var fields []string
		for _, member := range o.members {
			fields = append(fields, duckdb.Literal(member.name)+": "+member.nullValue())
		}
		value = "{" + strings.Join(fields, ", ") + "}"
	}
	if o.isList {
		return "[" + value + "]"
	}
	return value
}

// withOptional returns a query with the optional members that the rows of another one
// may lack.
func withOptional(rows string, paths []string) string {
	if len(paths) == 0 {
		return rows
	}
	return fmt.Sprintf("%s UNION ALL BY NAME SELECT * FROM (SELECT %s) WHERE false", rows, optionalColumns(paths))
}

// usableOptional returns those of the paths whose objects and arrays are such in the
// rows of a query, or are in none of them.
func (s *session) usableOptional(ctx context.Context, rows string, paths []string) []string {
	checked := map[string]bool{}
	return slices.DeleteFunc(slices.Clone(paths), func(path string) bool {
		expression, names := "t", strings.Split(path, ".")
		for _, name := range names[:len(names)-1] {
			name, isList := strings.CutSuffix(name, "[]")
			if expression += "." + duckdb.Quote(name); isList {
				expression += "[1]"
			}
			usable, known := checked[expression]
			if !known {
				usable = s.isObject(ctx, rows, expression)
				checked[expression] = usable
			}
			if !usable {
				return true
			}
		}
		return false
	})
}

// isObject reports whether an expression over the rows of a query is an object, or a
// member that does not exist.
func (s *session) isObject(ctx context.Context, rows, expression string) bool {
	var kind string
	err := s.db.QueryRowContext(ctx, "SELECT column_type FROM (DESCRIBE SELECT "+expression+" FROM ("+rows+") AS t)").Scan(&kind)
	if err != nil {
		return strings.Contains(err.Error(), "not found in FROM clause") || strings.Contains(err.Error(), "Could not find key") ||
			strings.Contains(err.Error(), "does not have a column named")
	}
	return strings.HasPrefix(kind, "STRUCT(") && strings.HasSuffix(kind, ")")
}

// timestampMacro lets strptime accept what is a timestamp already: the type of a column
// depends on whether all its texts are timestamps.
const timestampMacro = `CREATE MACRO strptime(x, f) AS
	CASE WHEN typeof(x) = 'VARCHAR' THEN system.main.strptime(x::VARCHAR, f) ELSE TRY_CAST(x AS TIMESTAMP) END`
