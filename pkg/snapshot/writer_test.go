package snapshot

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func TestSealedSnapshot(t *testing.T) {
	records := []string{`{"id":1}`, `{}`, `{"_tenancy":"theirs"}`, "{\"a\":\"\xff\"}"}
	stored := []string{spliced(records[0])[0], spliced(records[1])[0], `{"_vendor_tenancy":"theirs",` + ours, "{\"a\":\"\ufffd\"," + ours}
	w, sealed := create(t)
	write(t, w, records[:2]...)
	write(t, w, records[2:]...)
	if _, err := Open(sealed); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before Seal: %v", err)
	}
	s, err := w.Seal(sealed)
	if err != nil {
		t.Fatal(err)
	}
	got, err := read(s)
	if err != nil || !slices.Equal(got, stored) {
		t.Errorf("%q, %v", got, err)
	}
	if err := s.Verify(context.Background()); err != nil {
		t.Error(err)
	}
	bytes := len(strings.Join(stored, "\n")) + 1
	if s.Records != 4 || s.Bytes != int64(bytes) || s.RenamedMembers != 1 || s.RepairedUTF8 != 1 || s.Header != testHeader || len(s.SHA256) != 64 {
		t.Errorf("%+v, want %d bytes", s.Info, bytes)
	}
	if names(t, filepath.Dir(sealed)) != "sealed" || names(t, sealed) != "manifest.json records.ndjson.zst" {
		t.Errorf("the folder holds %s, the snapshot %s", names(t, filepath.Dir(sealed)), names(t, sealed))
	}
	again, err := Open(sealed)
	if err != nil || again.Info != s.Info || again.Dir() != sealed || again.Path() != filepath.Join(sealed, "records.ndjson.zst") {
		t.Errorf("%+v, %v, want %+v", again, err, s)
	}
	for _, name := range []string{sealed, s.Path(), filepath.Join(sealed, "manifest.json")} {
		if fi, err := os.Stat(name); err != nil || fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: others may read it: %v %v", name, fi.Mode(), err)
		}
	}
}

