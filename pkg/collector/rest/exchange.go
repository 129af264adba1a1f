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

// An exchange is one attempt at a request, for the debug log and the trace of
// the run. It does not contain the query, which may contain keys. The methods
// of a nil *exchange do nothing.
type exchange struct {
	client  *Client
	req     *http.Request
	log     *zap.Logger
	span    trace.Span
	attempt int
	waited  time.Duration // before the attempt, for rate limits and retries
	began   time.Time
	path    string
	status  int
	body    *body
}

// startExchange starts an exchange. It returns nil if neither the log nor the
// trace needs it.
func (c *Client) startExchange(ctx context.Context, retry *retryState, req *http.Request, waited time.Duration) *exchange {
	log, parent := collector.LogFrom(ctx), trace.SpanFromContext(ctx)
	if !parent.IsRecording() && !log.Core().Enabled(zapcore.DebugLevel) {
		return nil
	}
	x := &exchange{client: c, req: req, log: log, attempt: retry.failures + 1, waited: waited, began: time.Now()}
	x.path = c.redactor().Redact(req.URL.EscapedPath())
	_, x.span = parent.TracerProvider().Tracer(tracerName).Start(ctx, req.Method,
		trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(x.attributes()...))
	return x
}

func (e *exchange) attributes() []attribute.KeyValue {
	all := []attribute.KeyValue{
		semconv.HTTPRequestMethodKey.String(e.req.Method),
		semconv.URLScheme(e.req.URL.Scheme), semconv.URLPath(e.path),
		semconv.ServerAddress(e.req.URL.Hostname()),
		attribute.Int64("collectord.waited_ms", e.waited.Milliseconds()),
	}
	if port, err := strconv.Atoi(e.req.URL.Port()); err == nil {
		all = append(all, semconv.ServerPort(port))
	}
	if e.attempt > 1 {
		all = append(all, semconv.HTTPRequestResendCount(e.attempt-1))
	}
	return all
}

// setResponse records a response whose body will be read.
func (e *exchange) setResponse(status int, b *body) {
	if e != nil {
		e.status, e.body = status, b
	}
}

// endExchange logs the exchange and ends its span.
func (e *exchange) endExchange(err error) {
	if e == nil {
		return
	}
	if errors.Is(err, ErrNotModified) { // which is no failure
		err = nil
	}
	err = e.client.redactor().Error(err)
	var received int64
	if e.body != nil {
		received = e.body.received
	}
	fields := []zap.Field{
		zap.String("method", e.req.Method), zap.String("path", e.path), zap.Int("status", e.status),
		zap.Int64("bytes", received), zap.Duration("took", time.Since(e.began)),
		zap.Int("attempt", e.attempt), zap.Duration("waited", e.waited),
	}
	if e.status != 0 {
		e.span.SetAttributes(semconv.HTTPResponseStatusCode(e.status), attribute.Int64("http.response.body.size", received))
	}
	if err != nil {
		fields = append(fields, zap.NamedError("error", err))
		e.span.SetAttributes(semconv.ErrorTypeKey.String(errorType(err)))
		e.span.SetStatus(codes.Error, err.Error())
	}
	e.log.Debug("request", fields...)
	e.span.End()
}

// errorType returns the class of an error, one of a small number.
func errorType(err error) string {
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
