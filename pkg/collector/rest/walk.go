package rest

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
)

// A Listing describes how the records of a paged listing are read.
type Listing struct {
	// Request is the request for the first page.
	Request
	Shape Shape
	Pager Pager
	// Stop is what ends the listing apart from the absence of a next page.
	Stop Stop
	// More is the path of a member that is true if there is a next page and false
	// on the last one, and Last that of one that is true on the last page, see
	// Envelope.Value; "" for none. It is an error if the member is missing, or
	// says that there is a next page which the Pager does not find.
	More, Last string
	// EmptyBetween means that the vendor has empty pages between pages with records.
	// An empty page that leads to itself is then an error. Otherwise it is taken as
	// the end of the listing, as some vendors mean it, and counted as a doubt.
	EmptyBetween bool
	// Total is the path of the declared number of records, see Envelope.Value. If
	// it is set, it is an error to receive fewer records than the first and the
	// last page that have it declare. If no page has it, the number is not
	// checked.
	Total string
	// Slack is the share of Total, between 0 and 1, that may be missing,
	// because the vendor's data changes while it is read. A difference that is
	// accepted is logged and counted as a doubt.
	Slack float64
	// OnRecord handles each record; nil appends every record unchanged.
	OnRecord RecordFunc
	// CheckPage is called with each page before it is committed, and with the
	// number of records up to its end. Its error ends the listing. It may be nil.
	CheckPage func(e *Envelope, records int64) error
	// OnProgress is called after each committed page with the number of
	// records read so far; it may be nil.
	OnProgress func(records int64)
	// Expired reports whether an error means that the vendor no longer knows
	// the position in the listing, so that Walk must start over; nil if there
	// is no such error.
	Expired func(error) bool

	maxPages int // for tests; the constant when zero
}

const (
	// maxListingPages bounds the number of pages in a listing.
	maxListingPages = 1_000_000
	// maxListingRestarts bounds how often a listing starts over.
	maxListingRestarts = 2
)

// Walk writes every record of the listing to out and returns their number. It
// fails if fewer records are received than Total and Slack require; WalkComplete
// reads them again. When the listing starts over, Walk drops the records with
// out.Reset. So if Expired is set, out must contain nothing else.
func (c *Client) Walk(ctx context.Context, l Listing, out collector.Output) (records int64, err error) {
	for restarts := 0; ; restarts++ {
		w := newWalk(c, l, out)
		err := w.readPages(ctx)
		if err == nil {
			w.reportDifference(ctx)
			return w.records, nil
		}
		if !l.hasExpired(err) || restarts >= maxListingRestarts {
			return w.records, err
		}
		collector.LogFrom(ctx).Info("the listing is read again from its start", zap.String("request", l.Step()), zap.NamedError("reason", err))
		if err := out.Reset(); err != nil {
			return 0, err
		}
	}
}

// hasExpired reports whether err means that the listing must start over.
func (l *Listing) hasExpired(err error) bool {
	return l.Expired != nil && (errors.Is(err, ErrCursorExpired) || l.Expired(err))
}

// walkState is the state of one pass over a listing.
type walkState struct {
	client      *Client
	listing     Listing
	out         collector.Output
	records     int64
	pages       int
	totals      TotalRange // without totals of 0
	seed        maphash.Seed
	requested   map[uint64]struct{} // hashes of the requests
	firstRecord uint64              // hash of the last page's first record; 0 before the first page
	keys        *pageKeys           // nil unless pages are read again
	order       *keyOrder           // nil unless the pager is a Keyset
	empty       bool                // the last page had no records
	unchecked   bool                // the caller checks the totals
}

// readPages reads all pages.
func (w *walkState) readPages(ctx context.Context) error {
	if err := w.listing.prepare(); err != nil {
		return err
	}
	r := w.listing.Request
	w.requested[w.hashRequest(r)] = struct{}{}
	for {
		if w.keys != nil {
			w.keys.beginNext()
		}
		next, more, err := w.readPage(ctx, r)
		if err != nil {
			return err
		}
		if w.keys != nil {
			if err := w.rereadPages(ctx, r); err != nil {
				return err
			}
		}
		if more && w.empty && !w.listing.saysMore() && !w.listing.EmptyBetween && w.hashRequest(next) == w.hashRequest(r) {
			w.reportLoop(ctx, r)
			more = false
		}
		if !more {
			return w.checkTotal()
		}
		if err := w.checkProgress(next); err != nil {
			return err
		}
		r = next
	}
}

