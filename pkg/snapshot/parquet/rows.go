package parquet

import (
	"fmt"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/snapshot/columns"
)

// A rowEncoder turns records into the rows of a DuckDB source with one column,
// record.
type rowEncoder interface {
	// selectExpression returns the SQL that makes the file's columns of a row;
	// "" if there are none.
	selectExpression() string
	// appendRow appends the row of a record to dst. fixed reports whether the
	// record has escapes that DuckDB refuses, see snapshot.EscapeSurrogates.
	appendRow(dst, record []byte) (_ []byte, fixed bool, err error)
}

// untypedRows has each record in one column.
type untypedRows struct{ sqlType string }

func (u untypedRows) selectExpression() string { return "record::" + u.sqlType + " AS json_data" }

func (untypedRows) appendRow(dst, record []byte) ([]byte, bool, error) {
	dst, fixed := snapshot.EscapeSurrogates(dst, record)
	return dst, fixed, nil
}

// typedRows has a column for each member. A row is a JSON object that from_json
// turns into a STRUCT without any choice of its own: the names are those of the
// columns, no name is there twice, and each value has the form of its type.
// What from_json cannot convert would be NULL without an error.
type typedRows struct {
	root    *columns.Node
	scanner columns.Scanner
	text    []byte
	others  []byte // the members of the present record that are no columns, as the start of an object
	fixed   bool   // the present record has escapes that DuckDB refuses
}

func (t *typedRows) selectExpression() string {
	if len(t.root.Members) == 0 {
		return ""
	}
	row := "from_json(record, " + duckdb.Literal(string(appendStructure(nil, t.root))) + ")"
	if needsCast(t.root) {
		row += "::" + sqlType(t.root)
	}
	return "unnest(" + row + ")"
}

func (t *typedRows) appendRow(dst, record []byte) ([]byte, bool, error) {
	t.scanner, t.fixed, t.others = columns.NewScanner(record), false, t.others[:0]
	dst = t.appendObject(dst, t.root)
	return dst, t.fixed, t.scanner.Err()
}

// appendJSON appends value in the form that DuckDB accepts.
func (t *typedRows) appendJSON(dst, value []byte) []byte {
	dst, fixed := snapshot.EscapeSurrogates(dst, value)
	t.fixed = t.fixed || fixed
	return dst
}

// appendValue appends the next value in the form of the type of n.
func (t *typedRows) appendValue(dst []byte, n *columns.Node) []byte {
	first := t.scanner.Peek()
	switch {
	case first == 'n':
		return append(dst, t.scanner.ReadScalar()...)
	case n.Type == columns.Struct:
		return t.appendObject(dst, n)
	case n.Type == columns.List:
		return t.appendList(dst, n)
	}
	value := t.scanner.ReadValue()
	switch {
	case n.Type == columns.JSON || n.Type == columns.Varchar && (first == '{' || first == '['):
		t.text = t.appendJSON(t.text[:0], value)
		return columns.AppendQuoted(dst, t.text)
	case n.Type == columns.Varchar && first == '"':
		return t.appendJSON(dst, value)
	case n.Type == columns.Varchar:
		return append(append(append(dst, '"'), value...), '"')
	case string(value) == "-0":
		return append(dst, "-0.0"...) // from_json reads an integer as 0
	}
	return append(dst, value...)
}

func (t *typedRows) appendList(dst []byte, n *columns.Node) []byte {
	t.scanner.Expect('[')
	dst = append(dst, '[')
	for i := 0; t.scanner.HasElement(']', i); i++ {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = t.appendValue(dst, n.Elements)
	}
	return append(dst, ']')
}

func (t *typedRows) appendObject(dst []byte, n *columns.Node) []byte {
	if n.Repeats {
		return t.appendLastMembers(dst, n)
	}
	t.scanner.Expect('{')
	start, guess := len(dst), 0
	for i := 0; t.scanner.HasElement('}', i); i++ {
		name, m := t.readMember(n, guess)
		if m == nil {
			t.skipValue(n, name)
			continue
		}
		guess = m.Index + 1
		dst = t.appendValue(appendName(dst, start, m), &m.Node)
	}
	return t.appendEnd(dst, start, n)
}

// appendLastMembers is appendObject for objects of which some have members of
// the same name: it appends the last of each.
func (t *typedRows) appendLastMembers(dst []byte, n *columns.Node) []byte {
	values := map[*columns.Member]columns.Scanner{}
	t.scanner.Expect('{')
	for i := 0; t.scanner.HasElement('}', i); i++ {
		name, m := t.readMember(n, 0)
		t.scanner.Peek()
		if m == nil {
			t.skipValue(n, name)
			continue
		}
		values[m] = t.scanner
		t.scanner.ReadValue()
	}
	end, start := t.scanner, len(dst)
	for _, m := range n.Members {
		value, ok := values[m]
		if !ok {
			continue
		}
		t.scanner = value
		dst = t.appendValue(appendName(dst, start, m), &m.Node)
	}
	t.scanner = end
	return t.appendEnd(dst, start, n)
}

// readMember reads the name of a member. The member is nil for a reserved one and
// for one that is no column.
func (t *typedRows) readMember(n *columns.Node, guess int) (name []byte, m *columns.Member) {
	name = t.scanner.ReadString()
	t.scanner.Expect(':')
	m = n.FindMember(name, guess)
	if m == nil && t.scanner.Err() == nil && (n != t.root || n.Others == nil && !snapshot.IsReservedMember(columns.UnquoteName(name))) {
		t.scanner.Fail(fmt.Errorf("the records differ from those read before: member %s", name))
	}
	return name, m
}

// skipValue reads the value of a member of n that is no column.
func (t *typedRows) skipValue(n *columns.Node, name []byte) {
	value := t.scanner.ReadValue()
	if n.Others == nil || snapshot.IsReservedMember(columns.UnquoteName(name)) {
		return
	}
	t.others = append(t.others, "{,"[min(len(t.others), 1)])
	t.others = append(append(append(t.others, name...), ':'), value...)
}

// appendName appends what is before the value of m in the object that begins at
// start.
func appendName(dst []byte, start int, m *columns.Member) []byte {
	if len(dst) == start {
		dst = append(dst, '{')
	} else {
		dst = append(dst, ',')
	}
	return append(append(dst, m.Field...), ':')
}

// appendEnd appends the end of the object of n that begins at start.
func (t *typedRows) appendEnd(dst []byte, start int, n *columns.Node) []byte {
	if n.Others != nil && len(t.others) > 0 {
		t.text = t.appendJSON(t.text[:0], append(t.others, '}'))
		dst = columns.AppendQuoted(appendName(dst, start, n.Others), t.text)
	}
	if len(dst) == start {
		dst = append(dst, '{')
	}
	return append(dst, '}')
}
