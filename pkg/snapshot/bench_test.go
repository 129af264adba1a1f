package snapshot

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
)

func benchmarkSnapshot(b *testing.B) *Snapshot {
	w, sealed := createWriter(b)
	for n := range 20 {
		if err := commitLargeBatch(w, n*1000, 1000); err != nil {
			b.Fatal(err)
		}
	}
	s, err := w.Seal(sealed)
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func benchmarkEncode(b *testing.B, f Format) {
	s := benchmarkSnapshot(b)
	b.SetBytes(s.Bytes)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Encode(context.Background(), io.Discard, f); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeJSON(b *testing.B)     { benchmarkEncode(b, Format{Kind: JSON}) }
func BenchmarkEncodeJSONGzip(b *testing.B) { benchmarkEncode(b, Format{JSON, "gzip"}) }
func BenchmarkEncodeJSONZstd(b *testing.B) { benchmarkEncode(b, Format{JSON, "zstd"}) }

func BenchmarkSplicer(b *testing.B) {
	var text strings.Builder
	for i := range 30 {
		fmt.Fprintf(&text, `,"field_%d":"value %d in a line of text"`, i, i*i)
	}
	record := []byte(`{"id":1` + text.String() + `}`)
	s := NewSplicer(testHeader)
	b.SetBytes(int64(len(record)))
	b.ReportAllocs()
	var dst []byte
	for b.Loop() {
		var err error
		if dst, _, err = s.Append(dst[:0], record); err != nil {
			b.Fatal(err)
		}
	}
}
