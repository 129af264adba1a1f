package rest

import (
	"math"
	"testing"
)

func TestKeySet(t *testing.T) {
	const keys = 100_000
	hasher := newKeyHasher()
	hashes := make([]keyHash, 0, keys+3)
	// Hashes that begin their search at the last slot continue at the first.
	hashes = append(hashes, math.MaxUint64, math.MaxUint64-1, 1)
	for i := range keys {
		hashes = append(hashes, hasher.hash(string(rune(i))+"/"+string(rune(i>>8))))
	}
	var s keySet
	want := map[keyHash]bool{}
	for _, h := range hashes {
		if s.has(h) != want[h] {
			t.Fatalf("has(%d) = %v before it was added", h, s.has(h))
		}
		for range 2 { // the second add changes nothing
			s.add(h)
		}
		want[h] = true
		if !s.has(h) || s.count != len(want) {
			t.Fatalf("after add(%d): has %v, count %d, want %d", h, s.has(h), s.count, len(want))
		}
	}
	for h := range want {
		if !s.has(h) {
			t.Fatalf("%d is lost", h)
		}
	}
	if perHash := 8 * float64(len(s.slots)) / float64(s.count); perHash > 16 {
		t.Errorf("%.1f bytes for each hash, want at most 16", perHash)
	}
	s.clear()
	if s.has(1) || s.count != 0 {
		t.Error("the set is not empty after clear")
	}
}

func TestHashesAreNotZero(t *testing.T) {
	// 0 is the mark of a free slot.
	var s keySet
	if h := newKeyHasher().hash(""); h == 0 || s.has(h) {
		t.Errorf("hash %d", h)
	}
}
