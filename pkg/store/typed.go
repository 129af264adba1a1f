package store

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/collectord/collectord/pkg/snapshot/columns"
)

// The values of the settings that say which views a database destination has.
const (
	ViewsOn    = "on"    // the views of newest snapshots
	ViewsTyped = "typed" // and those with a column for each member
	ViewsOff   = "off"   // none is created
)

// A TypedView is the work on the typed view of a stream while one snapshot is stored.
// Its types are those of the records that were stored, and of all that the view has
// shown before.
//
// They are kept in the database, beside the view: processes of several tenancies
// share it, and a transaction that is rolled back changes neither.
type TypedView struct {
	// Was is the text of the remembered types; "" if there were none.
	Was string
	// Problem says why the remembered types could not be used; nil if they could.
	Problem error
	typing  *columns.Typing
	options columns.Options
}

// NewTypedView returns a TypedView with the remembered types. maxName is the longest
// name of a column in bytes; 0 is no limit. declared are the members whose kinds are known,
// see columns.Options.
func NewTypedView(remembered string, maxName int, declared []columns.Remembered) *TypedView {
	v := &TypedView{Was: remembered, options: columns.Options{Rules: columns.ViewRules, MaxName: maxName, Declared: declared}}
	earlier, err := columns.RecallTypes(remembered)
	if err != nil {
		v.Was, v.Problem, earlier = "", err, columns.Types{}
	}
	v.typing = columns.NewTyping(earlier, v.options)
	return v
}

// AddRecord adds the types of a record, in the form in which it is stored. t may be
// nil. A row of another program that is no object has no members.
func (t *TypedView) AddRecord(record []byte) {
	if t != nil && bytes.HasPrefix(bytes.TrimLeft(record, " \t\r\n"), []byte("{")) {
		t.typing.AddRecord(record)
	}
}

// Choose returns the columns, the text to remember, and what is worth noting about
// the columns that are new or differ from those before. typeName returns the name of
// a type in the database.
func (t *TypedView) Choose(typeName func(columns.Type) string) (chosen columns.Result, remember string, notes []string) {
	chosen = t.typing.Choose()
	for _, r := range chosen.Renamed {
		if r.New {
			notes = append(notes, fmt.Sprintf("member %s is in column %q", quoteStart(r.Vendor), r.Column))
		}
	}
	if t.Was != "" {
		for _, c := range chosen.Changes {
			notes = append(notes, fmt.Sprintf("member %s has values that %s cannot hold: its column is %s from now on", quoteStart(c.Path), typeName(c.From), typeName(c.To)))
		}
	}
	if chosen.Problem != nil {
		notes = append(notes, fmt.Sprintf("the records are in one column json_data: %v", chosen.Problem))
	}
	return chosen, columns.NewTypes(chosen).String(), notes
}

// quoteStart returns the name of a member in quotes, shortened if it is long.
func quoteStart(name string) string { return fmt.Sprintf("%.100q", name) }

// viewMark begins the line by which collectord marks its typed views, in their
// comment. A view without it is not collectord's.
const viewMark = "collectord: the members of the newest snapshot of each tenancy as columns"

// IsTypedView reports whether the comment is that of a typed view of collectord.
func IsTypedView(comment string) bool {
	for line := range strings.Lines(comment) {
		if strings.HasPrefix(line, viewMark) {
			return true
		}
	}
	return false
}

// MarkTypedView returns a comment with the mark of typed views. What a user wrote
// stays.
func MarkTypedView(comment string) string {
	switch {
	case IsTypedView(comment):
		return comment
	case comment == "":
		return viewMark
	}
	return comment + "\n" + viewMark
}
