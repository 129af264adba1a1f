package duckdb

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/storetest"
)

// listFiles returns the names and modes of what is in dir.
func listFiles(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		fi, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, fmt.Sprintf("%s %o", e.Name(), fi.Mode().Perm()))
	}
	return list
}

// TestDuckDBModes: other users cannot read the file, its log and what is spilled.
// The tests of this package do not run in parallel.
func TestDuckDBModes(t *testing.T) {
	for _, tt := range []struct {
		name  string
		umask int
		mode  fs.FileMode // of a file that is there before; 0 for none
		want  fs.FileMode
	}{
		{name: "new", umask: 0o022, want: 0o640},
		{name: "new, strict umask", umask: 0o077, want: 0o600},
		{name: "new, open umask", umask: 0, want: 0o640},
		{name: "an existing one keeps its mode", umask: 0o022, mode: 0o664, want: 0o664},
	} {
		t.Run(tt.name, func(t *testing.T) {
			old := syscall.Umask(tt.umask)
			defer syscall.Umask(old)
			place := database{filepath.Join(t.TempDir(), "data")}
			sink, err := openDatabase("", place.dir)
			if err != nil {
				t.Fatal(err)
			}
			if tt.mode != 0 {
				storetest.Write(t, sink, sealRun(t, 1))
				if err := os.Chmod(place.path(), tt.mode); err != nil {
					t.Fatal(err)
				}
			}
			storetest.Write(t, sink, sealRun(t, 2))
			if got, want := listFiles(t, place.dir), []string{fmt.Sprintf("x.duckdb %o", tt.want)}; !slices.Equal(got, want) {
				t.Errorf("the directory has %q, want %q", got, want)
			}
			storetest.Write(t, sink, sealRun(t, 2)) // changes nothing
			if got := listFiles(t, place.dir); len(got) != 1 {
				t.Errorf("the directory has %q after a repeated write", got)
			}
		})
	}
}

// TestDuckDBModesWhileOpen: the log has the mode of the file before anything is
// written to it, and what a killed process spilled is removed.
func TestDuckDBModesWhileOpen(t *testing.T) {
	old := syscall.Umask(0o022)
	defer syscall.Umask(old)
	place := database{t.TempDir()}
	left := filepath.Join(place.path()+".tmp", "duckdb_temp_storage-0.tmp")
	if err := errors.Join(os.Mkdir(filepath.Dir(left), 0o755), os.WriteFile(left, []byte("spilled"), 0o644)); err != nil {
		t.Fatal(err)
	}
	db, err := duckdb.Open(t.Context(), place.path(), duckdb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	cleanUp, err := protectFiles(place.path(), true)
	if err != nil {
		t.Fatal(err)
	}
	run := &transaction{db: db, snap: sealRun(t, 1), table: "main.okta_users"}
	if _, err := run.storeSnapshot(t.Context(), store.Retention{}); err != nil {
		t.Fatal(err)
	}
	want := []string{"x.duckdb 640", "x.duckdb.tmp 700", "x.duckdb.wal 640"}
	if got := listFiles(t, place.dir); !slices.Equal(got, want) {
		t.Errorf("the directory has %q, want %q", got, want)
	}
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was spilled by a killed process: %v", err)
	}
	if err := errors.Join(db.Close(), cleanUp()); err != nil {
		t.Error(err)
	}
}

// TestDuckDBDamagedFiles: the error says what to do.
func TestDuckDBDamagedFiles(t *testing.T) {
	whole := database{t.TempDir()}
	sink, err := openDatabase("", whole.dir)
	if err != nil {
		t.Fatal(err)
	}
	storetest.Write(t, sink, sealRun(t, 50))
	text, err := os.ReadFile(whole.path())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		text   []byte
		advice string
	}{
		{name: "empty", text: nil, advice: "the file is empty, as a crash while it was created leaves it: delete it"},
		{name: "a part of the header", text: text[:100], advice: "x.duckdb.wal away, and a new one is created"},
		{name: "the header", text: text[:12288], advice: "x.duckdb.wal away, and a new one is created"},
		{name: "not a database", text: []byte(strings.Repeat("hello", 5000)), advice: "x.duckdb.wal away, and a new one is created"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			place := database{t.TempDir()}
			sink, err := openDatabase("", place.dir)
			if err := errors.Join(err, os.WriteFile(place.path(), tt.text, 0o600)); err != nil {
				t.Fatal(err)
			}
			for what, err := range map[string]error{"write": sink.Write(t.Context(), sealRun(t, 1)), "check": sink.Check(t.Context())} {
				if !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), tt.advice) || !strings.HasPrefix(err.Error(), "STORE_DUCKDB: ") {
					t.Errorf("%s: %v, want it refused with %q", what, err, tt.advice)
				}
			}
			if after, err := os.ReadFile(place.path()); err != nil || !slices.Equal(after, tt.text) {
				t.Errorf("the file was changed: %d bytes, %v", len(after), err)
			}
		})
	}
}
