package collector

import (
	"context"

	"go.uber.org/zap"
)

type logKey struct{}

// WithLog returns a context whose requests are told to log, at debug.
func WithLog(ctx context.Context, log *zap.Logger) context.Context {
	return context.WithValue(ctx, logKey{}, log)
}

// LogFrom returns the log of ctx, one that writes nothing when it has none.
func LogFrom(ctx context.Context) *zap.Logger {
	if log, ok := ctx.Value(logKey{}).(*zap.Logger); ok {
		return log
	}
	return silent
}

var silent = zap.NewNop()
