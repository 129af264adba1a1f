package nvd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"net/url"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
)

// A note says what a snapshot has.
type note struct {
	// End is the time up to which modifications were read.
	End time.Time `json:"end"`
	// Rebuilt is when the files were read.
	Rebuilt time.Time `json:"rebuilt"`
}

// parseNote returns the note whose String is text; the zero note for any other text.
func parseNote(text string) (n note) {
	if json.Unmarshal([]byte(text), &n) != nil {
		return note{}
	}
	return n
}

// String returns the note as JSON.
func (n note) String() string {
	text, err := json.Marshal(n)
	if err != nil { // cannot happen for times with a four-digit year
		return ""
	}
	return string(text)
}

// isUsable reports whether the snapshot of n may be updated at the time now.
func (n note) isUsable(now time.Time) bool {
	return !n.End.IsZero() && !n.End.After(now) && now.Sub(n.Rebuilt) < rebuildAfter
}

// apiShape is the shape of a page, and of a file.
var apiShape = rest.Shape{Records: "vulnerabilities", Errors: []string{"error", "errors"}}

// errMoved means that records were modified while their window was read. They leave the
// window, and those behind them move to positions that were already read.
var errMoved = errors.New("CVEs were modified while the list of them was read")

// maxReads bounds how often the windows are read because of errMoved.
const maxReads = 5

// changes are the CVEs that were modified.
type changes struct {
	seed   maphash.Seed
	hashes map[string]uint64 // of the records, by id
}

// readChanges writes the CVEs that were modified between from and to. It drops what out
// has when it starts over, so that it must be called first.
func (a *account) readChanges(ctx context.Context, out collector.Output, from, to time.Time) (changes, error) {
	windows := rest.Windows{From: from, To: to, Longest: longestWindow, Overlap: overlap, Resolution: time.Millisecond}
	for reads := 1; ; reads++ {
		found := changes{seed: maphash.MakeSeed(), hashes: map[string]uint64{}}
		_, err := a.api.WalkWindows(ctx, rest.WindowedListing{Windows: windows, Listing: func(w rest.Window) rest.Listing {
			return a.listing(w, found)
		}}, out)
		if !errors.Is(err, errMoved) || reads == maxReads {
			return found, a.addMessage(err)
		}
		collector.LogFrom(ctx).Info("the modified CVEs are read again", zap.NamedError("reason", err))
		if err := out.Reset(); err != nil {
			return changes{}, err
		}
	}
}

// listing returns the listing of a window, whose CVEs are added to found.
func (a *account) listing(w rest.Window, found changes) rest.Listing {
	const layout = "2006-01-02T15:04:05.000" // a time without a zone is in UTC
	// In the path, because a query would have the colons as %3A.
	path := a.path + "?lastModStartDate=" + w.From.UTC().Format(layout) + "&lastModEndDate=" + w.To.UTC().Format(layout)
	page := newChangesPage(found)
	return rest.Listing{
		Request: rest.Request{Path: path, Query: url.Values{"resultsPerPage": {"2000"}, "startIndex": {"0"}}},
		Shape:   apiShape, Pager: rest.Offset{Param: "startIndex"}, Total: "totalResults", Stop: rest.AtTotal,
		OnRecord: page.appendCVE, CheckPage: page.check,
	}
}

// A changesPage is a page of the list of modified CVEs while it is read. An attempt may
// fail after some of its records.
type changesPage struct {
	found  changes
	hashes map[string]uint64 // of the records of this attempt, by id
	total  int64             // of the first page; -1 before that
}

func newChangesPage(found changes) *changesPage {
	return &changesPage{found: found, hashes: map[string]uint64{}, total: -1}
}

// appendCVE implements rest.RecordFunc.
func (c *changesPage) appendCVE(batch collector.Batch, e *rest.Envelope, raw []byte) error {
	if e.Records == 0 {
		clear(c.hashes)
	}
	id, record, err := unwrap(raw)
	if err != nil {
		return err
	}
	hash := maphash.Bytes(c.found.seed, record)
	for _, known := range []map[string]uint64{c.found.hashes, c.hashes} {
		before, twice := known[id]
		if twice && before != hash {
			return fmt.Errorf("%w: %s", errMoved, id)
		}
		if twice { // in the overlap of two windows
			return nil
		}
	}
	c.hashes[id] = hash
	return batch.Append(record)
}

// check implements rest.Listing's CheckPage.
func (c *changesPage) check(e *rest.Envelope, _ int64) error {
	total, ok := e.Count("totalResults")
	switch {
	case !ok:
		return errors.New("the member totalResults is missing")
	case c.total >= 0 && total != c.total:
		return fmt.Errorf("%w: totalResults was %d and is %d", errMoved, c.total, total)
	}
	c.total = total
	if e.Records > 0 {
		maps.Copy(c.found.hashes, c.hashes)
	}
	clear(c.hashes)
	return nil
}

// unwrap returns the CVE in an item of a list, and its id.
func unwrap(item []byte) (id string, record []byte, err error) {
	record = rest.Member(item, "cve")
	if id = rest.TextOf(rest.Member(record, "id")); id == "" {
		return "", nil, fmt.Errorf("%w: a vulnerability has no cve.id", collector.ErrIncomplete)
	}
	return id, record, nil
}

// batchRecords is how many records of the last snapshot are written at once.
const batchRecords = 2000

// copyOthers writes the records of each that were not modified. It returns how many of
// the modified ones are the same as before.
func copyOthers(out collector.Output, modified changes, each func(read func([]byte) error) error) (same int, err error) {
	batch := out.NewBatch()
	defer func() { batch.Discard() }()
	kept := 0
	err = each(func(record []byte) error {
		id := rest.TextOf(rest.Member(record, "id"))
		if hash, found := modified.hashes[id]; found {
			if hash == maphash.Bytes(modified.seed, record) {
				same++
			}
			return nil
		}
		if kept++; kept%batchRecords == 0 {
			if err := batch.Commit(); err != nil {
				return err
			}
			batch = out.NewBatch()
		}
		return batch.Append(record)
	})
	if err != nil {
		return 0, err
	}
	return same, batch.Commit()
}
