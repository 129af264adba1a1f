package vendorsim_test

import (
	"io"
	"testing"

	"github.com/collectord/collectord/internal/vendorsim"
)

// BenchmarkRender measures how fast the records of each stream are rendered.
func BenchmarkRender(b *testing.B) {
	v := vendorsim.NewTenable()
	s, err := vendorsim.Start(vendorsim.Options{Vendors: []vendorsim.Vendor{v}})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for _, stream := range s.Host("tenable").Streams() {
		b.Run(stream, func(b *testing.B) {
			var buf []byte
			total := 0
			for b.Loop() {
				total = 0
				for i := 100; i < 1100; i++ {
					buf = s.AppendRecord(buf[:0], stream, i)
					total += len(buf)
				}
			}
			b.SetBytes(int64(total))
			b.ReportAllocs()
		})
	}
}

// BenchmarkServe measures how fast a simple client reads a long response.
func BenchmarkServe(b *testing.B) {
	for name, mode := range map[string]vendorsim.GzipMode{
		"plain": vendorsim.GzipOff, "stored": vendorsim.GzipStored, "gzip": vendorsim.GzipFast,
	} {
		b.Run(name, func(b *testing.B) {
			s, err := vendorsim.Start(vendorsim.Options{Vendors: []vendorsim.Vendor{toy{}},
				Counts: map[string]int{"toy_items": 50_000}, Gzip: mode})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			for b.Loop() {
				resp, err := s.Client().Get(s.VendorURL("toy") + "/items")
				if err != nil {
					b.Fatal(err)
				}
				n, err := io.Copy(io.Discard, resp.Body)
				if err != nil {
					b.Fatal(err)
				}
				_ = resp.Body.Close()
				b.SetBytes(n)
			}
		})
	}
}
