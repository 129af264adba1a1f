package parquet

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/collectord/collectord/pkg/snapshot"
)

// inferTypes reads the whole snapshot, which verifies it, and adds the types of
// its records to root. problem says why the records cannot be typed; nil if
// they can. repeated is the number of records with members of the same name.
func inferTypes(ctx context.Context, s *snapshot.Snapshot, o Options, root *node) (repeated int64, problem, err error) {
	r, err := openRecords(ctx, s, o.Repair)
	if err != nil {
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	in := &inference{root: root, rules: o.Rules, columns: root.countMembers()}
	for {
		record, _, err := r.next()
		if err == io.EOF {
			return in.repeated, in.problem, nil
		}
		if err != nil {
			return 0, nil, err
		}
		// After a problem the rest is read only to verify the snapshot.
		if in.problem == nil {
			in.addRecord(record)
		}
	}
}

// A recordReader reads the records of a snapshot.
type recordReader struct {
	*snapshot.Reader
	repair bool
	buf    []byte
}

// openRecords opens the records of s, with their escapes repaired if repair is set.
func openRecords(ctx context.Context, s *snapshot.Snapshot, repair bool) (*recordReader, error) {
	r, err := s.Reader(ctx)
	return &recordReader{Reader: r, repair: repair}, err
}

// next returns the next record, which is valid until the next call, and whether it
// was repaired.
func (r *recordReader) next() (record []byte, repaired bool, err error) {
	record, err = r.Next()
	if err != nil || !r.repair {
		return record, false, err
	}
	if r.buf, repaired = snapshot.RepairEscapes(r.buf[:0], record); repaired {
		record = r.buf
	}
	return record, repaired, nil
}

// An inference adds the types of records to a tree of types.
type inference struct {
	scanner
	root     *node
	rules    Rules
	columns  int   // members in the tree, or more
	objects  int64 // read so far
	repeats  bool  // the present record has two members of the same name
	repeated int64 // records of which that is true
	problem  error // why the records cannot be typed
}

func (in *inference) addRecord(record []byte) {
	in.scanner, in.repeats = scanner{data: record}, false
	in.addObject(in.root, 0)
	if in.err != nil {
		in.problem = in.err
	}
	if in.repeats {
		in.repeated++
	}
}

// addValue adds the type of the next value to n. depth is the number of objects
// and lists around the value.
func (in *inference) addValue(n *node, depth int) {
	switch in.peek() {
	case '"':
		if raw := in.readString(); n.kinds&(stringKind|textKind|jsonKind) == 0 {
			n.kinds |= kindOfString(raw)
		}
	case '{':
		in.addNested(n, objectKind, depth)
	case '[':
		in.addNested(n, listKind, depth)
	default:
		n.kinds |= scalarKind(in.readScalar())
	}
	if (n.members != nil || n.elements != nil) && n.kinds != objectKind && n.kinds != listKind {
		n.collapse()
	}
}

// addNested adds the type of the next value, an object or list.
func (in *inference) addNested(n *node, kind kinds, depth int) {
	n.kinds |= kind
	if depth == maxDepth {
		n.collapse()
	}
	in.peek()
	start := in.pos
	defer func() { n.largest = max(n.largest, in.pos-start) }()
	switch n.kinds {
	case objectKind:
		in.addObject(n, depth)
	case listKind:
		in.addList(n, depth)
	default: // it is no STRUCT or LIST whatever is in it
		in.readNested()
	}
}

func (in *inference) addList(n *node, depth int) {
	in.expect('[')
	for i := 0; in.hasElement(']', i); i++ {
		if n.elements == nil {
			n.elements = new(node)
		}
		in.addValue(n.elements, depth+1)
	}
}

func (in *inference) addObject(n *node, depth int) {
	in.expect('{')
	in.objects++
	object, guess := in.objects, 0
	for i := 0; in.hasElement('}', i); i++ {
		name := in.readString()
		in.expect(':')
		m := n.findMember(name, guess)
		if m == nil {
			m = in.addMember(n, unquoteName(name), depth)
		}
		if m == nil {
			in.readValue()
			continue
		}
		guess = m.index + 1
		if m.object == object {
			n.repeats, in.repeats = true, true
		}
		m.object = object
		in.addValue(&m.node, depth+1)
	}
}

// addMember adds a member to n. It returns nil when the member is none of the
// vendor's or n cannot have it.
func (in *inference) addMember(n *node, vendor string, depth int) *member {
	switch {
	case depth == 0 && (n.overflows || snapshot.IsReservedMember(vendor)) || n.kinds&jsonKind != 0:
		return nil
	case depth > 0 && len(n.members) == maxMembers:
		n.collapse()
		return nil
	}
	m := n.addMember(vendor)
	if in.columns++; in.columns > in.rules.maxColumns() {
		in.dropColumns()
	}
	return m
}

// dropColumns makes JSON of the largest members of the records until there are
// not too many columns.
func (in *inference) dropColumns() {
	limit := in.rules.maxColumns()
	for in.columns = in.root.countMembers(); in.columns > limit; in.columns = in.root.countMembers() {
		largest, size := (*member)(nil), 0
		for _, m := range in.root.members {
			if n := m.countMembers(); n > size {
				largest, size = m, n
			}
		}
		switch {
		case largest == nil && in.rules == QueryRules:
			in.root.overflows = true
			return
		case largest == nil:
			in.problem = fmt.Errorf("they have over %d different members", limit)
			return
		}
		largest.collapse()
	}
}
