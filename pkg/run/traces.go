package run

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/collectord/collectord/pkg/state"
)

// tracer returns the tracer of runs and deliveries. The name of its scope is part of
// the exported traces.
func tracer() trace.Tracer { return otel.Tracer("github.com/collectord/collectord/pkg/schedule") }

func startRunSpan(ctx context.Context, e *execution, streams int) (context.Context, trace.Span) {
	return tracer().Start(ctx, "run "+e.collector, trace.WithAttributes(
		attribute.String("collectord.collector", e.collector), attribute.String("collectord.tenancy", e.Tenancy),
		attribute.String("collectord.upload_id", e.uploadID), attribute.String("collectord.trigger", e.trigger),
		attribute.Int("collectord.streams", streams)))
}

func endRunSpan(span trace.Span, results []Result) {
	for _, r := range results {
		if !r.OK() {
			span.SetStatus(codes.Error, r.Stream+": "+string(r.Outcome))
			break
		}
	}
	span.End()
}

// startStreamSpan starts the span of one stream's run and calls OnTraced with it.
func (e *execution) startStreamSpan(ctx context.Context, stream string) (context.Context, trace.Span) {
	ctx, span := tracer().Start(ctx, "stream "+stream, trace.WithAttributes(
		attribute.String("collectord.stream", stream), attribute.String("collectord.upload_id", e.uploadID)))
	if s := span.SpanContext(); e.OnTraced != nil && s.IsValid() {
		e.OnTraced(e.uploadID, stream, s)
	}
	return ctx, span
}

// endStreamSpan ends the span of a stream's run. The exporter redacts secrets in the
// error.
func endStreamSpan(span trace.Span, r Result) {
	span.SetAttributes(
		attribute.String("collectord.outcome", string(r.Outcome)), attribute.Int64("collectord.records", r.Records),
		attribute.Int64("collectord.bytes", r.Bytes), attribute.Int64("collectord.requests", r.Requests),
		attribute.Int64("collectord.retries", r.Retries))
	if r.Outcome == state.Held {
		span.SetStatus(codes.Error, "held: far fewer records than before")
	}
	if r.Err != nil && span.IsRecording() {
		span.SetStatus(codes.Error, r.Err.Error())
	}
	span.End()
}
