package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/query"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/state"
)

// loadOpenAPI returns the description of the server. Its objects allow no members but
// those that they describe, so that a test finds others.
func loadOpenAPI(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(openAPI)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, schema := range doc.Components.Schemas {
		if schema.Value.Type.Is("object") {
			schema.Value.AdditionalProperties = openapi3.AdditionalProperties{Has: new(bool)}
		}
	}
	return doc
}

// TestOpenAPIHasEveryRoute compares the paths, methods and parameters of openapi.yaml with
// the routes of the server, in both directions.
func TestOpenAPIHasEveryRoute(t *testing.T) {
	t.Parallel()
	server := New(Options{Daemon: &fakeDaemon{}, Metrics: http.NotFoundHandler()})
	served, described := map[string][]string{}, map[string][]string{}
	for _, r := range server.routes() {
		parameters := slices.Clone(r.query)
		for _, name := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(r.path, -1) {
			parameters = append(parameters, name[1])
		}
		slices.Sort(parameters)
		served[r.method+" "+strings.TrimSuffix(r.path, "{$}")] = parameters
	}
	for path, item := range loadOpenAPI(t).Paths.Map() {
		for method, operation := range item.Operations() {
			parameters := []string{}
			for _, p := range operation.Parameters {
				if p.Value.In != "header" {
					parameters = append(parameters, p.Value.Name)
				}
			}
			slices.Sort(parameters)
			described[method+" "+path] = parameters
		}
	}
	for _, key := range slices.Sorted(maps.Keys(served)) {
		parameters, ok := described[key]
		if !ok {
			t.Errorf("openapi.yaml does not have %s", key)
		} else if !slices.Equal(parameters, served[key]) {
			t.Errorf("%s has the parameters %q, openapi.yaml %q", key, served[key], parameters)
		}
	}
	for key := range described {
		if _, ok := served[key]; !ok {
			t.Errorf("the server does not have %s", key)
		}
	}
}

// unspecific are the statuses that every request may have, which openapi.yaml describes as
// the default response.
var unspecific = []int{http.StatusMethodNotAllowed, http.StatusMisdirectedRequest, http.StatusInternalServerError}

// responseChecker compares responses with openapi.yaml.
type responseChecker struct {
	*testing.T
	doc  *openapi3.T
	seen map[string]bool // the operations with statuses
	// refuses are the statuses of requests that a tokens file does not permit, which
	// openapi.yaml describes as the default response, too.
	refuses []int
}

// sendChecked sends a request to a handler, compares the response with openapi.yaml, and
// returns it.
func (rc *responseChecker) sendChecked(handler http.Handler, r *http.Request) *httptest.ResponseRecorder {
	rc.Helper()
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	rc.checkResponse(r, w)
	return w
}

// checkResponse compares the response to a request, which has the pattern of its route,
// with openapi.yaml.
func (rc *responseChecker) checkResponse(r *http.Request, w *httptest.ResponseRecorder) {
	rc.Helper()
	what := fmt.Sprintf("%s %s: %d %.200s", r.Method, r.URL, w.Code, w.Body)
	_, pattern, ok := strings.Cut(r.Pattern, " ")
	if !ok {
		pattern = r.Pattern // of the handler of other methods
	}
	item := rc.doc.Paths.Value(strings.TrimSuffix(pattern, "{$}"))
	if item == nil {
		rc.Fatalf("%s: no such path in openapi.yaml", what)
	}
	operation := item.GetOperation(r.Method)
	if operation == nil && w.Code == http.StatusMethodNotAllowed {
		operation = slices.Collect(maps.Values(item.Operations()))[0]
	}
	if r.Method == http.MethodHead {
		operation = item.Get
	}
	response := operation.Responses.Status(w.Code)
	rc.seen[operation.OperationID+" "+strconv.Itoa(w.Code)] = true
	if response == nil && slices.Contains(append(rc.refuses, unspecific...), w.Code) {
		response = operation.Responses.Default()
	}
	if response == nil {
		rc.Errorf("%s: openapi.yaml does not have this status", what)
		return
	}
	kind, _, _ := mime.ParseMediaType(w.Header().Get("Content-Type"))
	for name := range response.Value.Headers {
		if name != "Repr-Digest" && (name != "Content-Disposition" || kind != "text/html") && w.Header().Get(name) == "" {
			rc.Errorf("%s: no header %s", what, name)
		}
	}
	content := response.Value.Content[kind]
	switch {
	case len(response.Value.Content) == 0:
		if w.Body.Len() > 0 {
			rc.Errorf("%s: openapi.yaml has no content", what)
		}
	case content == nil:
		rc.Errorf("%s: openapi.yaml does not have the type %q", what, kind)
	case kind == "application/json" && r.Method != http.MethodHead:
		var value any
		if err := json.Unmarshal(w.Body.Bytes(), &value); err != nil {
			rc.Errorf("%s: %v", what, err)
		} else if err := content.Schema.Value.VisitJSON(value); err != nil {
			rc.Errorf("%s: %v", what, err)
		}
	}
}

