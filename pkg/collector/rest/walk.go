package rest

import (
	"context"
	"fmt"
	"hash/maphash"

	"github.com/collectord/collectord/pkg/collector"
)

// A Listing is a paged extraction as data.
type Listing struct {
	// Request asks for the first page.
	Request
	Shape Shape
	Pager Pager
	// Total is the dotted member with the declared number of records; when it
	// is set, fewer records than the last page that had any declared are an
	// error. A listing that declares none is not checked.
	Total string
	// Slack is the share of Total, between 0 and 1, that may be missing
	// because the vendor's own data moves while it is read.
	Slack float64
	// MaxPages ends a listing that does not end; 1,000,000 when zero.
	MaxPages int
	// Each passes one record on; it is kept as it is when Each is nil.
	Each Each
	// Came is told after each page that is kept how many records have come;
	// nil tells nobody.
	Came func(records int64)
	// Expired tells errors after which the vendor has forgotten the place in
	// the listing, so that it must start over; nil for none.
	Expired func(error) bool
	// Restarts bounds how often it starts over; 2 when zero.
	Restarts int
}

// Walk passes every record of the listing to out. When the listing must start
// over, what out has received is dropped with Reset, so out must hold nothing
// but this listing if Expired is set.
func (c *Client) Walk(ctx context.Context, l Listing, out collector.Output) (records int64, err error) {
	for restart := 0; ; restart++ {
		w := walk{client: c, listing: l, out: out, seed: maphash.MakeSeed(), seen: map[uint64]struct{}{}}
		err := w.all(ctx)
		if err == nil {
			return w.records, nil
		}
		if l.Expired == nil || !l.Expired(err) || restart >= orInt(l.Restarts, 2) {
			return w.records, err
		}
		if err := out.Reset(); err != nil {
			return 0, err
		}
	}
}

// walk is the state of one pass over a listing.
type walk struct {
	client  *Client
	listing Listing
	out     collector.Output
	records int64
	pages   int
	total   int64
	seed    maphash.Seed
	seen    map[uint64]struct{} // sums of the requests made
	start   uint64              // sum of the last page's first record; 0 before
}

func (w *walk) all(ctx context.Context) error {
	r := w.listing.Request
	w.first(r)
	for {
		next, more, err := w.page(ctx, r)
		if err != nil {
			return err
		}
		if !more {
			return w.complete()
		}
		if err := w.guard(next); err != nil {
			return err
		}
		r = next
	}
}

// page reads one page and keeps it.
func (w *walk) page(ctx context.Context, r Request) (next Request, more bool, err error) {
	var start uint64
	page, envelope, err := w.client.fetch(ctx, r, w.listing.Shape, w.out, func(page collector.Page, e *Envelope, raw []byte) error {
		if e.Records == 0 {
			start = maphash.Bytes(w.seed, raw)
		}
		if w.listing.Each != nil {
			return w.listing.Each(page, e, raw)
		}
		return page.Append(raw)
	})
	if err != nil {
		return r, false, err
	}
	defer page.Discard()
	if envelope.Records > 0 && start == w.start {
		return r, false, fmt.Errorf("%s: %w: page %d begins as the one before it", r.Step(), collector.ErrIncomplete, w.pages+1)
	}
	next, more, err = w.listing.Pager.next(pageSeen{request: r, envelope: envelope, before: w.records})
	if err != nil {
		return r, false, fmt.Errorf("%s: %w: %w", r.Step(), collector.ErrIncomplete, err)
	}
	if err := page.Commit(); err != nil {
		return r, false, err
	}
	if envelope.Records > 0 {
		w.start = start
	}
	w.pages++
	w.records += int64(envelope.Records)
	if w.listing.Came != nil {
		w.listing.Came(w.records)
	}
	if total, ok := envelope.Count(w.listing.Total); ok && total > 0 {
		w.total = total
	}
	return next, more, nil
}

func (w *walk) first(r Request) { w.seen[w.sum(r)] = struct{}{} }

func (w *walk) sum(r Request) uint64 {
	return maphash.String(w.seed, r.Path+"?"+r.Query.Encode()+"#"+string(r.Body))
}

// guard ends a listing that goes in circles or does not end.
func (w *walk) guard(next Request) error {
	sum := w.sum(next)
	if _, again := w.seen[sum]; again {
		return fmt.Errorf("%s: %w: page %d leads back to a page that was read already", next.Step(), collector.ErrIncomplete, w.pages)
	}
	w.seen[sum] = struct{}{}
	if most := orInt(w.listing.MaxPages, 1_000_000); w.pages >= most {
		return fmt.Errorf("%s: %w: it goes on after %d pages", next.Step(), collector.ErrIncomplete, most)
	}
	return nil
}

// complete compares what came with what was declared.
func (w *walk) complete() error {
	if least := w.total - int64(w.listing.Slack*float64(w.total)); w.records < least {
		return fmt.Errorf("%s: %w: %d records came, %d were declared", w.listing.Step(), collector.ErrIncomplete, w.records, w.total)
	}
	return nil
}
