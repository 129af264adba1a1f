package parquet

import (
	"fmt"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/snapshot"
)

// A rowEncoder turns records into the rows of a DuckDB source with one column,
// record.
type rowEncoder interface {
	// selectExpression returns the SQL that makes the file's columns of a row;
	// "" if there are none.
	selectExpression() string
	// appendRow appends the row of a record to dst. fixed reports whether the
	// record has escapes that DuckDB refuses, see duckdb.AppendJSON.
	appendRow(dst, record []byte) (_ []byte, fixed bool, err error)
}

// untypedRows has each record in one column.
type untypedRows struct{ sqlType string }

func (u untypedRows) selectExpression() string { return "record::" + u.sqlType + " AS json_data" }

func (untypedRows) appendRow(dst, record []byte) ([]byte, bool, error) {
	dst, fixed := duckdb.AppendJSON(dst, record)
	return dst, fixed, nil
}

// typedRows has a column for each member. A row is a JSON object that from_json
// turns into a STRUCT without any choice of its own: the names are those of the
// columns, no name is there twice, and each value has the form of its type.
// What from_json cannot convert would be NULL without an error.
type typedRows struct {
	root    *node
	scanner scanner
	text    []byte
	fixed   bool // the present record has escapes that DuckDB refuses
}

func (t *typedRows) selectExpression() string {
	if len(t.root.members) == 0 {
		return ""
	}
	row := "from_json(record, " + duckdb.Literal(string(t.root.appendStructure(nil))) + ")"
	if t.root.holdsJSON() {
		row += "::" + t.root.sqlType()
	}
	return "unnest(" + row + ")"
}

func (t *typedRows) appendRow(dst, record []byte) ([]byte, bool, error) {
	t.scanner, t.fixed = scanner{data: record}, false
	dst = t.appendObject(dst, t.root)
	return dst, t.fixed, t.scanner.err
}

// appendJSON appends value in the form that DuckDB accepts.
func (t *typedRows) appendJSON(dst, value []byte) []byte {
	dst, fixed := duckdb.AppendJSON(dst, value)
	t.fixed = t.fixed || fixed
	return dst
}

// appendValue appends the next value in the form of the type of n.
func (t *typedRows) appendValue(dst []byte, n *node) []byte {
	first := t.scanner.peek()
	switch {
	case first == 'n':
		return append(dst, t.scanner.readScalar()...)
	case n.typ == structType:
		return t.appendObject(dst, n)
	case n.typ == listType:
		return t.appendList(dst, n)
	}
	value := t.scanner.readValue()
	switch {
	case n.typ == jsonType || n.typ == varcharType && (first == '{' || first == '['):
		t.text = t.appendJSON(t.text[:0], value)
		return appendQuoted(dst, t.text)
	case n.typ == varcharType && first == '"':
		return t.appendJSON(dst, value)
	case n.typ == varcharType:
		return append(append(append(dst, '"'), value...), '"')
	case string(value) == "-0":
		return append(dst, "-0.0"...) // from_json reads an integer as 0
	}
	return append(dst, value...)
}

func (t *typedRows) appendList(dst []byte, n *node) []byte {
	t.scanner.expect('[')
	dst = append(dst, '[')
	for i := 0; t.scanner.hasElement(']', i); i++ {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = t.appendValue(dst, n.elements)
	}
	return append(dst, ']')
}

func (t *typedRows) appendObject(dst []byte, n *node) []byte {
	if n.repeats {
		return t.appendLastMembers(dst, n)
	}
	t.scanner.expect('{')
	start, guess := len(dst), 0
	for i := 0; t.scanner.hasElement('}', i); i++ {
		m := t.readMember(n, guess)
		if m == nil {
			t.scanner.readValue()
			continue
		}
		guess = m.index + 1
		dst = t.appendValue(appendName(dst, start, m), &m.node)
	}
	return appendEnd(dst, start)
}

// appendLastMembers is appendObject for objects of which some have members of
// the same name: it appends the last of each.
func (t *typedRows) appendLastMembers(dst []byte, n *node) []byte {
	values := map[*member]scanner{}
	t.scanner.expect('{')
	for i := 0; t.scanner.hasElement('}', i); i++ {
		m := t.readMember(n, 0)
		t.scanner.peek()
		if m != nil {
			values[m] = t.scanner
		}
		t.scanner.readValue()
	}
	end, start := t.scanner, len(dst)
	for _, m := range n.members {
		value, ok := values[m]
		if !ok {
			continue
		}
		t.scanner = value
		dst = t.appendValue(appendName(dst, start, m), &m.node)
	}
	t.scanner = end
	return appendEnd(dst, start)
}

// readMember reads the name of a member. It returns nil for a reserved one.
func (t *typedRows) readMember(n *node, guess int) *member {
	name := t.scanner.readString()
	t.scanner.expect(':')
	m := n.findMember(name, guess)
	if m == nil && t.scanner.err == nil && (n != t.root || !snapshot.IsReservedMember(unquoteName(name))) {
		t.scanner.fail()
		t.scanner.err = fmt.Errorf("the records differ from those read before: member %s", name)
	}
	return m
}

// appendName appends what is before the value of m in the object that begins at
// start.
func appendName(dst []byte, start int, m *member) []byte {
	if len(dst) == start {
		dst = append(dst, '{')
	} else {
		dst = append(dst, ',')
	}
	return append(append(dst, m.field...), ':')
}

// appendEnd appends the end of the object that begins at start.
func appendEnd(dst []byte, start int) []byte {
	if len(dst) == start {
		dst = append(dst, '{')
	}
	return append(dst, '}')
}

// appendQuoted appends text, which is UTF-8, as a JSON string.
func appendQuoted(dst, text []byte) []byte {
	dst = append(dst, '"')
	copied := 0
	for i, c := range text {
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, text[copied:i]...)
		if c < ' ' {
			dst = fmt.Appendf(dst, `\u%04x`, c)
		} else {
			dst = append(dst, '\\', c)
		}
		copied = i + 1
	}
	return append(append(dst, text[copied:]...), '"')
}
