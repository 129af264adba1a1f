package local

import (
	"database/sql"
	"path/filepath"
	"slices"
	"testing"

	"github.com/collectord/collectord/pkg/state/statetest"
)

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
		f.RequireNoError(err)
		statetest.AssertEqual(t, tenancy, got, want)
	}
}
