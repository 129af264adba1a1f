package e2e_test

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

	"github.com/collectord/collectord/internal/tracing"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/harness"
)

// receiver receives traces by OTLP over HTTP.
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

// named returns the spans whose name has the prefix.
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

// assertChildOf checks that a span is a child of one of the parents.
func assertChildOf(t *testing.T, s *tracepb.Span, parents []*tracepb.Span) {
	t.Helper()
	for _, p := range parents {
		if string(p.SpanId) == string(s.ParentSpanId) && string(p.TraceId) == string(s.TraceId) {
			return
		}
	}
	t.Errorf("the span %s is the child of none of the %d parents", s.Name, len(parents))
}

// failWithToken makes the second page fail with a message that contains the token.
func failWithToken(sim *vendorsim.Server, token string) {
	sim.Hosts()[0].Inject(vendorsim.Fault{Path: "/api/v1/users", From: 2, Times: 1, Do: vendorsim.Status(500, `{"errorSummary":"bad SSWS `+token+`"}`, "Retry-After", "0")})
}

func TestTracesShowRunsWithoutSecrets(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, map[string]int{vendorsim.OktaUsers: 450}, vendorsim.NewOkta())
	r := startReceiver(t)
	ws := harness.NewWorkspace(t).UseVendors(sim)
	failWithToken(sim, ws.Env["OKTA_TOKEN"])
	ws.Env["OTEL_EXPORTER_OTLP_ENDPOINT"] = r.URL
	ws.Env["OTEL_EXPORTER_OTLP_HEADERS"] = "Authorization=Bearer%20traces-canary-1"
	ws.Env["OTEL_RESOURCE_ATTRIBUTES"] = "deployment.environment.name=test"
	ws.AssertResult(ws.Run("--once", "okta_users"), harness.ExitOK)

	r.mu.Lock()
	defer r.mu.Unlock()
	ws.AssertNoSecrets(r.raw.String())
	if got := r.header.Get("Authorization"); got != "Bearer traces-canary-1" {
		t.Errorf("the header was %q", got)
	}
	for _, text := range []string{"collectord", "deployment.environment.name"} {
		if !strings.Contains(r.resource, text) {
			t.Errorf("the resource does not contain %s: %s", text, r.resource)
		}
	}
	runs, streams, requests, deliveries := r.named("run okta"), r.named("stream okta_users"), r.named("GET"), r.named("delivery ")
	if len(runs) != 1 || len(streams) != 1 || len(requests) < 4 || len(deliveries) != 1 {
		t.Fatalf("%d runs, %d streams, %d requests, %d deliveries", len(runs), len(streams), len(requests), len(deliveries))
	}
	assertChildOf(t, streams[0], runs)
	assertChildOf(t, deliveries[0], streams)
	failed := 0
	for _, s := range requests {
		assertChildOf(t, s, streams)
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

func TestDebugLogsEveryRequest(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, map[string]int{vendorsim.OktaUsers: 450}, vendorsim.NewOkta())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	failWithToken(sim, ws.Env["OKTA_TOKEN"])
	ws.Env["LOG_LEVEL"], ws.Env["LOG_FORMAT"] = "debug", "json"
	e := ws.Run("--once", "okta_users") // also searches the output for secrets
	ws.AssertResult(e, harness.ExitOK)
	lines, again := 0, 0
	for line := range strings.Lines(e.Stderr) {
		var got struct {
			Msg, Method, Path, Stream, Took, Waited, Error string
			Status, Bytes, Attempt                         int
		}
		if json.Unmarshal([]byte(line), &got) != nil || got.Msg != "request" {
			continue
		}
		lines++
		if got.Method != "GET" || got.Path != "/api/v1/users" || got.Stream != "okta_users" || got.Took == "" || got.Waited == "" || got.Bytes == 0 || got.Attempt == 0 {
			t.Errorf("a field is missing: %s", line)
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
	requested := 0
	for _, n := range sim.Hosts()[0].Stats().Requests {
		requested += n
	}
	if lines != requested || again != 1 {
		t.Errorf("%d lines for %d requests, %d of them second attempts", lines, requested, again)
	}
}

func TestTracesCanBeOff(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]string{"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "none", "OTEL_TRACES_SAMPLER": "always_off"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startReceiver(t)
			ws := harness.NewWorkspace(t).UseVendors(harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable()))
			ws.Env["OTEL_EXPORTER_OTLP_ENDPOINT"], ws.Env[name] = r.URL, value
			ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitOK)
			r.mu.Lock()
			defer r.mu.Unlock()
			if len(r.spans) > 0 {
				t.Errorf("%d spans were sent", len(r.spans))
			}
		})
	}
}

// TestDeadTraceReceiverDelaysNothing checks a receiver that refuses connections, and one
// that accepts them and never responds.
func TestDeadTraceReceiverDelaysNothing(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		hangs bool
	}{
		{name: "refuses", hangs: false},
		{name: "hangs", hangs: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			release := make(chan struct{})
			s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
			t.Cleanup(s.Close)
			t.Cleanup(func() { close(release) })
			if !tc.hangs {
				s.Listener.Close()
			}
			ws := harness.NewWorkspace(t).UseVendors(harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable()))
			ws.Env["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"], ws.Env["OTEL_BSP_SCHEDULE_DELAY"] = s.URL+"/v1/traces", "50"
			began := time.Now()
			e := ws.Run("--once", "tenable_assets")
			ws.AssertResult(e, harness.ExitOK, "tenable_assets")
			if elapsed := time.Since(began); elapsed > tracing.FlushTimeout+harness.HangLimit {
				t.Errorf("the run took %v", elapsed)
			}
			if n := strings.Count(e.Output(), "traces cannot be sent"); n != 1 {
				t.Errorf("%d lines about the failure:\n%s", n, e.Output())
			}
		})
	}
}