// TestResponsesMatchOpenAPI checks responses of every operation with every status that
// openapi.yaml has.
func TestResponsesMatchOpenAPI(t *testing.T) {
	t.Parallel()
	rc := &responseChecker{T: t, doc: loadOpenAPI(t), seen: map[string]bool{}}
	f := newFullFixture(t)
	controls, unmeasured := f.addControls(), newFixture(t)
	f.addHeld("okta", "okta_users")
	f.daemon.operator.Streams = append(f.daemon.operator.Streams, "crowdstrike_hosts", "crowdstrike_zta")
	handlers := map[string]http.Handler{
		"":         f.newHandler(func(o *Options) { o.Token = "secret-token" }),
		"no token": f.newHandler(func(*Options) {}),
		"open":     f.newHandler(func(o *Options) { o.Token, o.Access = "secret-token", Access{} }),
		"hidden":   f.newHandler(func(o *Options) { o.Token, o.ShowData = "secret-token", false }),
		"offering": f.newHandler(func(o *Options) { o.Token, o.Offered = "secret-token", NewQueryFiles(f.writeQueries(), zap.NewNop()) }),
		"offering nothing": f.newHandler(func(o *Options) {
			o.Token, o.Offered = "secret-token", NewQueryFiles(filepath.Join(f.dir, "missing"), zap.NewNop())
		}),
		"shared":          f.newHandler(func(o *Options) { o.Token, o.Cluster = "secret-token", newFakeCluster() }),
		"shared, failing": f.newHandler(func(o *Options) { o.Token, o.Cluster = "secret-token", &fakeCluster{err: errors.New("no connection")} }),
		"controls":        f.newHandler(withControls(controls, true)),
		"open controls":   f.newHandler(withControls(controls, true, func(o *Options) { o.Token, o.Access = "secret-token", Access{} })),
		"hidden controls": f.newHandler(withControls(controls, false)),
		"unmeasured":      unmeasured.newHandler(withControls(controls, true)),
		"full": f.newHandler(func(o *Options) {
			o.Token, o.Metrics = "secret-token", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/plain; version=0.0.4")
				_, _ = io.WriteString(w, "m 1\n")
			})
		}),
	}
	if err := unmeasured.state.Controls("acme").ReplaceDefinitions(t.Context(), []state.ControlDefinition{{ID: "new", Title: "New", References: "[]"}}); err != nil {
		t.Fatal(err)
	}
	fullOptions := Options{State: f.state, Daemon: f.daemon, Tenancy: "acme", Access: Access{Loopback: true}, ShowData: true, Metrics: http.NotFoundHandler()}
	withControls(controls, true)(&fullOptions)
	full := New(fullOptions)
	for range maxDownloads {
		full.downloads <- struct{}{}
	}
	handlers["downloading"] = full.Handler()
	busy, release := f.newBusyEngine()
	handlers["busy"] = f.newHandler(func(o *Options) { o.Token, o.Queries = "secret-token", busy })
	defer release()

	const jsonType = "application/json"
	for _, tc := range []struct {
		on      string // which handler
		do      func() // before the request
		request string
		body    string
		headers []string
		status  int
		has     string
	}{
		{request: "GET /-/healthy", status: 200}, {request: "GET /healthz", status: 200}, {request: "GET /livez", status: 200},
		{request: "GET /-/ready", status: 200}, {request: "GET /readyz", status: 200},
		{request: "GET /-/data", status: 503, has: "crowdstrike_vulnerabilities"},
		{on: "full", request: "GET /metrics", status: 200},
		{request: "POST /healthz", status: 405, has: "use GET or HEAD"},
		{request: "GET /api/v1/openapi.yaml", status: 200, has: "openapi: 3.1.0"},
		{request: "GET /api/v1/openapi.yaml?x=1", status: 400, has: "this has no parameters"},
		{request: "GET /api/v1/status", status: 200}, {request: "GET /api/v1/status?stream=okta_users", status: 400, has: `unknown parameter \"stream\"`},
		{request: "GET /api/v1/status?%zz", status: 400, has: "not valid"},
		{request: "POST /api/v1/status", status: 405},
		{request: "GET /api/v1/tenancies", status: 200, has: `"tenancies":[{"tenancy":"acme","path":"","usable":true,"streams":`}, {request: "GET /api/v1/tenancies?a=b", status: 400},
		{request: "GET /api/v1/collectors", status: 200}, {request: "GET /api/v1/collectors?a=b", status: 400},
		{request: "GET /api/v1/runs", status: 200, has: "next_before"},
		{request: "GET /api/v1/runs?after=1&limit=3&stream=okta_users&outcome=failed&outcome=held", status: 200, has: "next_after"},
		{request: "GET /api/v1/runs?stream=none", status: 404, has: `\"none\" is not a stream`},
		{request: "GET /api/v1/runs?stream=", status: 404},
		{request: "GET /api/v1/runs?outcome=good", status: 400, has: "success unchanged empty"}, {request: "GET /api/v1/runs?before=x", status: 400, has: "before"},
		{request: "GET /api/v1/runs?after=0", status: 400, has: "after"}, {request: "GET /api/v1/runs?limit=1001", status: 400, has: "from 1 to 1000"},
		{request: "GET /api/v1/runs?strem=okta_users", status: 400, has: "want one of stream, outcome"},
		{request: "GET /api/v1/deliveries", status: 200, has: "connection refused"},
		{request: "GET /api/v1/deliveries?stream=none", status: 404}, {request: "GET /api/v1/deliveries?destination=disk", status: 404, has: "want one of file"},
		{request: "GET /api/v1/deliveries?sink=file", status: 400},
		{request: "POST /api/v1/collectors/okta/run", status: 202}, {request: "POST /api/v1/streams/okta_users/run", status: 202},
		{request: "POST /api/v1/streams/okta_users/run?x=1", status: 400}, {request: "POST /api/v1/collectors/okta/run?x=1", status: 400},
		{on: "shared", request: "GET /api/v1/status", status: 200, has: `"settings_differ":true`},
		{on: "shared", request: "POST /api/v1/collectors/okta/cancel", status: 200, has: `"runs":1`},
		{on: "shared", request: "POST /api/v1/collectors/crowdstrike/cancel", status: 409, has: "no run of crowdstrike"},
		{on: "shared", request: "POST /api/v1/collectors/none/cancel", status: 404, has: "want one of crowdstrike, knowbe4"},
		{on: "shared", request: "POST /api/v1/collectors/okta/cancel?x=1", status: 400},
		{on: "shared, failing", request: "POST /api/v1/collectors/okta/cancel", status: 503, has: "no connection"},
		{request: "POST /api/v1/collectors/okta/cancel", status: 409, has: "CLUSTER_POSTGRES_URL"},
		{on: "shared", request: "POST /api/v1/cluster/pause", status: 200, has: "paused"}, {request: "POST /api/v1/cluster/pause", status: 409},
		{on: "shared", request: "POST /api/v1/cluster/pause?x=1", status: 400}, {on: "shared, failing", request: "POST /api/v1/cluster/pause", status: 503},
		{on: "shared", request: "POST /api/v1/cluster/resume", status: 200, has: "resumed"}, {request: "POST /api/v1/cluster/resume", status: 409},
		{on: "shared", request: "POST /api/v1/cluster/resume?x=1", status: 400}, {on: "shared, failing", request: "POST /api/v1/cluster/resume", status: 503},
		{do: func() { f.daemon.run = schedule.ErrUnknown }, request: "POST /api/v1/streams/none/run", status: 404},
		{request: "POST /api/v1/collectors/none/run", status: 404},
		{do: func() { f.daemon.run = schedule.ErrRunning }, request: "POST /api/v1/streams/okta_users/run", status: 409},
		{request: "POST /api/v1/collectors/okta/run", status: 409},
		{do: func() { f.daemon.run = schedule.ErrStopping }, request: "POST /api/v1/streams/okta_users/run", status: 503},
		{request: "POST /api/v1/collectors/okta/run", status: 503},
		{request: "POST /api/v1/streams/none/accept", status: 404}, {request: "POST /api/v1/streams/snyk_issues/accept", status: 409, has: "no snapshot is held"},
		{request: "POST /api/v1/streams/okta_users/accept?x=1", status: 400},
		{request: "POST /api/v1/streams/okta_users/accept", status: 200, has: `"records":1`},
		{request: "POST /api/v1/deliveries/retry", status: 202}, {request: "POST /api/v1/deliveries/retry?x=1", status: 400},
		{request: "POST /api/v1/deliveries?stream=none", status: 404}, {request: "POST /api/v1/deliveries?destination=s3", status: 404, has: "not configured"},
		{request: "POST /api/v1/deliveries?stream=crowdstrike_zta", status: 409}, {request: "POST /api/v1/deliveries?stram=x", status: 400},
		{request: "POST /api/v1/deliveries?stream=okta_users&destination=postgres", status: 202, has: `"destinations":["postgres"]`},
		{request: "POST /api/v1/deliveries/drop", status: 400, has: "destination is missing"},
		{request: "POST /api/v1/deliveries/drop?destination=postgres", status: 409, has: "is configured"},
		{request: "POST /api/v1/deliveries/drop?destination=disk", status: 404}, {request: "POST /api/v1/deliveries/drop?destination=s3&upload_id=x", status: 400},
		{request: "POST /api/v1/deliveries/drop?destination=postgres&stream=okta_users&upload_id=other", status: 409, has: "not the first"},
		{request: "POST /api/v1/deliveries/drop?destination=postgres&stream=okta_users", status: 200, has: `"dropped":1`},
		{request: "POST /api/v1/deliveries/drop?destination=s3", status: 200, has: `"dropped":0`},
		{request: "GET /api/v1/deliveries", status: 200, has: `"outcome":"dropped"`},
		{request: "GET /api/v1/streams/crowdstrike_hosts/records", status: 200, has: "web-02"},
		{request: "GET /api/v1/streams/crowdstrike_hosts/records?format=ndjson.zst", status: 200},
		{request: "GET /api/v1/streams/crowdstrike_hosts/records?format=ndjson.zst", headers: []string{"Range", "bytes=0-3"}, status: 206},
		{request: "GET /api/v1/streams/crowdstrike_hosts/records?format=ndjson.zst", headers: []string{"Range", "bytes=99999-"}, status: 416},
		{request: "GET /api/v1/streams/crowdstrike_hosts/records", headers: []string{"If-None-Match", "*"}, status: 304},
		{request: "HEAD /api/v1/streams/crowdstrike_hosts/records", status: 200},
		{request: "GET /api/v1/streams/crowdstrike_hosts/records?format=csv", status: 400, has: "want ndjson"},
		{request: "GET /api/v1/streams/none/records", status: 404, has: "is not a stream"}, {request: "GET /api/v1/streams/crowdstrike_zta/records", status: 404, has: "no data yet"},
		{on: "open", request: "GET /api/v1/streams/crowdstrike_hosts/records", headers: []string{"Authorization", ""}, status: 401},
		{on: "hidden", request: "GET /api/v1/streams/crowdstrike_hosts/records", status: 403, has: "HTTP_SHOW_DATA"},
		{on: "downloading", request: "GET /api/v1/streams/crowdstrike_hosts/records", status: 503, has: "downloads are running"},
		{request: "POST /api/v1/query", body: `{"sql":"SELECT 1 AS n"}`, status: 200, has: `{"n":1}`},
		{request: "POST /api/v1/query", body: `{"sql":"SELECT '=1' AS n","format":"csv"}`, status: 200, has: "'=1"},
		{request: "POST /api/v1/query", body: `{"sql":"SELECT '=1' AS n","format":"csv","raw":true}`, status: 200, has: "n\n=1"},
		{request: "POST /api/v1/query", body: `{"sql":"SELECT 1 AS n","format":"html"}`, status: 200},
		{request: "POST /api/v1/query", body: `{"sql":"SELECT 1 AS n","format":"parquet"}`, status: 200, has: "PAR1"},
		{request: "POST /api/v1/query", body: `{"sql":"SELECT 1 AS n","format":"xml"}`, status: 400, has: "csv, json or parquet"},
		{request: "POST /api/v1/query", body: `{"sql":"FROM range(1001)","format":"html","complete":true}`, status: 400, has: "more than the 1,000 rows"},
		{request: "POST /api/v1/query", body: `{"sql":"FROM range(1000)","format":"html","complete":true}`, status: 200, has: "1,000 rows"},
		{request: "POST /api/v1/query", body: `{"sql":"SELECT 1 AS n","formt":"html"}`, status: 400, has: "formt"},
		{request: "POST /api/v1/query", body: `{"sql":"SELECT x"}`, status: 400}, {request: "POST /api/v1/query?x=1", body: `{}`, status: 400},
		{request: "POST /api/v1/query", body: `{"sql":"` + strings.Repeat("x", maxBodyBytes) + `"}`, status: 413, has: "larger than 65536"},
		{request: "POST /api/v1/query", body: `{}`, headers: []string{"Content-Type", "text/plain"}, status: 415},
		{on: "busy", request: "POST /api/v1/query", body: `{"sql":"SELECT 1"}`, status: 503, has: "other queries are running"},
		{request: "GET /api/v1/queries", status: 200, has: `{"queries":[]}`}, {request: "GET /api/v1/queries?x=1", status: 400},
		{on: "offering", request: "GET /api/v1/queries", status: 200, has: `"errors":["HTTP_QUERIES: `},
		{request: "GET /api/v1/queries", headers: []string{"Authorization", ""}, status: 401, has: "this needs a token"},
		{on: "no token", request: "GET /api/v1/queries", status: 403, has: "HTTP_TOKEN is not set"},
		{on: "offering nothing", request: "GET /api/v1/queries", status: 500, has: "HTTP_QUERIES: open"},
		{request: "GET /", status: 200}, {request: "GET /streams/okta_users", status: 200}, {request: "GET /streams/none", status: 404, has: "There is no stream none"},
		{request: "GET /streams/crowdstrike_hosts/data", status: 200}, {request: "GET /query", status: 200}, {request: "GET /assets/style.css", status: 200},
		{request: "GET /assets/page.js", status: 200}, {request: "GET /assets/icon.svg", status: 200}, {request: "GET /assets/none", status: 404},
		{on: "no token", request: "GET /query", status: 404, has: "HTTP_QUERY=true"},
		{on: "hidden", request: "GET /streams/okta_users/data", status: 403},
		{on: "open", request: "GET /streams/okta_users/data", headers: []string{"Authorization", ""}, status: 401},
		{request: "GET /api/v1/controls", status: 403, has: "controls are off"}, {request: "GET /api/v1/controls/plain", status: 403},
		{request: "GET /api/v1/controls/plain/details", status: 403}, {request: "GET /controls/plain/details", status: 403},
		{request: "GET /controls", status: 404, has: "CONTROLS"}, {request: "GET /controls/plain", status: 404},
		{on: "controls", request: "GET /api/v1/controls", status: 200, has: `"id":"plain"`}, {on: "controls", request: "GET /api/v1/controls?frame=x", status: 400},
		{on: "controls", request: "GET /api/v1/controls?framework=CIS", status: 200, has: `"controls":[]`},
		{on: "controls", request: "GET /api/v1/controls/plain", status: 200, has: `"days":[{`}, {on: "controls", request: "GET /api/v1/controls/plain?x=1", status: 400},
		{on: "controls", request: "GET /api/v1/controls/none", status: 404, has: `\"none\" is not a control`},
		{on: "controls", request: "GET /api/v1/controls/plain/details", status: 200, has: `"resource":"00u2"`},
		{on: "controls", request: "GET /api/v1/controls/plain/details?format=csv", status: 200, has: "00u2"},
		{on: "controls", request: "GET /api/v1/controls/plain/details?format=xml", status: 400, has: "want json or csv"},
		{on: "controls", request: "GET /api/v1/controls/plain/details?limit=0", status: 400, has: "from 1 to 1000"},
		{on: "controls", request: "GET /api/v1/controls/plain/details?format=csv&limit=5", status: 400, has: "CSV has all"},
		{on: "controls", request: "GET /api/v1/controls/none/details", status: 404}, {on: "controls", request: "GET /controls/none/details", status: 404},
		{on: "controls", request: "GET /controls", status: 200}, {on: "controls", request: "GET /controls/plain", status: 200},
		{on: "controls", request: "GET /controls/none", status: 404}, {on: "controls", request: "GET /controls/plain/details", status: 200, has: "00u2"},
		{on: "open controls", request: "GET /api/v1/controls/plain/details", headers: []string{"Authorization", ""}, status: 401},
		{on: "open controls", request: "GET /controls/plain/details", headers: []string{"Authorization", ""}, status: 401},
		{on: "hidden controls", request: "GET /api/v1/controls/plain/details", status: 403, has: "CONTROLS_DETAIL"},
		{on: "downloading", request: "GET /api/v1/controls/plain/details?format=csv", status: 503, has: "downloads are running"},
		{on: "unmeasured", request: "GET /api/v1/controls/new/details", status: 404, has: "no resources yet"},
		{on: "unmeasured", request: "GET /api/v1/controls/new/details?format=csv", status: 404, has: "no resources yet"},
		{on: "unmeasured", request: "GET /controls/new/details", status: 200, has: "no resources yet"}, {on: "unmeasured", request: "GET /controls", status: 200, has: "pending"},
		{do: func() { f.daemon.reload = nil }, request: "POST /-/reload", status: 200},
		{do: func() { f.daemon.reload = errors.New("SCHEDULE: wrong") }, request: "POST /-/reload", status: 422},
		{do: func() { f.daemon.reload = schedule.ErrStopping }, request: "POST /-/reload", status: 503},
		{do: func() { f.daemon.alive, f.daemon.ready = errors.New("stalled"), errors.New("restoring") }, request: "GET /healthz", status: 503},
		{request: "GET /livez", status: 503}, {request: "GET /-/healthy", status: 503}, {request: "GET /-/ready", status: 503}, {request: "GET /readyz", status: 503},
		{do: func() { f.daemon.statuses = nil }, request: "GET /-/data", status: 200},
	} {
		if tc.do != nil {
			tc.do()
		}
		method, path, _ := strings.Cut(tc.request, " ")
		r := httptest.NewRequestWithContext(t.Context(), method, "http://localhost"+path, strings.NewReader(tc.body))
		r.Header.Set("Authorization", "Bearer secret-token")
		r.Header.Set("Content-Type", jsonType)
		for i := 0; i < len(tc.headers); i += 2 {
			r.Header.Set(tc.headers[i], tc.headers[i+1])
		}
		w := rc.sendChecked(handlers[tc.on], r)
		if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.has) {
			t.Errorf("%s on %q: %d %.300s, want %d with %q", tc.request, tc.on, w.Code, w.Body, tc.status, tc.has)
		}
	}
	// Every request that changes something needs the token and is refused from other sites,
	// and its error distinguishes a missing token from a wrong one.
	for _, r := range full.routes() {
		if r.method != "POST" {
			continue
		}
		path := "http://localhost" + strings.ReplaceAll(r.path, "{name}", "okta_users")
		for on, want := range map[string]struct {
			headers []string
			status  int
			has     string
		}{
			"":         {status: 401, has: "this needs a token"},
			"full":     {headers: []string{"Authorization", "Bearer wrong"}, status: 401, has: "the token is wrong"},
			"open":     {headers: []string{"Authorization", "Bearer secret-token", "Sec-Fetch-Site", "cross-site"}, status: 403, has: "another site"},
			"no token": {headers: []string{"Authorization", "Bearer secret-token"}, status: 403, has: "HTTP_TOKEN is not set"},
		} {
			request := httptest.NewRequestWithContext(t.Context(), "POST", path, nil)
			for i := 0; i < len(want.headers); i += 2 {
				request.Header.Set(want.headers[i], want.headers[i+1])
			}
			if on == "open" { // refused before a route is found
				w := httptest.NewRecorder()
				handlers[on].ServeHTTP(w, request)
				if w.Code != want.status || !strings.Contains(w.Body.String(), want.has) {
					t.Errorf("%s on %q: %d %s", path, on, w.Code, w.Body)
				}
				continue
			}
			if w := rc.sendChecked(handlers[on], request); w.Code != want.status || !strings.Contains(w.Body.String(), want.has) {
				t.Errorf("%s on %q: %d %s, want %d with %q", path, on, w.Code, w.Body, want.status, want.has)
			}
		}
	}
	rc.checkTimeout(f)
	for path, item := range rc.doc.Paths.Map() {
		for method, operation := range item.Operations() {
			for status := range operation.Responses.Map() {
				if status != "default" && !rc.seen[operation.OperationID+" "+status] {
					t.Errorf("%s %s: the status %s of openapi.yaml was not seen", method, path, status)
				}
			}
		}
	}
}

