package columns

import (
	"fmt"

	"github.com/collectord/collectord/pkg/snapshot"
)

// Rules choose the types of columns.
type Rules int

const (
	// FileRules are for files that are read together with those of other days.
	FileRules Rules = iota
	// QueryRules are for the queries of one snapshot. There are more types and
	// columns, and nothing is remembered.
	QueryRules
	// ViewRules are for views of tables: integers are Bigint, and objects and
	// lists are JSON, whatever is in them.
	ViewRules
)

// maxColumns returns the largest number of members that are columns or fields.
func (r Rules) maxColumns() int {
	if r == QueryRules {
		return maxQueryColumns
	}
	return MaxColumns
}

// Options say how types and names are chosen.
type Options struct {
	Rules Rules
	// MaxName is the longest name of a column in bytes; 0 is no limit.
	MaxName int
	// Declared are members of the records whose kinds are known before there is a value.
	// They are columns in this order, before the others.
	Declared []Remembered
}

// A Typing chooses the types of a stream's records: the narrowest that hold the
// records that were added and those of earlier snapshots.
type Typing struct {
	scanner  Scanner
	options  Options
	untyped  bool // earlier records have no types
	root     *Node
	depth    int   // of objects and lists that have types
	columns  int   // members in the tree, or more
	objects  int64 // read so far
	repeats  bool  // the present record has two members of the same name
	repeated int64 // records of which that is true
	problem  error // why the records cannot be typed
}

// NewTyping returns a Typing with the types of earlier snapshots.
func NewTyping(earlier Types, o Options) *Typing {
	t := &Typing{options: o, untyped: earlier.Untyped, root: earlier.tree(o), depth: maxDepth}
	for _, r := range o.Declared {
		if t.root.LookUpMember(r.Name) == nil {
			t.root.recallMembers([]Remembered{r}, o)
		}
	}
	if o.Rules == ViewRules {
		t.depth = 1
	}
	t.columns = t.root.countMembers()
	return t
}

// AddRecord adds the types of a record, which is valid JSON.
func (t *Typing) AddRecord(record []byte) {
	if t.problem != nil {
		return
	}
	t.scanner, t.repeats = NewScanner(record), false
	t.addObject(t.root, 0)
	if t.scanner.err != nil {
		t.problem = t.scanner.err
	}
	if t.repeats {
		t.repeated++
	}
}

// A Result is what a Typing has chosen.
type Result struct {
	// Root has a column for each of its Members. It is nil when the records
	// have no types.
	Root *Node
	// Problem says why the records have no types. It is nil when they have
	// some, or when it was a problem of earlier records.
	Problem error
	// Repeated is the number of records that have members of the same name in
	// one object.
	Repeated int64
	// Changes are the members whose type differs from that of earlier
	// snapshots.
	Changes []Change
	// Renamed are the members whose column has another name.
	Renamed []Rename
}

// Choose ends the Typing.
func (t *Typing) Choose() Result {
	if t.problem != nil || t.untyped {
		return Result{Problem: t.problem}
	}
	t.root.settleRoot(t.options)
	return Result{Root: t.root, Repeated: t.repeated, Changes: t.root.listChanges(), Renamed: t.root.listRenamed()}
}

// addValue adds the type of the next value to n. depth is the number of objects
// and lists around the value.
func (t *Typing) addValue(n *Node, depth int) {
	switch t.scanner.Peek() {
	case '"':
		if raw := t.scanner.ReadString(); n.kinds&(stringKind|textKind|jsonKind) == 0 {
			n.kinds |= kindOfString(raw)
		}
	case '{':
		t.addNested(n, objectKind, depth)
	case '[':
		t.addNested(n, listKind, depth)
	default:
		n.kinds |= scalarKind(t.scanner.ReadScalar())
	}
	if (n.Members != nil || n.Elements != nil) && n.kinds != objectKind && n.kinds != listKind {
		n.collapse()
	}
}

// addNested adds the type of the next value, an object or list.
func (t *Typing) addNested(n *Node, kind kinds, depth int) {
	n.kinds |= kind
	if depth == t.depth {
		n.collapse()
	}
	t.scanner.Peek()
	start := t.scanner.pos
	defer func() { n.largest = max(n.largest, t.scanner.pos-start) }()
	switch n.kinds {
	case objectKind:
		t.addObject(n, depth)
	case listKind:
		t.addList(n, depth)
	default: // it is no STRUCT or LIST whatever is in it
		t.scanner.readNested()
	}
}

func (t *Typing) addList(n *Node, depth int) {
	t.scanner.Expect('[')
	for i := 0; t.scanner.HasElement(']', i); i++ {
		if n.Elements == nil {
			n.Elements = new(Node)
		}
		t.addValue(n.Elements, depth+1)
	}
}

func (t *Typing) addObject(n *Node, depth int) {
	t.scanner.Expect('{')
	t.objects++
	object, guess := t.objects, 0
	for i := 0; t.scanner.HasElement('}', i); i++ {
		name := t.scanner.ReadString()
		t.scanner.Expect(':')
		m := n.FindMember(name, guess)
		if m == nil {
			m = t.addMember(n, UnquoteName(name), depth)
		}
		if m == nil {
			t.scanner.ReadValue()
			continue
		}
		guess = m.Index + 1
		if m.object == object {
			n.Repeats, t.repeats = true, true
		}
		m.object = object
		t.addValue(&m.Node, depth+1)
	}
}

// addMember adds a member to n. It returns nil when the member is none of the
// vendor's or n cannot have it.
func (t *Typing) addMember(n *Node, vendor string, depth int) *Member {
	switch {
	case depth == 0 && (n.overflows || snapshot.IsReservedMember(vendor)) || n.kinds&jsonKind != 0:
		return nil
	case depth > 0 && len(n.Members) == maxMembers:
		n.collapse()
		return nil
	}
	m := n.addMember(vendor)
	if t.columns++; t.columns > t.options.Rules.maxColumns() {
		t.dropColumns()
	}
	return m
}

// dropColumns makes JSON of the largest members of the records until there are
// not too many columns.
func (t *Typing) dropColumns() {
	limit := t.options.Rules.maxColumns()
	for t.columns = t.root.countMembers(); t.columns > limit; t.columns = t.root.countMembers() {
		largest, size := (*Member)(nil), 0
		for _, m := range t.root.Members {
			if n := m.countMembers(); n > size {
				largest, size = m, n
			}
		}
		switch {
		case largest == nil && t.options.Rules == QueryRules:
			t.root.overflows = true
			return
		case largest == nil:
			t.problem = fmt.Errorf("they have over %d different members", limit)
			return
		}
		largest.collapse()
	}
}
