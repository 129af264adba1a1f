package main

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

// flushTime bounds how long the end of the program waits for the last spans
// to be taken.
const flushTime = 3 * time.Second

// startTraces sends traces of runs to where the standard OTEL variables say,
// and returns the function that sends the last ones; it sends none when no
// endpoint is set.
func (a *app) startTraces(ctx context.Context) func() {
	if !tracesWanted(os.Getenv, a.log) {
		return func() {}
	}
	a.hide.learn(headerSecrets(os.Getenv))
	failed := tellOnce(a.log)
	otel.SetErrorHandler(otel.ErrorHandlerFunc(failed))
	otel.SetLogger(funcr.New(func(_, text string) { a.log.Warn("traces", zap.String("detail", text)) }, funcr.Options{}))
	exporter, err := otlptrace.New(ctx, &hidingClient{to: otlptracehttp.NewClient(), hide: a.hide.hide})
	if err != nil {
		failed(err)
		return func() {}
	}
	described, err := resource.New(ctx, resource.WithTelemetrySDK(),
		resource.WithAttributes(semconv.ServiceName("collectord"), semconv.ServiceVersion(version)),
		resource.WithFromEnv())
	if err != nil {
		a.log.Warn("OTEL_RESOURCE_ATTRIBUTES: it was read in part", zap.Error(err))
	}
	// The batches drop spans rather than wait when their queue is full.
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(described))
	otel.SetTracerProvider(provider)
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			failed(err)
		}
	}
}

// tracesWanted tells whether the environment asks for traces.
func tracesWanted(env func(string) string, log *zap.Logger) bool {
	endpoint := env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") + env("OTEL_EXPORTER_OTLP_ENDPOINT")
	if endpoint == "" || strings.EqualFold(env("OTEL_SDK_DISABLED"), "true") {
		return false
	}
	if to := env("OTEL_TRACES_EXPORTER"); to != "" && to != "otlp" {
		if to != "none" {
			log.Warn("OTEL_TRACES_EXPORTER: only otlp and none are known; no traces are sent", zap.String("value", to))
		}
		return false
	}
	protocol := env("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
	if protocol == "" {
		protocol = env("OTEL_EXPORTER_OTLP_PROTOCOL")
	}
	if protocol != "" && protocol != "http/protobuf" {
		log.Warn("OTEL_EXPORTER_OTLP_PROTOCOL: only http/protobuf is known, on which traces are sent", zap.String("value", protocol))
	}
	return true
}

// headerSecrets are the values of the headers that the variables set, which
// carry the collector's credential, and the passwords of its addresses.
func headerSecrets(env func(string) string) []string {
	var all []string
	for _, name := range []string{"OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"} {
		for pair := range strings.SplitSeq(env(name), ",") {
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
		if u, err := url.Parse(env(name)); err == nil && u.User != nil {
			password, _ := u.User.Password()
			all = append(all, password)
		}
	}
	return all
}

// tellOnce logs the first failure only: a collector of traces that is away
// would fill the log.
func tellOnce(log *zap.Logger) func(error) {
	var once sync.Once
	return func(err error) {
		once.Do(func() {
			log.Warn("traces cannot be sent; further failures are not logged: check OTEL_EXPORTER_OTLP_ENDPOINT", zap.Error(err))
		})
	}
}

// hidingClient hides secrets in all text of what it sends.
type hidingClient struct {
	to   otlptrace.Client
	hide func(string) string
}

// Start implements otlptrace.Client.
func (c *hidingClient) Start(ctx context.Context) error { return c.to.Start(ctx) }

// Stop implements otlptrace.Client.
func (c *hidingClient) Stop(ctx context.Context) error { return c.to.Stop(ctx) }

// UploadTraces implements otlptrace.Client.
func (c *hidingClient) UploadTraces(ctx context.Context, all []*tracepb.ResourceSpans) error {
	for _, r := range all {
		c.clean(r.GetResource().GetAttributes())
		for _, scope := range r.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				span.Name = c.hide(span.Name)
				c.clean(span.Attributes)
				if span.Status != nil {
					span.Status.Message = c.hide(span.Status.Message)
				}
				for _, event := range span.Events {
					c.clean(event.Attributes)
				}
			}
		}
	}
	return c.to.UploadTraces(ctx, all)
}

func (c *hidingClient) clean(attributes []*commonpb.KeyValue) {
	for _, a := range attributes {
		if s, ok := a.GetValue().GetValue().(*commonpb.AnyValue_StringValue); ok {
			s.StringValue = c.hide(s.StringValue)
		}
	}
}