// The records file is what other Zstandard programs read, whatever pages it
// was made of.
func TestRecordsFileIsPlainZstandard(t *testing.T) {
	w, sealed := create(t)
	for i := range 5 {
		write(t, w, fmt.Sprintf(`{"id":%d}`, i))
	}
	s, err := w.Seal(sealed)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(s.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	text, err := io.ReadAll(d)
	if err != nil || strings.Count(string(text), "\n") != 5 || int64(len(text)) != s.Bytes {
		t.Errorf("%s, %v", text, err)
	}
}

func TestEmptySnapshot(t *testing.T) {
	w, sealed := create(t)
	write(t, w) // a page without records
	if _, err := w.Seal(sealed); err != nil {
		t.Fatal(err)
	}
	s, err := Open(sealed)
	if err != nil || s.Records != 0 || s.Bytes != 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	if got, err := read(s); err != nil || got != nil {
		t.Errorf("%q, %v", got, err)
	}
	if err := s.Verify(context.Background()); err != nil {
		t.Error(err)
	}
}

// Pages that are open at the same time do not mix; those that are dropped
// leave nothing.
func TestPagesSideBySide(t *testing.T) {
	w, sealed := create(t)
	const pages, perPage = 30, 400
	var all sync.WaitGroup
	for n := range pages {
		all.Go(func() {
			p := w.Page()
			defer p.Discard()
			for i := range perPage {
				// Long enough for some pages to be compressed in between.
				r := fmt.Sprintf(`{"page":%d,"at":%d,"text":%q}`, n, i, strings.Repeat("x", n*80))
				if err := p.Append([]byte(r)); err != nil {
					t.Error(err)
				}
			}
			if n%3 == 0 {
				return
			}
			if records, bytes := p.Size(); records != perPage || bytes < int64(perPage*n*80) {
				t.Errorf("page %d holds %d records of %d bytes", n, records, bytes)
			}
			if err := p.Commit(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if live := w.Read(); live.Records != pages*2/3*perPage {
		t.Errorf("Read says %+v", live)
	}
	s, err := w.Seal(sealed)
	if err != nil {
		t.Fatal(err)
	}
	got, err := read(s)
	if err != nil || len(got) != pages*2/3*perPage {
		t.Fatalf("%d records, %v", len(got), err)
	}
	seen := map[int]bool{}
	for at := 0; at < len(got); at += perPage {
		var first struct{ Page, At int }
		if err := json.Unmarshal([]byte(got[at]), &first); err != nil || first.At != 0 || seen[first.Page] || first.Page%3 == 0 {
			t.Fatalf("record %d is %s", at, got[at])
		}
		seen[first.Page] = true
		for i := range perPage {
			if want := fmt.Sprintf(`{"page":%d,"at":%d,`, first.Page, i); !strings.HasPrefix(got[at+i], want) {
				t.Fatalf("record %d is %.40s, want %s", at+i, got[at+i], want)
			}
		}
	}
}

func TestPageEndsOnce(t *testing.T) {
	w, sealed := create(t)
	p := w.Page()
	if err := p.Append([]byte(`{"id":1}`)); err != nil {
		t.Fatal(err)
	}
	if err := p.Append([]byte(`[1]`)); !errors.Is(err, ErrNotObject) || !strings.Contains(err.Error(), "record 2 of the page") {
		t.Errorf("%v", err)
	}
	if err := p.Commit(); err != nil {
		t.Fatal(err)
	}
	p.Discard()
	if err := p.Commit(); !errors.Is(err, errPageClosed) {
		t.Errorf("second Commit: %v", err)
	}
	if err := p.Append([]byte(`{"id":2}`)); !errors.Is(err, errPageClosed) {
		t.Errorf("Append after Commit: %v", err)
	}
	dropped := w.Page()
	dropped.Discard()
	dropped.Discard()
	if err := dropped.Commit(); !errors.Is(err, errPageClosed) {
		t.Errorf("Commit after Discard: %v", err)
	}
	s, err := w.Seal(sealed)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := read(s); err != nil || !slices.Equal(got, spliced(`{"id":1}`)) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestReset(t *testing.T) {
	w, sealed := create(t)
	write(t, w, `{"id":1}`, `{"_tenancy":1}`)
	write(t, w, incompressible(3<<20))
	if err := w.Reset(); err != nil {
		t.Fatal(err)
	}
	if i := w.Read(); i.Records != 0 || i.Bytes != 0 || i.SpoolBytes != 0 || i.RenamedMembers != 0 {
		t.Errorf("%+v", i)
	}
	write(t, w, `{"id":2}`)
	if _, err := w.Seal(sealed); err != nil {
		t.Fatal(err)
	}
	s, err := Open(sealed)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := read(s); err != nil || !slices.Equal(got, spliced(`{"id":2}`)) {
		t.Errorf("%q, %v", got, err)
	}
}

// incompressible is a record of about n bytes.
func incompressible(n int) string {
	b := make([]byte, n*3/4)
	_, _ = rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)}).Read(b) // it never fails
	return `{"text":"` + base64.RawURLEncoding.EncodeToString(b) + `"}`
}

// A page that outgrows memory moves to a file that has no name, and comes
// back whole and in order.
func TestPageOverflows(t *testing.T) {
	w, sealed := create(t)
	big := []string{incompressible(700_000), incompressible(1_700_001), incompressible(900_002), `{"id":4}`}
	p, dropped := w.Page(), w.Page()
	for _, r := range big {
		if err := errors.Join(p.Append([]byte(r)), dropped.Append([]byte(r))); err != nil {
			t.Fatal(err)
		}
	}
	if p.overflow == nil {
		t.Fatal("the page is all in memory")
	}
	if got := names(t, filepath.Join(filepath.Dir(sealed), "spool")); got != "records.ndjson.zst" {
		t.Errorf("the spool holds %s", got)
	}
	dropped.Discard()
	if err := p.Commit(); err != nil {
		t.Fatal(err)
	}
	write(t, w, `{"id":5}`)
	s, err := w.Seal(sealed)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := read(s); err != nil || !slices.Equal(got, spliced(append(big, `{"id":5}`)...)) {
		t.Errorf("%d records, %v", len(got), err)
	}
}

func TestRecordOf40MB(t *testing.T) {
	huge := `{"text":"` + strings.Repeat(incompressible(1 << 20)[9:1<<20], 40) + `"}`
	s := seal(t, `{"id":1}`, huge, `{"id":2}`)
	if got, err := read(s); err != nil || !slices.Equal(got, spliced(`{"id":1}`, huge, `{"id":2}`)) {
		t.Errorf("%d records, %v", len(got), err)
	}
	for range 10 { // whatever is taken from the pool
		p := presses.Get().(*press)
		if n := cap(p.plain) + p.packed.Cap(); n > 8<<20 {
			t.Errorf("%d MiB are kept", n>>20)
		}
	}
}

func TestSealFailsWhole(t *testing.T) {
	for _, f := range []struct {
		name    string
		prepare func(sealed string) string // returns where to seal
	}{
		{"the place is taken", func(sealed string) string {
			if err := os.MkdirAll(filepath.Join(sealed, "x"), 0o700); err != nil {
				t.Fatal(err)
			}
			return sealed
		}},
		{"no such parent", func(sealed string) string { return filepath.Join(sealed, "a", "b") }},
		{"the place is a file", func(sealed string) string {
			if err := os.WriteFile(sealed, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return sealed
		}},
	} {
		t.Run(f.name, func(t *testing.T) {
			w, sealed := create(t)
			write(t, w, `{"id":1}`)
			place := f.prepare(sealed)
			before := names(t, filepath.Dir(sealed))
			_, err := w.Seal(place)
			mustHold(t, err, "seal snapshot: ")
			if _, err := Open(place); err == nil {
				t.Error("there is a snapshot")
			}
			if _, err := w.Seal(place + "2"); err == nil {
				t.Error("sealed after a failure")
			}
			if err := w.Abort(); err != nil {
				t.Fatal(err)
			}
			if got := names(t, filepath.Dir(sealed)); got != strings.TrimSpace(strings.TrimSuffix(before, "spool")) {
				t.Errorf("left %q of %q", got, before)
			}
		})
	}
}

func TestAbort(t *testing.T) {
	w, sealed := create(t)
	write(t, w, `{"id":1}`)
	open := w.Page()
	if err := open.Append([]byte(incompressible(3 << 20))); err != nil {
		t.Fatal(err)
	}
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
	if got := names(t, filepath.Dir(sealed)); got != "" {
		t.Errorf("left %s", got)
	}
	if err := open.Commit(); !errors.Is(err, errDropped) {
		t.Errorf("Commit after Abort: %v", err)
	}
	if _, err := w.Seal(sealed); !errors.Is(err, errDropped) {
		t.Errorf("Seal after Abort: %v", err)
	}
	if err := w.Reset(); !errors.Is(err, errDropped) {
		t.Errorf("Reset after Abort: %v", err)
	}
	// The name is free for another, which a second Abort leaves alone.
	spool := filepath.Join(filepath.Dir(sealed), "spool")
	other, err := Create(spool, testHeader)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
	if names(t, spool) != "records.ndjson.zst" {
		t.Error("the second Abort dropped another's spool")
	}
	s, err := other.Seal(sealed)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(spool, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := other.Abort(); err != nil {
		t.Fatal(err)
	}
	if names(t, filepath.Dir(sealed)) != "sealed spool" {
		t.Error("Abort after Seal dropped something")
	}
	if err := s.Verify(context.Background()); err != nil {
		t.Error(err)
	}
	if _, err := other.Seal(sealed); !errors.Is(err, errSealed) {
		t.Errorf("second Seal: %v", err)
	}
}

func TestCreateFails(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, place := range []string{dir, filepath.Join(dir, "no", "parent"), filepath.Join(dir, "file"), filepath.Join(dir, "file", "below")} {
		if _, err := Create(place, testHeader); err == nil || !strings.HasPrefix(err.Error(), "spool: ") {
			t.Errorf("%s: %v", place, err)
		}
	}
	if got := names(t, dir); got != "file" {
		t.Errorf("left %s", got)
	}
}

// A spool that cannot be written any more stays failed, and its space can be
// given back.
func TestBrokenSpool(t *testing.T) {
	w, sealed := create(t)
	write(t, w, `{"id":1}`)
	if err := w.file.Close(); err != nil { // stands for a disk that is gone
		t.Fatal(err)
	}
	p := w.Page()
	if err := p.Append([]byte(`{"id":2}`)); err != nil {
		t.Fatal(err)
	}
	if err := p.Commit(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Commit: %v", err)
	}
	if _, err := w.Seal(sealed); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Seal: %v", err)
	}
	if err := w.Reset(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Reset: %v", err)
	}
	if err := w.Abort(); err != nil || names(t, filepath.Dir(sealed)) != "" {
		t.Errorf("Abort: %v, left %q", err, names(t, filepath.Dir(sealed)))
	}
}
