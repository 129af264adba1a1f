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

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
)

func TestSealedSnapshot(t *testing.T) {
	records := []string{`{"id":1}`, `{}`, `{"_tenancy":"theirs"}`, "{\"a\":\"\xff\"}"}
	stored := []string{asStored(records[0])[0], asStored(records[1])[0], `{"_vendor_tenancy":"theirs",` + storedMembers, "{\"a\":\"\ufffd\"," + storedMembers}
	w, sealed := createWriter(t)
	commitBatch(t, w, records[:2]...)
	commitBatch(t, w, records[2:]...)
	if _, err := Open(sealed); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open before Seal: error %v, want fs.ErrNotExist", err)
	}
	s, err := w.Seal(sealed)
	if err != nil {
		t.Fatal(err)
	}
	got, err := readRecords(s)
	if err != nil || !slices.Equal(got, stored) {
		t.Errorf("records %q, error %v", got, err)
	}
	if err := s.Verify(context.Background()); err != nil {
		t.Error(err)
	}
	bytes := len(strings.Join(stored, "\n")) + 1
	if s.Records != 4 || s.Bytes != int64(bytes) || s.RenamedMembers != 1 || s.RepairedUTF8 != 1 || s.Header != testHeader || len(s.SHA256) != 64 {
		t.Errorf("info %+v, want 4 records of %d bytes, 1 renamed, 1 repaired", s.Info, bytes)
	}
	if entryNames(t, filepath.Dir(sealed)) != "sealed" || entryNames(t, sealed) != "manifest.json records.ndjson.zst" {
		t.Errorf("the directory contains %s, the snapshot %s", entryNames(t, filepath.Dir(sealed)), entryNames(t, sealed))
	}
	again, err := Open(sealed)
	if err != nil || !cmp.Equal(again.Info, s.Info) || again.Dir() != sealed || again.Path() != filepath.Join(sealed, "records.ndjson.zst") {
		t.Errorf("Open: %+v, %v, want %+v", again, err, s)
	}
	for _, name := range []string{sealed, s.Path(), filepath.Join(sealed, "manifest.json")} {
		if fi, err := os.Stat(name); err != nil || fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is not private: mode %v, error %v", name, fi.Mode(), err)
		}
	}
}

// Other programs can read the records file as one Zstandard stream, whatever
// batches it consists of.
func TestRecordsFileIsPlainZstandard(t *testing.T) {
	w, sealed := createWriter(t)
	for i := range 5 {
		commitBatch(t, w, fmt.Sprintf(`{"id":%d}`, i))
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
		t.Errorf("decompressed %s, error %v", text, err)
	}
}

func TestEmptySnapshot(t *testing.T) {
	w, sealed := createWriter(t)
	commitBatch(t, w) // a batch without records
	if _, err := w.Seal(sealed); err != nil {
		t.Fatal(err)
	}
	s, err := Open(sealed)
	if err != nil || s.Records != 0 || s.Bytes != 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	if got, err := readRecords(s); err != nil || got != nil {
		t.Errorf("records %q, error %v", got, err)
	}
	if err := s.Verify(context.Background()); err != nil {
		t.Error(err)
	}
}

