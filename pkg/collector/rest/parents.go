package rest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize/english"
	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
)

// A Parent is an entry of a list whose children are read for one entry after the
// other, such as an organisation whose projects are read.
type Parent struct {
	// ID identifies the parent in the list, and Name is shown to people.
	ID, Name string
	// Record is the parent's record, or the part of it that its children need.
	Record []byte
}

// A ParentList shares a list of parents between the streams that run at the same
// time, which are those of one run. The list is dropped when the last of them
// ends, so that a later run reads it again. Its fields must not be changed after
// the first use.
type ParentList struct {
	// Noun is what one parent is, with its article, such as "an organisation".
	Noun string
	// LogField is the noun in the names of log fields, such as "organization".
	LogField string
	// List writes the records of the list to out.
	List func(ctx context.Context, out collector.Output) error
	// ListFirst writes the records of the smallest first page of the list to out,
	// for checks; List when nil.
	ListFirst func(ctx context.Context, out collector.Output) error
	// Parse returns the parent of a record, which is valid until Parse returns. A
	// parent that the list has twice is used once.
	Parse func(record []byte) (Parent, error)
	// Find requests one parent. If its error is a StatusError 404, the vendor does
	// not find the parent. If Find is nil, the list alone shows whether a parent
	// exists.
	Find func(ctx context.Context, p Parent) error
	// Setting is the setting that names the parents, if List returns them without asking
	// the vendor: then the list does not show whether a parent exists.
	Setting string
	// Parallel is the number of parents that one stream reads at once; 1 when zero.
	Parallel int
	// SkipForbidden stores streams without the parents that the credentials may
	// not read. SkipSetting is the setting that does this, for errors.
	SkipForbidden bool
	SkipSetting   string
	// Log receives warnings about parents that are skipped.
	Log *zap.Logger

	mu    sync.Mutex
	users int
	last  *parentReading
}

// noun returns the noun without its article.
func (pl *ParentList) noun() string {
	_, noun, _ := strings.Cut(pl.Noun, " ")
	return noun
}

// nouns returns the plural of the noun.
func (pl *ParentList) nouns() string { return english.PluralWord(2, pl.noun(), "") }

// maxListAge is how old the list may be for a stream that starts while another
// stream, such as one that takes hours, still uses it.
const maxListAge = 10 * time.Minute

// parentReading is one reading of the list. The fields parents, doubts, err and
// canceled are set when done is closed.
type parentReading struct {
	done    chan struct{}
	began   time.Time
	stats   *collector.Stats // of the stream that reads the list
	parents []Parent
	doubts  doubtSet
	err     error
	// canceled means that the stream which read the list was canceled. Streams
	// that wait for the list then read it themselves.
	canceled bool
}

// joinList registers a stream that uses the list. The stream calls leave when it
// no longer needs the list.
func (pl *ParentList) joinList() (leave func()) {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	pl.users++
	return func() {
		pl.mu.Lock()
		defer pl.mu.Unlock()
		if pl.users--; pl.users == 0 {
			pl.last = nil
		}
	}
}

// sharedParents returns the list to a stream that has joined. Doubts about the list
// are also doubts about that stream.
func (pl *ParentList) sharedParents(ctx context.Context) ([]Parent, error) {
	reading, err := pl.readAfter(ctx, time.Now().Add(-maxListAge))
	if err != nil {
		return nil, err
	}
	for _, d := range reading.doubts.all() {
		AddListDoubt(ctx, d.Text, d.Count)
	}
	return reading.parents, nil
}

// hasParent reports whether a list whose reading begins now has the parent.
func (pl *ParentList) hasParent(ctx context.Context, p Parent) (bool, error) {
	reading, err := pl.readAfter(ctx, time.Now())
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(reading.parents, func(listed Parent) bool { return listed.ID == p.ID }), nil
}

// readAfter returns a reading that began after a point in time.
func (pl *ParentList) readAfter(ctx context.Context, after time.Time) (*parentReading, error) {
	for {
		reading, mine := pl.currentReading(ctx, after)
		if mine {
			pl.fillReading(ctx, reading)
			return reading, reading.err
		}
		if err := WaitOn(ctx, reading.done, "the list of "+pl.nouns(), reading.stats); err != nil {
			return nil, err
		}
		if !reading.canceled {
			return reading, reading.err
		}
	}
}

// currentReading returns a reading that began after a point in time. mine reports
// whether it is new, so that the caller must fill it.
func (pl *ParentList) currentReading(ctx context.Context, after time.Time) (_ *parentReading, mine bool) {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	if pl.last != nil && pl.last.began.After(after) {
		return pl.last, false
	}
	pl.last = &parentReading{done: make(chan struct{}), began: time.Now(), stats: collector.StatsFrom(ctx)}
	return pl.last, true
}

