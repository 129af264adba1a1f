package crowdstrike

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
)

// extractHosts reads all hosts. Of the vendor's listings only the combined one
// has no upper limit and can repeat a request for a page.
func (a *account) extractHosts(ctx context.Context, out collector.Output) error {
	c := a.clientFor(hostsScope, "FALCON_HOSTS_FILTER")
	read, err := readListing(ctx, c, a.hostListing(1000), source.KeyMember("device_id"), false, out)
	if err == nil {
		read.ReportDifference(ctx, "hosts")
		return nil
	}
	if !a.isCombinedMissing(err) {
		return err
	}
	if err := out.Reset(); err != nil {
		return err
	}
	ids, err := a.scrollHostIDs(ctx, c)
	if err != nil {
		return err
	}
	hosts := hostReader{account: a, client: c, out: out, ids: ids, hasRecord: make([]bool, len(ids))}
	return hosts.readAll(ctx)
}

// isCombinedMissing reports whether err says that the combined listing does
// not exist. It logs that the scroll is used instead.
func (a *account) isCombinedMissing(err error) bool {
	if !rest.HasStatus(err, http.StatusNotFound) || isCursorExpired(err) {
		return false
	}
	a.log.Warn("the combined listing of hosts does not exist; listing them by scroll", zap.Error(err))
	return true
}

// hostListing returns the combined listing of hosts. firstPage is the size of
// the first page.
func (a *account) hostListing(firstPage int) rest.Listing {
	r := rest.Request{
		Path:  "/devices/combined/devices/v1",
		Query: url.Values{},
		Size:  &rest.Size{Param: "limit", First: firstPage, Least: 100, Most: 10000},
	}
	if a.settings.Hosts != "" {
		r.Query.Set("filter", a.settings.Hosts)
	}
	return rest.Listing{
		Request: r,
		Shape:   listShape,
		// The response's own member offset is not the offset of the next page.
		Pager:     rest.Cursor{Path: "meta.pagination.next", Param: "offset", Life: cursorLife},
		CheckPage: checkHostPage,
	}
}

// checkHostPage returns an error for a full page that has an offset instead of
// the cursor for the next page, although more hosts are declared. The usual last
// page has neither.
func checkHostPage(e *rest.Envelope, records int64) error {
	offset, isNumber := e.Count("meta.pagination.offset")
	limit, _ := e.Count("meta.pagination.limit")
	total, _ := e.Count("meta.pagination.total")
	if !isNumber || e.Text("meta.pagination.next") != "" || int64(e.Records) < limit || records >= total {
		return nil
	}
	return fmt.Errorf("%d of %d hosts were read, and the page has the offset %d but no cursor for the next page", records, total, offset)
}

// listHostIDs returns the ids of all hosts.
func (a *account) listHostIDs(ctx context.Context) ([]string, error) {
	c := a.clientFor(hostsScope, "FALCON_HOSTS_FILTER")
	l := a.hostListing(10000)
	l.Query.Set("fields", "device_id")
	l.OnRecord = func(batch collector.Batch, _ *rest.Envelope, raw []byte) error {
		id := rest.TextOf(rest.Member(raw, "device_id"))
		if id == "" {
			return fmt.Errorf("%s: %w: a host has no device_id", l.Step(), collector.ErrIncomplete)
		}
		return batch.Append([]byte(id))
	}
	var found rest.MemoryOutput
	read, err := readListing(ctx, c, l, func(id []byte) (string, error) { return string(id), nil }, false, &found)
	if a.isCombinedMissing(err) {
		return a.scrollHostIDs(ctx, c)
	}
	if err != nil {
		return nil, err
	}
	read.ReportDifference(ctx, "hosts")
	ids := make([]string, 0, len(found.Records()))
	for _, id := range found.Records() {
		ids = append(ids, string(id))
	}
	return ids, nil
}

// scrollHostIDs returns the ids of all hosts, sorted, listed with a cursor that the
// server keeps. The cursor moves with each request, so a request whose
// response is lost cannot be repeated: the listing starts over.
func (a *account) scrollHostIDs(ctx context.Context, c *rest.Client) ([]string, error) {
	previous := int64(-1) // the number of ids of the last complete scroll
	period := rest.RetryPeriod{First: 2 * time.Second, Longest: readAgainAfter}
	for {
		ids, declared, err := a.scrollOnce(ctx, c)
		received := int64(len(ids))
		if err == nil && isTooFew(received, declared) && (previous < 0 || !isAcceptable(received, declared) || !isSmallDifference(received-previous, declared)) {
			previous = received
			err = fmt.Errorf("GET %s: %w: received %d of %d declared ids", scrollHostsPath, collector.ErrIncomplete, received, declared)
		}
		if err == nil {
			rest.CompleteRead{Records: received, Difference: min(received-declared, 0)}.ReportDifference(ctx, "hosts")
			return ids, nil
		}
		wait, again := period.NextWait(ctx, err)
		if !again || ctx.Err() != nil || !isScrollRetryable(err) {
			return nil, err
		}
		if err := rest.Sleep(ctx, wait, "listing the hosts again"); err != nil {
			return nil, err
		}
	}
}

// isScrollRetryable reports whether a new scroll may succeed after err.
func isScrollRetryable(err error) bool {
	if errors.Is(err, collector.ErrRefused) || errors.Is(err, collector.ErrForbidden) {
		return false
	}
	return !rest.HasStatus(err, http.StatusBadRequest) || isCursorExpired(err)
}

const scrollHostsPath = "/devices/queries/devices-scroll/v1"

// scrollOnce reads the scroll from its start to its end. It returns the ids and
// the declared number of hosts.
func (a *account) scrollOnce(ctx context.Context, c *rest.Client) (ids []string, declared int64, err error) {
	r := rest.Request{
		Path:  scrollHostsPath,
		Query: url.Values{"limit": {"10000"}},
		Once:  true,
	}
	if a.settings.Hosts != "" {
		r.Query.Set("filter", a.settings.Hosts)
	}
	seen := false // whether a total was seen
	for pages := 0; ; pages++ {
		var page []string
		var e *rest.Envelope
		err := c.Do(ctx, r, func(resp *rest.Response) (err error) {
			page = page[:0]
			e, err = rest.Split(resp.Body, listShape, func(_ *rest.Envelope, raw []byte) error {
				page = append(page, rest.TextOf(raw))
				return nil
			})
			return err
		})
		if err != nil {
			return nil, 0, err
		}
		ids = append(ids, page...)
		if total, ok := e.Count("meta.pagination.total"); ok && !seen {
			declared, seen = total, true
		}
		token := e.Text("meta.pagination.offset")
		if token == "" || len(page) == 0 {
			break
		}
		if pages > 100_000 {
			return nil, 0, fmt.Errorf("%s: %w: no last page after %d pages", r.Step(), collector.ErrIncomplete, pages)
		}
		r.Query.Set("offset", token)
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	return ids, declared, nil
}

// forEachBatch calls do with batches of at most size ids, up to four batches
// at once.
func forEachBatch(ctx context.Context, ids []string, size int, do func(context.Context, []string) error) error {
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
