package web_test

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/calendar"
	"github.com/collectord/collectord/pkg/freshness"
	"github.com/collectord/collectord/pkg/operation"
	"github.com/collectord/collectord/pkg/query"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/local"
	"github.com/collectord/collectord/pkg/web"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == query.WorkerCommand {
		os.Exit(query.Work())
	}
	goleak.VerifyTestMain(m)
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// fakeDaemon is a Daemon whose errors a test sets. It records what it is asked to do.
type fakeDaemon struct {
	alive, ready, reload, run error
	ran                       []string
	retried                   bool
	operator                  *operation.Operator
}

func (f *fakeDaemon) Statuses() []schedule.CollectorStatus {
	var e calendar.Expression
	if err := e.UnmarshalText([]byte("@every 6h")); err != nil {
		panic(err)
	}
	return []schedule.CollectorStatus{
		{Collector: "okta", Streams: []schedule.StreamStatus{{
			Stream: "okta_users", Schedule: "@every 6h", Zone: "UTC", Interval: 6 * time.Hour, Calendar: e.In(time.UTC), FirstDue: noon.Add(-2 * time.Hour),
		}}},
		{Collector: "snyk", Streams: []schedule.StreamStatus{{Stream: "snyk_issues", Schedule: "off", Zone: "UTC"}}},
	}
}
func (f *fakeDaemon) Disabled() []web.DisabledCollector {
	return []web.DisabledCollector{{Collector: "tenable", Missing: []string{"TENABLE_KEY"}}}
}
func (f *fakeDaemon) ActiveRuns() []*run.ActiveRun { return nil }
func (f *fakeDaemon) MaxAge(string) time.Duration  { return 0 }
func (f *fakeDaemon) Alive() error                 { return f.alive }
func (f *fakeDaemon) Ready() error                 { return f.ready }
func (f *fakeDaemon) DisabledStreams() []freshness.DisabledStream {
	return []freshness.DisabledStream{{Collector: "snyk", Stream: "snyk_members", Why: "COLLECTORS excludes it"}}
}
func (f *fakeDaemon) RunNow(name string) ([]string, error) {
	f.ran = append(f.ran, name)
	return []string{name + "_users"}, f.run
}
func (f *fakeDaemon) RunStreamNow(name string) error {
	f.ran = append(f.ran, "stream "+name)
	return f.run
}
func (f *fakeDaemon) DeliverNow(context.Context) error      { f.retried = true; return nil }
func (f *fakeDaemon) Operator() *operation.Operator         { return f.operator }
func (f *fakeDaemon) Reload(context.Context) error          { return f.reload }
func (f *fakeDaemon) LastReload() (at time.Time, err error) { return noon, f.reload }

// addSuccess adds a successful run of okta_users with one record that ended at noon.
func addSuccess(t *testing.T, s *state.State) {
	t.Helper()
	h := snapshot.Header{Collector: "okta", Stream: "okta_users", Tenancy: "acme", UploadID: "id-1", UploadTimestamp: noon}
	id, err := s.Runs.Begin(t.Context(), state.RunStart{Header: h, Trigger: "test", Started: noon})
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.Snapshots.Spool(h)
	if err != nil {
		t.Fatal(err)
	}
	batch := w.NewBatch()
	if err := errors.Join(batch.Append([]byte(`{"id":1}`)), batch.Commit()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Runs.Commit(t.Context(), id, w, state.RunStats{Records: 1}, state.Policy{Sinks: []string{"file"}}); err != nil {
		t.Fatal(err)
	}
}

// testServer is a running Server and its daemon and state.
type testServer struct {
	*testing.T
	daemon *fakeDaemon
	state  *state.State
	url    string
}

// startServer starts a Server whose clock is at now. change, if not nil, changes its options.
func startServer(t *testing.T, now time.Time, change func(*web.Options)) *testServer {
	t.Helper()
	st, err := local.Open(t.Context(), t.TempDir(), local.Options{Now: func() time.Time { return noon }})
	if err != nil {
		t.Fatal(err)
	}
	d := &fakeDaemon{operator: &operation.Operator{
		State: st, Tenancy: "acme", Streams: []string{"okta_users", "other"}, Destinations: []string{"file", "postgres"},
		Policy: state.Policy{Sinks: []string{"file"}}, Log: zap.NewNop(),
	}}
	o := web.Options{
		State: st, Daemon: d, Tenancy: "acme", Access: web.Access{Loopback: true}, Token: "secret-token", Now: func() time.Time { return now },
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "m 1\n") }),
	}
	if change != nil {
		change(&o)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- web.New(o).Serve(ctx, l) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := errors.Join(<-ended, st.Close()); err != nil {
			t.Error(err)
		}
	})
	return &testServer{t, d, st, "http://" + l.Addr().String()}
}

