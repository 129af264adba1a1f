package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/collectord/collectord/internal/vendorsim"
)

// receiver takes traces by OTLP over HTTP.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	spans    []*tracepb.Span
	resource string
	raw      strings.Builder // everything that was sent, as text
	header   http.Header
}

func startReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		var sent collectorpb.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &sent)
		}
		if err != nil || req.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", req.URL.Path, err)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.header = req.Header
		r.raw.WriteString(sent.String())
		for _, resource := range sent.ResourceSpans {
			r.resource = resource.Resource.String()
			for _, scope := range resource.ScopeSpans {
				r.spans = append(r.spans, scope.Spans...)
			}
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// named returns the spans whose name begins so.
func (r *receiver) named(prefix string) (found []*tracepb.Span) {
	for _, s := range r.spans {
		if strings.HasPrefix(s.Name, prefix) {
			found = append(found, s)
		}
	}
	return found
}

func attributeOf(s *tracepb.Span, key string) *commonpb.AnyValue {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value
		}
	}
	return nil
}

// under fails when a span's parent is none of the parents.
func under(t *testing.T, s *tracepb.Span, parents []*tracepb.Span) {
	t.Helper()
	for _, p := range parents {
		if string(p.SpanId) == string(s.ParentSpanId) && string(p.TraceId) == string(s.TraceId) {
			return
		}
	}
	t.Errorf("the span %s is under none of %d", s.Name, len(parents))
}

// echo refuses the second page in words that repeat the credential.
func echo(sim *vendorsim.Server, token string) {
	sim.Hosts()[0].Inject(vendorsim.Fault{Path: "/api/v1/users", From: 2, Times: 1, Do: vendorsim.Status(500, `{"errorSummary":"bad SSWS `+token+`"}`, "Retry-After", "0")})
}

func TestTracesShowRunsWithoutSecrets(t *testing.T) {
	t.Parallel()
	sim := startVendors(t, map[string]int{vendorsim.OktaUsers: 450}, vendorsim.NewOkta())
	r := startReceiver(t)
	p := newPlace(t).with(sim)
	echo(sim, p.env["OKTA_TOKEN"])
	p.env["OTEL_EXPORTER_OTLP_ENDPOINT"] = r.URL
	p.env["OTEL_EXPORTER_OTLP_HEADERS"] = "Authorization=Bearer%20traces-canary-1"
	p.env["OTEL_RESOURCE_ATTRIBUTES"] = "deployment.environment.name=test"
	p.want(p.run("--once", "okta_users"), 0)

	r.mu.Lock()
	defer r.mu.Unlock()
	p.noSecrets(r.raw.String())
	if got := r.header.Get("Authorization"); got != "Bearer traces-canary-1" {
		t.Errorf("the header was %q", got)
	}
	for _, text := range []string{"collectord", "deployment.environment.name"} {
		if !strings.Contains(r.resource, text) {
			t.Errorf("the resource does not say %s: %s", text, r.resource)
		}
	}
	runs, streams, requests, deliveries := r.named("run okta"), r.named("stream okta_users"), r.named("GET"), r.named("delivery ")
	if len(runs) != 1 || len(streams) != 1 || len(requests) < 4 || len(deliveries) != 1 {
		t.Fatalf("%d runs, %d streams, %d requests, %d deliveries", len(runs), len(streams), len(requests), len(deliveries))
	}
	under(t, streams[0], runs)
	under(t, deliveries[0], streams)
	failed := 0
	for _, s := range requests {
		under(t, s, streams)
		if path := attributeOf(s, "url.path").GetStringValue(); path != "/api/v1/users" {
			t.Errorf("url.path is %q", path)
		}
		if attributeOf(s, "server.address").GetStringValue() != "127.0.0.1" || attributeOf(s, "http.request.method").GetStringValue() != "GET" {
			t.Errorf("attributes: %v", s.Attributes)
		}
		if attributeOf(s, "http.response.status_code").GetIntValue() == 500 {
			failed++
			if s.Status.GetCode() != tracepb.Status_STATUS_CODE_ERROR {
				t.Errorf("a refused request has status %v", s.Status)
			}
		}
	}
	if failed != 1 {
		t.Errorf("%d requests were refused, want 1", failed)
	}
}

func TestDebugTellsEveryRequest(t *testing.T) {
	t.Parallel()
	sim := startVendors(t, map[string]int{vendorsim.OktaUsers: 450}, vendorsim.NewOkta())
	p := newPlace(t).with(sim)
	echo(sim, p.env["OKTA_TOKEN"])
	p.env["LOG_LEVEL"], p.env["LOG_FORMAT"] = "debug", "json"
	e := p.run("--once", "okta_users") // which searches all output for secrets
	p.want(e, 0)
	lines, again := 0, 0
	for line := range strings.Lines(e.stderr) {
		var got struct {
			Msg, Method, Path, Stream, Took, Waited, Error string
			Status, Bytes, Attempt                         int
		}
		if json.Unmarshal([]byte(line), &got) != nil || got.Msg != "request" {
			continue
		}
		lines++
		if got.Method != "GET" || got.Path != "/api/v1/users" || got.Stream != "okta_users" || got.Took == "" || got.Waited == "" || got.Bytes == 0 || got.Attempt == 0 {
			t.Errorf("a line lacks something: %s", line)
		}
		if strings.Contains(line, "after=") {
			t.Errorf("a line has a query: %s", line)
		}
		if got.Status == 500 && got.Error == "" {
			t.Errorf("a failure has no reason: %s", line)
		}
		if got.Attempt == 2 {
			again++
		}
	}
	asked := 0
	for _, n := range sim.Hosts()[0].Stats().Requests {
		asked += n
	}
	if lines != asked || again != 1 {
		t.Errorf("%d lines for %d requests, %d of them made again", lines, asked, again)
	}
}

func TestTracesCanBeOff(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]string{"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "none", "OTEL_TRACES_SAMPLER": "always_off"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startReceiver(t)
			p := newPlace(t).with(startVendors(t, smallCounts, smallTenant()))
			p.env["OTEL_EXPORTER_OTLP_ENDPOINT"], p.env[name] = r.URL, value
			p.want(p.run("--once", "tenable_assets"), 0)
			r.mu.Lock()
			defer r.mu.Unlock()
			if len(r.spans) > 0 {
				t.Errorf("%d spans were sent", len(r.spans))
			}
		})
	}
}

// TestDeadTraceReceiverDelaysNothing: one refuses connections, one takes them
// and never answers.
func TestDeadTraceReceiverDelaysNothing(t *testing.T) {
	t.Parallel()
	for name, hang := range map[string]bool{"refuses": false, "hangs": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			release := make(chan struct{})
			s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
			t.Cleanup(s.Close)
			t.Cleanup(func() { close(release) })
			if !hang {
				s.Listener.Close()
			}
			p := newPlace(t).with(startVendors(t, smallCounts, smallTenant()))
			p.env["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"], p.env["OTEL_BSP_SCHEDULE_DELAY"] = s.URL+"/v1/traces", "50"
			began := time.Now()
			e := p.run("--once", "tenable_assets")
			p.want(e, 0, "tenable_assets")
			if took := time.Since(began); took > flushTime+10*time.Second {
				t.Errorf("it took %v", took)
			}
			if n := strings.Count(e.all(), "traces cannot be sent"); n != 1 {
				t.Errorf("%d lines of the failure:\n%s", n, e.all())
			}
		})
	}
}
