package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/collectord/collectord/pkg/snapshot"
)

func newFile(t *testing.T, template string) *File {
	t.Helper()
	p, err := ParsePath("STORE_FILE", template)
	if err != nil {
		t.Fatal(err)
	}
	f, err := NewFile(p, FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestNewFileChecksTheExtension(t *testing.T) {
	p, err := ParsePath("STORE_FILE", "%TAG.csv")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewFile(p, FileOptions{}); err == nil || !strings.Contains(err.Error(), "STORE_FILE") || !strings.Contains(err.Error(), ".parquet") {
		t.Errorf("error %v", err)
	}
}

// withUmask runs f under a umask; the file tests do not run in parallel.
func withUmask(t *testing.T, mask int, f func()) {
	t.Helper()
	old := syscall.Umask(mask)
	defer syscall.Umask(old)
	f()
}

func TestFileModes(t *testing.T) {
	for _, ext := range []string{"json", "parquet"} {
		dir := t.TempDir()
		f := newFile(t, filepath.Join(dir, "a/b/%TAG."+ext))
		target := filepath.Join(dir, "a/b/okta_users."+ext)
		mode := func(path string, want fs.FileMode) {
			t.Helper()
			if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != want {
				t.Errorf("%s: %v, want %v: %v", path, fi.Mode(), want, err)
			}
		}
		withUmask(t, 0o022, func() { write(t, f, sealed(t, header(1), `{}`)) })
		mode(target, 0o640)
		mode(filepath.Dir(target), 0o750)
		if err := os.Chmod(target, 0o604); err != nil {
			t.Fatal(err)
		}
		withUmask(t, 0o077, func() {
			write(t, f, sealed(t, header(2), `{}`))
			mode(target, 0o604)
			other := header(3)
			other.Stream = "other"
			write(t, f, sealed(t, other, `{}`))
			mode(filepath.Join(dir, "a/b/other."+ext), 0o600)
		})
	}
}

func TestFileKeepsOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		return // only root can give a file away, and so lose it
	}
	dir := t.TempDir()
	f := newFile(t, filepath.Join(dir, "x.json"))
	write(t, f, sealed(t, header(1), `{}`))
	if err := os.Chown(filepath.Join(dir, "x.json"), nobody, nobody); err != nil {
		t.Fatal(err)
	}
	write(t, f, sealed(t, header(2), `{}`))
	fi, err := os.Stat(filepath.Join(dir, "x.json"))
	if err != nil {
		t.Fatal(err)
	}
	if stat := fi.Sys().(*syscall.Stat_t); stat.Uid != nobody || stat.Gid != nobody {
		t.Errorf("the owner is %d, %d now", stat.Uid, stat.Gid)
	}
}

func TestFileFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	real := filepath.Join(dir, "real.json")
	link := filepath.Join(dir, "link.json")
	if err := errors.Join(os.WriteFile(real, []byte("old"), 0o600), os.Symlink(real, link)); err != nil {
		t.Fatal(err)
	}
	write(t, newFile(t, link), sealed(t, header(1), `{"a":1}`))
	if fi, err := os.Lstat(link); err != nil || fi.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link is %v: %v", fi.Mode(), err)
	}
	if text, err := os.ReadFile(real); err != nil || !strings.HasPrefix(string(text), `[`+"\n"+`{"a":1,`) {
		t.Errorf("its target holds %q: %v", text, err)
	}
}

func TestFileRefuses(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe.json")
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "folder.json"), 0o700),
		syscall.Mkfifo(pipe, 0o600), os.WriteFile(filepath.Join(dir, "file"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		check bool // whether Check can see it coming
	}{
		{"folder.json", true},
		{"pipe.json", true},
		{"file/x.json", true},
		{strings.Repeat("n", 300) + ".json", false},
	} {
		f := newFile(t, filepath.Join(dir, c.name))
		err := f.Write(t.Context(), sealed(t, header(1), `{}`))
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "STORE_FILE") || !strings.Contains(err.Error(), c.name) {
			t.Errorf("%.20s: %v", c.name, err)
		}
		if err := f.Check(t.Context()); errors.Is(err, ErrRefused) != c.check {
			t.Errorf("%.20s: check: %v", c.name, err)
		}
	}
}

func TestFileCheckLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	if err := newFile(t, filepath.Join(dir, "not/there/%TAG/x.json")).Check(t.Context()); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestFileRemovesLeftovers(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "users.json")
	dead := filepath.Join(dir, ".users.json.collectord-1-0")
	own := filepath.Join(dir, fmt.Sprintf(".users.json.collectord-%d-0", os.Getpid()))
	living := filepath.Join(dir, ".users.json.collectord-2-0")
	others := filepath.Join(dir, ".users.json.old.collectord-1-0")
	for _, name := range []string{dead, own, living, others} {
		if err := os.WriteFile(name, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	held, err := os.Open(living)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := lockFile(held); err != nil {
		t.Fatal(err)
	}
	write(t, newFile(t, target), sealed(t, header(1), `{}`))
	for name, want := range map[string]bool{dead: false, own: false, living: true, others: true, target: true} {
		if _, err := os.Stat(name); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFileByManyAtOnce(t *testing.T) {
	dir := t.TempDir()
	f := newFile(t, filepath.Join(dir, "x.json"))
	var snapshots []*snapshot.Snapshot
	for n := range 8 {
		snapshots = append(snapshots, sealed(t, header(n), numbered(n, 1000)...))
	}
	var wg sync.WaitGroup
	for _, s := range snapshots {
		wg.Go(func() {
			if err := f.Write(t.Context(), s); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	text, err := os.ReadFile(filepath.Join(dir, "x.json"))
	if err != nil {
		t.Fatal(err)
	}
	if got := lines(t, string(text), true); len(got) != 1000 {
		t.Errorf("%d records", len(got))
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestFileTellsNotes(t *testing.T) {
	p, err := ParsePath("STORE_FILE", filepath.Join(t.TempDir(), "x.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	var notes []string
	f, err := NewFile(p, FileOptions{Note: func(_ *snapshot.Snapshot, text string) { notes = append(notes, text) }})
	if err != nil {
		t.Fatal(err)
	}
	write(t, f, sealed(t, header(1), `{"a":1,"A":2}`))
	if len(notes) != 1 || !strings.Contains(notes[0], `"A_2"`) {
		t.Errorf("notes %q", notes)
	}
}
