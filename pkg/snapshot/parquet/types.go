package parquet

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/snapshot"
)

// The bounds of the types. Each column costs memory, and where there are more,
// the names are data.
const (
	maxColumns = 1000 // members of a file by FileRules, those within objects and lists included
	// maxQueryColumns is maxColumns by QueryRules.
	maxQueryColumns = 2000
	maxMembers      = 200 // members of an object below the top level
	maxDepth        = 16  // objects and lists within each other
)

// Rules choose the types of columns.
type Rules int

const (
	// FileRules are the rules of Encode for files that are read together with
	// those of other days.
	FileRules Rules = iota
	// QueryRules are those of Encode for the queries of one snapshot.
	QueryRules
)

// maxColumns returns the largest number of members that are columns or fields.
func (r Rules) maxColumns() int {
	if r == QueryRules {
		return maxQueryColumns
	}
	return maxColumns
}

// othersName is the name of the column of the members beyond maxColumns.
const othersName = "_other_members"

// A columnType is the type of a column, a list's elements or a struct's field.
type columnType int

const (
	varcharType columnType = iota
	booleanType
	doubleType
	bigintType
	timestampType // UTC
	localTimestampType
	utcTimestampType // localTimestampType of times with an offset
	dateType
	jsonType
	structType
	listType
)

// sqlNames are DuckDB's names of the types.
var sqlNames = [...]string{
	"VARCHAR", "BOOLEAN", "DOUBLE", "BIGINT", "TIMESTAMP WITH TIME ZONE", "TIMESTAMP", "TIMESTAMP", "DATE", "JSON", "STRUCT", "LIST",
}

// A node has the kinds of the values at one place of the records, in this
// snapshot and in earlier ones, and the types of what is in them.
type node struct {
	kinds    kinds
	members  []*member // of objects, in the order of first appearance
	byName   map[string]*member
	elements *node // of lists; nil when there was none
	// repeats is set when an object of this snapshot has several members of
	// the same name.
	repeats bool
	// largest is the size in bytes of the largest object or list in the records.
	largest int
	// overflows is set when the records have more members than may be columns.
	// others is then the column of these, as one object.
	overflows bool
	others    *member

	typ     columnType // that of kinds, set by settle
	earlier columnType // that of earlier files, if known is set
	known   bool
}

// A member is a member of the objects of a node.
type member struct {
	node
	index  int    // in the members of the node
	quoted string // the vendor's name as a JSON string
	vendor string // the vendor's name
	column string // the name in the file; "" before it has one
	field  string // column as a JSON string
	object int64  // number of the last object that has the member, from 1
}

// columnType returns the type that can hold all values of n.
func (n *node) columnType(rules Rules) columnType {
	k := n.kinds
	if rules == QueryRules {
		switch k {
		case intKind:
			return bigintType
		case timeKind:
			return utcTimestampType
		case spacedTimeKind:
			return localTimestampType
		case dateKind:
			return dateType
		}
	}
	switch {
	case k&textKind != 0:
		return varcharType
	case k&jsonKind != 0:
		return jsonType
	case k == boolKind:
		return booleanType
	case k == intKind || k == floatKind || k == intKind|floatKind:
		return doubleType
	case k == intKind|wideKind:
		return bigintType
	case k == timeKind:
		return timestampType
	case k == localTimeKind:
		return localTimestampType
	case k == listKind:
		return listType
	case k == objectKind && len(n.members) > 0:
		return structType
	case k&(objectKind|listKind) != 0:
		return jsonType
	}
	return varcharType
}

// settle sets the types and names of n and what is in it. A type that holds
// texts is set for good: it can hold whatever later snapshots have. So are the
// types where no value was seen, VARCHAR, and no member of an object, JSON.
func (n *node) settle(rules Rules) {
	switch n.typ = n.columnType(rules); n.typ {
	case varcharType:
		n.kinds = textKind
	case jsonType:
		n.kinds = jsonKind
	case listType:
		if n.elements == nil {
			n.elements = new(node)
		}
		n.elements.settle(rules)
		return
	case structType:
		n.nameMembers(map[string]bool{})
		for _, m := range n.members {
			m.settle(rules)
		}
		return
	}
	n.members, n.byName, n.elements = nil, nil, nil
}

// settleRoot settles the type of the records.
func (n *node) settleRoot(rules Rules) {
	if n.overflows {
		n.others = &member{vendor: othersName, index: len(n.members), node: node{kinds: jsonKind}}
		n.members = append(n.members, n.others)
	}
	n.nameMembers(map[string]bool{snapshot.MemberTenancy: true, snapshot.MemberUploadTimestamp: true, snapshot.MemberUploadID: true})
	for _, m := range n.members {
		m.settle(rules)
	}
	n.typ = structType
}

