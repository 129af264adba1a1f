package rest

import (
	"sync"

	"github.com/collectord/collectord/pkg/collector"
)

// A Distinct is an Output that keeps the first of several records with the same
// key. It is for listings that are read one page after another and may contain
// a record twice, because it moved while they were read or because two listings
// overlap. Batches that are open at the same time may contain the same key.
// Otherwise discarding one of them could lose a record.
//
// A Distinct stores a hash of 8 bytes for each key, which takes at most 16 bytes
// of memory: 16 MB for a million records. The probability that two keys have
// the same hash, so that a record is left out, is about 3 in 10^8 for a million
// records and 7 in 10^11 for 50,000.
type Distinct struct {
	out    collector.Output
	key    func(record []byte) (string, error)
	hasher keyHasher

	mu      sync.Mutex
	seen    keySet
	dropped int64
}

// NewDistinct returns a Distinct that writes to out. key returns the key of a
// record; Append returns its error.
func NewDistinct(out collector.Output, key func(record []byte) (string, error)) *Distinct {
	return &Distinct{
		out: out, key: key, hasher: newKeyHasher(),
	}
}

// Dropped returns the number of records that were left out of committed batches.
func (d *Distinct) Dropped() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dropped
}

// NewBatch implements collector.Output.
func (d *Distinct) NewBatch() collector.Batch {
	return &distinctBatch{Batch: d.out.NewBatch(), all: d, seen: map[keyHash]struct{}{}}
}

// Reset implements collector.Output.
func (d *Distinct) Reset() error {
	d.mu.Lock()
	d.seen.clear()
	d.dropped = 0
	d.mu.Unlock()
	return d.out.Reset()
}

type distinctBatch struct {
	collector.Batch
	all     *Distinct
	seen    map[keyHash]struct{} // of this batch alone, until it is committed
	dropped int64
}

func (d *distinctBatch) Append(record []byte) error {
	key, err := d.all.key(record)
	if err != nil {
		return err
	}
	sum := d.all.hasher.hash(key)
	if d.hasSeen(sum) {
		d.dropped++
		return nil
	}
	d.seen[sum] = struct{}{}
	return d.Batch.Append(record)
}

func (d *distinctBatch) hasSeen(sum keyHash) bool {
	if _, known := d.seen[sum]; known {
		return true
	}
	d.all.mu.Lock()
	defer d.all.mu.Unlock()
	return d.all.seen.has(sum)
}

func (d *distinctBatch) Commit() error {
	if err := d.Batch.Commit(); err != nil {
		return err
	}
	d.all.mu.Lock()
	defer d.all.mu.Unlock()
	for sum := range d.seen {
		d.all.seen.add(sum)
	}
	d.all.dropped += d.dropped
	d.seen, d.dropped = nil, 0
	return nil
}