// sendRequest sends a request with pairs of headers and returns the status, the body and the headers of
// the response.
func (s *testServer) sendRequest(method, path string, headers ...string) (int, string, http.Header) {
	s.Helper()
	r, err := http.NewRequestWithContext(s.Context(), method, s.url+path, nil)
	if err != nil {
		s.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		s.Fatal(err)
	}
	return response.StatusCode, string(body), response.Header
}

// assertResponse checks the status of a response, and that its body contains text.
func (s *testServer) assertResponse(status int, text, method, path string, headers ...string) {
	s.Helper()
	got, body, _ := s.sendRequest(method, path, headers...)
	if got != status || !strings.Contains(body, text) {
		s.Errorf("%s %s responds with %d %s, want %d with %q", method, path, got, body, status, text)
	}
}

const bearer = "Bearer secret-token"

func TestHealth(t *testing.T) {
	s := startServer(t, noon, nil)
	for _, path := range []string{"/-/healthy", "/healthz", "/livez", "/-/ready", "/readyz"} {
		s.assertResponse(200, `"status"`, "GET", path)
	}
	s.assertResponse(405, `"error"`, "POST", "/healthz")
	s.daemon.ready = errors.New("restoring")
	s.assertResponse(503, "restoring", "GET", "/readyz")
	s.assertResponse(200, "alive", "GET", "/livez")
	s.daemon.alive = errors.New("the loop has stopped")
	s.assertResponse(503, "the loop has stopped", "GET", "/-/healthy")
	s.assertResponse(200, "m 1", "GET", "/metrics")
	s.assertResponse(404, "", "GET", "/debug/pprof/")
	_, _, h := s.sendRequest("GET", "/metrics")
	if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Frame-Options") != "DENY" {
		t.Errorf("headers: %v", h)
	}
}

