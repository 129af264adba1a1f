package schedule

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/collectord/collectord/pkg/state"
)

func tracer() trace.Tracer { return otel.Tracer("github.com/collectord/collectord/pkg/schedule") }

func traceRun(ctx context.Context, r *run, streams int) (context.Context, trace.Span) {
	return tracer().Start(ctx, "run "+r.collector, trace.WithAttributes(
		attribute.String("collectord.collector", r.collector), attribute.String("collectord.tenancy", r.Tenancy),
		attribute.String("collectord.upload_id", r.id), attribute.String("collectord.trigger", r.trigger),
		attribute.Int("collectord.streams", streams)))
}

func endRun(span trace.Span, results []Result) {
	for _, r := range results {
		if !r.OK() {
			span.SetStatus(codes.Error, r.Stream+": "+string(r.Outcome))
			break
		}
	}
	span.End()
}

func (r *run) traceStream(ctx context.Context, stream string) (context.Context, trace.Span) {
	ctx, span := tracer().Start(ctx, "stream "+stream, trace.WithAttributes(
		attribute.String("collectord.stream", stream), attribute.String("collectord.upload_id", r.id)))
	if s := span.SpanContext(); r.Began != nil && s.IsValid() {
		r.Began(r.id, stream, s)
	}
	return ctx, span
}

func endStream(span trace.Span, r Result) {
	span.SetAttributes(attribute.String("collectord.outcome", string(r.Outcome)), attribute.Int64("collectord.records", r.Records),
		attribute.Int64("collectord.bytes", r.Bytes), attribute.Int64("collectord.requests", r.Requests), attribute.Int64("collectord.retries", r.Retries))
	if r.Outcome == state.Held {
		span.SetStatus(codes.Error, "held: far fewer records than before")
	}
	endSpan(span, r.Err)
}

// endSpan ends a span with err as its status; the exporter hides secrets.
func endSpan(span trace.Span, err error) {
	if err != nil && span.IsRecording() {
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}

// streamSpan is the span of the run that made an upload.
type streamSpan struct {
	uploadID string
	span     trace.SpanContext
}

// Follow makes the deliveries of an upload part of the trace of its run. Only
// the last run of each stream is remembered: deliveries of earlier ones, and
// of an earlier process, have traces of their own.
func (d *Deliverer) Follow(uploadID, stream string, span trace.SpanContext) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.spans[stream] = streamSpan{uploadID, span}
}

func (d *Deliverer) traceDelivery(ctx context.Context, q state.Delivery) (context.Context, trace.Span) {
	d.mu.Lock()
	s := d.spans[q.Stream]
	d.mu.Unlock()
	if s.uploadID == q.UploadID && s.span.IsValid() {
		ctx = trace.ContextWithSpanContext(ctx, s.span)
	}
	return tracer().Start(ctx, "delivery "+q.Sink, trace.WithAttributes(
		attribute.String("collectord.sink", q.Sink), attribute.String("collectord.stream", q.Stream),
		attribute.String("collectord.upload_id", q.UploadID), attribute.Int64("collectord.records", q.Records),
		attribute.Int("collectord.attempt", q.Attempts+1)))
}
