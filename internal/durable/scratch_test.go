package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestSweepScratch(t *testing.T) {
	parent := t.TempDir()
	used, err := CreateScratch(parent)
	if err != nil {
		t.Fatal(err)
	}
	killed := filepath.Join(parent, scratchPrefix+"killed")
	starting := filepath.Join(parent, scratchPrefix+"starting")
	removed := filepath.Join(parent, scratchPrefix+"removed")
	other := filepath.Join(parent, "other")
	for _, dir := range []string{killed, starting, removed, other} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	long := time.Now().Add(-2 * scratchGrace)
	err = errors.Join(
		os.WriteFile(filepath.Join(killed, scratchLock), nil, 0o600),
		os.WriteFile(filepath.Join(killed, "snapshot.parquet"), []byte("half"), 0o600),
		os.WriteFile(filepath.Join(used.Dir(), "snapshot.parquet"), []byte("half"), 0o600),
		os.WriteFile(filepath.Join(removed, "snapshot.parquet"), []byte("half"), 0o600),
		os.Chtimes(removed, long, long))
	if err != nil {
		t.Fatal(err)
	}
	if err := SweepScratch(parent); err != nil {
		t.Fatal(err)
	}
	for dir, stays := range map[string]bool{used.Dir(): true, killed: false, starting: true, removed: false, other: true} {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) == stays {
			t.Errorf("%s: %v, want it to stay: %t", filepath.Base(dir), err, stays)
		}
	}
	if err := used.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(used.Dir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the removed directory: %v", err)
	}
	if err := SweepScratch(filepath.Join(parent, "missing")); err != nil {
		t.Error(err)
	}
}
