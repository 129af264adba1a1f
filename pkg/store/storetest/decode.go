package storetest

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// DecodeFile returns the records of a JSON or NDJSON file. The extension of
// name says how it is encoded.
func DecodeFile(t testing.TB, name string, text []byte) []string {
	t.Helper()
	plain := string(Decompress(t, name, text))
	format := strings.TrimSuffix(strings.TrimSuffix(name, ".gz"), ".zst")
	if strings.HasSuffix(format, ".json") {
		if plain == "[]\n" {
			return nil
		}
		inner, ok := strings.CutPrefix(plain, "[\n")
		inner, ok2 := strings.CutSuffix(inner, "\n]\n")
		if !ok || !ok2 {
			t.Fatalf("%.100q is not an array with a record per line", plain)
		}
		return strings.Split(inner, ",\n")
	}
	if plain == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(plain, "\n"), "\n")
}

// Decompress undoes the compression that the extension of name stands for. An
// empty text is an error where there is one.
func Decompress(t testing.TB, name string, text []byte) []byte {
	t.Helper()
	var r io.Reader = bytes.NewReader(text)
	var err error
	switch {
	case strings.HasSuffix(name, ".gz"):
		r, err = gzip.NewReader(r)
	case strings.HasSuffix(name, ".zst"):
		if len(text) == 0 {
			t.Errorf("%s is empty, which is not zstd", name)
		}
		var d *zstd.Decoder
		if d, err = zstd.NewReader(r); err == nil {
			defer d.Close()
			r = d
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}
