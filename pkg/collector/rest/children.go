package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/collectord/collectord/pkg/collector"
)

// A ChildReader reads the children of one parent and returns the number of
// records that were written to out, also if it fails.
type ChildReader func(ctx context.Context, p Parent, out collector.Output) (records int64, err error)

// Children are the records that are read for one parent after the other, several
// parents at once. The children of a parent are written whole or not at all. If
// those of some parents cannot be read, this is decided when all have been tried:
//
//   - A parent that no longer exists is skipped and counted as a doubt. A response
//     404 is no proof: neither ParentList.Find nor a list that is read after it may
//     have the parent.
//   - A parent that exists and whose children are twice not found, or that the
//     credentials may not read, fails the stream with the names of all such
//     parents. With ParentList.SkipForbidden it is skipped and counted as a doubt.
//   - If no parent can be read, the stream fails.
//
// Any other error fails the stream at once.
type Children struct {
	Parents *ParentList
	// Stream is the name of the stream, for logs.
	Stream string
	// Read reads the children of one parent.
	Read ChildReader
	// Probe makes the smallest request that shows whether the children of a parent
	// can be read, for checks; Read when nil.
	Probe ChildReader
	// Members are added to each child.
	Members []ParentMember
	// Absent returns a doubt if an error says that the parent cannot have children,
	// for example because it lacks a feature; "" for any other error. Such a parent
	// counts as read. It may be nil.
	Absent func(err error) (doubt string)
}

// A ParentMember is a member of a child with a value of its parent.
type ParentMember struct {
	// Name is the name of the member, such as "_parent_id".
	Name string
	// From is the dotted path of the value in the parent's record; the parent's id
	// as text when empty. An absent value is null.
	From string
}

// ExtractChildren writes the children of all parents to out.
func (c Children) ExtractChildren(ctx context.Context, out collector.Output) error {
	defer c.Parents.joinList()()
	parents, err := c.Parents.sharedParents(ctx)
	if err != nil {
		return err
	}
	unread := unreadParents{list: c.Parents}
	err = EachInParallel(ctx, c.Parents.Parallel, parents, func(ctx context.Context, p Parent) error {
		err := c.readParent(ctx, p, c.Read, out)
		if errors.Is(err, errParentGone) {
			c.Parents.Log.Warn(c.Parents.Noun+" that was listed is not found and was skipped",
				zap.String("stream", c.Stream), zap.String(c.Parents.LogField, p.Name), zap.String("id", p.ID))
		}
		if err == nil || unread.addParent(p, err) {
			return nil
		}
		return fmt.Errorf("%s %q: %w", c.Parents.noun(), p.Name, err)
	})
	if err != nil {
		return err
	}
	return unread.checkUnread(ctx, c.Stream, len(parents))
}

