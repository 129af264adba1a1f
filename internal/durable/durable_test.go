package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/collectord/collectord/internal/durable"
)

func TestMkdirAllSyncsEachNewParent(t *testing.T) {
	root := t.TempDir()
	var synced []string
	record := func(dir string) error {
		synced = append(synced, dir)
		return durable.SyncDir(dir)
	}
	dir := filepath.Join(root, "a", "b")
	if err := durable.MkdirAll(dir, 0o750, record); err != nil {
		t.Fatal(err)
	}
	if want := []string{root, filepath.Join(root, "a")}; !slices.Equal(synced, want) {
		t.Errorf("synced %q, want %q", synced, want)
	}
	fi, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if fi.Mode().Perm() != 0o750 {
		t.Errorf("mode %v, want 0750", fi.Mode().Perm())
	}
	synced = nil
	if err := durable.MkdirAll(dir, 0o750, record); err != nil || len(synced) > 0 {
		t.Errorf("an existing directory: synced %q, error %v", synced, err)
	}
}

func TestMkdirAllBelowAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var pathErr *fs.PathError
	if err := durable.MkdirAll(filepath.Join(file, "sub"), 0o750, durable.SyncDir); !errors.As(err, &pathErr) {
		t.Errorf("got %v, want a path error", err)
	}
}

func TestMkdirBelow(t *testing.T) {
	root := t.TempDir()
	for range 2 { // the second call finds everything there
		if err := durable.MkdirBelow(root, filepath.Join("a", "b"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if fi, err := os.Stat(filepath.Join(root, "a", "b")); err != nil || !fi.IsDir() {
		t.Errorf("not created: %v", err)
	}
}

func TestSyncDirMissing(t *testing.T) {
	if err := durable.SyncDir(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
}

// TestSyncDirUnsupported: /proc refuses fsync as some network file systems do.
func TestSyncDirUnsupported(t *testing.T) {
	d, err := os.Open("/proc")
	if errors.Is(err, fs.ErrNotExist) {
		return // not on this system
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Sync(), d.Close()); !errors.Is(err, syscall.EINVAL) {
		t.Fatalf("fsync of /proc: %v, want EINVAL: the test needs another directory", err)
	}
	if err := durable.SyncDir("/proc"); err != nil {
		t.Error(err)
	}
}
