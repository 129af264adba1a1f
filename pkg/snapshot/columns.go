package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/collectord/collectord/internal/duckdb"
)

// maxColumns bounds a typed file's columns: beyond it the members are data
// rather than names, and every column costs memory.
const maxColumns = 1000

// A parquetColumn is a member of the records.
type parquetColumn struct {
	member string // the vendor's name
	name   string // the column's
	kinds  valueKind
	record int64 // the last record that had it, counted from 1
}

// valueKind is a set of what a column's values are.
type valueKind uint8

const (
	boolKind   valueKind = 1 << iota
	intKind              // fits BIGINT
	wideKind             // with intKind: beyond what a DOUBLE tells apart
	floatKind            // fits DOUBLE
	hugeKind             // a number that fits neither
	stringKind           //
	nestedKind           // an object or array
)

// kindOf returns the kind of a JSON value, 0 for null.
func kindOf(value []byte) valueKind {
	switch value[0] {
	case 'n':
		return 0
	case 't', 'f':
		return boolKind
	case '"':
		return stringKind
	case '{', '[':
		return nestedKind
	}
	return numberKind(value)
}

func numberKind(value []byte) valueKind {
	if bytes.ContainsAny(value, ".eE") || string(value) == "-0" {
		if _, err := strconv.ParseFloat(string(value), 64); err != nil {
			return hugeKind
		}
		return floatKind
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	switch {
	case err != nil:
		return hugeKind
	case n > 1<<53 || n < -1<<53:
		return intKind | wideKind
	}
	return intKind
}

// columnType is how a column is stored.
type columnType struct {
	source duckdb.Type
	json   bool
}

func (k valueKind) columnType() columnType {
	switch {
	case k&nestedKind != 0:
		return columnType{source: duckdb.Text, json: true}
	case k == boolKind:
		return columnType{source: duckdb.Bool}
	case k == intKind || k == intKind|wideKind:
		return columnType{source: duckdb.Int}
	case k == floatKind || k == floatKind|intKind:
		return columnType{source: duckdb.Float}
	}
	return columnType{source: duckdb.Text}
}

// A memberWalk is the working memory for reading records' members.
type memberWalk struct {
	reader  bytes.Reader
	decoder jsontext.Decoder
	name    []byte
	scratch []byte
}

// appendText appends the content of the JSON string raw to dst. scratch is
// working memory.
func appendText(dst []byte, scratch *[]byte, raw []byte) ([]byte, error) {
	if bytes.IndexByte(raw, '\\') < 0 {
		return append(dst, raw[1:len(raw)-1]...), nil
	}
	*scratch, _ = duckdb.AppendJSON((*scratch)[:0], raw)
	return jsontext.AppendUnquote(dst, *scratch)
}

// An inference learns the columns of a snapshot.
type inference struct {
	walk    memberWalk
	columns []*parquetColumn
	byName  map[string]*parquetColumn
	records int64
	doubled int64 // records with members of the same name
	problem error
}

func newInference() *inference {
	return &inference{byName: map[string]*parquetColumn{}}
}

func (in *inference) add(record []byte) error {
	in.records++
	doubled := false
	err := in.walk.members(record, func(name, value []byte) error {
		c := in.byName[string(name)]
		if c == nil {
			if isOurs(string(name)) {
				return nil
			}
			if len(in.columns) == maxColumns {
				return fmt.Errorf("they have over %d different members", maxColumns)
			}
			c = &parquetColumn{member: string(name)}
			in.byName[c.member] = c
			in.columns = append(in.columns, c)
		}
		doubled = doubled || c.record == in.records
		c.record = in.records
		c.kinds |= kindOf(value)
		return nil
	})
	if doubled {
		in.doubled++
	}
	return err
}

// finish names the columns. The result is not nil.
func (in *inference) finish() ([]*parquetColumn, []string, error) {
	var notes []string
	if in.doubled > 0 {
		notes = append(notes, fmt.Sprintf("%d records have members of the same name: the last one of each is stored", in.doubled))
	}
	taken := map[string]bool{memberTenancy: true, memberTimestamp: true, memberID: true}
	// Which of the similar names keeps its own does not depend on the records'
	// order: the one with small letters.
	ordered := slices.Clone(in.columns)
	slices.SortFunc(ordered, func(a, b *parquetColumn) int { return strings.Compare(b.member, a.member) })
	for _, c := range ordered {
		base := noNUL(c.member)
		if base == "" {
			base = "_"
		}
		c.name = base
		for n := 2; taken[strings.ToLower(c.name)]; n++ {
			c.name = base + "_" + strconv.Itoa(n)
		}
		taken[strings.ToLower(c.name)] = true
		if c.name != c.member {
			notes = append(notes, fmt.Sprintf("member %q is in column %q", c.member, c.name))
		}
	}
	return append([]*parquetColumn{}, in.columns...), notes, nil
}

// typedRows has a column for each member.
type typedRows struct {
	list    []*parquetColumn
	types   []columnType
	byName  map[string]int
	walk    memberWalk
	text    []byte
	scratch []byte
}

func newTypedRows(columns []*parquetColumn) *typedRows {
	t := &typedRows{list: columns, byName: map[string]int{}}
	for i, c := range columns {
		t.types = append(t.types, c.kinds.columnType())
		t.byName[c.member] = i
	}
	return t
}

// columns are named by number: a name is free to be anything in the result.
func (t *typedRows) columns() []duckdb.Column {
	// A source needs a column even when the records have none.
	list := []duckdb.Column{{Name: "none", Type: duckdb.Bool}}
	for i, typ := range t.types {
		list = append(list, duckdb.Column{Name: "c" + strconv.Itoa(i), Type: typ.source})
	}
	return list
}

func (t *typedRows) selects() []string {
	var list []string
	for i, typ := range t.types {
		cast := ""
		if typ.json {
			cast = "::JSON"
		}
		list = append(list, fmt.Sprintf("c%d%s AS %s", i, cast, duckdb.Quote(t.list[i].name)))
	}
	return list
}

func (t *typedRows) fill(row *duckdb.Row, record []byte) error {
	return t.walk.members(record, func(name, value []byte) error {
		i, ok := t.byName[string(name)]
		if !ok {
			return nil
		}
		return t.set(row, i+1, t.types[i], value)
	})
}

func (t *typedRows) set(row *duckdb.Row, column int, typ columnType, value []byte) (err error) {
	switch {
	case isNull(value):
		row.Null(column)
	case typ.json:
		t.text, _ = duckdb.AppendJSON(t.text[:0], value)
		row.Text(column, t.text)
	case typ.source == duckdb.Bool:
		row.Bool(column, value[0] == 't')
	case typ.source == duckdb.Int:
		var n int64
		n, err = strconv.ParseInt(string(value), 10, 64)
		row.Int(column, n)
	case typ.source == duckdb.Float:
		var f float64
		f, err = strconv.ParseFloat(string(value), 64)
		row.Float(column, f)
	case value[0] == '"':
		t.text, err = appendText(t.text[:0], &t.scratch, value)
		row.Text(column, t.text)
	default:
		row.Text(column, value)
	}
	if err != nil {
		return errors.Join(errors.New("the records are not those that were read before"), err)
	}
	return nil
}