// nameMembers gives the members without a column name one that differs from
// those in taken and from the others in more than letter case, since most
// readers of Parquet ignore case.
func (n *node) nameMembers(taken map[string]bool) {
	var unnamed []*member
	for _, m := range n.members {
		if m.column == "" {
			unnamed = append(unnamed, m)
		} else {
			taken[strings.ToLower(m.column)] = true
		}
	}
	// Of similar names the one with small letters stays as it is, whatever the
	// order of the records.
	slices.SortFunc(unnamed, func(a, b *member) int { return strings.Compare(b.vendor, a.vendor) })
	for _, m := range unnamed {
		base := replaceNUL(m.vendor)
		if base == "" {
			base = "_"
		}
		m.column = base
		for i := 2; taken[strings.ToLower(m.column)]; i++ {
			m.column = base + "_" + strconv.Itoa(i)
		}
		taken[strings.ToLower(m.column)] = true
	}
	for _, m := range n.members {
		m.field = string(appendQuoted(nil, []byte(m.column)))
	}
}

// findMember returns the member with that name, a JSON string, or nil. guess is
// the index where the member is in records whose members have the usual order.
func (n *node) findMember(quoted []byte, guess int) *member {
	if guess < len(n.members) && n.members[guess].quoted == string(quoted) {
		return n.members[guess]
	}
	if bytes.IndexByte(quoted, '\\') < 0 {
		return n.byName[string(quoted[1:len(quoted)-1])]
	}
	return n.byName[unquoteName(quoted)]
}

// addMember adds a member with the vendor's name, which n does not have.
func (n *node) addMember(vendor string) *member {
	if n.byName == nil {
		n.byName = map[string]*member{}
	}
	m := &member{vendor: vendor, quoted: string(appendQuoted(nil, []byte(vendor))), index: len(n.members)}
	n.members = append(n.members, m)
	n.byName[vendor] = m
	return m
}

// countMembers returns the number of members in n, those in its members and
// elements included.
func (n *node) countMembers() int {
	total := len(n.members)
	for _, m := range n.members {
		total += m.countMembers()
	}
	if n.elements != nil {
		total += n.elements.countMembers()
	}
	return total
}

// collapse makes JSON texts of the values of n, unless they are VARCHAR.
func (n *node) collapse() {
	n.kinds |= jsonKind
	n.members, n.byName, n.elements = nil, nil, nil
}

// flattenLarge gives the members of the records that have an object or list of that
// many bytes another type: JSON, or VARCHAR. It reports whether there was one.
func (n *node) flattenLarge(bytes int, typ columnType) bool {
	found := false
	for _, m := range n.members {
		if m.largest >= bytes && m.typ != typ && m.typ != varcharType {
			m.typ, m.members, m.byName, m.elements = typ, nil, nil, nil
			found = true
		}
	}
	return found
}

// each calls visit for n and all that is in it, with the path to it.
func (n *node) each(path string, visit func(path string, n *node)) {
	visit(path, n)
	for _, m := range n.members {
		m.each(strings.TrimPrefix(path+"."+m.vendor, "."), visit)
	}
	if n.elements != nil {
		n.elements.each(path+"[]", visit)
	}
}

// needsCast reports whether n or what is in it has another type in the structure for
// from_json than in the file.
func (n *node) needsCast() bool {
	found := false
	n.each("", func(_ string, n *node) { found = found || n.typ == jsonType || n.typ == utcTimestampType })
	return found
}

// appendStructure appends the type of n in the form that DuckDB's from_json
// takes. JSON is VARCHAR there, and times have an offset, see sqlType.
func (n *node) appendStructure(dst []byte) []byte {
	switch n.typ {
	case structType:
		for i, m := range n.members {
			dst = append(dst, "{,"[min(i, 1)])
			dst = append(append(dst, m.field...), ':')
			dst = m.appendStructure(dst)
		}
		return append(dst, '}')
	case listType:
		return append(n.elements.appendStructure(append(dst, '[')), ']')
	case jsonType:
		return append(dst, `"VARCHAR"`...)
	case utcTimestampType: // from_json ignores the offset in a TIMESTAMP
		return append(dst, `"TIMESTAMP WITH TIME ZONE"`...)
	}
	return append(append(append(dst, '"'), sqlNames[n.typ]...), '"')
}

// sqlType returns the type of n in SQL.
func (n *node) sqlType() string {
	switch n.typ {
	case structType:
		var fields []string
		for _, m := range n.members {
			fields = append(fields, duckdb.Quote(m.column)+" "+m.sqlType())
		}
		return "STRUCT(" + strings.Join(fields, ", ") + ")"
	case listType:
		return n.elements.sqlType() + "[]"
	}
	return sqlNames[n.typ]
}