// Batches that are open at the same time do not mix, and discarded ones leave no
// records.
func TestConcurrentBatches(t *testing.T) {
	w, sealed := createWriter(t)
	const batches, perBatch = 30, 400
	var all sync.WaitGroup
	for n := range batches {
		all.Go(func() {
			b := w.NewBatch()
			defer b.Discard()
			for i := range perBatch {
				// Long enough that some batches are compressed in several parts.
				r := fmt.Sprintf(`{"batch":%d,"at":%d,"text":%q}`, n, i, strings.Repeat("x", n*80))
				if err := b.Append([]byte(r)); err != nil {
					t.Error(err)
				}
			}
			if n%3 == 0 {
				return
			}
			if records, bytes := b.Size(); records != perBatch || bytes < int64(perBatch*n*80) {
				t.Errorf("batch %d has %d records of %d bytes", n, records, bytes)
			}
			if err := b.Commit(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if live := w.Info(); live.Records != batches*2/3*perBatch {
		t.Errorf("Info: %+v", live)
	}
	s, err := w.Seal(sealed)
	if err != nil {
		t.Fatal(err)
	}
	got, err := readRecords(s)
	if err != nil || len(got) != batches*2/3*perBatch {
		t.Fatalf("%d records, %v", len(got), err)
	}
	seen := map[int]bool{}
	for at := 0; at < len(got); at += perBatch {
		var first struct{ Batch, At int }
		if err := json.Unmarshal([]byte(got[at]), &first); err != nil || first.At != 0 || seen[first.Batch] || first.Batch%3 == 0 {
			t.Fatalf("record %d is %s", at, got[at])
		}
		seen[first.Batch] = true
		for i := range perBatch {
			if want := fmt.Sprintf(`{"batch":%d,"at":%d,`, first.Batch, i); !strings.HasPrefix(got[at+i], want) {
				t.Fatalf("record %d is %.40s, want %s", at+i, got[at+i], want)
			}
		}
	}
}

func TestBatchEndsOnce(t *testing.T) {
	w, sealed := createWriter(t)
	b := w.NewBatch()
	if err := b.Append([]byte(`{"id":1}`)); err != nil {
		t.Fatal(err)
	}
	if err := b.Append([]byte(`[1]`)); !errors.Is(err, ErrNotObject) || !strings.Contains(err.Error(), "record 2 of the batch") {
		t.Errorf("Append of an array: %v, want ErrNotObject for record 2", err)
	}
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	b.Discard()
	if err := b.Commit(); !errors.Is(err, errBatchClosed) {
		t.Errorf("second Commit: %v", err)
	}
	if err := b.Append([]byte(`{"id":2}`)); !errors.Is(err, errBatchClosed) {
		t.Errorf("Append after Commit: %v", err)
	}
	dropped := w.NewBatch()
	dropped.Discard()
	dropped.Discard()
	if err := dropped.Commit(); !errors.Is(err, errBatchClosed) {
		t.Errorf("Commit after Discard: %v", err)
	}
	s, err := w.Seal(sealed)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := readRecords(s); err != nil || !slices.Equal(got, asStored(`{"id":1}`)) {
		t.Errorf("records %q, error %v", got, err)
	}
}

func TestReset(t *testing.T) {
	w, sealed := createWriter(t)
	commitBatch(t, w, `{"id":1}`, `{"_tenancy":1}`)
	commitBatch(t, w, incompressible(3<<20))
	if err := w.Reset(); err != nil {
		t.Fatal(err)
	}
	if i := w.Info(); i.Records != 0 || i.Bytes != 0 || i.SpoolBytes != 0 || i.RenamedMembers != 0 {
		t.Errorf("info after Reset: %+v", i)
	}
	commitBatch(t, w, `{"id":2}`)
	if _, err := w.Seal(sealed); err != nil {
		t.Fatal(err)
	}
	s, err := Open(sealed)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := readRecords(s); err != nil || !slices.Equal(got, asStored(`{"id":2}`)) {
		t.Errorf("records %q, error %v", got, err)
	}
}

// incompressible returns a record of about n bytes that does not compress.
func incompressible(n int) string {
	b := make([]byte, n*3/4)
	_, _ = rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)}).Read(b) // never returns an error
	return `{"text":"` + base64.RawURLEncoding.EncodeToString(b) + `"}`
}

// A batch that is too large for memory moves to a file without a name. Its records
// are complete and in order.
func TestBatchOverflows(t *testing.T) {
	w, sealed := createWriter(t)
	big := []string{incompressible(700_000), incompressible(1_700_001), incompressible(900_002), `{"id":4}`}
	b, dropped := w.NewBatch(), w.NewBatch()
	for _, r := range big {
		if err := errors.Join(b.Append([]byte(r)), dropped.Append([]byte(r))); err != nil {
			t.Fatal(err)
		}
	}
	if b.overflow == nil {
		t.Fatal("the batch is still in memory")
	}
	if got := entryNames(t, filepath.Join(filepath.Dir(sealed), "spool")); got != "records.ndjson.zst" {
		t.Errorf("the spool contains %s", got)
	}
	dropped.Discard()
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	commitBatch(t, w, `{"id":5}`)
	s, err := w.Seal(sealed)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := readRecords(s); err != nil || !slices.Equal(got, asStored(append(big, `{"id":5}`)...)) {
		t.Errorf("%d records, %v", len(got), err)
	}
}

func TestRecordOf40MB(t *testing.T) {
	huge := `{"text":"` + strings.Repeat(incompressible(1 << 20)[9:1<<20], 40) + `"}`
	s := sealRecords(t, `{"id":1}`, huge, `{"id":2}`)
	if got, err := readRecords(s); err != nil || !slices.Equal(got, asStored(`{"id":1}`, huge, `{"id":2}`)) {
		t.Errorf("%d records, %v", len(got), err)
	}
	for range 10 { // buffers from the pool
		buffer := batchBuffers.Get().(*batchBuffer)
		if n := cap(buffer.plain) + buffer.packed.Cap(); n > 8<<20 {
			t.Errorf("the pool has a buffer of %d MiB", n>>20)
		}
	}
}

func TestSealFails(t *testing.T) {
	for _, tc := range []struct {
		name    string
		prepare func(sealed string) string // returns where to seal
	}{
		{name: "directory exists", prepare: func(sealed string) string {
			if err := os.MkdirAll(filepath.Join(sealed, "x"), 0o700); err != nil {
				t.Fatal(err)
			}
			return sealed
		}},
		{name: "parent missing", prepare: func(sealed string) string { return filepath.Join(sealed, "a", "b") }},
		{name: "file exists", prepare: func(sealed string) string {
			if err := os.WriteFile(sealed, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return sealed
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w, sealed := createWriter(t)
			commitBatch(t, w, `{"id":1}`)
			dir := tc.prepare(sealed)
			before := entryNames(t, filepath.Dir(sealed))
			_, err := w.Seal(dir)
			requireErrorContains(t, err, "seal snapshot: ")
			if _, err := Open(dir); err == nil {
				t.Error("Open found a snapshot")
			}
			if _, err := w.Seal(dir + "2"); err == nil {
				t.Error("Seal succeeded after a failure")
			}
			if err := w.Abort(); err != nil {
				t.Fatal(err)
			}
			if got := entryNames(t, filepath.Dir(sealed)); got != strings.TrimSpace(strings.TrimSuffix(before, "spool")) {
				t.Errorf("after Abort the directory contains %q, before %q", got, before)
			}
		})
	}
}

func TestAbort(t *testing.T) {
	w, sealed := createWriter(t)
	commitBatch(t, w, `{"id":1}`)
	open := w.NewBatch()
	if err := open.Append([]byte(incompressible(3 << 20))); err != nil {
		t.Fatal(err)
	}
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
	if got := entryNames(t, filepath.Dir(sealed)); got != "" {
		t.Errorf("the directory contains %s", got)
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
	// Another spool may use the name. A second Abort does not remove it.
	spool := filepath.Join(filepath.Dir(sealed), "spool")
	other, err := Create(spool, testHeader)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
	if entryNames(t, spool) != "records.ndjson.zst" {
		t.Error("the second Abort removed the other spool")
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
	if entryNames(t, filepath.Dir(sealed)) != "sealed spool" {
		t.Error("Abort after Seal removed a directory")
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
	for _, path := range []string{dir, filepath.Join(dir, "no", "parent"), filepath.Join(dir, "file"), filepath.Join(dir, "file", "below")} {
		if _, err := Create(path, testHeader); err == nil || !strings.HasPrefix(err.Error(), "spool: ") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if got := entryNames(t, dir); got != "file" {
		t.Errorf("the directory contains %s", got)
	}
}

// A spool that cannot be written stays failed, and Abort removes it.
func TestBrokenSpool(t *testing.T) {
	w, sealed := createWriter(t)
	commitBatch(t, w, `{"id":1}`)
	if err := w.file.Close(); err != nil { // simulates a failed disk
		t.Fatal(err)
	}
	b := w.NewBatch()
	if err := b.Append([]byte(`{"id":2}`)); err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Commit: %v", err)
	}
	if _, err := w.Seal(sealed); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Seal: %v", err)
	}
	if err := w.Reset(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Reset: %v", err)
	}
	if err := w.Abort(); err != nil || entryNames(t, filepath.Dir(sealed)) != "" {
		t.Errorf("Abort: %v, the directory contains %q", err, entryNames(t, filepath.Dir(sealed)))
	}
}
