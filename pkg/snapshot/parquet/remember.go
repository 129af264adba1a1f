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

// TypesKey returns the key under which the types of a stream are remembered.
func TypesKey(stream string) string { return "parquet types " + stream }

// A typing is the types of one snapshot's file.
type typing struct {
	root    *columns.Node // nil when the records are in one column
	queries *columns.Node // the types by QueryRules; nil when the file has these, or there are none
	notes   []string
	text    string // the types to remember
}

// chooseTypes reads the whole snapshot, which verifies it, and returns the types
// of its file: the narrowest that hold its values and those of the stream's
// earlier snapshots, as far as Options.Types has their types.
func chooseTypes(ctx context.Context, s *snapshot.Snapshot, o Options) (t typing, err error) {
	earlier, err := columns.RecallTypes(o.Types)
	if err != nil {
		t.notes = append(t.notes, err.Error()+": the types are those of this snapshot alone")
		earlier = columns.Types{}
	}
	chosen, queries, err := inferTypes(ctx, s, o, earlier)
	if err != nil {
		return t, err
	}
	t.queries = queries.Root
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
// its records and those of earlier ones. If they are not by QueryRules, it also returns
// the types of the records alone by these.
func inferTypes(ctx context.Context, s *snapshot.Snapshot, o Options, earlier columns.Types) (chosen, queries columns.Result, err error) {
	r, err := openRecords(ctx, s, o.Repair)
	if err != nil {
		return chosen, queries, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	typing := columns.NewTyping(earlier, columns.Options{Rules: o.Rules, Declared: o.Declared})
	forQueries := columns.NewTyping(columns.Types{}, columns.Options{Rules: columns.QueryRules, Declared: o.Declared})
	for {
		record, _, err := r.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return chosen, queries, err
		}
		typing.AddRecord(record)
		if o.Rules != columns.QueryRules {
			forQueries.AddRecord(record)
		}
	}
	if o.Rules != columns.QueryRules {
		queries = forQueries.Choose()
	}
	return typing.Choose(), queries, nil
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
