package crowdstrike

import (
	"context"
	"errors"
	"net/url"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
)

const vulnerabilitiesPath = "/spotlight/combined/vulnerabilities/v1"

// A timeSpan is a range of creation times of vulnerabilities: from inclusive,
// to exclusive. A zero time leaves that side open. The creation time of a
// vulnerability never changes, so a vulnerability does not move to another
// span while the spans are read.
type timeSpan struct{ from, to time.Time }

// extractVulnerabilities reads what FALCON_VULNERABILITIES_FILTER selects.
func (a *account) extractVulnerabilities(ctx context.Context, out collector.Output) error {
	r := vulnerabilityReader{
		client:  a.clientFor(vulnerabilitiesScope, "FALCON_VULNERABILITIES_FILTER"),
		filter:  a.settings.Vulns,
		cursors: a.settings.Split,
		maxPage: a.settings.Page,

		partCount: a.partCount,
		pageSize:  &rest.Size{Param: "limit", First: 400, Least: 50, Most: a.settings.Page},
		log:       a.log,
		out:       out,
	}
	read, err := r.readAll(ctx)
	if err != nil {
		return err
	}
	read.ReportDifference(ctx, "vulnerabilities")
	return nil
}

// vulnerabilityReader is the state of one extraction of vulnerabilities.
type vulnerabilityReader struct {
	client  *rest.Client
	filter  string
	cursors int // the largest number of cursors at once
	maxPage int // the largest number of vulnerabilities in a page

	partCount int // the largest number of vulnerabilities that a part should have
	pageSize  *rest.Size
	log       *zap.Logger
	out       collector.Output
}

// readAll reads all vulnerabilities, with several cursors if there are many, and
// in parts if the ids of all would take too much memory.
func (r *vulnerabilityReader) readAll(ctx context.Context) (rest.CompleteRead, error) {
	total, err := r.countSpan(ctx, timeSpan{})
	if err != nil {
		return rest.CompleteRead{}, err
	}
	// A cursor is worth its cost if it reads at least two of the largest pages.
	cursors := max(1, min(int64(r.cursors), total/int64(2*r.maxPage)))
	if cursors > 1 || total > int64(r.partCount) {
		read, complete, err := r.readSplit(ctx, total, int(cursors))
		isPartIncomplete := errors.Is(err, collector.ErrIncomplete) && total <= int64(r.partCount)
		switch {
		case isPartIncomplete: // in a small part, a total that changes meanwhile is a large difference
			r.log.Warn("a part of the vulnerabilities is incomplete; reading all of them again with one cursor", zap.Error(err))
		case err != nil || complete:
			return read, err
		}
		if err := r.out.Reset(); err != nil {
			return rest.CompleteRead{}, err
		}
	}
	return r.readSpan(ctx, timeSpan{}, total == 0, nil)
}

// readSplit reads all vulnerabilities in parts, and reports whether the number
// of records agrees with the declared totals.
func (r *vulnerabilityReader) readSplit(ctx context.Context, totalBefore int64, cursors int) (read rest.CompleteRead, complete bool, err error) {
	began := time.Now().UTC().Truncate(time.Second)
	parts, divided, err := r.readParts(ctx, began, totalBefore, cursors)
	if err != nil || !divided {
		return parts, true, err
	}
	newest, totalAfter, err := r.readNewest(ctx, began)
	if err != nil {
		return parts, false, err
	}
	read = addReads(parts, newest)
	var totals rest.TotalRange
	totals.AddTotal(totalBefore)
	totals.AddTotal(totalAfter)
	// Vulnerabilities that were added or removed meanwhile may be included or not.
	// A small table is quickly read again.
	tolerance := totals.Most() - totals.Least() + totals.Most()/500 + min(totals.Most()/1000, 20)
	difference := totals.Difference(read.Records)
	if max(difference, -difference) > tolerance {
		r.log.Warn("the vulnerabilities by time of creation do not add up; reading them again with one cursor",
			zap.Int64("read", read.Records), zap.Int64("declared_before", totalBefore), zap.Int64("declared_after", totalAfter))
		return read, false, nil
	}
	// What is missing in the parts is also missing in the sum, unless the total
	// has changed.
	if difference > 0 && read.Difference == 0 || difference < read.Difference {
		read.Difference = difference
	}
	return read, true, nil
}

// readNewest reads the vulnerabilities that were created after the parts had
// been divided, and returns the total of all as well.
func (r *vulnerabilityReader) readNewest(ctx context.Context, began time.Time) (newest rest.CompleteRead, total int64, err error) {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		newest, err = r.readSpan(ctx, timeSpan{from: began}, true, nil)
		return err
	})
	group.Go(func() (err error) {
		total, err = r.countSpan(ctx, timeSpan{})
		return err
	})
	err = group.Wait()
	return newest, total, err
}

// spanRequest returns a request for the vulnerabilities of a span.
func (r *vulnerabilityReader) spanRequest(span timeSpan) rest.Request {
	filter := r.filter
	if span != (timeSpan{}) && hasAlternatives(filter) {
		filter = "(" + filter + ")"
	}
	if !span.from.IsZero() {
		filter += "+created_timestamp:>='" + span.from.UTC().Format(time.RFC3339) + "'"
	}
	if !span.to.IsZero() {
		filter += "+created_timestamp:<'" + span.to.UTC().Format(time.RFC3339) + "'"
	}
	return rest.Request{Path: vulnerabilitiesPath, Query: url.Values{"filter": {filter}}}
}

// hasAlternatives reports whether a filter contains a comma that means "or".
// It has a lower precedence than the "+" that a span adds.
func hasAlternatives(filter string) bool {
	depth, quoted := 0, false
	for _, c := range filter {
		switch {
		case c == '\'':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '(':
			depth++
		case c == ']' || c == ')':
			depth--
		case c == ',' && depth == 0:
			return true
		}
	}
	return false
}

// readSpan reads the vulnerabilities of a span with one cursor. It calls
// onProgress, which may be nil, after each page. Every page requests the
// facets, because records have another shape without them. mayBeEmpty means
// that the span may have none.
//
// The vendor lists vulnerabilities in the order of their updates, so one that
// is updated meanwhile is listed again, behind the cursor.
func (r *vulnerabilityReader) readSpan(ctx context.Context, span timeSpan, mayBeEmpty bool, onProgress func(records int64)) (rest.CompleteRead, error) {
	req := r.spanRequest(span)
	req.Query["facet"] = []string{"cve", "host_info", "remediation"}
	req.Size = r.pageSize
	return readListing(ctx, r.client, rest.Listing{
		Request: req,
		Shape:   listShape,
		// The last page may still contain a cursor, which leads to an empty page.
		// The total changes while the listing is read, so it does not end it.
		Pager: rest.Cursor{Path: "meta.pagination.after", Param: "after", Life: cursorLife}, Stop: rest.AtEmpty,
		OnProgress: onProgress,
	}, source.KeyMember("id"), mayBeEmpty, r.out)
}

// countSpan returns the number of vulnerabilities in a span.
func (r *vulnerabilityReader) countSpan(ctx context.Context, span timeSpan) (int64, error) {
	return r.countSpanWith(ctx, r.client, span)
}

// countSpanWith is countSpan with another client.
func (r *vulnerabilityReader) countSpanWith(ctx context.Context, c *rest.Client, span timeSpan) (int64, error) {
	req := r.spanRequest(span)
	req.Query.Set("limit", "1")
	return fetchTotal(ctx, c, req)
}