// EachInParallel calls f for each item, for up to parallel items at once, until a
// call fails or ctx ends.
func EachInParallel[T any](ctx context.Context, parallel int, items []T, f func(context.Context, T) error) error {
	g, groupCtx := errgroup.WithContext(ctx)
	g.SetLimit(max(1, parallel))
	for _, item := range items {
		if groupCtx.Err() != nil {
			break
		}
		g.Go(func() error { return f(groupCtx, item) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// CheckChildren reads the smallest first page of the list and probes its first
// parent. With ParentList.SkipForbidden, it probes the parents of that page until
// one can be read.
func (c Children) CheckChildren(ctx context.Context) error {
	probe := c.Probe
	if probe == nil {
		probe = c.Read
	}
	parents, err := c.Parents.firstParents(ctx)
	for _, p := range parents {
		err = c.readParent(ctx, p, probe, &MemoryOutput{})
		switch {
		case errors.Is(err, errParentGone):
			err = nil
			continue
		case errors.Is(err, errChildrenNotFound):
			err = fmt.Errorf("%s %q: %w: %w", c.Parents.noun(), p.Name, collector.ErrForbidden, err)
		case err != nil:
			err = fmt.Errorf("%s %q: %w", c.Parents.noun(), p.Name, err)
		}
		if !c.Parents.SkipForbidden || !errors.Is(err, collector.ErrForbidden) {
			return err
		}
	}
	return err
}

// Reasons why a stream does not have the children of a parent.
var (
	// errParentGone means that a parent was deleted after it was listed.
	errParentGone = errors.New("no longer exists")
	// errChildrenNotFound means that something of an existing parent is not found.
	// Some vendors respond so if a permission is missing.
	errChildrenNotFound = errors.New("not found")
)

// notFoundWait is the wait before a request that was not found is repeated,
// although the parent exists.
const notFoundWait = 5 * time.Second

// readParent reads the children of one parent. Its errors wrap errParentGone,
// errChildrenNotFound or collector.ErrForbidden if they are unread for that
// reason. No child is written after an error.
func (c Children) readParent(ctx context.Context, p Parent, read ChildReader, out collector.Output) error {
	for attempt := 1; ; attempt++ {
		records, err := c.readWhole(ctx, p, read, out)
		if doubt := c.absentDoubt(records, err); doubt != "" {
			AddListDoubt(ctx, doubt, 1)
			return nil
		}
		switch {
		case errors.Is(err, collector.ErrForbidden) && records > 0:
			return fmt.Errorf("%w: a page is refused, although the pages before it were not: %v", collector.ErrIncomplete, err)
		case !HasStatus(err, http.StatusNotFound):
			return err
		}
		state, checkErr := c.Parents.stateOf(ctx, p)
		switch {
		case checkErr != nil:
			return checkErr
		case state == parentGone:
			return fmt.Errorf("the %s %w: %w", c.Parents.noun(), errParentGone, err)
		case records > 0: // for example, an unknown cursor
			return fmt.Errorf("%w: a page is not found, although the %s is: %v", collector.ErrIncomplete, c.Parents.noun(), err)
		case attempt > 1 && state == parentUnknown:
			return fmt.Errorf("%w: %w: check %s: the %s does not exist, or the credentials may not see it",
				errChildrenNotFound, err, c.Parents.Setting, c.Parents.noun())
		case attempt > 1:
			return fmt.Errorf("%w, although the %s exists: %w", errChildrenNotFound, c.Parents.noun(), err)
		}
		if err := Sleep(ctx, notFoundWait, "a second attempt at what was not found"); err != nil {
			return err
		}
	}
}

// absentDoubt returns the doubt if err says that the parent cannot have children; ""
// otherwise. A parent of which records were read has some.
func (c Children) absentDoubt(records int64, err error) string {
	if err == nil || records > 0 || c.Absent == nil {
		return ""
	}
	return c.Absent(err)
}

// A parentState is what is known of a parent of which something was not found.
type parentState int

const (
	parentExists parentState = iota
	parentGone
	// parentUnknown means that the vendor does not find a parent that a setting names.
	parentUnknown
)

// stateOf asks the vendor whether a parent that was listed still exists. It is gone if
// the vendor does not find it, and a list that is read after that does not have it. A
// response of 404 alone may be an error that passes by itself.
func (pl *ParentList) stateOf(ctx context.Context, p Parent) (parentState, error) {
	if pl.Find != nil {
		err := pl.Find(ctx, p)
		switch {
		case HasStatus(err, http.StatusNotFound): // the list decides
		case errors.Is(err, collector.ErrForbidden): // no proof that it does not exist
			return parentExists, nil
		default:
			return parentExists, err
		}
		if pl.Setting != "" {
			return parentUnknown, nil
		}
	}
	if listed, err := pl.hasParent(ctx, p); err != nil || listed {
		return parentExists, err
	}
	return parentGone, nil
}

// readWhole reads the children of one parent and writes them to out, or none if it
// fails: a parent that is deleted while it is read must not be stored in part.
func (c Children) readWhole(ctx context.Context, p Parent, read ChildReader, out collector.Output) (records int64, err error) {
	members, err := c.membersOf(p)
	if err != nil {
		return 0, err
	}
	batch := out.NewBatch()
	defer batch.Discard()
	if records, err = read(ctx, p, &wholeOutput{whole: batch, members: members}); err != nil {
		return records, err
	}
	return records, batch.Commit()
}

// membersOf returns what is added to the children of a parent; nil for nothing.
func (c Children) membersOf(p Parent) (*Extension, error) {
	if len(c.Members) == 0 {
		return nil, nil
	}
	x := &Extension{}
	for _, m := range c.Members {
		raw := Member(p.Record, m.From)
		if m.From == "" {
			var err error
			if raw, err = jsontext.AppendQuote(nil, p.ID); err != nil {
				return nil, fmt.Errorf("id %q: %w", p.ID, err)
			}
		}
		if raw == nil {
			raw = jsontext.Value("null")
		}
		x.Values = append(x.Values, Value{Name: m.Name, Raw: raw})
	}
	return x, nil
}

// wholeOutput is an Output whose batches become part of one batch. A page is in
// memory until it is complete.
type wholeOutput struct {
	members *Extension

	mu    sync.Mutex // several batches may be committed at the same time
	whole collector.Batch
}

// NewBatch implements collector.Output.
func (w *wholeOutput) NewBatch() collector.Batch { return &pageBatch{out: w} }

// Reset implements collector.Output. The batch has the children of other listings
// of the same parent, so that it cannot be dropped for one of them.
func (*wholeOutput) Reset() error {
	return errors.New("a part of a parent's children cannot be dropped")
}

type pageBatch struct {
	out     *wholeOutput
	records [][]byte
}

func (p *pageBatch) Append(record []byte) error {
	kept := make([]byte, 0, len(record)+64)
	if p.out.members == nil {
		p.records = append(p.records, append(kept, record...))
		return nil
	}
	kept, err := p.out.members.Append(kept, record)
	if err == nil {
		p.records = append(p.records, kept)
	}
	return err
}

func (p *pageBatch) Commit() error {
	p.out.mu.Lock()
	defer p.out.mu.Unlock()
	for _, record := range p.records {
		if err := p.out.whole.Append(record); err != nil {
			return err
		}
	}
	p.records = nil
	return nil
}

func (p *pageBatch) Discard() { p.records = nil }
