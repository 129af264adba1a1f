package rest

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"testing"

	"github.com/collectord/collectord/pkg/collector/records"
)

// TestFileMemoryDoesNotGrow: the memory for reading a file does not depend on the
// number of its records.
func TestFileMemoryDoesNotGrow(t *testing.T) {
	n := 1_000_000
	if raceEnabled {
		n = 20_000
	}
	const most = 8 << 20
	discard := func([]byte) error { return nil }
	t.Run("CSV in gzip", func(t *testing.T) {
		in, out := io.Pipe()
		go func() {
			z, _ := gzip.NewWriterLevel(out, gzip.BestSpeed) // the level is valid
			b := bufio.NewWriter(z)
			_, _ = b.WriteString("cve,epss,percentile\n")
			for i := range n {
				fmt.Fprintf(b, "CVE-2026-%d,0.0%d,0.5\n", i, i)
			}
			_ = b.Flush()
			_ = z.Close()
			_ = out.Close()
		}()
		var rows int64
		var err error
		grew := measureMemoryGrowth(func() { rows, err = records.CSV{}.Each(records.Gunzip(in, 1<<30), discard) })
		if err != nil || rows != int64(n) || grew > most {
			t.Errorf("%d rows, error %v, memory grew by %d KiB", rows, err, grew>>10)
		}
	})
}