// readPage reads and commits one page. It returns the request for the next
// page, and whether there is one.
func (w *walkState) readPage(ctx context.Context, r Request) (next Request, more bool, err error) {
	var firstRecord uint64
	onRecord := func(batch collector.Batch, e *Envelope, raw []byte) error {
		if e.Records == 0 {
			firstRecord = maphash.Bytes(w.seed, raw)
		}
		if w.order != nil {
			if e.Records == 0 {
				w.order.beginPage()
			}
			if err := w.order.checkKey(raw); err != nil {
				return err
			}
		}
		return w.handleRecord(batch, e, raw)
	}
	batch, envelope, err := w.client.fetchBatch(ctx, r, w.listing.Shape, w.out, onRecord)
	if err != nil {
		return r, false, err
	}
	defer batch.Discard()
	if envelope.Records > 0 && firstRecord == w.firstRecord {
		return r, false, fmt.Errorf("%s: %w: page %d begins with the same record as the page before it", r.Step(), collector.ErrIncomplete, w.pages+1)
	}
	page := Page{Request: r, Envelope: envelope, Number: w.pages + 1, Before: w.records}
	if w.order != nil {
		if envelope.Records == 0 { // a failed attempt at the page may have had some
			w.order.beginPage()
		}
		page.lastKey = w.order.last
	}
	next, more, err = w.listing.nextPage(page)
	if err == nil && w.listing.CheckPage != nil {
		err = w.listing.CheckPage(envelope, w.records+int64(envelope.Records))
	}
	if err != nil {
		return r, false, fmt.Errorf("%s: %w: %w", r.Step(), collector.ErrIncomplete, err)
	}
	if err := batch.Commit(); err != nil {
		return r, false, err
	}
	if envelope.Records > 0 {
		w.firstRecord = firstRecord
	}
	if w.order != nil {
		w.order.endPage()
	}
	w.pages++
	w.empty = envelope.Records == 0
	if w.keys != nil {
		w.records += w.keys.commit()
	} else {
		w.records += int64(envelope.Records)
	}
	if w.listing.OnProgress != nil {
		w.listing.OnProgress(w.records)
	}
	if total, ok := envelope.Count(w.listing.Total); ok && total > 0 {
		w.totals.AddTotal(total)
	}
	return next, more, nil
}

// handleRecord appends a record to batch, unless its key was already stored.
func (w *walkState) handleRecord(batch collector.Batch, e *Envelope, raw []byte) error {
	if w.keys != nil {
		if isNew, err := w.keys.add(raw); err != nil || !isNew {
			return err
		}
	}
	if w.listing.OnRecord != nil {
		return w.listing.OnRecord(batch, e, raw)
	}
	return batch.Append(raw)
}

// hashRequest returns a hash of the request that does not depend on the order
// of its query.
func (w *walkState) hashRequest(r Request) uint64 {
	path, query, _ := strings.Cut(r.Path, "?")
	params := strings.Split(mergeQuery(query, r.Query), "&")
	slices.Sort(params)
	return maphash.String(w.seed, path+"?"+strings.Join(params, "&")+"#"+string(r.Body))
}

// reportLoop counts and logs that an empty page leads to itself, which some
// vendors use as the end of a listing.
func (w *walkState) reportLoop(ctx context.Context, r Request) {
	collector.StatsFrom(ctx).AddDoubt("an empty page led to itself and was taken as the end of a listing", 1)
	collector.LogFrom(ctx).Warn("an empty page leads to itself and is taken as the end of the listing",
		zap.String("request", w.client.redactor().Redact(r.Step())), zap.Int64("records", w.records), zap.Int("pages", w.pages))
}

// checkProgress returns an error if the listing repeats a request or has too
// many pages.
func (w *walkState) checkProgress(next Request) error {
	hash := w.hashRequest(next)
	if _, repeated := w.requested[hash]; repeated {
		return fmt.Errorf("%s: %w: page %d leads back to a page that was already read", next.Step(), collector.ErrIncomplete, w.pages)
	}
	w.requested[hash] = struct{}{}
	if most := orInt(w.listing.maxPages, maxListingPages); w.pages >= most {
		return fmt.Errorf("%s: %w: no last page after %d pages", next.Step(), collector.ErrIncomplete, most)
	}
	return nil
}

// checkTotal compares the number of records with the declared number. That is
// the smaller one of the first and the last page: what is added while the
// listing is read may be behind its cursor, and what is removed is missing.
func (w *walkState) checkTotal() error {
	declared := w.totals.Least()
	if least := declared - int64(w.listing.Slack*float64(declared)); w.records < least && !w.unchecked {
		return fmt.Errorf("%s: %w: received %d of %d declared records", w.listing.Step(), collector.ErrIncomplete, w.records, declared)
	}
	return nil
}

// reportDifference reports that the number of records differs from all that
// were declared, although it is accepted.
func (w *walkState) reportDifference(ctx context.Context) {
	difference := w.totals.Difference(w.records)
	if !w.totals.Known() || difference == 0 {
		return
	}
	text := "received more records than declared"
	if difference < 0 {
		text, difference = "received fewer records than declared", -difference
	}
	collector.StatsFrom(ctx).AddDoubt(text, difference)
	collector.LogFrom(ctx).Warn(text, zap.String("request", w.listing.Step()), zap.Int64("received", w.records),
		zap.Int64("first_declared", w.totals.first), zap.Int64("last_declared", w.totals.last))
}
