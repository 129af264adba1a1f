package local

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
)

// TestBusyDatabaseSaysWhatToDo: a program, such as one that copies the database, holds a lock.
func TestBusyDatabaseSaysWhatToDo(t *testing.T) {
	path := filepath.Join(t.TempDir(), databaseName)
	open := func() *sql.DB {
		db, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		db.SetMaxOpenConns(1)
		t.Cleanup(func() { db.Close() })
		return db
	}
	if _, err := open().Exec("BEGIN EXCLUSIVE"); err != nil {
		t.Fatal(err)
	}
	_, err := open().Exec("CREATE TABLE t (x)")
	if err := explainSQLiteError(err); err == nil || !strings.HasSuffix(err.Error(), "(SQLITE_BUSY): another program has the database open: try again when it has ended") {
		t.Errorf("the error is %v", err)
	}
}
