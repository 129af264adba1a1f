package sources

import (
	"context"
	"net/url"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
)

// A falconSpan is the span of creation times of a part of the vulnerabilities,
// from inclusive, to exclusive; a zero time leaves that side open. The time of
// creation never changes, so what is in a span stays there while it is read.
type falconSpan struct{ from, to time.Time }

// vulnerabilities extracts what FALCON_VULNERABILITIES_FILTER selects. When
// the vendor has forgotten the place of a cursor, all starts over.
func (f *falcon) vulnerabilities(ctx context.Context, out collector.Output) error {
	s := spotlight{
		falcon: f,
		client: f.client(falconVulnsScope, "FALCON_VULNERABILITIES_FILTER"),
		size:   &rest.Size{Param: "limit", First: 400, Least: 50, Most: f.Page},
	}
	for restart := 0; ; restart++ {
		err := s.pull(ctx, out)
		if err == nil || ctx.Err() != nil || !falconExpired(err) || restart >= 2 {
			return err
		}
		f.log.Warn("the vendor has forgotten a cursor; reading the vulnerabilities again", zap.Error(err))
		if err := out.Reset(); err != nil {
			return err
		}
	}
}

// spotlight is the state of one extraction of vulnerabilities.
type spotlight struct {
	*falcon
	client *rest.Client
	size   *rest.Size
}

// pull reads all vulnerabilities, with several cursors when there are many.
func (s *spotlight) pull(ctx context.Context, out collector.Output) error {
	var total int64
	if s.Split > 1 {
		var err error
		if total, err = s.total(ctx, falconSpan{}); err != nil {
			return err
		}
		// A cursor is worth it for two of the largest pages.
		if width := min(int64(s.Split), total/int64(2*s.Page)); width > 1 {
			agree, err := s.pullSplit(ctx, total, int(width), out)
			if err != nil || agree {
				return err
			}
			if err := out.Reset(); err != nil {
				return err
			}
		}
	}
	_, err := s.walk(ctx, falconSpan{}, total, nil, out)
	return err
}

// pullSplit reads all parts, and tells whether they make up the whole.
func (s *spotlight) pullSplit(ctx context.Context, before int64, width int, out collector.Output) (bool, error) {
	came, parts, err := s.pullParts(ctx, before, width, out)
	if err != nil || parts == 1 {
		return true, err
	}
	after, err := s.total(ctx, falconSpan{})
	if err != nil {
		return false, err
	}
	// What the tenant gained or lost meanwhile may be in or not.
	least, most := min(before, after), max(before, after)
	loose := most - least + most/500 + 20
	if came < least-loose || came > most+loose {
		s.log.Warn("the vulnerabilities by time of creation do not add up; reading them again with one cursor",
			zap.Int64("read", came), zap.Int64("declared_before", before), zap.Int64("declared_after", after))
		return false, nil
	}
	return true, nil
}

// request asks for the vulnerabilities of a span.
func (s *spotlight) request(span falconSpan) rest.Request {
	filter := s.Vulns
	if span != (falconSpan{}) && falconHasOr(filter) {
		filter = "(" + filter + ")"
	}
	if !span.from.IsZero() {
		filter += "+created_timestamp:>='" + span.from.UTC().Format(time.RFC3339) + "'"
	}
	if !span.to.IsZero() {
		filter += "+created_timestamp:<'" + span.to.UTC().Format(time.RFC3339) + "'"
	}
	return rest.Request{Path: "/spotlight/combined/vulnerabilities/v1", Query: url.Values{"filter": {filter}}}
}

// falconHasOr tells whether a filter has a comma that means "or", which binds
// less than the "+" that a span adds.
func falconHasOr(filter string) bool {
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

// walk reads a span of about count vulnerabilities with one cursor. After each
// page came is told how many have come; it may be nil. The facets are asked for
// on every page: records change their shape without them.
func (s *spotlight) walk(ctx context.Context, span falconSpan, count int64, came func(int64), out collector.Output) (int64, error) {
	r := s.request(span)
	r.Query["facet"] = []string{"cve", "host_info", "remediation"}
	r.Size = s.size
	slack := falconSlack
	if span != (falconSpan{}) {
		// A few come and go however short the span is; the sum of all spans is
		// looked at more closely.
		slack += 50 / float64(max(count, 50))
	}
	return s.client.Walk(ctx, rest.Listing{
		Request: r,
		Shape:   falconShape,
		// The last page may still carry a cursor, to an empty one. The total
		// moves meanwhile and ends nothing.
		Pager: rest.Cursor{Path: "meta.pagination.after", Param: "after", Stop: rest.AtEmpty},
		Total: "meta.pagination.total",
		Slack: min(1, slack),
		Came:  came,
	}, out)
}

// total asks how many vulnerabilities a span has.
func (s *spotlight) total(ctx context.Context, span falconSpan) (int64, error) {
	r := s.request(span)
	r.Query.Set("limit", "1")
	return falconTotal(ctx, s.client, r)
}
