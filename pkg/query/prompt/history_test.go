package prompt

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/peterh/liner"
)

// TestHistoryFile checks what two sessions add to a file, and that only its owner can read
// it.
func TestHistoryFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "query_history")
	first, second := &historyFile{path: path}, &historyFile{path: path}
	if lines, err := first.readLines(); err != nil || len(lines) > 0 {
		t.Fatalf("%q, %v", lines, err)
	}
	for _, add := range []struct {
		h    *historyFile
		line string
	}{{first, "SELECT 1;"}, {second, "SELECT 2;"}, {first, "SELECT 3;"}, {first, "SELECT 3;"}} {
		if err := add.h.appendLines([]string{add.line}); err != nil {
			t.Fatal(err)
		}
	}
	lines, err := second.readLines()
	if want := []string{"SELECT 1;", "SELECT 2;", "SELECT 3;"}; err != nil || !slices.Equal(lines, want) {
		t.Errorf("%q, %v, expected %q", lines, err, want)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// TestLongHistory checks that a file does not grow without bound.
func TestLongHistory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "query_history")
	var b strings.Builder
	for i := range maxHistory + 1 {
		fmt.Fprintf(&b, "SELECT %d;\n", i)
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	h := &historyFile{path: path}
	for range 2 { // the second time from the shortened file
		lines, err := h.readLines()
		if err != nil || len(lines) != liner.HistoryLimit || lines[len(lines)-1] != fmt.Sprintf("SELECT %d;", maxHistory) {
			t.Fatalf("%d lines, %v", len(lines), err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil || strings.Count(string(text), "\n") != liner.HistoryLimit {
		t.Errorf("the file has %d lines, %v", strings.Count(string(text), "\n"), err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if others, err := os.ReadDir(filepath.Dir(path)); err != nil || len(others) != 1 {
		t.Errorf("%v, %v", others, err)
	}
}
