package parquet

import (
	"bytes"
	"fmt"
	"slices"

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
	others  []byte // the members of the present record that are no columns, as the start of an object
	fixed   bool   // the present record has escapes that DuckDB refuses
}

func (t *typedRows) selectExpression() string {
	if len(t.root.members) == 0 {
		return ""
	}
	row := "from_json(record, " + duckdb.Literal(string(t.root.appendStructure(nil))) + ")"
	if t.root.needsCast() {
		row += "::" + t.root.sqlType()
	}
	return "unnest(" + row + ")"
}

func (t *typedRows) appendRow(dst, record []byte) ([]byte, bool, error) {
	t.scanner, t.fixed, t.others = scanner{data: record}, false, t.others[:0]
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
		name, m := t.readMember(n, guess)
		if m == nil {
			t.skipValue(n, name)
			continue
		}
		guess = m.index + 1
		dst = t.appendValue(appendName(dst, start, m), &m.node)
	}
	return t.appendEnd(dst, start, n)
}

// appendLastMembers is appendObject for objects of which some have members of
// the same name: it appends the last of each.
func (t *typedRows) appendLastMembers(dst []byte, n *node) []byte {
	values := map[*member]scanner{}
	t.scanner.expect('{')
	for i := 0; t.scanner.hasElement('}', i); i++ {
		name, m := t.readMember(n, 0)
		t.scanner.peek()
		if m == nil {
			t.skipValue(n, name)
			continue
		}
		values[m] = t.scanner
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
	return t.appendEnd(dst, start, n)
}

// readMember reads the name of a member. The member is nil for a reserved one and
// for one that is no column.
func (t *typedRows) readMember(n *node, guess int) (name []byte, m *member) {
	name = t.scanner.readString()
	t.scanner.expect(':')
	m = n.findMember(name, guess)
	if m == nil && t.scanner.err == nil && (n != t.root || n.others == nil && !snapshot.IsReservedMember(unquoteName(name))) {
		t.scanner.fail()
		t.scanner.err = fmt.Errorf("the records differ from those read before: member %s", name)
	}
	return name, m
}

// skipValue reads the value of a member of n that is no column.
func (t *typedRows) skipValue(n *node, name []byte) {
	value := t.scanner.readValue()
	if n.others == nil || snapshot.IsReservedMember(unquoteName(name)) {
		return
	}
	t.others = append(t.others, "{,"[min(len(t.others), 1)])
	t.others = append(append(append(t.others, name...), ':'), value...)
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

// appendEnd appends the end of the object of n that begins at start.
func (t *typedRows) appendEnd(dst []byte, start int, n *node) []byte {
	if n.others != nil && len(t.others) > 0 {
		t.text = t.appendJSON(t.text[:0], append(t.others, '}'))
		dst = appendQuoted(appendName(dst, start, n.others), t.text)
	}
	if len(dst) == start {
		dst = append(dst, '{')
	}
	return append(dst, '}')
}

// appendQuoted appends text, which is UTF-8, as a JSON string.
func appendQuoted(dst, text []byte) []byte {
	if len(text) >= largeValue { // growing in steps would leave several times the text behind
		dst = slices.Grow(dst, len(text)+bytes.Count(text, []byte{'"'})+bytes.Count(text, []byte{'\\'})+2)
	}
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
