package rest

import (
	"hash/maphash"
	"sync"

	"github.com/collectord/collectord/pkg/collector"
)

// A Distinct is an Output that keeps, of several records with the same key,
// the first. It is for listings that are read one page after another and may
// show a record twice: because it moved while they were read, or because two
// listings overlap. Of pages that are open at the same time each may keep the
// same key, so that a page which is discarded takes no record of another with
// it.
//
// It remembers 16 bytes for each key, which take at most 40 bytes of memory:
// 40 MB for a million records. Two keys share their 16 bytes by chance about
// once in 10^26 extractions of a million records.
type Distinct struct {
	out   collector.Output
	key   func(record []byte) (string, error)
	seeds [2]maphash.Seed

	mu      sync.Mutex
	seen    map[[2]uint64]struct{}
	dropped int64
}

// NewDistinct makes a Distinct in front of out. key returns what tells records
// apart; its error fails the page.
func NewDistinct(out collector.Output, key func(record []byte) (string, error)) *Distinct {
	return &Distinct{
		out: out, key: key, seen: map[[2]uint64]struct{}{},
		seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
	}
}

// Dropped returns how many records were left out of pages that were kept.
func (d *Distinct) Dropped() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dropped
}

// Page implements collector.Output.
func (d *Distinct) Page() collector.Page {
	return &distinctPage{Page: d.out.Page(), all: d, seen: map[[2]uint64]struct{}{}}
}

// Reset implements collector.Output.
func (d *Distinct) Reset() error {
	d.mu.Lock()
	clear(d.seen)
	d.dropped = 0
	d.mu.Unlock()
	return d.out.Reset()
}

type distinctPage struct {
	collector.Page
	all     *Distinct
	seen    map[[2]uint64]struct{} // of this page alone, until it is kept
	dropped int64
}

func (p *distinctPage) Append(record []byte) error {
	key, err := p.all.key(record)
	if err != nil {
		return err
	}
	sum := [2]uint64{maphash.String(p.all.seeds[0], key), maphash.String(p.all.seeds[1], key)}
	if p.known(sum) {
		p.dropped++
		return nil
	}
	p.seen[sum] = struct{}{}
	return p.Page.Append(record)
}

func (p *distinctPage) known(sum [2]uint64) bool {
	if _, known := p.seen[sum]; known {
		return true
	}
	p.all.mu.Lock()
	defer p.all.mu.Unlock()
	_, known := p.all.seen[sum]
	return known
}

func (p *distinctPage) Commit() error {
	if err := p.Page.Commit(); err != nil {
		return err
	}
	p.all.mu.Lock()
	defer p.all.mu.Unlock()
	for sum := range p.seen {
		p.all.seen[sum] = struct{}{}
	}
	p.all.dropped += p.dropped
	p.seen, p.dropped = nil, 0
	return nil
}