// fillReading reads the list and wakes the streams that wait for it.
func (pl *ParentList) fillReading(ctx context.Context, r *parentReading) {
	r.parents, r.err = pl.readParents(withDoubtSet(ctx, &r.doubts), pl.List)
	r.canceled = r.err != nil && ctx.Err() != nil
	if r.canceled {
		pl.mu.Lock()
		if pl.last == r {
			pl.last = nil
		}
		pl.mu.Unlock()
	}
	close(r.done)
}

// readParents returns the parents that list writes, each once.
func (pl *ParentList) readParents(ctx context.Context, list func(context.Context, collector.Output) error) ([]Parent, error) {
	out := &parentOutput{parse: pl.parseParent, seen: map[string]struct{}{}}
	err := list(ctx, out)
	return out.parents, err
}

// firstParents reads the smallest first page of the list.
func (pl *ParentList) firstParents(ctx context.Context) ([]Parent, error) {
	if pl.ListFirst != nil {
		return pl.readParents(ctx, pl.ListFirst)
	}
	return pl.readParents(ctx, pl.List)
}

// CheckList reads the smallest first page of the list.
func (pl *ParentList) CheckList(ctx context.Context) error {
	_, err := pl.firstParents(ctx)
	return err
}

// ExtractParents writes the records of the parents to out, in one batch.
func (pl *ParentList) ExtractParents(ctx context.Context, out collector.Output) error {
	defer pl.joinList()()
	parents, err := pl.sharedParents(ctx)
	if err != nil {
		return err
	}
	batch := out.NewBatch()
	defer batch.Discard()
	for _, p := range parents {
		if err := batch.Append(p.Record); err != nil {
			return err
		}
	}
	return batch.Commit()
}

// parseParent returns the parent of a record, which must have an id.
func (pl *ParentList) parseParent(record []byte) (Parent, error) {
	p, err := pl.Parse(record)
	if err == nil && p.ID == "" {
		err = fmt.Errorf("%w: %s has no id", collector.ErrIncomplete, pl.Noun)
	}
	return p, err
}

// parentOutput is an Output that keeps the parents of the records, each once. The
// records themselves are not kept, which may be many times larger.
type parentOutput struct {
	parse func(record []byte) (Parent, error)

	mu      sync.Mutex
	parents []Parent
	seen    map[string]struct{}
}

func (p *parentOutput) NewBatch() collector.Batch { return &parentBatch{out: p} }

// Reset implements collector.Output.
func (p *parentOutput) Reset() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.parents = nil
	clear(p.seen)
	return nil
}

type parentBatch struct {
	out     *parentOutput
	parents []Parent
}

func (p *parentBatch) Append(record []byte) error {
	parent, err := p.out.parse(record)
	if err == nil {
		p.parents = append(p.parents, parent)
	}
	return err
}

func (p *parentBatch) Commit() error {
	p.out.mu.Lock()
	defer p.out.mu.Unlock()
	for _, parent := range p.parents {
		if _, twice := p.out.seen[parent.ID]; !twice {
			p.out.seen[parent.ID] = struct{}{}
			p.out.parents = append(p.out.parents, parent)
		}
	}
	p.parents = nil
	return nil
}

func (p *parentBatch) Discard() { p.parents = nil }

// doubtSet collects doubts about a list of parents that is itself read parent by
// parent: each stream that uses the list has them.
type doubtSet struct {
	mu     sync.Mutex
	counts map[string]int64
}

type doubtSetKey struct{}

// withDoubtSet returns a copy of ctx in which AddListDoubt adds to set.
func withDoubtSet(ctx context.Context, set *doubtSet) context.Context {
	return context.WithValue(ctx, doubtSetKey{}, set)
}

// AddListDoubt adds a doubt to the list of parents that is being read in ctx, and so
// to each stream that uses the list; outside of one, to the extraction.
func AddListDoubt(ctx context.Context, text string, count int64) {
	set, ok := ctx.Value(doubtSetKey{}).(*doubtSet)
	if !ok {
		collector.StatsFrom(ctx).AddDoubt(text, count)
		return
	}
	set.mu.Lock()
	defer set.mu.Unlock()
	if count == 0 {
		return
	}
	if set.counts == nil {
		set.counts = map[string]int64{}
	}
	set.counts[text] += count
}

// all returns the doubts, sorted by their text.
func (d *doubtSet) all() (doubts []collector.Doubt) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, text := range slices.Sorted(maps.Keys(d.counts)) {
		doubts = append(doubts, collector.Doubt{Text: text, Count: d.counts[text]})
	}
	return doubts
}
