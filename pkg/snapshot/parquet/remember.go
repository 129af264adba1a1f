package parquet

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/dustin/go-humanize/english"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/snapshot/columns"
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

// A typing is the types of one snapshot's file.
type typing struct {
	root  *columns.Node // nil when the records are in one column
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
	earlier, err := columns.RecallTypes(t.old)
	if err != nil {
		t.notes = append(t.notes, err.Error()+": the types are those of this snapshot alone")
		earlier = columns.Types{}
	}
	chosen, err := inferTypes(ctx, s, o, earlier)
	if err != nil {
		return t, err
	}
	if chosen.Problem != nil && o.Rules == columns.QueryRules {
		return t, chosen.Problem
	}
	now := columns.NewTypes(chosen)
	now.UploadID, now.Changes = earlier.UploadID, earlier.Changes
	t.root = chosen.Root
	switch {
	case chosen.Problem != nil:
		t.notes = append(t.notes, fmt.Sprintf("the records are in one column json_data: %v", chosen.Problem))
	case chosen.Root == nil:
		t.notes = append(t.notes, "the records are in one column json_data, as in earlier files")
	}
	t.notes = append(t.notes, describeNames(chosen.Renamed)...)
	if chosen.Repeated > 0 {
		t.notes = append(t.notes, english.Plural(int(chosen.Repeated), "record has", "records have")+" members of the same name: the last one of each is stored")
	}
	if changes := describeChanges(chosen.Changes); len(changes) > 0 {
		now.UploadID, now.Changes = s.UploadID, changes
	}
	if now.UploadID == s.UploadID {
		t.notes = append(t.notes, now.Changes...)
	}
	t.text = now.String()
	return t, nil
}

// inferTypes reads the whole snapshot, which verifies it, and returns the types of
// its records and those of earlier ones.
func inferTypes(ctx context.Context, s *snapshot.Snapshot, o Options, earlier columns.Types) (_ columns.Result, err error) {
	r, err := openRecords(ctx, s, o.Repair)
	if err != nil {
		return columns.Result{}, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	typing := columns.NewTyping(earlier, columns.Options{Rules: o.Rules})
	for {
		record, _, err := r.next()
		if err == io.EOF {
			return typing.Choose(), nil
		}
		if err != nil {
			return columns.Result{}, err
		}
		typing.AddRecord(record)
	}
}

// describeChanges returns a note for each change of a type.
func describeChanges(changes []columns.Change) []string {
	var notes []string
	for _, c := range changes {
		notes = append(notes, fmt.Sprintf("member %q was %s in earlier files and is %s from this one on: read them together by name, and cast where a program needs one type",
			c.Path, c.From, c.To))
	}
	return notes
}

// describeNames returns a note for each member that has another name in the
// file.
func describeNames(renamed []columns.Rename) []string {
	var notes []string
	for _, r := range renamed {
		if r.Path == "" {
			notes = append(notes, fmt.Sprintf("member %q is in column %q", r.Vendor, r.Column))
		} else {
			notes = append(notes, fmt.Sprintf("member %q of %q is in field %q", r.Vendor, r.Path, r.Column))
		}
	}
	return notes
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
