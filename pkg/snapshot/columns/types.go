package columns

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/collectord/collectord/pkg/snapshot"
)

// MaxColumns is how many members the records of a stream may have, those within
// objects and lists that have types included. Each column costs memory, and where
// there are more, the names are data.
const MaxColumns = 1000

const (
	maxQueryColumns = 2000 // MaxColumns by QueryRules
	maxMembers      = 200  // members of an object below the top level
	maxDepth        = 16   // objects and lists within each other
)

// othersName is the name of the column of the members beyond MaxColumns by QueryRules.
const othersName = "_other_members"

// A Type is the type of a column, a list's elements or a struct's field.
type Type int

// The types. The times have microseconds.
const (
	Varchar Type = iota
	Boolean
	Double
	Bigint
	Timestamp // UTC
	LocalTimestamp
	UTCTimestamp // LocalTimestamp of times with an offset
	Date
	JSON
	Struct
	List
)

// typeNames are the names of the types in SQL.
var typeNames = [...]string{
	"VARCHAR", "BOOLEAN", "DOUBLE", "BIGINT", "TIMESTAMP WITH TIME ZONE", "TIMESTAMP", "TIMESTAMP", "DATE", "JSON", "STRUCT", "LIST",
}

// String returns the name of the type in SQL, as DuckDB spells it.
func (t Type) String() string { return typeNames[t] }

// A Node has the kinds of the values at one place of the records, in this
// snapshot and in earlier ones, and the types of what is in them.
type Node struct {
	Type     Type      // that of kinds, set when the types are chosen
	Members  []*Member // of objects, in the order of first appearance
	Elements *Node     // of lists; nil when there was none
	// Repeats is set when an object of this snapshot has several members of
	// the same name.
	Repeats bool
	// Others is the column of the members beyond the largest number of columns,
	// as one object; nil if there are none.
	Others *Member

	// IsEmpty is set when no value other than null was seen, when the types are chosen.
	IsEmpty bool

	// largest is the size in bytes of the largest object or list in the records.
	largest int
	// overflows is set when the records have more members than may be columns.
	overflows bool

	kinds   kinds
	byName  map[string]*Member
	earlier Type // that of earlier snapshots, if known is set
	known   bool
}

// A Member is a member of the objects of a Node.
type Member struct {
	Node
	Index  int    // in the members of the node
	Vendor string // the vendor's name
	Column string // the name of the column or field; "" before it has one
	Field  string // Column as a JSON string
	quoted string // Vendor as a JSON string
	object int64  // number of the last object that has the member, from 1
}

// columnType returns the type that can hold all values of n.
func (n *Node) columnType(o Options) Type {
	k := n.kinds
	if o.Rules == QueryRules {
		switch k {
		case timeKind:
			return UTCTimestamp
		case spacedTimeKind:
			return LocalTimestamp
		case dateKind:
			return Date
		}
	}
	switch {
	case k&textKind != 0:
		return Varchar
	case k&jsonKind != 0:
		return JSON
	case k == boolKind:
		return Boolean
	case k == intKind|wideKind || k == intKind && o.Rules != FileRules:
		return Bigint
	case k == intKind || k == floatKind || k == intKind|floatKind:
		return Double
	case k == timeKind:
		return Timestamp
	case k == localTimeKind:
		return LocalTimestamp
	case k == listKind:
		return List
	case k == objectKind && len(n.Members) > 0:
		return Struct
	case k&(objectKind|listKind) != 0:
		return JSON
	}
	return Varchar
}

// settle sets the types and names of n and what is in it. A type that holds
// texts is set for good: it can hold whatever later snapshots have. So are the
// types where no value was seen, VARCHAR, and no member of an object, JSON.
func (n *Node) settle(o Options) {
	n.IsEmpty = n.kinds == 0
	switch n.Type = n.columnType(o); n.Type {
	case Varchar:
		n.kinds = textKind
	case JSON:
		n.kinds = jsonKind
	case List:
		if n.Elements == nil {
			n.Elements = new(Node)
		}
		n.Elements.settle(o)
		return
	case Struct:
		n.nameMembers(map[string]bool{}, o.MaxName)
		for _, m := range n.Members {
			m.settle(o)
		}
		return
	}
	n.Members, n.byName, n.Elements = nil, nil, nil
}

