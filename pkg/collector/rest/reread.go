package rest

import (
	"context"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
)

// rereadPages reads the page before the page of r again, and stores the records
// that moved to it meanwhile. If it has a record that was read before the page
// of r, no record is missing between them. Otherwise more than a page moved, and
// the page before it is read in the same way.
func (w *walkState) rereadPages(ctx context.Context, r Request) error {
	position := newPosition(w.keys.Param, w.keys.Member)
	first, err := position.number(w.listing.Request)
	if err != nil {
		return err
	}
	for number := first + int64(w.pages) - 2; number >= first; number-- {
		before, _, err := position.setNumber(r, number)
		if err != nil {
			return err
		}
		if err := w.rereadPage(ctx, before); err != nil {
			return err
		}
		if w.keys.older {
			break
		}
	}
	return nil
}

// rereadPage reads one page again and stores its records that are new.
func (w *walkState) rereadPage(ctx context.Context, r Request) error {
	batch, _, err := w.client.fetchBatch(ctx, r, w.listing.Shape, w.out, w.handleRecord)
	if err != nil {
		return err
	}
	defer batch.Discard()
	if len(w.keys.added) == 0 {
		return nil
	}
	if err := batch.Commit(); err != nil {
		return err
	}
	stored := w.keys.commit()
	w.records += stored
	collector.LogFrom(ctx).Info("records that moved to a page which was already read were stored",
		zap.String("request", r.Step()), zap.Int64("records", stored))
	return nil
}

// pageKeys is an Output that knows the keys of the records that were read. One
// page is read into it at a time.
type pageKeys struct {
	collector.Output
	PageNumber
	hasher keyHasher
	seen   map[keyHash]struct{}
	// newest are those of seen that were added since beginNext.
	newest map[keyHash]struct{}

	// The page that is being read.
	added map[keyHash]struct{} // its keys that are not in seen
	older bool                 // it has a key that was added before beginNext
}

func newPageKeys(out collector.Output, pager PageNumber) *pageKeys {
	return &pageKeys{Output: out, PageNumber: pager, hasher: newKeyHasher(), seen: map[keyHash]struct{}{}}
}

// beginNext is called before a page is read for the first time.
func (p *pageKeys) beginNext() { p.newest = map[keyHash]struct{}{} }

// NewBatch implements collector.Output. It begins a page, or another attempt at
// one.
func (p *pageKeys) NewBatch() collector.Batch {
	p.added, p.older = map[keyHash]struct{}{}, false
	return p.Output.NewBatch()
}

// add adds the key of a record of the page and reports whether it is new.
func (p *pageKeys) add(raw []byte) (isNew bool, err error) {
	key, err := p.Key(raw)
	if err != nil {
		return false, err
	}
	sum := p.hasher.hash(key)
	if _, known := p.seen[sum]; known {
		if _, newest := p.newest[sum]; !newest {
			p.older = true
		}
		return false, nil
	}
	if _, twice := p.added[sum]; twice {
		return false, nil
	}
	p.added[sum] = struct{}{}
	return true, nil
}

// commit records that the page was stored and returns the number of its new
// records.
func (p *pageKeys) commit() int64 {
	for sum := range p.added {
		p.seen[sum] = struct{}{}
		p.newest[sum] = struct{}{}
	}
	return int64(len(p.added))
}