// TestMetricsCompressed checks that /metrics is compressed for the clients that accept it.
func TestMetricsCompressed(t *testing.T) {
	s := startServer(t, noon, nil)
	for _, tc := range []struct{ accepts, want string }{{"gzip", "gzip"}, {"gzip;q=0", ""}, {"identity", ""}} {
		_, text, h := s.sendRequest("GET", "/metrics", "Accept-Encoding", tc.accepts)
		if got := h.Get("Content-Encoding"); got != tc.want || h.Get("Vary") != "Accept-Encoding" {
			t.Errorf("Accept-Encoding %q: headers %v, want the encoding %q", tc.accepts, h, tc.want)
		}
		if tc.want == "gzip" {
			unpacked, err := gzip.NewReader(strings.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			plain, err := io.ReadAll(unpacked)
			if err != nil {
				t.Fatal(err)
			}
			text = string(plain)
		}
		if text != "m 1\n" {
			t.Errorf("Accept-Encoding %q: the text is %q, want m 1", tc.accepts, text)
		}
	}
}

// TestDataIsLate checks /-/data and the API before and after the first run.
func TestDataIsLate(t *testing.T) {
	s := startServer(t, noon.Add(13*time.Hour), nil)
	// The run was due at ten, and had an hour.
	s.assertResponse(503, `"stream":"okta_users","late_since":"2026-03-01T11:00:00Z"`, "GET", "/-/data")
	s.assertResponse(200, `The data is late since 2026-03-01 11:00:00 UTC.`, "GET", "/")
	addSuccess(t, s.state)
	s.assertResponse(200, "fresh", "GET", "/-/data")
	s.assertResponse(200, `"overdue":false,"deadline":"2026-03-02T01:00:00Z"`, "GET", "/api/v1/status")
	_, body, _ := s.sendRequest("GET", "/api/v1/status")
	var status struct{ Streams []map[string]any }
	if err := json.Unmarshal([]byte(body), &status); err != nil {
		t.Fatal(err)
	}
	if len(status.Streams) != 3 || status.Streams[0]["freshness"] != "fresh" || status.Streams[1]["freshness"] != "off" {
		t.Errorf("status: %s", body)
	}
	on, off := status.Streams[0], status.Streams[2]
	if on["on"] != true || on["schedule"] != "@every 6h" || off["stream"] != "snyk_members" || off["on"] != false ||
		off["freshness"] != "off" || off["why"] != "COLLECTORS excludes it" {
		t.Errorf("status: %s", body)
	}
	s.assertResponse(200, `"streams":2`, "GET", "/-/data") // without the one that is off
	s.assertResponse(200, `"disabled_streams":[{"stream":"snyk_members","why":"COLLECTORS excludes it"}]`, "GET", "/api/v1/collectors")
	s.assertResponse(200, `"schedule":"@every 6h","zone":"UTC","interval_seconds":21600`, "GET", "/api/v1/collectors")
	s.assertResponse(200, `"missing":["TENABLE_KEY"]`, "GET", "/api/v1/collectors")
	s.assertResponse(200, `"upload_id":"id-1"`, "GET", "/api/v1/runs?stream=okta_users&limit=1")
	s.assertResponse(200, `"runs":[]`, "GET", "/api/v1/runs?stream=other")
	h := snapshot.Header{Collector: "okta", Stream: "okta_users", Tenancy: "umbrella", UploadID: "id-2", UploadTimestamp: noon}
	if err := s.state.Runs.Skip(t.Context(), state.RunStart{Header: h, Trigger: "test", Started: noon}, errors.New("x")); err != nil {
		t.Fatal(err)
	}
	for _, query := range []string{"?limit=1", "?stream=okta_users&limit=1"} { // the newer run of another tenancy is not listed
		s.assertResponse(200, `"upload_id":"id-1"`, "GET", "/api/v1/runs"+query)
	}
	s.assertResponse(400, `"error"`, "GET", "/api/v1/runs?limit=0")
	s.assertResponse(404, `"error"`, "GET", "/api/v1/nothing")
}

// TestChangesNeedTheToken checks that requests that change something need the token and are
// refused from other sites.
// TestDeliveriesInTheAPI shows what is queued and what was given up, of one tenancy.
func TestDeliveriesInTheAPI(t *testing.T) {
	s := startServer(t, noon, nil)
	s.assertResponse(200, `"queued":[]`, "GET", "/api/v1/deliveries")
	addSuccess(t, s.state)
	queue, err := s.state.Queue.List(t.Context())
	if err != nil || len(queue) != 1 {
		t.Fatalf("queue %+v, error %v", queue, err)
	}
	if err := s.state.Queue.ScheduleRetry(t.Context(), queue[0], errors.New("no permission"), state.Refused, noon); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{`"sink":"file"`, `"upload_id":"id-1"`, `"attempts":1`, `"class":"refused"`, `"error":"no permission"`} {
		s.assertResponse(200, text, "GET", "/api/v1/deliveries")
	}
	if _, _, err := s.state.Queue.DropFirst(t.Context(), "file", "okta_users", "acme", ""); err != nil {
		t.Fatal(err)
	}
	s.assertResponse(200, `"queued":[]`, "GET", "/api/v1/deliveries")
	s.assertResponse(200, `"outcome":"dropped"`, "GET", "/api/v1/deliveries")
}

func TestChangesNeedTheToken(t *testing.T) {
	s := startServer(t, noon, nil)
	for _, path := range []string{"/api/v1/collectors/okta/run", "/api/v1/streams/okta_users/run", "/api/v1/deliveries/retry", "/-/reload"} {
		s.assertResponse(401, "HTTP_TOKEN", "POST", path)
		s.assertResponse(401, "HTTP_TOKEN", "POST", path, "Authorization", "Bearer other")
		s.assertResponse(403, "another site", "POST", path, "Authorization", bearer, "Sec-Fetch-Site", "cross-site")
		s.assertResponse(403, "another site", "POST", path, "Authorization", bearer, "Origin", "https://evil.example")
		s.assertResponse(405, `"error"`, "GET", path, "Authorization", bearer)
	}
	if len(s.daemon.ran) > 0 || s.daemon.retried {
		t.Fatal("a refused request was executed")
	}
	s.assertResponse(202, "started", "POST", "/api/v1/collectors/okta/run", "Authorization", bearer)
	s.assertResponse(202, `"streams":["okta_users"]`, "POST", "/api/v1/collectors/okta/run", "X-Collectord-Token", "secret-token")
	s.assertResponse(202, `"stream":"okta_users"`, "POST", "/api/v1/streams/okta_users/run", "Authorization", bearer)
	s.assertResponse(202, "due", "POST", "/api/v1/deliveries/retry", "Authorization", bearer)
	s.assertResponse(200, "reloaded", "POST", "/-/reload", "Authorization", bearer)
	for err, status := range map[error]int{schedule.ErrUnknown: 404, schedule.ErrRunning: 409, schedule.ErrStopping: 503} {
		s.daemon.run = err
		s.assertResponse(status, err.Error(), "POST", "/api/v1/collectors/okta/run", "Authorization", bearer)
		s.assertResponse(status, err.Error(), "POST", "/api/v1/streams/okta_users/run", "Authorization", bearer)
	}
	s.daemon.reload = errors.New("SCHEDULE: wrong")
	s.assertResponse(422, "SCHEDULE: wrong", "POST", "/-/reload", "Authorization", bearer)
	s.daemon.reload = schedule.ErrStopping
	s.assertResponse(503, "shutting down", "POST", "/-/reload", "Authorization", bearer)
}

func TestWithoutTokenNothingCanBeChanged(t *testing.T) {
	s := startServer(t, noon, func(o *web.Options) { o.Token, o.Pprof = "", true })
	s.assertResponse(403, "HTTP_TOKEN is not set", "POST", "/api/v1/collectors/okta/run", "Authorization", "Bearer ")
	s.assertResponse(200, "goroutine", "GET", "/debug/pprof/")
}

func TestBasicAuth(t *testing.T) {
	file := filepath.Join(t.TempDir(), "web.yml")
	// bcrypt of "test", cost 4
	const users = "basic_auth_users:\n  alice: $2b$12$hNf2lSsxfm0.i4a.1kVpSOVyBCfIB51VRjgBUyv6kdnyTlgWj81Ay\n"
	if err := os.WriteFile(file, []byte(users), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := web.Check(file); err != nil {
		t.Fatal(err)
	}
	s := startServer(t, noon, func(o *web.Options) { o.ConfigFile = file })
	s.assertResponse(401, "", "GET", "/metrics")
	if err := web.Check(filepath.Join(t.TempDir(), "missing")); err == nil || !strings.Contains(err.Error(), "HTTP_WEB_CONFIG_FILE") {
		t.Errorf("Check: %v", err)
	}
}
