package snapshot

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
)

// decodeToSnapshot decodes text and seals its records as a snapshot of h.
func decodeToSnapshot(t *testing.T, h Header, text []byte, f Format) (*Snapshot, error) {
	t.Helper()
	dir := t.TempDir()
	w, err := CreateCopy(filepath.Join(dir, "spool"), h)
	if err != nil {
		t.Fatal(err)
	}
	b := w.NewBatch()
	if err := Decode(t.Context(), bytes.NewReader(text), f, b.Append); err != nil {
		b.Discard()
		return nil, errors.Join(err, w.Abort())
	}
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	return w.Seal(filepath.Join(dir, "sealed"))
}

// Decode returns the encoded records byte for byte: a snapshot of them encodes to the
// same file.
func TestDecodeInvertsEncode(t *testing.T) {
	records := append([]string{`{}`, `{"_tenancy":"theirs","deep":{"_upload_id":"x"}}`, "{\"bad\":\"\xff\"}", "{\n \"lines\" : 1\r\n}"}, `{"nul":"\u0000","lone":"\ud800","twice":1,"twice":2,"big":123456789012345678901234567890,"n":1e-7}`)
	s := sealRecords(t, records...)
	for _, name := range []string{"x.json", "x.json.gz", "x.json.zst", "x.jsonl", "x.ndjson.gz", "x.ndjson.zst"} {
		f, err := FormatOf(name)
		if err != nil {
			t.Fatal(err)
		}
		var text, again bytes.Buffer
		if err := s.Encode(t.Context(), &text, f); err != nil {
			t.Fatal(err)
		}
		c, err := decodeToSnapshot(t, s.Header, text.Bytes(), f)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if c.Records != s.Records || c.Bytes != s.Bytes || c.RenamedMembers != 0 {
			t.Errorf("%s: %+v, want %+v", name, c.Info, s.Info)
		}
		if err := c.Encode(t.Context(), &again, f); err != nil || !bytes.Equal(text.Bytes(), again.Bytes()) {
			t.Errorf("%s: the decoded snapshot encodes differently, error %v", name, err)
		}
	}
}

// TestDecodeOtherPrograms decodes the output of Python's json.dump.
func TestDecodeOtherPrograms(t *testing.T) {
	h := testHeader
	member := `"_tenancy": "` + h.Tenancy + `", "_upload_timestamp": "` + h.UploadTimestamp.Format(TimestampLayout) + `", "_upload_id": "` + h.UploadID + `"`
	s, err := decodeToSnapshot(t, h, []byte(`[{"a": 1e-7, `+member+`}, {`+member+`, "b": "\u00e9"}]`), Format{Kind: JSON})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := s.Encode(t.Context(), &out, Format{Kind: NDJSON}); err != nil {
		t.Fatal(err)
	}
	want := `{"a": 1e-7, ` + member + "}\n{" + member + `, "b": "\u00e9"}` + "\n"
	if out.String() != want {
		t.Errorf("got %s, want %s", out.String(), want)
	}
	got, err := Origin([]byte(`{` + member + `}`))
	if err != nil || got.UploadID != h.UploadID || !got.UploadTimestamp.Equal(h.UploadTimestamp) || got.Tenancy != h.Tenancy {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	h := testHeader
	tail := string(NewSplicer(h).tail)
	good := `{"a":1` + strings.TrimSuffix(tail, "\n")
	other := h
	other.UploadID = "another"
	foreign := `{"a":1` + strings.TrimSuffix(string(NewSplicer(other).tail), "\n")
	array, lines := Format{Kind: JSON}, Format{Kind: NDJSON}
	for _, tc := range []struct {
		name   string
		text   string
		format Format
		want   error  // nil for any error
		detail string // text in the error
	}{
		{name: "empty file", text: "", format: array, want: io.ErrUnexpectedEOF, detail: "ends before"},
		{name: "a cut array", text: "[" + good, format: array, want: io.ErrUnexpectedEOF, detail: "ends before"},
		{name: "a cut record", text: "[" + good[:5], format: array, want: io.ErrUnexpectedEOF, detail: "ends before"},
		{name: "a missing record", text: "[" + good + ",", format: array, want: io.ErrUnexpectedEOF, detail: "ends before"},
		{name: "an HTML page", text: "<html></html>", format: array, want: nil, detail: "decode: record 1"},
		{name: "an object", text: `{"error":"x"}`, format: array, want: nil, detail: "want an array"},
		{name: "an array in the array", text: "[[" + good + "]]", format: array, want: ErrNotObject, detail: ""},
		{name: "a number", text: "[1]", format: array, want: ErrNotObject, detail: ""},
		{name: "two arrays", text: "[" + good + "][]", format: array, want: nil, detail: "after the array"},
		{name: "another origin", text: "[" + good + "," + foreign + "]", format: array, want: ErrForeign, detail: "record 2"},
		{name: "no origin", text: `[{"a":1}]`, format: array, want: ErrForeign, detail: "_tenancy"},
		{name: "a bad time", text: strings.Replace("["+good+"]", `_timestamp":"2`, `_timestamp":"x`, 1),
			format: array, want: ErrForeign, detail: "want the form"},
		{name: "a cut line", text: good + "\n" + good[:9], format: lines, want: io.ErrUnexpectedEOF, detail: "record 2"},
		{name: "a line that is not an object", text: good + "\nnull\n", format: lines, want: ErrNotObject, detail: ""},
		{name: "not gzip", text: "[]", format: Format{JSON, "gzip"}, want: nil, detail: "decode"},
		{name: "not zstd", text: "[]", format: Format{JSON, "zstd"}, want: nil, detail: "decode"},
		{name: "parquet", text: "PAR1", format: Format{Kind: Parquet}, want: nil, detail: "Parquet"},
	} {
		_, err := decodeToSnapshot(t, h, []byte(tc.text), tc.format)
		if err == nil || tc.want != nil && !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.detail) {
			t.Errorf("%s: error %v, want %v with %q", tc.name, err, tc.want, tc.detail)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Decode(ended, strings.NewReader("["+good+"]"), array, func([]byte) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A record without an end is refused when it is longer than the bound.
func TestDecodeIsBounded(t *testing.T) {
	endless := io.MultiReader(strings.NewReader(`[{"a":"`), endlessReader{})
	if err := Decode(t.Context(), endless, Format{Kind: JSON}, func([]byte) error { return nil }); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Error(err)
	}
}

// endlessReader returns x forever.
type endlessReader struct{}

func (endlessReader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}
