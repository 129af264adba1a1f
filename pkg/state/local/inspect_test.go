package local

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/collectord/collectord/pkg/state"
)

// entryNames returns the names of the entries of a directory.
func entryNames(t *testing.T, dir string) (list []string) {
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

// Inspect reads a state that another process has open, and one that is closed, and
// changes neither.
func TestInspect(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if _, err := Inspect(t.Context(), dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing directory: error %v, want fs.ErrNotExist", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("Inspect created the directory")
	}
	st, err := openDirectory(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	inspectNote := func() (note string) {
		t.Helper()
		inspected, err := Inspect(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		note, err = inspected.Notes("t").Note(t.Context(), "key")
		if err := errors.Join(err, inspected.Notes("t").SetNote(context.Background(), "key", "changed")); err == nil {
			t.Error("the inspected state is writable")
		}
		if err := inspected.Close(); err != nil {
			t.Fatal(err)
		}
		return note
	}
	if err := st.Notes("t").SetNote(t.Context(), "key", "open"); err != nil {
		t.Fatal(err)
	}
	if note := inspectNote(); note != "open" {
		t.Errorf("while it is open elsewhere the note is %q", note)
	}
	if err := st.Notes("t").SetNote(t.Context(), "key", "closed"); err != nil {
		t.Errorf("writing after Inspect: %v", err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	before := entryNames(t, dir)
	if note := inspectNote(); note != "closed" {
		t.Errorf("when it is closed the note is %q", note)
	}
	if after := entryNames(t, dir); !slices.Equal(before, after) {
		t.Errorf("entries after Inspect %v, before %v", after, before)
	}
}

// Inspect refuses databases of other versions and damaged ones.
func TestInspectRefuses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	st, err := openDirectory(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	setVersion := func(version string) {
		t.Helper()
		if _, err := st.db.ExecContext(t.Context(), "PRAGMA user_version = "+version); err != nil {
			t.Fatal(err)
		}
	}
	setVersion("99")
	if _, err := Inspect(t.Context(), dir); err == nil || errors.Is(err, state.ErrOlder) {
		t.Errorf("newer schema: %v", err)
	}
	migrations = append(migrations, "SELECT 1")
	defer func() { migrations = migrations[:len(migrations)-1] }()
	setVersion("1")
	if _, err := Inspect(t.Context(), dir); !errors.Is(err, state.ErrOlder) {
		t.Errorf("older schema: error %v, want ErrOlder", err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, databaseName), make([]byte, 10_000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Inspect(t.Context(), dir); err == nil {
		t.Error("a damaged database was accepted")
	}
}
