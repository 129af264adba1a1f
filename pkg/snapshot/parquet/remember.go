package parquet

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/dustin/go-humanize/english"

	"github.com/collectord/collectord/pkg/snapshot"
)

// A Memory keeps a short text under each key, so that the types of a stream's
// files stay the same from snapshot to snapshot. It belongs to one tenancy.
type Memory interface {
	// Note returns the text under key; "" if there is none.
	Note(ctx context.Context, key string) (string, error)
	// SwapNote stores text under key if the text there is old, and reports
	// whether it was. An empty text removes the note.
	SwapNote(ctx context.Context, key, old, text string) (swapped bool, err error)
}

// TypesKey returns the key under which the types of a stream are remembered.
func TypesKey(stream string) string { return "parquet types " + stream }

// rememberedVersion is the version of the format of remembered types. It is
// increased when an earlier program could misread it.
const rememberedVersion = 1

// rememberedTypes are the types of a stream's files.
type rememberedTypes struct {
	Version int `json:"version"`
	// UploadID is the snapshot that last changed the types, and Changes are the
	// notes about that. They are there for a repeated Encode of it.
	UploadID string   `json:"upload_id"`
	Changes  []string `json:"changes,omitempty"`
	// Untyped is set when the records are in one column.
	Untyped bool             `json:"untyped,omitempty"`
	Members []rememberedNode `json:"members,omitempty"`
}

// A rememberedNode is a node of the tree of types.
type rememberedNode struct {
	Name     string           `json:"name,omitempty"`
	Column   string           `json:"column,omitempty"` // if it is not Name
	Kinds    []string         `json:"kinds"`
	Members  []rememberedNode `json:"members,omitempty"`
	Elements *rememberedNode  `json:"elements,omitempty"`
}

// recallTypes returns the types that text has, "" for none.
func recallTypes(text string) (rememberedTypes, error) {
	t := rememberedTypes{Version: rememberedVersion}
	if text == "" {
		return t, nil
	}
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return t, fmt.Errorf("the remembered types of the stream cannot be read: %w", err)
	}
	if t.Version != rememberedVersion {
		return t, fmt.Errorf("the remembered types of the stream have format %d, want %d: a newer program stored them", t.Version, rememberedVersion)
	}
	return t, nil
}

// tree returns the root of the tree of types.
func (r rememberedTypes) tree() *node {
	root := new(node)
	root.recallMembers(r.Members)
	root.kinds = objectKind
	return root
}

// recall sets n to the type that r describes.
func (n *node) recall(r rememberedNode) {
	for _, k := range rememberedKinds {
		if slices.Contains(r.Kinds, k.name) {
			n.kinds |= k.kind
		}
	}
	n.recallMembers(r.Members)
	if r.Elements != nil {
		n.elements = new(node)
		n.elements.recall(*r.Elements)
	}
	n.known, n.earlier = true, n.columnType(FileRules)
}

func (n *node) recallMembers(list []rememberedNode) {
	for _, r := range list {
		m := n.addMember(r.Name)
		if m.column = r.Column; m.column == "" {
			m.column = r.Name
		}
		m.recall(r)
	}
}

// remember returns the description of n, which is settled.
func (n *node) remember() rememberedNode {
	r := rememberedNode{Members: n.rememberMembers()}
	for _, k := range rememberedKinds {
		if n.kinds&k.kind != 0 {
			r.Kinds = append(r.Kinds, k.name)
		}
	}
	if n.elements != nil {
		elements := n.elements.remember()
		r.Elements = &elements
	}
	return r
}

func (n *node) rememberMembers() []rememberedNode {
	var list []rememberedNode
	for _, m := range n.members {
		r := m.remember()
		if r.Name = m.vendor; m.column != m.vendor {
			r.Column = m.column
		}
		list = append(list, r)
	}
	return list
}

// describeChanges returns a note for each type that differs from that of
// earlier files.
func (n *node) describeChanges() []string {
	var notes []string
	n.each("", func(path string, n *node) {
		if n.known && n.earlier != n.typ {
			notes = append(notes, fmt.Sprintf("member %q was %s in earlier files and is %s from this one on: read them together by name, and cast where a program needs one type",
				path, sqlNames[n.earlier], sqlNames[n.typ]))
		}
	})
	return notes
}

// describeNames returns a note for each member that has another name in the
// file.
func (n *node) describeNames() []string {
	var notes []string
	n.each("", func(path string, n *node) {
		for _, m := range n.members {
			if m.column == m.vendor {
				continue
			}
			if path == "" {
				notes = append(notes, fmt.Sprintf("member %q is in column %q", m.vendor, m.column))
			} else {
				notes = append(notes, fmt.Sprintf("member %q of %q is in field %q", m.vendor, path, m.column))
			}
		}
	})
	return notes
}

// A typing is the types of one snapshot's file.
type typing struct {
	root  *node // nil when the records are in one column
	notes []string
	old   string // the text in the memory
	text  string // the text to store there
}

// chooseTypes reads the whole snapshot, which verifies it, and returns the types
// of its file: the narrowest that hold its values and those of the stream's
// earlier snapshots, as far as Options.Types has their types.
func chooseTypes(ctx context.Context, s *snapshot.Snapshot, o Options) (t typing, err error) {
	if o.Types != nil {
		if t.old, err = o.Types.Note(ctx, TypesKey(s.Stream)); err != nil {
			return t, err
		}
	}
	earlier, err := recallTypes(t.old)
	if err != nil {
		t.notes = append(t.notes, err.Error()+": the types are those of this snapshot alone")
		earlier = rememberedTypes{Version: rememberedVersion}
	}
	root := earlier.tree()
	repeated, problem, err := inferTypes(ctx, s, o, root)
	if err != nil {
		return t, err
	}
	if problem != nil && o.Rules == QueryRules {
		return t, problem
	}
	now := rememberedTypes{Version: rememberedVersion, UploadID: earlier.UploadID, Changes: earlier.Changes}
	var changes []string
	switch {
	case problem != nil:
		now.Untyped = true
		t.notes = append(t.notes, fmt.Sprintf("the records are in one column json_data: %v", problem))
	case earlier.Untyped:
		now.Untyped = true
		t.notes = append(t.notes, "the records are in one column json_data, as in earlier files")
	default:
		root.settleRoot(o.Rules)
		t.root, changes, now.Members = root, root.describeChanges(), root.rememberMembers()
		t.notes = append(t.notes, root.describeNames()...)
		if repeated > 0 {
			t.notes = append(t.notes, english.Plural(int(repeated), "record has", "records have")+" members of the same name: the last one of each is stored")
		}
	}
	if len(changes) > 0 {
		now.UploadID, now.Changes = s.UploadID, changes
	}
	if now.UploadID == s.UploadID {
		t.notes = append(t.notes, now.Changes...)
	}
	text, err := json.Marshal(now)
	t.text = string(text)
	return t, err
}
