package collector

import (
	"context"
	"time"
)

// DefaultRetryTime is the retry time of a context that has none, such as that of
// a check that a person waits for.
const DefaultRetryTime = 15 * time.Second

type retryTimeKey struct{}

// WithRetryTime returns a copy of ctx in which requests that fail because of the
// network or the vendor's servers are repeated for d, at most until ctx ends.
func WithRetryTime(ctx context.Context, d time.Duration) context.Context {
	return context.WithValue(ctx, retryTimeKey{}, d)
}

// RetryTime returns how long a request that fails in ctx is repeated.
func RetryTime(ctx context.Context) time.Duration {
	if d, ok := ctx.Value(retryTimeKey{}).(time.Duration); ok {
		return d
	}
	return DefaultRetryTime
}
