package rss

import (
	"crypto/sha256"
	"os"
	"slices"
	"testing"

	_ "github.com/collectord/collectord/internal/duckdb" // makes the test program one that the linker writes into
)

// TestReleasedMemoryIsUnchanged checks that the program's read-only memory is the
// same after its release, also where the linker wrote into it before it became
// read-only.
func TestReleasedMemoryIsUnchanged(t *testing.T) {
	before, modified := readOnlyMemory(t)
	if len(before) < 3 || modified == 0 {
		t.Fatalf("%d read-only mappings of the program, %d of them modified; want some of both", len(before), modified)
	}
	if modified == len(before) {
		t.Fatal("no mapping would be released")
	}
	if err := ReleaseProgramMemory(); err != nil {
		t.Fatal(err)
	}
	if after, _ := readOnlyMemory(t); !slices.Equal(after, before) {
		t.Error("the program's memory has changed")
	}
}

// readOnlyMemory returns the checksum of each read-only mapping of the program,
// and the number of them that were modified.
func readOnlyMemory(t *testing.T) (sums [][sha256.Size]byte, modified int) {
	t.Helper()
	mappings, err := programMappings()
	if err != nil {
		t.Fatal(err)
	}
	memory, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	for _, m := range mappings {
		content := make([]byte, m.to-m.from)
		if _, err := memory.ReadAt(content, int64(m.from)); err != nil {
			t.Fatal(err)
		}
		sums = append(sums, sha256.Sum256(content))
		if !m.unmodified {
			modified++
		}
	}
	return sums, modified
}