// settleRoot settles the type of the records.
func (n *Node) settleRoot(o Options) {
	if n.overflows {
		n.Others = &Member{Vendor: othersName, Index: len(n.Members), Node: Node{kinds: jsonKind}}
		n.Members = append(n.Members, n.Others)
	}
	n.nameMembers(map[string]bool{snapshot.MemberTenancy: true, snapshot.MemberUploadTimestamp: true, snapshot.MemberUploadID: true}, o.MaxName)
	for _, m := range n.Members {
		m.settle(o)
	}
	n.Type = Struct
}

// cutName returns the beginning of name that has at most longest bytes. Without a
// limit, longest is 0 or less.
func cutName(name string, longest int) string {
	if longest <= 0 || len(name) <= longest {
		return name
	}
	for longest > 0 && !utf8.RuneStart(name[longest]) {
		longest--
	}
	return name[:longest]
}

// nameMembers gives the members without a column name one that differs from
// those in taken and from the others in more than letter case, since most
// programs that read columns ignore case. It has at most longest bytes; 0 is no
// limit.
func (n *Node) nameMembers(taken map[string]bool, longest int) {
	var unnamed []*Member
	for _, m := range n.Members {
		if m.Column == "" {
			unnamed = append(unnamed, m)
		} else {
			taken[strings.ToLower(m.Column)] = true
		}
	}
	// Of similar names the one with small letters stays as it is, whatever the
	// order of the records.
	slices.SortFunc(unnamed, func(a, b *Member) int { return strings.Compare(b.Vendor, a.Vendor) })
	for _, m := range unnamed {
		base := strings.ReplaceAll(m.Vendor, "\x00", "\ufffd")
		if base == "" {
			base = "_"
		}
		m.Column = cutName(base, longest)
		for i := 2; taken[strings.ToLower(m.Column)]; i++ {
			number := "_" + strconv.Itoa(i)
			m.Column = cutName(base, longest-len(number)) + number
		}
		taken[strings.ToLower(m.Column)] = true
	}
	for _, m := range n.Members {
		m.Field = string(AppendQuoted(nil, []byte(m.Column)))
	}
}

// FindMember returns the member with that name, a JSON string, or nil. guess is
// the index where the member is in records whose members have the usual order.
func (n *Node) FindMember(quoted []byte, guess int) *Member {
	if guess < len(n.Members) && n.Members[guess].quoted == string(quoted) {
		return n.Members[guess]
	}
	if bytes.IndexByte(quoted, '\\') < 0 {
		return n.byName[string(quoted[1:len(quoted)-1])]
	}
	return n.byName[UnquoteName(quoted)]
}

// LookUpMember returns the member with the vendor's name, or nil.
func (n *Node) LookUpMember(vendor string) *Member { return n.byName[vendor] }

// addMember adds a member with the vendor's name, which n does not have.
func (n *Node) addMember(vendor string) *Member {
	if n.byName == nil {
		n.byName = map[string]*Member{}
	}
	m := &Member{Vendor: vendor, quoted: string(AppendQuoted(nil, []byte(vendor))), Index: len(n.Members)}
	n.Members = append(n.Members, m)
	n.byName[vendor] = m
	return m
}

// countMembers returns the number of members in n, those in its members and
// elements included.
func (n *Node) countMembers() int {
	total := len(n.Members)
	for _, m := range n.Members {
		total += m.countMembers()
	}
	if n.Elements != nil {
		total += n.Elements.countMembers()
	}
	return total
}

// collapse makes JSON texts of the values of n, unless they are VARCHAR.
func (n *Node) collapse() {
	n.kinds |= jsonKind
	n.Members, n.byName, n.Elements = nil, nil, nil
}

// FlattenLarge gives the members of the records that have an object or list of that
// many bytes another type: JSON, or Varchar. It reports whether there was one.
func (n *Node) FlattenLarge(bytes int, typ Type) bool {
	found := false
	for _, m := range n.Members {
		if m.largest >= bytes && m.Type != typ && m.Type != Varchar {
			m.Type, m.Members, m.byName, m.Elements = typ, nil, nil, nil
			found = true
		}
	}
	return found
}

// each calls visit for n and all that is in it, with the path to it.
func (n *Node) each(path string, visit func(path string, n *Node)) {
	visit(path, n)
	for _, m := range n.Members {
		m.each(strings.TrimPrefix(path+"."+m.Vendor, "."), visit)
	}
	if n.Elements != nil {
		n.Elements.each(path+"[]", visit)
	}
}
