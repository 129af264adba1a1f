package rest

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
)

// A Reread says how a listing is read again that returned fewer records than the
// vendor declared.
type Reread struct {
	// Key returns the key of a record as it is written to the output. Records with
	// the same key are written once, so the listing can be read again without
	// dropping the records of other listings: only those that were missing are
	// added. The keys take the memory that Distinct documents.
	Key func(record []byte) (string, error)
	// Tolerated returns how many of the declared records may be missing without a
	// second look, because the vendor's data changes while it is read. nil means
	// none.
	Tolerated func(declared int64) int64
	// Agreed returns how many of the declared records may be missing if two reads
	// agree. nil means none.
	Agreed func(declared int64) int64
	// Total returns the declared number of records if no page declares it, and is
	// called with the number of records that were listed. nil means that the
	// number of records is then not checked.
	Total func(ctx context.Context, listed int64) (int64, error)
}

const (
	// maxReads bounds how often a listing that falls short is read.
	maxReads = 3
	// readAgainWait is the wait before a listing is read again.
	readAgainWait = 30 * time.Second
)

// tolerated returns how many of the declared records may be missing.
func (r Reread) tolerated(declared int64) int64 {
	if r.Tolerated == nil {
		return 0
	}
	return r.Tolerated(declared)
}

// isSmall reports whether two reads of a listing with the declared number of
// records differ by no more than totals change.
func (r Reread) isSmall(difference, declared int64) bool {
	return max(difference, -difference) <= r.tolerated(declared)
}

// A CompleteRead is the result of WalkComplete.
type CompleteRead struct {
	// Records is the number of records with different keys.
	Records int64
	// Difference is how many records differ from the declared totals, and is
	// negative if records are missing.
	Difference int64
}

// WalkComplete reads the listing like Walk, until its records are complete as far
// as can be known: if fewer records are received than Total requires, it reads the
// listing again. It accepts what two reads agree on, if r.Agreed allows it. The
// caller reports the difference that remains. Listing.Slack is not used.
func (c *Client) WalkComplete(ctx context.Context, l Listing, r Reread, out collector.Output) (CompleteRead, error) {
	kept := &countedOutput{Output: out}
	distinct := NewDistinct(kept, r.Key)
	var previous int64
	for reads := 1; ; reads++ {
		before := kept.committed.Load()
		listed, totals, err := c.walkFreely(ctx, l, r, distinct)
		received := kept.committed.Load()
		if err != nil {
			return CompleteRead{Records: received}, err
		}
		declared := totals.Least()
		result := CompleteRead{Records: received, Difference: totals.Difference(received)}
		if !totals.Known() {
			result.Difference = 0
		}
		missing := declared - received
		if missing <= r.tolerated(declared) {
			return result, nil
		}
		agree := reads > 1 && r.isSmall(received-before, declared) && r.isSmall(listed-previous, declared)
		log := collector.LogFrom(ctx).With(zap.String("request", l.Step()), zap.Int64("received", received), zap.Int64("declared", declared))
		switch {
		case agree && r.Agreed != nil && missing <= r.Agreed(declared):
			log.Warn("a listing has fewer records than declared; two reads of it agree")
			return result, nil
		case reads >= maxReads:
			return result, fmt.Errorf("%s: %w: received %d of %d declared records", l.Step(), collector.ErrIncomplete, received, declared)
		}
		log.Warn("a listing has fewer records than declared; reading it again")
		previous = listed
		if err := Sleep(ctx, readAgainWait, "reading a listing again"); err != nil {
			return result, err
		}
	}
}

// walkFreely reads the listing from its start to its end, and starts over if the
// cursor expires. It returns the number of records listed, with those that are
// listed twice, and the declared totals, which are not checked.
func (c *Client) walkFreely(ctx context.Context, l Listing, r Reread, out collector.Output) (listed int64, totals TotalRange, err error) {
	for restarts := 0; ; restarts++ {
		w := newWalk(c, l, out)
		w.unchecked = true
		err = w.readPages(ctx)
		listed, totals = w.records, w.totals
		if err == nil || ctx.Err() != nil || !l.hasExpired(err) || restarts >= maxListingRestarts {
			break
		}
		collector.LogFrom(ctx).Warn("a cursor has expired at the vendor; reading its listing again", zap.Error(err))
	}
	if err == nil && !totals.Known() && r.Total != nil {
		var total int64
		total, err = r.Total(ctx, listed)
		totals.AddTotal(total)
	}
	return listed, totals, err
}

// ReportDifference counts as a doubt, and logs, that a number of records differs
// from the declared totals. records says what they are, such as "hosts".
func (c CompleteRead) ReportDifference(ctx context.Context, records string) {
	text, count := "received more "+records+" than declared", c.Difference
	if count < 0 {
		text, count = "received fewer "+records+" than declared", -count
	}
	if count == 0 {
		return
	}
	collector.LogFrom(ctx).Warn(text, zap.Int64("received", c.Records), zap.Int64("difference", count))
	collector.StatsFrom(ctx).AddDoubt(text, count)
}

// newWalk returns the state of a pass over a listing.
func newWalk(c *Client, l Listing, out collector.Output) *walkState {
	w := &walkState{client: c, listing: l, out: out, seed: maphash.MakeSeed(), requested: map[uint64]struct{}{}}
	switch p := l.Pager.(type) {
	case PageNumber:
		if p.Key != nil {
			w.keys = newPageKeys(out, p)
			w.out = w.keys
		}
	case Keyset:
		w.order = &keyOrder{Keyset: p}
	}
	return w
}

// countedOutput counts the records that are committed.
type countedOutput struct {
	collector.Output
	committed atomic.Int64
}

func (c *countedOutput) NewBatch() collector.Batch {
	return &countedBatch{Batch: c.Output.NewBatch(), output: c}
}

// Reset implements collector.Output. Nothing calls it: the output contains the
// records of other listings.
func (c *countedOutput) Reset() error { return errors.New("one listing of several cannot be dropped") }

type countedBatch struct {
	collector.Batch
	output  *countedOutput
	records int64
}

func (c *countedBatch) Append(record []byte) error {
	c.records++
	return c.Batch.Append(record)
}

func (c *countedBatch) Commit() error {
	if err := c.Batch.Commit(); err != nil {
		return err
	}
	c.output.committed.Add(c.records)
	return nil
}
