package file

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/storetest"
)

func TestNewFileChecksTheExtension(t *testing.T) {
	p, err := store.ParsePath("STORE_FILE", "%TAG.csv")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{Path: p}); err == nil || !strings.Contains(err.Error(), "STORE_FILE") || !strings.Contains(err.Error(), ".parquet") {
		t.Errorf("error %v", err)
	}
}

// withUmask runs f with a umask; the tests of files do not run in parallel.
func withUmask(t *testing.T, mask int, f func()) {
	t.Helper()
	old := syscall.Umask(mask)
	defer syscall.Umask(old)
	f()
}

func TestFileModes(t *testing.T) {
	for _, ext := range []string{"json", "parquet"} {
		dir := t.TempDir()
		f := newSink(t, filepath.Join(dir, "a/b/%TAG."+ext))
		target := filepath.Join(dir, "a/b/okta_users."+ext)
		mode := func(path string, want fs.FileMode) {
			t.Helper()
			if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != want {
				t.Errorf("%s: %v, want %v: %v", path, fi.Mode(), want, err)
			}
		}
		withUmask(t, 0o022, func() { storetest.Write(t, f, storetest.Seal(t, storetest.Header(1), `{}`)) })
		mode(target, 0o640)
		mode(filepath.Dir(target), 0o750)
		if err := os.Chmod(target, 0o604); err != nil {
			t.Fatal(err)
		}
		withUmask(t, 0o077, func() {
			storetest.Write(t, f, storetest.Seal(t, storetest.Header(2), `{}`))
			mode(target, 0o604)
			other := storetest.Header(3)
			other.Stream = "other"
			storetest.Write(t, f, storetest.Seal(t, other, `{}`))
			mode(filepath.Join(dir, "a/b/other."+ext), 0o600)
		})
	}
}

func TestFileKeepsOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		return // only root can change the owner of a file
	}
	dir := t.TempDir()
	f := newSink(t, filepath.Join(dir, "x.json"))
	storetest.Write(t, f, storetest.Seal(t, storetest.Header(1), `{}`))
	if err := os.Chown(filepath.Join(dir, "x.json"), storetest.NobodyID, storetest.NobodyID); err != nil {
		t.Fatal(err)
	}
	storetest.Write(t, f, storetest.Seal(t, storetest.Header(2), `{}`))
	fi, err := os.Stat(filepath.Join(dir, "x.json"))
	if err != nil {
		t.Fatal(err)
	}
	if stat := fi.Sys().(*syscall.Stat_t); stat.Uid != storetest.NobodyID || stat.Gid != storetest.NobodyID {
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
	storetest.Write(t, newSink(t, link), storetest.Seal(t, storetest.Header(1), `{"a":1}`))
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
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "directory.json"), 0o700),
		syscall.Mkfifo(pipe, 0o600), os.WriteFile(filepath.Join(dir, "file"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		check bool // whether Check refuses it also
	}{
		{name: "directory.json", check: true},
		{name: "pipe.json", check: true},
		{name: "file/x.json", check: true},
		{name: strings.Repeat("n", 300) + ".json", check: false},
	} {
		f := newSink(t, filepath.Join(dir, c.name))
		err := f.Write(t.Context(), storetest.Seal(t, storetest.Header(1), `{}`))
		if !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), "STORE_FILE") || !strings.Contains(err.Error(), c.name) {
			t.Errorf("%.20s: %v", c.name, err)
		}
		if err := f.Check(t.Context()); errors.Is(err, store.ErrRefused) != c.check {
			t.Errorf("%.20s: check: %v", c.name, err)
		}
	}
}

func TestFileCheckLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	if err := newSink(t, filepath.Join(dir, "not/there/%TAG/x.json")).Check(t.Context()); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestFileByManyAtOnce(t *testing.T) {
	dir := t.TempDir()
	f := newSink(t, filepath.Join(dir, "x.json"))
	var snapshots []*snapshot.Snapshot
	for n := range 8 {
		snapshots = append(snapshots, storetest.Seal(t, storetest.Header(n), storetest.Numbered(n, 1000)...))
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
	if got := storetest.DecodeFile(t, ".json", text); len(got) != 1000 {
		t.Errorf("%d records", len(got))
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestFileTellsNotes(t *testing.T) {
	p, err := store.ParsePath("STORE_FILE", filepath.Join(t.TempDir(), "x.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	var notes []string
	f, err := New(Options{Path: p, Parquet: encodeParquet, Note: func(_ *snapshot.Snapshot, text string) { notes = append(notes, text) }})
	if err != nil {
		t.Fatal(err)
	}
	storetest.Write(t, f, storetest.Seal(t, storetest.Header(1), `{"a":1,"A":2}`))
	if len(notes) != 1 || !strings.Contains(notes[0], `"A_2"`) {
		t.Errorf("notes %q", notes)
	}
}

// Files have the vendor's bytes, with a note about escapes that many programs refuse,
// or U+FFFD instead of these.
func TestFileEscapes(t *testing.T) {
	for repair, want := range map[bool]string{false: `{"a":"\u0000","b":"cut \ud83d"`, true: "{\"a\":\"\ufffd\",\"b\":\"cut \ufffd\""} {
		p, err := store.ParsePath("STORE_FILE", filepath.Join(t.TempDir(), "x.json"))
		if err != nil {
			t.Fatal(err)
		}
		var notes []string
		f, err := New(Options{Path: p, Repair: repair, Note: func(_ *snapshot.Snapshot, text string) { notes = append(notes, text) }})
		if err != nil {
			t.Fatal(err)
		}
		storetest.Write(t, f, storetest.Seal(t, storetest.Header(1), `{"a":"\u0000","b":"cut \ud83d"}`, `{"a":"\\u0000"}`))
		text, err := os.ReadFile(p.String())
		if err != nil || !strings.Contains(string(text), want) || !strings.Contains(string(text), `{"a":"\\u0000"`) {
			t.Errorf("repair %t: the file has %q, want %q: %v", repair, text, want, err)
		}
		if len(notes) != 1 || !strings.HasPrefix(notes[0], "1 record has") || strings.Contains(notes[0], "STORE_FILE_REPAIR=true") == repair {
			t.Errorf("repair %t: notes %q", repair, notes)
		}
	}
}

// A Parquet file that cannot be made is an error, and the earlier one stays.
func TestFileWithoutParquet(t *testing.T) {
	p, err := store.ParsePath("STORE_FILE", filepath.Join(t.TempDir(), "x.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	storetest.Write(t, newSink(t, p.String()), storetest.Seal(t, storetest.Header(1), `{"n":1}`))
	before, err := os.ReadFile(p.String())
	if err != nil {
		t.Fatal(err)
	}
	failure := errors.New("no memory")
	f, err := New(Options{Path: p, Parquet: func(context.Context, *snapshot.Snapshot) (store.ParquetFile, error) { return nil, failure }})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Write(t.Context(), storetest.Seal(t, storetest.Header(2), `{"n":2}`)); !errors.Is(err, failure) || !strings.Contains(err.Error(), p.String()) {
		t.Errorf("error %v, want that of the encoder with the path", err)
	}
	if after, err := os.ReadFile(p.String()); err != nil || string(after) != string(before) {
		t.Errorf("the file was changed; error %v", err)
	}
	if !store.StoresParquet(f) || store.StoresParquet(newSink(t, filepath.Join(t.TempDir(), "%TAG.json"))) {
		t.Error("StoresParquet is not true for .parquet alone")
	}
}

// A cancellingFile is an encoded file that ends a context when it has been written.
type cancellingFile struct {
	store.ParquetFile
	cancel context.CancelFunc
}

func (c cancellingFile) WriteTo(w io.Writer) (int64, error) {
	defer c.cancel()
	return c.ParquetFile.WriteTo(w)
}

// TestFileIsNotReplacedAfterTheEnd has a context that ends when everything is written, as
// by the loss of a lock: the file stays.
func TestFileIsNotReplacedAfterTheEnd(t *testing.T) {
	target := filepath.Join(t.TempDir(), "users.parquet")
	sink := newSink(t, target)
	storetest.Write(t, sink, storetest.Seal(t, storetest.Header(1), storetest.Numbered(1, 3)...))
	before, err := os.ReadFile(target)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	sink.opts.Parquet = func(ctx context.Context, s *snapshot.Snapshot) (store.ParquetFile, error) {
		f, err := encodeParquet(ctx, s)
		return cancellingFile{f, cancel}, err
	}
	if err := sink.Write(ctx, storetest.Seal(t, storetest.Header(2), storetest.Numbered(2, 3)...)); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if after, err := os.ReadFile(target); err != nil || !bytes.Equal(after, before) {
		t.Errorf("the file was replaced: %v", err)
	}
}
