package crowdstrike

import (
	"context"
	"maps"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
)

const (
	// totalSlack is the share of a declared total that may be missing, because
	// totals change while a tenant is read.
	totalSlack = 0.01
	// rowSlack is the number of records that may be missing where totalSlack is
	// less: totals include, for example, hosts that were just hidden.
	rowSlack = 3
	// maxAgreedShare is the largest share of a declared total that may be
	// missing if two reads agree.
	maxAgreedShare = 0.02
	// maxAgreedRows is the number of records that may be missing if two reads
	// agree, where maxAgreedShare is less: in a small tenant a few hidden hosts
	// are a large share.
	maxAgreedRows = 10
	// readAgainAfter is the wait before hosts are requested again.
	readAgainAfter = 30 * time.Second
)

// slackOf returns how many of the declared records may be missing.
func slackOf(declared int64) int64 {
	return max(int64(totalSlack*float64(declared)), min(rowSlack, declared/2))
}

// isTooFew reports whether received is less than declared by more than totals
// change while a tenant is read.
func isTooFew(received, declared int64) bool {
	return declared-received > slackOf(declared)
}

// agreedOf returns how many of the declared records may be missing if two reads
// agree.
func agreedOf(declared int64) int64 {
	return max(int64(maxAgreedShare*float64(declared)), min(maxAgreedRows, declared/5))
}

// isAcceptable reports whether two reads that agree on received may differ that
// much from declared.
func isAcceptable(received, declared int64) bool {
	return declared-received <= agreedOf(declared)
}

// isSmallDifference reports whether two reads of a listing with the declared
// number of records differ by no more than totals change.
func isSmallDifference(difference, declared int64) bool {
	return max(difference, -difference) <= slackOf(declared)
}

// readListing reads a listing until its records, whose key is the member key, are
// complete as far as can be known. mayBeEmpty means that a listing without records
// needs no second look at its total.
func readListing(ctx context.Context, c *rest.Client, l rest.Listing, key func([]byte) (string, error), mayBeEmpty bool, out collector.Output) (rest.CompleteRead, error) {
	l.Total, l.Expired = "meta.pagination.total", isCursorExpired
	return c.WalkComplete(ctx, l, rest.Reread{
		Key: key, Tolerated: slackOf, Agreed: agreedOf,
		Total: func(ctx context.Context, listed int64) (int64, error) {
			if listed == 0 && mayBeEmpty {
				return 0, nil
			}
			return fetchTotal(ctx, c, totalRequest(l.Request))
		},
	}, out)
}

// totalRequest returns the request for the smallest page of a listing.
func totalRequest(r rest.Request) rest.Request {
	r.Size = nil
	r.Query = maps.Clone(r.Query)
	r.Query.Set("limit", "1")
	return r
}

// addReads returns the sum of two reads of different records. It only adds what is
// missing: an excess in one does not make up for the other.
func addReads(a, b rest.CompleteRead) rest.CompleteRead {
	return rest.CompleteRead{Records: a.Records + b.Records, Difference: min(a.Difference, 0) + min(b.Difference, 0)}
}

// noteDoubt logs a difference that is accepted, and counts it.
func (a *account) noteDoubt(ctx context.Context, text string, count int64, fields ...zap.Field) {
	a.log.Warn(text, append(fields, zap.Int64("difference", count))...)
	collector.StatsFrom(ctx).AddDoubt(text, count)
}
