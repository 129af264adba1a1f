package snapshot

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func TestFormatOf(t *testing.T) {
	for name, want := range map[string]Format{
		"a.json": {Kind: JSON}, "a/b.c/A.JSON": {Kind: JSON}, "a.json.gz": {JSON, "gzip"}, "a.json.zst": {JSON, "zstd"},
		"a.jsonl": {Kind: NDJSON}, "a.ndjson": {Kind: NDJSON}, "a.ndjson.gz": {NDJSON, "gzip"}, "a.jsonl.ZST": {NDJSON, "zstd"},
		"a.parquet": {Kind: Parquet}, ".json": {Kind: JSON},
		"a": {}, "a.csv": {}, "a.gz": {}, "a.json.bz2": {}, "a.parquet.gz": {}, "a.json.gz.gz": {}, "json": {}, "": {}, "a.json/b": {},
	} {
		got, err := FormatOf(name)
		if got != want || (err == nil) != (want.Kind != "") {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, want)
		}
		if err != nil && !strings.Contains(err.Error(), ".jsonl or .ndjson") {
			t.Errorf("%s: the error does not list the extensions: %v", name, err)
		}
	}
	for kind, want := range map[Kind]string{JSON: "application/json", NDJSON: "application/x-ndjson", Parquet: "application/vnd.apache.parquet"} {
		if got := (Format{Kind: kind}).ContentType(); got != want {
			t.Errorf("%s: %s", kind, got)
		}
	}
}

// decompress returns b without the format's compression.
func decompress(t *testing.T, f Format, b []byte) string {
	t.Helper()
	var r io.Reader = bytes.NewReader(b)
	switch f.Compression {
	case "gzip":
		z, err := gzip.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		r = z
	case "zstd":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		r = z
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Every format contains every record byte for byte.
func TestEncode(t *testing.T) {
	records := []string{`{"z":1.0,"a":9007199254740993,"u":"\u00e9\/é\u2028","n":1e-7}`, `{}`, `{"long":"` + strings.Repeat("x", 1<<20) + `"}`}
	for i := range 3000 {
		records = append(records, fmt.Sprintf(`{"id":%d,"_tenancy":"theirs"}`, i))
	}
	lines := asStored(records...)
	for i := range lines {
		lines[i] = strings.Replace(lines[i], `"_tenancy":"theirs"`, `"_vendor_tenancy":"theirs"`, 1)
	}
	s, empty := sealRecords(t, records...), sealRecords(t)
	for _, name := range []string{"a.json", "a.ndjson", "a.json.gz", "a.json.zst", "a.jsonl.gz", "a.jsonl.zst"} {
		t.Run(name, func(t *testing.T) {
			f, err := FormatOf(name)
			if err != nil {
				t.Fatal(err)
			}
			var full, none bytes.Buffer
			if err := errors.Join(s.Encode(context.Background(), &full, f), empty.Encode(context.Background(), &none, f)); err != nil {
				t.Fatal(err)
			}
			want, wantNone := strings.Join(lines, "\n")+"\n", ""
			if f.Kind == JSON {
				want, wantNone = "[\n"+strings.Join(lines, ",\n")+"\n]\n", "[]\n"
			}
			if got := decompress(t, f, full.Bytes()); got != want {
				t.Errorf("%d bytes, want %d", len(got), len(want))
			}
			if got := decompress(t, f, none.Bytes()); got != wantNone {
				t.Errorf("empty is %q, want %q", got, wantNone)
			}
			if f.Compression != "" && full.Len() > len(want)/5 {
				t.Errorf("compressed to %d of %d bytes", full.Len(), len(want))
			}
		})
	}
	if err := s.Encode(context.Background(), io.Discard, Format{Kind: Parquet}); err == nil {
		t.Error("Encode accepted Parquet")
	}
}

// Other JSON readers accept the array.
func TestOtherReadersAcceptArray(t *testing.T) {
	s := sealRecords(t, `{"id":1,"big":9007199254740993}`, `{"u":"\ud83d\ude00é"}`)
	var b bytes.Buffer
	if err := s.Encode(context.Background(), &b, Format{Kind: JSON}); err != nil {
		t.Fatal(err)
	}
	var got []map[string]any
	if err := json.Unmarshal(b.Bytes(), &got); err != nil || len(got) != 2 || got[1]["u"] != "😀é" || got[0]["_tenancy"] != "acme" {
		t.Errorf("%v, %v", got, err)
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		return // the reader above has checked the same
	}
	cmd := exec.Command(python, "-c", `import json,sys; a=json.load(sys.stdin); print(len(a), a[0]["big"], a[1]["_upload_timestamp"])`)
	cmd.Stdin = &b
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "2 9007199254740993 2026-03-04 05:06:07\n" {
		t.Errorf("%s, %v", out, err)
	}
}

// A fullDisk fails after n bytes.
type fullDisk struct{ n int }

var errFull = errors.New("no space left on device")

func (f *fullDisk) Write(p []byte) (int, error) {
	if f.n -= len(p); f.n < 0 {
		return 0, errFull
	}
	return len(p), nil
}

// A failed write is always returned, at the start as well as in the last buffer.
func TestEncodeFails(t *testing.T) {
	s := sealRecords(t, incompressible(1<<20), incompressible(1<<20+1))
	for _, name := range []string{"a.json", "a.ndjson", "a.json.gz", "a.json.zst"} {
		f, err := FormatOf(name)
		if err != nil {
			t.Fatal(err)
		}
		var whole bytes.Buffer
		if err := s.Encode(context.Background(), &whole, f); err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{0, 1, 300 << 10, whole.Len() / 2, whole.Len() - 1} {
			if err := s.Encode(context.Background(), &fullDisk{size}, f); !errors.Is(err, errFull) {
				t.Errorf("%s on a disk of %d bytes, %d needed: error %v, want errFull", name, size, whole.Len(), err)
			}
		}
		if err := s.Encode(context.Background(), &fullDisk{whole.Len()}, f); err != nil {
			t.Errorf("%s on a disk of the right size: %v", name, err)
		}
	}
}