// checkTimeout checks the response to a query that takes too long.
func (rc *responseChecker) checkTimeout(f *fixture) {
	rc.Helper()
	server := New(Options{State: f.state, Daemon: f.daemon, Tenancy: "acme", Metrics: http.NotFoundHandler()})
	w := httptest.NewRecorder()
	(&ui{Server: server}).writeQueryError(w, httptest.NewRequest("POST", "/api/v1/query", nil), fmt.Errorf("query: %w: the limit is 30s", query.ErrTime))
	if w.Code != http.StatusGatewayTimeout || !strings.Contains(w.Body.String(), "the query took too long") {
		rc.Errorf("a query that takes too long: %d %s", w.Code, w.Body)
	}
	rc.seen["query "+strconv.Itoa(w.Code)] = true
}

// addHeld adds a run of a stream whose snapshot has one record and is held.
func (f *fixture) addHeld(collector, stream string) {
	f.Helper()
	h := newHeader(collector, stream, shownAt.Add(-time.Minute))
	id, err := f.state.Runs.Begin(f.Context(), state.RunStart{Header: h, Trigger: "schedule", Started: h.UploadTimestamp})
	if err != nil {
		f.Fatal(err)
	}
	w, err := f.state.Snapshots.Spool(h)
	if err != nil {
		f.Fatal(err)
	}
	batch := w.NewBatch()
	if err := errors.Join(batch.Append([]byte(`{"id":"00u1"}`)), batch.Commit()); err != nil {
		f.Fatal(err)
	}
	done, err := f.state.Runs.Commit(f.Context(), id, w, state.RunStats{Records: 1}, state.Policy{GuardDropPercent: 90})
	if err != nil || done.Outcome != state.Held {
		f.Fatalf("the outcome is %s, error %v", done.Outcome, err)
	}
}

// newBusyEngine returns an engine that runs a query until release is called.
func (f *fixture) newBusyEngine() (engine *query.Engine, release func()) {
	f.Helper()
	engine = query.New(query.Options{State: f.state, Tenancy: "acme", Dir: f.dir + "/busy"})
	f.Cleanup(engine.Close)
	out := &waitingWriter{reached: make(chan struct{}), released: make(chan struct{})}
	ended := make(chan error, 1)
	go func() {
		_, err := engine.Query(f.Context(), "SELECT 1", query.JSONFormat, query.Limits{}, out)
		ended <- err
	}()
	select {
	case <-out.reached:
	case err := <-ended:
		f.Fatal(err)
	}
	return engine, func() {
		close(out.released)
		<-ended
	}
}

// waitingWriter waits at the first write.
type waitingWriter struct {
	reached, released chan struct{}
	once              sync.Once
}

func (w *waitingWriter) Write(b []byte) (int, error) {
	w.once.Do(func() { close(w.reached) })
	<-w.released
	return len(b), nil
}
