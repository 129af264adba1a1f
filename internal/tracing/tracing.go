// Package tracing sends OpenTelemetry traces to where the standard OTEL variables
// of the environment say, without secrets in them.
package tracing

import (
	"context"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr/funcr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/zap"
)

// FlushTimeout bounds the wait for the last spans at the end of the program.
const FlushTimeout = 3 * time.Second

// Options are what traces need from the program.
type Options struct {
	Version string // of collectord
	Log     *zap.Logger
	// AddSecrets receives further values that must not be shown: credentials from
	// the OTEL variables.
	AddSecrets func(secrets ...string)
	// Redact returns a text without secrets.
	Redact func(string) string
}

// Start starts sending traces and returns the function that sends the last ones.
// No traces are sent when the environment names no endpoint.
func Start(ctx context.Context, o Options) (stop func()) {
	if !isEnabled(os.Getenv, o.Log) {
		return func() {}
	}
	o.AddSecrets(credentials(os.Getenv)...)
	logFailure := logOnce(o.Log)
	otel.SetErrorHandler(otel.ErrorHandlerFunc(logFailure))
	otel.SetLogger(funcr.New(func(_, text string) { o.Log.Warn("traces", zap.String("detail", text)) }, funcr.Options{}))
	exporter, err := otlptrace.New(ctx, &redactingClient{client: otlptracehttp.NewClient(), redact: o.Redact})
	if err != nil {
		logFailure(err)
		return func() {}
	}
	attributes, err := resource.New(ctx, resource.WithTelemetrySDK(),
		resource.WithAttributes(semconv.ServiceName("collectord"), semconv.ServiceVersion(o.Version)),
		resource.WithFromEnv())
	if err != nil {
		o.Log.Warn("OTEL_RESOURCE_ATTRIBUTES: only a part could be read", zap.Error(err))
	}
	// A batcher drops spans rather than wait when its queue is full.
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(attributes))
	otel.SetTracerProvider(provider)
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), FlushTimeout)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			logFailure(err)
		}
	}
}

// isEnabled reports whether the environment asks for traces.
func isEnabled(getenv func(string) string, log *zap.Logger) bool {
	endpoint := getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") + getenv("OTEL_EXPORTER_OTLP_ENDPOINT")
	if endpoint == "" || strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") {
		return false
	}
	if exporter := getenv("OTEL_TRACES_EXPORTER"); exporter != "" && exporter != "otlp" {
		if exporter != "none" {
			log.Warn("OTEL_TRACES_EXPORTER: only otlp and none are known; no traces are sent", zap.String("value", exporter))
		}
		return false
	}
	protocol := getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
	if protocol == "" {
		protocol = getenv("OTEL_EXPORTER_OTLP_PROTOCOL")
	}
	if protocol != "" && protocol != "http/protobuf" {
		log.Warn("OTEL_EXPORTER_OTLP_PROTOCOL: only http/protobuf is supported; traces are sent by that", zap.String("value", protocol))
	}
	return true
}

// credentials returns the values of the headers that the OTEL variables set, which
// contain credentials, and the passwords in their URLs.
func credentials(getenv func(string) string) []string {
	var all []string
	for _, name := range []string{"OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"} {
		for pair := range strings.SplitSeq(getenv(name), ",") {
			_, value, _ := strings.Cut(pair, "=")
			value = strings.TrimSpace(value)
			plain, err := url.PathUnescape(value)
			if err != nil {
				plain = value
			}
			all = append(all, value, plain)
			if _, token, found := strings.Cut(plain, " "); found {
				all = append(all, token)
			}
		}
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"} {
		if u, err := url.Parse(getenv(name)); err == nil && u.User != nil {
			password, _ := u.User.Password()
			all = append(all, password)
		}
	}
	return all
}

// logOnce returns a function that logs the first failure only, because an
// unreachable receiver would fill the log.
func logOnce(log *zap.Logger) func(error) {
	var once sync.Once
	return func(err error) {
		once.Do(func() {
			log.Warn("traces cannot be sent; further failures are not logged: check OTEL_EXPORTER_OTLP_ENDPOINT", zap.Error(err))
		})
	}
}

// redactingClient removes secrets from all texts of the spans that it sends.
type redactingClient struct {
	client otlptrace.Client
	redact func(string) string
}

// Start implements otlptrace.Client.
func (c *redactingClient) Start(ctx context.Context) error { return c.client.Start(ctx) }

// Stop implements otlptrace.Client.
func (c *redactingClient) Stop(ctx context.Context) error { return c.client.Stop(ctx) }

// UploadTraces implements otlptrace.Client.
func (c *redactingClient) UploadTraces(ctx context.Context, all []*tracepb.ResourceSpans) error {
	for _, r := range all {
		c.redactAttributes(r.GetResource().GetAttributes())
		for _, scope := range r.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				span.Name = c.redact(span.Name)
				c.redactAttributes(span.Attributes)
				if span.Status != nil {
					span.Status.Message = c.redact(span.Status.Message)
				}
				for _, event := range span.Events {
					c.redactAttributes(event.Attributes)
				}
			}
		}
	}
	return c.client.UploadTraces(ctx, all)
}

func (c *redactingClient) redactAttributes(attributes []*commonpb.KeyValue) {
	for _, a := range attributes {
		if s, ok := a.GetValue().GetValue().(*commonpb.AnyValue_StringValue); ok {
			s.StringValue = c.redact(s.StringValue)
		}
	}
}
