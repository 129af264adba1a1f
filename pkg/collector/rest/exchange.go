package rest

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/collectord/collectord/pkg/collector"
)

const tracerName = "github.com/collectord/collectord/pkg/collector/rest"

// An exchange is one attempt at a request, as the log at debug and the trace
// of the run tell it: without the query, which may hold keys. A nil *exchange
// tells nothing.
type exchange struct {
	client  *Client
	req     *http.Request
	log     *zap.Logger
	span    trace.Span
	attempt int
	waited  time.Duration // before it, for limits and for the next try
	began   time.Time
	path    string
	status  int
	body    *body
}

// tell begins an exchange; nil when nobody wants to know of it.
func (c *Client) tell(ctx context.Context, t *try, req *http.Request, waited time.Duration) *exchange {
	log, parent := collector.LogFrom(ctx), trace.SpanFromContext(ctx)
	if !parent.IsRecording() && !log.Core().Enabled(zapcore.DebugLevel) {
		return nil
	}
	x := &exchange{client: c, req: req, log: log, attempt: t.count + 1, waited: waited, began: time.Now()}
	x.path = hideIn(req.URL.EscapedPath(), c.secrets())
	_, x.span = parent.TracerProvider().Tracer(tracerName).Start(ctx, req.Method,
		trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(x.attributes()...))
	return x
}

func (x *exchange) attributes() []attribute.KeyValue {
	all := []attribute.KeyValue{
		semconv.HTTPRequestMethodKey.String(x.req.Method),
		semconv.URLScheme(x.req.URL.Scheme), semconv.URLPath(x.path),
		semconv.ServerAddress(x.req.URL.Hostname()),
		attribute.Int64("collectord.waited_ms", x.waited.Milliseconds()),
	}
	if port, err := strconv.Atoi(x.req.URL.Port()); err == nil {
		all = append(all, semconv.ServerPort(port))
	}
	if x.attempt > 1 {
		all = append(all, semconv.HTTPRequestResendCount(x.attempt-1))
	}
	return all
}

// answered notes an answer whose body is about to be read.
func (x *exchange) answered(status int, b *body) {
	if x != nil {
		x.status, x.body = status, b
	}
}

// end tells how the exchange ended.
func (x *exchange) end(err error) {
	if x == nil {
		return
	}
	err = hide(err, x.client.secrets())
	var received int64
	if x.body != nil {
		received = x.body.received
	}
	fields := []zap.Field{
		zap.String("method", x.req.Method), zap.String("path", x.path), zap.Int("status", x.status),
		zap.Int64("bytes", received), zap.Duration("took", time.Since(x.began)),
		zap.Int("attempt", x.attempt), zap.Duration("waited", x.waited),
	}
	if x.status != 0 {
		x.span.SetAttributes(semconv.HTTPResponseStatusCode(x.status), attribute.Int64("http.response.body.size", received))
	}
	if err != nil {
		fields = append(fields, zap.NamedError("error", err))
		x.span.SetAttributes(semconv.ErrorTypeKey.String(typeOf(err)))
		x.span.SetStatus(codes.Error, err.Error())
	}
	x.log.Debug("request", fields...)
	x.span.End()
}

// typeOf is the class of an error, of which there are few.
func typeOf(err error) string {
	var s *StatusError
	var b *BodyError
	switch {
	case errors.As(err, &s):
		return strconv.Itoa(s.Status)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "cancelled"
	case errors.As(err, &b):
		return "body"
	case errors.Is(err, errTransport):
		return "network"
	}
	return semconv.ErrorTypeOther.Value.AsString()
}
