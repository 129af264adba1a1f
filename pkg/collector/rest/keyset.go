package rest

import (
	"hash/maphash"
	"math/bits"
)

// keyHash is the hash of a record's key. It is never 0.
type keyHash uint64

// keyHasher makes the hashes of keys.
type keyHasher struct{ seed maphash.Seed }

func newKeyHasher() keyHasher { return keyHasher{maphash.MakeSeed()} }

func (k keyHasher) hash(key string) keyHash {
	return keyHash(max(1, maphash.String(k.seed, key)))
}

// A keySet is a set of hashes, in a table without pointers: 10 to 15 bytes for
// each hash. The zero value is empty.
type keySet struct {
	slots []keyHash // 0 is a free slot
	count int
}

// leastSlots is the size of the smallest table.
const leastSlots = 64

func (k *keySet) has(h keyHash) bool {
	if k.count == 0 {
		return false
	}
	return k.slots[k.slotOf(h)] == h
}

// add adds h if the set does not have it.
func (k *keySet) add(h keyHash) {
	if k.count >= len(k.slots)*4/5 {
		k.grow()
	}
	if at := k.slotOf(h); k.slots[at] == 0 {
		k.slots[at] = h
		k.count++
	}
}

// clear removes all hashes and gives the table's memory back.
func (k *keySet) clear() { *k = keySet{} }

// grow makes the table half as large again.
func (k *keySet) grow() {
	before := k.slots
	k.slots = make([]keyHash, max(leastSlots, len(before)*3/2))
	for _, h := range before {
		if h != 0 {
			k.slots[k.slotOf(h)] = h
		}
	}
}

// slotOf returns the slot that has h, or else the free slot in which to put it.
func (k *keySet) slotOf(h keyHash) int {
	high, _ := bits.Mul64(uint64(h), uint64(len(k.slots)))
	at := int(high)
	for k.slots[at] != 0 && k.slots[at] != h {
		if at++; at == len(k.slots) {
			at = 0
		}
	}
	return at
}
