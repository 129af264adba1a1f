package collector

import (
	"context"

	"go.uber.org/zap"
)

type logKey struct{}

// WithLog returns a copy of ctx whose requests are logged to log at debug level.
func WithLog(ctx context.Context, log *zap.Logger) context.Context {
	return context.WithValue(ctx, logKey{}, log)
}

// LogFrom returns the logger of ctx, or one that discards everything.
func LogFrom(ctx context.Context) *zap.Logger {
	if log, ok := ctx.Value(logKey{}).(*zap.Logger); ok {
		return log
	}
	return silent
}

var silent = zap.NewNop()
