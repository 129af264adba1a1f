package columns

import (
	"encoding/json"
	"fmt"
	"slices"
)

// version is the version of the format of remembered types. It is
// increased when an earlier program could misread it.
const version = 1

// Types are the types of a stream's records as they are remembered from snapshot
// to snapshot.
type Types struct {
	Version int `json:"version"`
	// UploadID is the snapshot that last changed the types, and Changes are the
	// notes about that, for a program that repeats its work.
	UploadID string   `json:"upload_id"`
	Changes  []string `json:"changes,omitempty"`
	// Untyped is set when the records are in one column.
	Untyped bool         `json:"untyped,omitempty"`
	Members []Remembered `json:"members,omitempty"`
}

// NewTypes returns the types of a snapshot for which r was chosen.
func NewTypes(r Result) Types {
	t := Types{Version: version, Untyped: r.Root == nil}
	if r.Root != nil {
		t.Members = r.Root.rememberMembers()
	}
	return t
}

// String returns the text from which RecallTypes returns t.
func (t Types) String() string {
	text, err := json.Marshal(t)
	if err != nil {
		panic(err) // there is nothing that JSON cannot hold
	}
	return string(text)
}

// A Remembered is the description of a Node. The kinds are those of rememberedKinds, such as
// "fraction"; none are those of a member that had no value.
type Remembered struct {
	Name     string       `json:"name,omitempty"`
	Column   string       `json:"column,omitempty"` // if it is not Name
	Kinds    []string     `json:"kinds"`
	Members  []Remembered `json:"members,omitempty"`
	Elements *Remembered  `json:"elements,omitempty"`
}

// RecallTypes returns the types that text has, "" for none.
func RecallTypes(text string) (Types, error) {
	t := Types{Version: version}
	if text == "" {
		return t, nil
	}
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return t, fmt.Errorf("the remembered types of the stream cannot be read: %w", err)
	}
	if t.Version != version {
		return t, fmt.Errorf("the remembered types of the stream have format %d, want %d: a newer program stored them", t.Version, version)
	}
	return t, nil
}

// tree returns the root of the tree of types.
func (t Types) tree(o Options) *Node {
	root := new(Node)
	root.recallMembers(t.Members, o)
	root.kinds = objectKind
	return root
}

// recall sets n to the type that r describes.
func (n *Node) recall(r Remembered, o Options) {
	for _, k := range rememberedKinds {
		if slices.Contains(r.Kinds, k.name) {
			n.kinds |= k.kind
		}
	}
	n.recallMembers(r.Members, o)
	if r.Elements != nil {
		n.Elements = new(Node)
		n.Elements.recall(*r.Elements, o)
	}
	n.known, n.earlier = true, n.columnType(o)
}

func (n *Node) recallMembers(list []Remembered, o Options) {
	for _, r := range list {
		m := n.addMember(r.Name)
		if m.Column = r.Column; m.Column == "" {
			m.Column = r.Name
		}
		m.recall(r, o)
	}
}

// remember returns the description of n, which is settled.
func (n *Node) remember() Remembered {
	r := Remembered{Members: n.rememberMembers()}
	for _, k := range rememberedKinds {
		if n.kinds&k.kind != 0 {
			r.Kinds = append(r.Kinds, k.name)
		}
	}
	if n.Elements != nil {
		elements := n.Elements.remember()
		r.Elements = &elements
	}
	return r
}

func (n *Node) rememberMembers() []Remembered {
	var list []Remembered
	for _, m := range n.Members {
		r := m.remember()
		if r.Name = m.Vendor; m.Column != m.Vendor {
			r.Column = m.Column
		}
		list = append(list, r)
	}
	return list
}

// A Change is a change of a member's type.
type Change struct {
	Path     string // of the vendor's names: "cve.severity", "hostnames[]"
	From, To Type
}

// listChanges returns the changes of n and of what is in it.
func (n *Node) listChanges() []Change {
	var list []Change
	n.each("", func(path string, n *Node) {
		if n.known && n.earlier != n.Type {
			list = append(list, Change{Path: path, From: n.earlier, To: n.Type})
		}
	})
	return list
}

// A Rename is a member whose column or field has another name.
type Rename struct {
	Path           string // of the object that has the member; "" is the record
	Vendor, Column string
	New            bool // earlier snapshots did not have it
}

// listRenamed returns the members in n whose columns have another name.
func (n *Node) listRenamed() []Rename {
	var list []Rename
	n.each("", func(path string, n *Node) {
		for _, m := range n.Members {
			if m.Column != m.Vendor {
				list = append(list, Rename{Path: path, Vendor: m.Vendor, Column: m.Column, New: !m.known})
			}
		}
	})
	return list
}
