package state

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// names lists what a folder holds.
func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// TestInspect looks into a state that nobody has open, and into one that is
// open, and leaves both as they are.
func TestInspect(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if _, err := Inspect(t.Context(), dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing is there, and still: %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("it made the folder")
	}
	st, err := Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	look := func() (note string) {
		t.Helper()
		seen, err := Inspect(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		note, err = seen.Notes("t").Note(t.Context(), "key")
		if err := errors.Join(err, seen.Notes("t").SetNote(context.Background(), "key", "changed")); err == nil {
			t.Error("what was opened for reading can be written to")
		}
		if err := seen.Close(); err != nil {
			t.Fatal(err)
		}
		return note
	}
	if err := st.Notes("t").SetNote(t.Context(), "key", "open"); err != nil {
		t.Fatal(err)
	}
	if note := look(); note != "open" {
		t.Errorf("beside a service the note is %q", note)
	}
	if err := st.Notes("t").SetNote(t.Context(), "key", "closed"); err != nil {
		t.Errorf("the service is disturbed: %v", err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	before := names(t, dir)
	if note := look(); note != "closed" {
		t.Errorf("alone the note is %q", note)
	}
	if after := names(t, dir); !slices.Equal(before, after) {
		t.Errorf("it left %v, there were %v", after, before)
	}
}

// TestInspectRefuses has databases of other versions and a damaged one.
func TestInspectRefuses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	st, err := Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	set := func(version string) {
		t.Helper()
		if _, err := st.db.ExecContext(t.Context(), "PRAGMA user_version = "+version); err != nil {
			t.Fatal(err)
		}
	}
	set("99")
	if _, err := Inspect(t.Context(), dir); err == nil || errors.Is(err, ErrOlder) {
		t.Errorf("a newer one: %v", err)
	}
	migrations = append(migrations, "SELECT 1")
	defer func() { migrations = migrations[:len(migrations)-1] }()
	set("1")
	if _, err := Inspect(t.Context(), dir); !errors.Is(err, ErrOlder) {
		t.Errorf("an older one: %v", err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, databaseName), make([]byte, 10_000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Inspect(t.Context(), dir); err == nil {
		t.Error("a damaged one is taken")
	}
}
