package snyk

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
)

// organization is an organisation and its record.
type organization struct {
	id, name string
	record   []byte
}

// fetchOrganizations reads the list of organisations, each once.
func (a *account) fetchOrganizations(ctx context.Context) ([]organization, error) {
	var records rest.MemoryOutput
	distinct := rest.NewDistinct(&records, organizationID)
	if _, err := a.walkListing(ctx, "/orgs", nil, distinct); err != nil {
		return nil, err
	}
	return organizationsIn(&records), nil
}

// fetchFirstOrganizations reads the smallest first page of the list of
// organisations.
func (a *account) fetchFirstOrganizations(ctx context.Context) ([]organization, error) {
	var records rest.MemoryOutput
	if _, err := a.api.Fetch(ctx, a.smallestRequest("/orgs", nil), listShape, &records, nil); err != nil {
		return nil, err
	}
	return organizationsIn(&records), nil
}

// organizationsIn returns the organisations of the records.
func organizationsIn(records *rest.MemoryOutput) (orgs []organization) {
	for _, r := range records.Records() {
		org := organization{id: rest.TextOf(rest.Member(r, "id")), name: rest.TextOf(rest.Member(r, "attributes.name")), record: r}
		orgs = append(orgs, org)
	}
	return orgs
}

// organizationID returns the id of an organisation's record.
func organizationID(record []byte) (string, error) {
	id := rest.TextOf(rest.Member(record, "id"))
	if id == "" {
		return "", fmt.Errorf("%w: an organisation has no id", collector.ErrIncomplete)
	}
	return id, nil
}

// organizationList shares the list of organisations between the streams that
// run at the same time, which are those of one run. The list is dropped when
// the last of them ends, so that a later run reads it again.
type organizationList struct {
	fetch func(context.Context) ([]organization, error)

	mu    sync.Mutex
	users int
	last  *listReading
}

// maxListAge is how old the list may be for a stream that starts while
// another stream, such as one that takes hours, still uses it.
const maxListAge = 10 * time.Minute

// listReading is one reading of the list. The fields orgs, err and canceled
// are set when done is closed.
type listReading struct {
	done  chan struct{}
	began time.Time
	stats *collector.Stats // of the stream that reads the list
	orgs  []organization
	err   error
	// canceled means that the stream which read the list was canceled. Streams
	// that wait for the list then read it themselves.
	canceled bool
}

// join registers a stream that uses the list. The stream calls leave when it
// no longer needs the list.
func (o *organizationList) join() (leave func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.users++
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.users--; o.users == 0 {
			o.last = nil
		}
	}
}

// get returns the list to a stream that has joined.
func (o *organizationList) get(ctx context.Context) ([]organization, error) {
	return o.getReadAfter(ctx, time.Now().Add(-maxListAge))
}

// getReadAfter returns a list whose reading began after a point in time.
func (o *organizationList) getReadAfter(ctx context.Context, after time.Time) ([]organization, error) {
	for {
		reading, mine := o.currentReading(ctx, after)
		if mine {
			o.fillReading(ctx, reading)
			return reading.orgs, reading.err
		}
		if err := rest.WaitOn(ctx, reading.done, "the list of organisations", reading.stats); err != nil {
			return nil, err
		}
		if !reading.canceled {
			return reading.orgs, reading.err
		}
	}
}

// currentReading returns a reading that began after a point in time. mine reports
// whether it is new, so that the caller must fill it.
func (o *organizationList) currentReading(ctx context.Context, after time.Time) (_ *listReading, mine bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.last != nil && o.last.began.After(after) {
		return o.last, false
	}
	o.last = &listReading{done: make(chan struct{}), began: time.Now(), stats: collector.StatsFrom(ctx)}
	return o.last, true
}

// fillReading reads the list and wakes the streams that wait for it.
func (o *organizationList) fillReading(ctx context.Context, r *listReading) {
	r.orgs, r.err = o.fetch(ctx)
	r.canceled = r.err != nil && ctx.Err() != nil
	if r.canceled {
		o.mu.Lock()
		if o.last == r {
			o.last = nil
		}
		o.mu.Unlock()
	}
	close(r.done)
}

// extractOrganizations writes the records of the shared list to out.
func (a *account) extractOrganizations(ctx context.Context, out collector.Output) error {
	defer a.organizations.join()()
	orgs, err := a.organizations.get(ctx)
	if err != nil {
		return err
	}
	batch := out.NewBatch()
	defer batch.Discard()
	for _, org := range orgs {
		if err := batch.Append(org.record); err != nil {
			return err
		}
	}
	return batch.Commit()
}

// organizationReader reads the records of one organisation and returns the
// number of those that were written, also if it fails.
type organizationReader func(ctx context.Context, org organization, out collector.Output) (records int64, err error)

// streamByOrganization returns a stream that is read organisation by
// organisation, several at once.
func (a *account) streamByOrganization(name string, read, probe organizationReader) collector.Stream {
	extract := func(ctx context.Context, out collector.Output) error {
		return a.extractByOrganization(ctx, name, read, out)
	}
	return source.NamedStream(name, extract, func(ctx context.Context) error { return a.checkByOrganization(ctx, probe) })
}

// checkByOrganization reads the first page of the first organisation. With
// SNYK_SKIP_FORBIDDEN it tries the organisations of the first page of the list
// until it may read one.
func (a *account) checkByOrganization(ctx context.Context, probe organizationReader) error {
	orgs, err := a.fetchFirstOrganizations(ctx)
	for _, org := range orgs {
		err = a.readOrganization(ctx, org, probe, &rest.MemoryOutput{})
		switch {
		case errors.Is(err, errDeleted):
			err = nil
			continue
		case errors.Is(err, errNotFound):
			err = fmt.Errorf("organisation %q: %w: %w", org.name, collector.ErrForbidden, err)
		case err != nil:
			err = fmt.Errorf("organisation %q: %w", org.name, err)
		}
		if !a.settings.Skip || !errors.Is(err, collector.ErrForbidden) {
			return err
		}
	}
	return err
}

func (a *account) extractByOrganization(ctx context.Context, stream string, read organizationReader, out collector.Output) error {
	defer a.organizations.join()()
	orgs, err := a.organizations.get(ctx)
	if err != nil {
		return err
	}
	var unread unreadOrganizations
	g, groupCtx := errgroup.WithContext(ctx)
	g.SetLimit(a.settings.Parallel)
	for _, org := range orgs {
		if groupCtx.Err() != nil {
			break
		}
		g.Go(func() error {
			err := a.readOrganization(groupCtx, org, read, out)
			if err == nil {
				return nil
			}
			if errors.Is(err, errDeleted) {
				a.log.Warn("an organisation that was listed is not found and was skipped",
					zap.String("stream", stream), zap.String("organization", org.name), zap.String("id", org.id))
			}
			if unread.addOrganization(org, err) {
				return nil
			}
			return fmt.Errorf("organisation %q: %w", org.name, err)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return a.checkUnread(ctx, stream, &unread, len(orgs))
}
