package sources

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
)

// snykOrg is an organisation, with its record.
type snykOrg struct {
	id, name string
	record   []byte
}

// organizations reads the list of organisations, each once.
func (k *snyk) organizations(ctx context.Context) ([]snykOrg, error) {
	var list rest.Gathered
	once := rest.NewDistinct(&list, func(record []byte) (string, error) {
		id := rest.Text(rest.Member(record, "id"))
		if id == "" {
			return "", fmt.Errorf("%w: an organisation has no id", collector.ErrIncomplete)
		}
		return id, nil
	})
	if _, err := k.walk(ctx, "/orgs", nil, once); err != nil {
		return nil, err
	}
	var orgs []snykOrg
	for _, r := range list.Records() {
		org := snykOrg{id: rest.Text(rest.Member(r, "id")), name: rest.Text(rest.Member(r, "attributes.name")), record: r}
		orgs = append(orgs, org)
	}
	return orgs, nil
}

// snykOrgs shares the list of organisations between the streams that are
// under way at the same time, which are those of one run. It is dropped with
// the last of them, so that a later run reads it anew.
type snykOrgs struct {
	read func(context.Context) ([]snykOrg, error)

	mu    sync.Mutex
	users int
	last  *snykReading
}

// snykOrgsFresh is how old the list may be for a stream that starts while
// another, such as one that takes hours, still uses it.
const snykOrgsFresh = 10 * time.Minute

// snykReading is one reading of the list. Its other members are set when done
// is closed.
type snykReading struct {
	done  chan struct{}
	began time.Time
	orgs  []snykOrg
	err   error
	// left means that the stream which read was called off, which is no
	// concern of those that wait.
	left bool
}

// join announces a stream that uses the list; leave ends that.
func (o *snykOrgs) join() (leave func()) {
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

// list returns the list to a stream that has joined.
func (o *snykOrgs) list(ctx context.Context) ([]snykOrg, error) {
	for {
		reading, mine := o.reading()
		if mine {
			o.fill(ctx, reading)
		}
		select {
		case <-reading.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if mine || !reading.left {
			return reading.orgs, reading.err
		}
	}
}

// reading returns the reading to use; mine tells that the caller is to make it.
func (o *snykOrgs) reading() (_ *snykReading, mine bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.last != nil && time.Since(o.last.began) < snykOrgsFresh {
		return o.last, false
	}
	o.last = &snykReading{done: make(chan struct{}), began: time.Now()}
	return o.last, true
}

func (o *snykOrgs) fill(ctx context.Context, r *snykReading) {
	r.orgs, r.err = o.read(ctx)
	r.left = r.err != nil && ctx.Err() != nil
	if r.left {
		o.mu.Lock()
		if o.last == r {
			o.last = nil
		}
		o.mu.Unlock()
	}
	close(r.done)
}

// storeOrganizations passes the shared list's records on.
func (k *snyk) storeOrganizations(ctx context.Context, out collector.Output) error {
	defer k.orgs.join()()
	orgs, err := k.orgs.list(ctx)
	if err != nil {
		return err
	}
	page := out.Page()
	defer page.Discard()
	for _, org := range orgs {
		if err := page.Append(org.record); err != nil {
			return err
		}
	}
	return page.Commit()
}

// snykRead reads what one organisation has of a stream.
type snykRead func(ctx context.Context, org snykOrg, out collector.Output) error

// eachOrganization reads a stream organisation by organisation, several at
// once.
func (k *snyk) eachOrganization(stream string, read snykRead) func(context.Context, collector.Output) error {
	return func(ctx context.Context, out collector.Output) error {
		defer k.orgs.join()()
		orgs, err := k.orgs.list(ctx)
		if err != nil {
			return err
		}
		var refused, gone snykRefused
		g, inner := errgroup.WithContext(ctx)
		g.SetLimit(k.Parallel)
		for _, org := range orgs {
			if inner.Err() != nil {
				break
			}
			g.Go(func() error {
				err := read(inner, org, out)
				switch {
				case err == nil:
				case isStatus(err, http.StatusNotFound):
					k.log.Warn("an organisation that was listed is not found and was skipped",
						zap.String("stream", stream), zap.String("organization", org.name), zap.String("id", org.id))
					gone.add(org, err)
				case errors.Is(err, collector.ErrForbidden):
					refused.add(org, err)
				default:
					return fmt.Errorf("organisation %q: %w", org.name, err)
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if n := len(gone.names); n > 0 && n == len(orgs) {
			return fmt.Errorf("all %d organisations: %w: %w", n, collector.ErrIncomplete, gone.cause)
		}
		return k.settle(stream, &refused, len(orgs))
	}
}

// snykRefused gathers the organisations that could not be read, so that all
// are named at once.
type snykRefused struct {
	mu    sync.Mutex
	names []string
	cause error
}

func (r *snykRefused) add(org snykOrg, cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names = append(r.names, fmt.Sprintf("%q", org.name))
	r.cause = cause
}

// settle decides what becomes of a stream without the organisations that were
// refused. Without any organisation it is never good.
func (k *snyk) settle(stream string, refused *snykRefused, orgs int) error {
	n := len(refused.names)
	if n == 0 {
		return nil
	}
	slices.Sort(refused.names)
	if n == orgs {
		return fmt.Errorf("all %d organisations: %w", n, refused.cause)
	}
	if k.Skip {
		k.log.Warn("organisations that the token may not read were skipped",
			zap.String("stream", stream), zap.Int("organizations", n), zap.Strings("names", refused.names))
		return nil
	}
	shown := refused.names
	more := ""
	if n > 20 {
		shown, more = shown[:20], fmt.Sprintf(" and %d more", n-20)
	}
	return fmt.Errorf("%d of %d organisations (%s%s): %w; or set SNYK_SKIP_FORBIDDEN=true to do without them",
		n, orgs, strings.Join(shown, ", "), more, refused.cause)
}
