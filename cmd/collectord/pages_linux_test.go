package main

import (
	"crypto/sha256"
	"os"
	"slices"
	"testing"
)

// TestReleasedPagesAreWhole: the program's read-only memory is the same
// afterwards, also where the linker wrote into it before it became read-only.
func TestReleasedPagesAreWhole(t *testing.T) {
	before, kept := readOnlyMemory(t)
	if len(before) < 3 || kept == 0 {
		t.Fatalf("%d read-only parts of the program, %d of them written to; want some of both", len(before), kept)
	}
	if kept == len(before) {
		t.Fatal("nothing would be released")
	}
	if err := releasePages(); err != nil {
		t.Fatal(err)
	}
	if after, _ := readOnlyMemory(t); !slices.Equal(after, before) {
		t.Error("the program's memory has changed")
	}
}

// readOnlyMemory returns a sum of each read-only part of the program in this
// process's memory, and how many of them were written to.
func readOnlyMemory(t *testing.T) (sums [][sha256.Size]byte, written int) {
	t.Helper()
	mapped, err := programMappings()
	if err != nil {
		t.Fatal(err)
	}
	memory, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	for _, m := range mapped {
		text := make([]byte, m.to-m.from)
		if _, err := memory.ReadAt(text, int64(m.from)); err != nil {
			t.Fatal(err)
		}
		sums = append(sums, sha256.Sum256(text))
		if !m.pristine {
			written++
		}
	}
	return sums, written
}
