package snapshot

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sealWithNote returns a snapshot with the doubts and the note of most tests.
func sealWithNote(t *testing.T) (*Snapshot, Note) {
	t.Helper()
	note := Note{Selection: "1234abcd", Text: `{"etag":"W/\"1\""}`}
	w, dir := createWriter(t)
	commitBatch(t, w, `{"id":1}`)
	w.SetDoubts(twoDoubts)
	w.SetNote(note)
	s, err := w.Seal(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s, note
}

func TestManifestHasNote(t *testing.T) {
	s, note := sealWithNote(t)
	again, err := Open(s.Dir())
	if err != nil || again.Note != note || !cmp.Equal(again.Doubts, twoDoubts) {
		t.Errorf("note %+v, doubts %v, error %v", again.Note, again.Doubts, err)
	}
}

func TestResetRemovesNote(t *testing.T) {
	w, dir := createWriter(t)
	w.SetNote(Note{Selection: "1234abcd", Text: "x"})
	if err := w.Reset(); err != nil {
		t.Fatal(err)
	}
	if s, err := w.Seal(dir); err != nil || s.Note != (Note{}) {
		t.Errorf("note %+v, error %v", s.Note, err)
	}
}

// A changed letter of the note is found like one in the rest of the manifest.
func TestChangedNotesAreFound(t *testing.T) {
	s, note := sealWithNote(t)
	path := filepath.Join(s.Dir(), manifestName)
	whole := readBytes(t, path)
	at := slices.Index(whole, note.Selection[0])
	for ; at >= 0 && string(whole[at:at+8]) != note.Selection; at++ {
	}
	changed := slices.Clone(whole)
	changed[at] = '9'
	overwriteFile(t, path, changed)
	if _, err := Open(s.Dir()); err == nil {
		t.Error("the selection of the note was changed, and no error is returned")
	}
}

// Programs before notes read a manifest that has one, and find it intact.
func TestEarlierProgramsReadNotes(t *testing.T) {
	s, _ := sealWithNote(t)
	var m struct {
		earlierInfo
		Doubts Doubts `json:"doubts,omitempty"`
		Sum    string `json:"manifest_sha256"`
		With   string `json:"doubts_sha256"`
	}
	if err := json.Unmarshal(readBytes(t, filepath.Join(s.Dir(), manifestName)), &m); err != nil {
		t.Fatal(err)
	}
	sumOf := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(text)
		return hex.EncodeToString(sum[:])
	}
	withDoubts := struct {
		earlierInfo
		Doubts Doubts `json:"doubts,omitempty"`
	}{m.earlierInfo, m.Doubts}
	if sumOf(m.earlierInfo) != m.Sum || sumOf(withDoubts) != m.With {
		t.Errorf("checksums %s and %s differ from those of an earlier program", m.Sum, m.With)
	}
}
