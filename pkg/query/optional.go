package query

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	driver "github.com/duckdb/duckdb-go/v2"

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

// missingOptional returns those of the paths that the rows of a query lack. A path is left
// out when the rows have something else in place of one of its objects or arrays.
//
// A view has only these: DuckDB reads a whole object where a view adds a member to it, and
// else the members that a query names.
func (s *session) missingOptional(ctx context.Context, rows string, paths []string) (missing []string, err error) {
	columns, err := s.columnsOf(ctx, rows)
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		if lacksMember(columns, strings.Split(path, ".")) {
			missing = append(missing, path)
		}
	}
	return missing, nil
}

// columnsOf returns the names and types of the columns of a query, as those of an object.
func (s *session) columnsOf(ctx context.Context, query string) (columns []driver.StructEntry, err error) {
	err = s.db.Raw(func(c any) error {
		prepared, err := c.(*driver.Conn).PrepareContext(ctx, query)
		if err != nil {
			return err
		}
		columns, err = statementColumns(prepared.(*driver.Stmt))
		return errors.Join(err, prepared.Close())
	})
	return columns, err
}

func statementColumns(statement *driver.Stmt) (columns []driver.StructEntry, err error) {
	n, err := statement.ColumnCount()
	if err != nil {
		return nil, err
	}
	for i := range n {
		name, err := statement.ColumnName(i)
		if err != nil {
			return nil, err
		}
		info, err := statement.ColumnTypeInfo(i)
		if err != nil {
			return nil, err
		}
		column, err := driver.NewStructEntry(info, name)
		if err != nil {
			return nil, err
		}
		columns = append(columns, column)
	}
	return columns, nil
}

// lacksMember reports whether an object has no member at a path, and could have it.
func lacksMember(members []driver.StructEntry, path []string) bool {
	name, isList := strings.CutSuffix(path[0], "[]")
	i := slices.IndexFunc(members, func(m driver.StructEntry) bool { return strings.EqualFold(m.Name(), name) })
	if i < 0 {
		return true
	}
	if len(path) == 1 {
		return false
	}
	details := members[i].Info().Details()
	if list, ok := details.(*driver.ListDetails); ok && isList {
		details = list.Child.Details()
	} else if isList {
		return false
	}
	object, ok := details.(*driver.StructDetails)
	return ok && lacksMember(object.Entries, path[1:])
}

// timestampMacro lets strptime accept what is a timestamp already: the type of a column
// depends on whether all its texts are timestamps.
const timestampMacro = `CREATE MACRO strptime(x, f) AS
	CASE WHEN typeof(x) = 'VARCHAR' THEN system.main.strptime(x::VARCHAR, f) ELSE TRY_CAST(x AS TIMESTAMP) END`
