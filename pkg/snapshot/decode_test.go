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

// copied restores what text holds as a snapshot of h.
func copied(t *testing.T, h Header, text []byte, f Format) (*Snapshot, error) {
	t.Helper()
	dir := t.TempDir()
	w, err := CreateCopy(filepath.Join(dir, "spool"), h)
	if err != nil {
		t.Fatal(err)
	}
	p := w.Page()
	if err := Decode(t.Context(), bytes.NewReader(text), f, p.Append); err != nil {
		p.Discard()
		return nil, errors.Join(err, w.Abort())
	}
	if err := p.Commit(); err != nil {
		t.Fatal(err)
	}
	return w.Seal(filepath.Join(dir, "sealed"))
}

// TestDecodeGivesBack: what was encoded comes back byte for byte, and the
// snapshot made of it encodes to the same bytes again.
func TestDecodeGivesBack(t *testing.T) {
	records := append([]string{`{}`, `{"_tenancy":"theirs","deep":{"_upload_id":"x"}}`, "{\"bad\":\"\xff\"}", "{\n \"lines\" : 1\r\n}"}, `{"nul":"\u0000","lone":"\ud800","twice":1,"twice":2,"big":123456789012345678901234567890,"n":1e-7}`)
	s := seal(t, records...)
	for _, name := range []string{"x.json", "x.json.gz", "x.json.zst", "x.jsonl", "x.ndjson.gz", "x.ndjson.zst"} {
		f, err := FormatOf(name)
		if err != nil {
			t.Fatal(err)
		}
		var text, again bytes.Buffer
		if err := s.Encode(t.Context(), &text, f); err != nil {
			t.Fatal(err)
		}
		c, err := copied(t, s.Header, text.Bytes(), f)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if c.Records != s.Records || c.Bytes != s.Bytes || c.RenamedMembers != 0 {
			t.Errorf("%s: %+v, want %+v", name, c.Info, s.Info)
		}
		if err := c.Encode(t.Context(), &again, f); err != nil || !bytes.Equal(text.Bytes(), again.Bytes()) {
			t.Errorf("%s: %v, or it is not the same again", name, err)
		}
	}
}

// TestDecodeOtherPrograms takes what Python's json.dump writes.
func TestDecodeOtherPrograms(t *testing.T) {
	h := testHeader
	member := `"_tenancy": "` + h.Tenancy + `", "_upload_timestamp": "` + h.UploadTimestamp.Format(TimestampLayout) + `", "_upload_id": "` + h.UploadID + `"`
	s, err := copied(t, h, []byte(`[{"a": 1e-7, `+member+`}, {`+member+`, "b": "\u00e9"}]`), Format{Kind: JSON})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := s.Encode(t.Context(), &out, Format{Kind: NDJSON}); err != nil {
		t.Fatal(err)
	}
	want := `{"a": 1e-7, ` + member + "}\n{" + member + `, "b": "\u00e9"}` + "\n"
	if out.String() != want {
		t.Errorf("%s, want %s", out.String(), want)
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
	for name, tc := range map[string]struct {
		text string
		f    Format
		want error
		says string
	}{
		"nothing":             {"", array, io.ErrUnexpectedEOF, "ends before"},
		"a cut array":         {"[" + good, array, io.ErrUnexpectedEOF, "ends before"},
		"a cut record":        {"[" + good[:5], array, io.ErrUnexpectedEOF, "ends before"},
		"a missing record":    {"[" + good + ",", array, io.ErrUnexpectedEOF, "ends before"},
		"a page":              {"<html></html>", array, nil, "decode: record 1"},
		"an object":           {`{"error":"x"}`, array, nil, "want an array"},
		"an array in it":      {"[[" + good + "]]", array, ErrNotObject, ""},
		"a number":            {"[1]", array, ErrNotObject, ""},
		"two arrays":          {"[" + good + "][]", array, nil, "behind the array"},
		"another origin":      {"[" + good + "," + foreign + "]", array, ErrForeign, "record 2"},
		"no origin":           {`[{"a":1}]`, array, ErrForeign, "_tenancy"},
		"a bad time":          {strings.Replace("["+good+"]", `_timestamp":"2`, `_timestamp":"x`, 1), array, ErrForeign, "want the form"},
		"a cut line":          {good + "\n" + good[:9], lines, io.ErrUnexpectedEOF, "record 2"},
		"a line of no object": {good + "\nnull\n", lines, ErrNotObject, ""},
		"no gzip":             {"[]", Format{JSON, "gzip"}, nil, "decode"},
		"no zstd":             {"[]", Format{JSON, "zstd"}, nil, "decode"},
		"parquet":             {"PAR1", Format{Kind: Parquet}, nil, "Parquet"},
	} {
		_, err := copied(t, h, []byte(tc.text), tc.f)
		if err == nil || tc.want != nil && !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Decode(ended, strings.NewReader("["+good+"]"), array, func([]byte) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestDecodeIsBounded: a record without end takes no memory without end.
func TestDecodeIsBounded(t *testing.T) {
	endless := io.MultiReader(strings.NewReader(`[{"a":"`), endlessly{})
	if err := Decode(t.Context(), endless, Format{Kind: JSON}, func([]byte) error { return nil }); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Error(err)
	}
}

type endlessly struct{}

func (endlessly) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}
