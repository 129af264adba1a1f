package local

import (
	"database/sql"
	"path/filepath"
	"slices"
	"testing"
)

func TestSwapNote(t *testing.T) {
	st := openState(t)
	notes, other := st.Notes("acme"), st.Notes("globex")
	for _, step := range []struct {
		old, text string
		swapped   bool
		there     string
	}{
		{old: "x", text: "y", swapped: false, there: ""},
		{old: "", text: "a", swapped: true, there: "a"},
		{old: "", text: "b", swapped: false, there: "a"},
		{old: "a", text: "b", swapped: true, there: "b"},
		{old: "b", text: "", swapped: true, there: ""},
	} {
		swapped, err := notes.SwapNote(t.Context(), "key", step.old, step.text)
		if err != nil || swapped != step.swapped {
			t.Errorf("%q to %q: swapped %t, want %t: %v", step.old, step.text, swapped, step.swapped, err)
		}
		if text, err := notes.Note(t.Context(), "key"); err != nil || text != step.there {
			t.Errorf("%q to %q: %q is there, want %q: %v", step.old, step.text, text, step.there, err)
		}
		if text, err := other.Note(t.Context(), "key"); err != nil || text != "" {
			t.Errorf("the other tenancy has %q: %v", text, err)
		}
	}
}

// Earlier schemas kept the tenancy of a note in its key.
func TestEarlierNotes(t *testing.T) {
	dir := t.TempDir()
	db, err := sql.Open("sqlite", filepath.Join(dir, databaseName))
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range append(slices.Clone(migrations[:6]), "PRAGMA user_version = 6",
		`INSERT INTO notes VALUES ('acme' || char(0) || 'export', 'job 1'), ('ac' || char(0) || 'export', 'job 2')`) {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	f := openStateIn(t, dir)
	for tenancy, want := range map[string]string{"acme": "job 1", "ac": "job 2", "": ""} {
		got, err := f.Notes(tenancy).Note(ctx, "export")
		f.requireNoError(err)
		assertEqual(t, tenancy, got, want)
	}
}
