package delivery

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

// streamSpan is the span of the run that made an upload.
type streamSpan struct {
	uploadID string
	span     trace.SpanContext
}

// LinkTrace makes the deliveries of an upload part of the trace of its run. Only the
// last run of each stream is remembered: deliveries of earlier runs, and of an earlier
// process, have their own traces.
func (d *Deliverer) LinkTrace(uploadID, stream string, span trace.SpanContext) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.spans[stream] = streamSpan{uploadID, span}
}

func (d *Deliverer) startDeliverySpan(ctx context.Context, q state.Delivery) (context.Context, trace.Span) {
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

// endDeliverySpan ends the span of an attempt. The exporter redacts secrets in err.
func endDeliverySpan(span trace.Span, err error) {
	if err != nil && span.IsRecording() {
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}
