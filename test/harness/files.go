package harness

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/duckdb"
)

// Path returns the path of a file in the workspace.
func (w *Workspace) Path(elements ...string) string {
	return filepath.Join(append([]string{w.Dir}, elements...)...)
}

// SourceFile returns the path of a stream's file, as STORE_FILE of a new
// workspace names it.
func (w *Workspace) SourceFile(stream string) string { return w.Path("source", stream, "default.json") }

// Content returns a file's content, or the text of the error that reading it
// returns.
func (w *Workspace) Content(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Sprint(err)
	}
	return string(text)
}

// Files returns the content of all files below dir, by path.
func (w *Workspace) Files(dir string) map[string]string {
	w.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		all[path] = w.Content(path)
		return nil
	})
	if err != nil {
		w.Fatal(err)
	}
	return all
}

// WriteFile writes a file and creates its directory.
func WriteFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// WriteEnvFile replaces the .env file of the workspace.
func (w *Workspace) WriteEnvFile(lines ...string) {
	w.Helper()
	WriteFile(w, w.Path(".env"), strings.Join(lines, "\n")+"\n")
}

// RemoveData removes the state and the stored files, as on a new machine.
func (w *Workspace) RemoveData() {
	w.Helper()
	for _, name := range []string{"state", "source"} {
		if err := os.RemoveAll(w.Path(name)); err != nil {
			w.Fatal(err)
		}
	}
}

// AssertNoPartialFiles checks that no file is left that exists only while
// something is being written.
func (w *Workspace) AssertNoPartialFiles() {
	w.Helper()
	err := filepath.WalkDir(w.Dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if name := entry.Name(); strings.HasPrefix(name, ".") || strings.Contains(path, "/spool/") {
			w.Errorf("left over: %s", path)
		}
		return nil
	})
	if err != nil {
		w.Fatal(err)
	}
}

// StoredRecords returns the records in a stream's file as the vendor sent them:
// without the three members that collectord adds, which it checks.
func (w *Workspace) StoredRecords(stream string) []string {
	w.Helper()
	text := w.Content(w.SourceFile(stream))
	var records []json.RawMessage
	if err := json.Unmarshal([]byte(text), &records); err != nil {
		w.Fatalf("%s: %v: %.200s", stream, err, text)
	}
	var all []string
	for _, raw := range records {
		var added struct {
			Tenancy string `json:"_tenancy"`
			Time    string `json:"_upload_timestamp"`
			ID      string `json:"_upload_id"`
		}
		if err := json.Unmarshal(raw, &added); err != nil {
			w.Fatal(err)
		}
		if added.Tenancy != "default" || len(added.ID) != 36 {
			w.Fatalf("members %+v", added)
		}
		if _, err := time.Parse("2006-01-02 15:04:05", added.Time); err != nil {
			w.Error(err)
		}
		suffix := `,"_tenancy":"default","_upload_timestamp":"` + added.Time + `","_upload_id":"` + added.ID + `"}`
		own, found := strings.CutSuffix(string(raw), suffix)
		if !found {
			w.Fatalf("a record does not end with %s", suffix)
		}
		all = append(all, own+"}")
	}
	return all
}

// DuckDBRows returns the number of rows of a table in the file of STORE_DUCKDB.
func (w *Workspace) DuckDBRows(table string) int {
	w.Helper()
	db, err := duckdb.Open(w.Context(), w.Env["STORE_DUCKDB"], duckdb.Options{ReadOnly: true})
	if err != nil {
		w.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			w.Error(err)
		}
	}()
	n := 0
	if err := db.QueryRowContext(w.Context(), `SELECT count(*) FROM "`+table+`"`).Scan(&n); err != nil {
		w.Fatal(err)
	}
	return n
}
