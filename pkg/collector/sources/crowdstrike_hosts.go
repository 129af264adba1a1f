package sources

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
)

// falconSlack is the share of a declared total that may be missing: totals
// move while a tenant is read.
const falconSlack = 0.01

// hosts extracts all hosts. The combined listing has no ceiling and its pages
// can be asked for again, which is true of neither of the other listings.
func (f *falcon) hosts(ctx context.Context, out collector.Output) error {
	c := f.client(falconHostsScope, "FALCON_HOSTS_FILTER")
	_, err := c.Walk(ctx, f.hostListing(1000), out)
	if !f.notOffered(err) {
		return err
	}
	if err := out.Reset(); err != nil {
		return err
	}
	ids, err := f.scroll(ctx, c)
	if err != nil {
		return err
	}
	return f.hostEntities(ctx, c, ids, out)
}

// notOffered tells that the combined listing does not exist there.
func (f *falcon) notOffered(err error) bool {
	if !falconStatus(err, http.StatusNotFound) || falconExpired(err) {
		return false
	}
	f.log.Warn("the combined listing of hosts is not offered; listing them by scroll", zap.Error(err))
	return true
}

func (f *falcon) hostListing(first int) rest.Listing {
	r := rest.Request{
		Path:  "/devices/combined/devices/v1",
		Query: url.Values{},
		Size:  &rest.Size{Param: "limit", First: first, Least: 100, Most: 10000},
	}
	if f.Hosts != "" {
		r.Query.Set("filter", f.Hosts)
	}
	return rest.Listing{
		Request: r,
		Shape:   falconShape,
		// The offset that the answer gives is not the next one.
		Pager:   rest.Cursor{Path: "meta.pagination.next", Param: "offset"},
		Total:   "meta.pagination.total",
		Slack:   falconSlack,
		Expired: falconExpired,
	}
}

// hostIDs lists the ids of all hosts.
func (f *falcon) hostIDs(ctx context.Context) ([]string, error) {
	c := f.client(falconHostsScope, "FALCON_HOSTS_FILTER")
	l := f.hostListing(10000)
	l.Query.Set("fields", "device_id")
	l.Each = func(page collector.Page, _ *rest.Envelope, raw []byte) error {
		id := rest.Text(rest.Member(raw, "device_id"))
		if id == "" {
			return fmt.Errorf("%s: %w: a host has no device_id", l.Step(), collector.ErrIncomplete)
		}
		return page.Append([]byte(id))
	}
	var found rest.Gathered
	if _, err := c.Walk(ctx, l, &found); f.notOffered(err) {
		return f.scroll(ctx, c)
	} else if err != nil {
		return nil, err
	}
	ids := make([]string, 0, len(found.Records()))
	for _, id := range found.Records() {
		ids = append(ids, string(id))
	}
	return ids, nil
}

// scroll lists the ids of all hosts with a cursor that the server keeps. It
// moves with each call, so that a call whose answer is lost cannot be made
// again: the listing starts over.
func (f *falcon) scroll(ctx context.Context, c *rest.Client) ([]string, error) {
	for lost := 0; ; lost++ {
		ids, err := f.scrollOnce(ctx, c)
		if err == nil || lost >= 5 || ctx.Err() != nil || errors.Is(err, collector.ErrRefused) ||
			errors.Is(err, collector.ErrForbidden) || falconStatus(err, http.StatusBadRequest) && !falconExpired(err) {
			return ids, err
		}
		if err := rest.Sleep(ctx, time.Duration(lost+1)*2*time.Second, "listing the hosts again", false); err != nil {
			return nil, err
		}
	}
}

func (f *falcon) scrollOnce(ctx context.Context, c *rest.Client) ([]string, error) {
	r := rest.Request{
		Path:  "/devices/queries/devices-scroll/v1",
		Query: url.Values{"limit": {"10000"}},
		Once:  true,
	}
	if f.Hosts != "" {
		r.Query.Set("filter", f.Hosts)
	}
	var ids []string
	declared := int64(-1)
	for pages := 0; ; pages++ {
		var page []string
		var e *rest.Envelope
		err := c.Do(ctx, r, func(resp *rest.Response) (err error) {
			page = page[:0]
			e, err = rest.Split(resp.Body, falconShape, func(_ *rest.Envelope, raw []byte) error {
				page = append(page, rest.Text(raw))
				return nil
			})
			return err
		})
		if err != nil {
			return nil, err
		}
		ids = append(ids, page...)
		if total, ok := e.Count("meta.pagination.total"); ok && declared < 0 {
			declared = total
		}
		token := e.Text("meta.pagination.offset")
		if token == "" || len(page) == 0 {
			break
		}
		if pages > 100_000 {
			return nil, fmt.Errorf("%s: %w: it does not end", r.Step(), collector.ErrIncomplete)
		}
		r.Query.Set("offset", token)
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	if falconShort(int64(len(ids)), declared) {
		return nil, fmt.Errorf("%s: %w: %d ids came, %d were declared", r.Step(), collector.ErrIncomplete, len(ids), declared)
	}
	return ids, nil
}

// falconShort tells that fewer came than were declared, by more than moves
// while a tenant is read.
func falconShort(came, declared int64) bool {
	return declared-came > int64(falconSlack*float64(declared))
}

// hostEntities reads hosts by their ids, as many at a time as the vendor
// takes. A host that has left the tenant since is left out of the answer.
func (f *falcon) hostEntities(ctx context.Context, c *rest.Client, ids []string, out collector.Output) error {
	var came atomic.Int64
	r := rest.Request{Method: http.MethodPost, Path: "/devices/entities/devices/v2"}
	err := falconBatches(ctx, ids, 5000, func(ctx context.Context, batch []string) error {
		r := r
		var err error
		if r.Body, err = json.Marshal(map[string][]string{"ids": batch}); err != nil {
			return err
		}
		e, err := c.Fetch(ctx, r, falconEntities, out, nil)
		if err == nil {
			came.Add(int64(e.Records))
		}
		return err
	})
	if err == nil && falconShort(came.Load(), int64(len(ids))) {
		err = fmt.Errorf("%s: %w: %d hosts came for %d ids", r.Step(), collector.ErrIncomplete, came.Load(), len(ids))
	}
	return err
}

// falconBatches calls do for all ids, so many in a batch and four batches at
// once, which the vendor takes well.
func falconBatches(ctx context.Context, ids []string, size int, do func(context.Context, []string) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for batch := range slices.Chunk(ids, size) {
		group.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return do(ctx, batch)
		})
	}
	return group.Wait()
}
