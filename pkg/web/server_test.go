package web_test

import (
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

	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/web"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// steered is a daemon whose answers a test sets.
type steered struct {
	alive, ready, reload, run error
	ran                       []string
	retried                   bool
}

func (d *steered) Standings() []schedule.Standing {
	return []schedule.Standing{
		{Collector: "okta", Streams: []string{"okta_users"}, Schedule: "@every 6h", Zone: "UTC", Interval: 6 * time.Hour},
		{Collector: "snyk", Streams: []string{"snyk_issues"}, Schedule: "off", Zone: "UTC"},
	}
}
func (d *steered) Off() []web.Off {
	return []web.Off{{Collector: "tenable", Missing: []string{"TENABLE_KEY"}}}
}
func (d *steered) Running() []*schedule.Live             { return nil }
func (d *steered) Alive() error                          { return d.alive }
func (d *steered) Ready() error                          { return d.ready }
func (d *steered) RunNow(name string) error              { d.ran = append(d.ran, name); return d.run }
func (d *steered) DeliverNow(context.Context) error      { d.retried = true; return nil }
func (d *steered) Reload(context.Context) error          { return d.reload }
func (d *steered) LastReload() (at time.Time, err error) { return noon, d.reload }

// collected notes a run of okta_users with one record that ended at noon.
func collected(t *testing.T, s *state.State) {
	t.Helper()
	h := snapshot.Header{Collector: "okta", Stream: "okta_users", Tenancy: "acme", UploadID: "id-1", UploadTimestamp: noon}
	id, err := s.Begin(t.Context(), state.Start{Header: h, Trigger: "test", Started: noon})
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.Spool(t.Context(), h, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	p := w.Page()
	if err := errors.Join(p.Append([]byte(`{"id":1}`)), p.Commit()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(t.Context(), id, w, state.Figures{Records: 1}, state.Policy{Sinks: []string{"file"}}); err != nil {
		t.Fatal(err)
	}
}

type server struct {
	*testing.T
	daemon *steered
	state  *state.State
	url    string
}

// serve starts a real server at the given time.
func serve(t *testing.T, now time.Time, change func(*web.Options)) *server {
	t.Helper()
	st, err := state.Open(t.Context(), t.TempDir(), state.Options{Now: func() time.Time { return noon }})
	if err != nil {
		t.Fatal(err)
	}
	d := &steered{}
	o := web.Options{
		State: st, Daemon: d, Tenancy: "acme", Token: "secret-token", Now: func() time.Time { return now },
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
	return &server{t, d, st, "http://" + l.Addr().String()}
}

// ask makes a request and returns the status, the body and the headers.
func (s *server) ask(method, path string, headers ...string) (int, string, http.Header) {
	s.Helper()
	r, err := http.NewRequestWithContext(s.Context(), method, s.url+path, nil)
	if err != nil {
		s.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	defer a.Body.Close()
	body, err := io.ReadAll(a.Body)
	if err != nil {
		s.Fatal(err)
	}
	return a.StatusCode, string(body), a.Header
}

func (s *server) want(status int, part, method, path string, headers ...string) {
	s.Helper()
	got, body, _ := s.ask(method, path, headers...)
	if got != status || !strings.Contains(body, part) {
		s.Errorf("%s %s answers %d %s, want %d with %q", method, path, got, body, status, part)
	}
}

const bearer = "Bearer secret-token"

func TestHealth(t *testing.T) {
	s := serve(t, noon, nil)
	for _, path := range []string{"/-/healthy", "/healthz", "/livez", "/-/ready", "/readyz"} {
		s.want(200, `"status"`, "GET", path)
	}
	s.want(405, `"error"`, "POST", "/healthz")
	s.daemon.ready = errors.New("restoring")
	s.want(503, "restoring", "GET", "/readyz")
	s.want(200, "alive", "GET", "/livez")
	s.daemon.alive = errors.New("the loop stands")
	s.want(503, "the loop stands", "GET", "/-/healthy")
	s.want(200, "m 1", "GET", "/metrics")
	s.want(404, "", "GET", "/debug/pprof/")
	_, _, h := s.ask("GET", "/metrics")
	if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Frame-Options") != "DENY" {
		t.Errorf("headers: %v", h)
	}
}

func TestDataIsLate(t *testing.T) {
	s := serve(t, noon.Add(13*time.Hour), nil)
	s.want(503, "okta_users", "GET", "/-/data")
	collected(t, s.state)
	s.want(200, "fresh", "GET", "/-/data")
	_, body, _ := s.ask("GET", "/api/v1/status")
	var status struct{ Streams []map[string]any }
	if err := json.Unmarshal([]byte(body), &status); err != nil {
		t.Fatal(err)
	}
	if len(status.Streams) != 2 || status.Streams[0]["freshness"] != "fresh" || status.Streams[1]["freshness"] != "off" {
		t.Errorf("status: %s", body)
	}
	s.want(200, `"missing":["TENABLE_KEY"]`, "GET", "/api/v1/collectors")
	s.want(200, `"upload_id":"id-1"`, "GET", "/api/v1/runs?stream=okta_users&limit=1")
	s.want(200, `"runs":[]`, "GET", "/api/v1/runs?stream=other")
	h := snapshot.Header{Collector: "okta", Stream: "okta_users", Tenancy: "umbrella", UploadID: "id-2", UploadTimestamp: noon}
	if err := s.state.Skip(t.Context(), state.Start{Header: h, Trigger: "test", Started: noon}, errors.New("x")); err != nil {
		t.Fatal(err)
	}
	for _, choice := range []string{"?limit=1", "?stream=okta_users&limit=1"} { // another tenancy's newer run counts for nothing
		s.want(200, `"upload_id":"id-1"`, "GET", "/api/v1/runs"+choice)
	}
	s.want(400, `"error"`, "GET", "/api/v1/runs?limit=0")
	s.want(404, `"error"`, "GET", "/api/v1/nothing")
}

func TestWhatChangesNeedsTheToken(t *testing.T) {
	s := serve(t, noon, nil)
	for _, path := range []string{"/api/v1/collectors/okta/run", "/api/v1/deliveries/retry", "/-/reload"} {
		s.want(401, "HTTP_TOKEN", "POST", path)
		s.want(401, "HTTP_TOKEN", "POST", path, "Authorization", "Bearer other")
		s.want(403, "another site", "POST", path, "Authorization", bearer, "Sec-Fetch-Site", "cross-site")
		s.want(403, "another site", "POST", path, "Authorization", bearer, "Origin", "https://evil.example")
		s.want(405, `"error"`, "GET", path, "Authorization", bearer)
	}
	if len(s.daemon.ran) > 0 || s.daemon.retried {
		t.Fatal("what was refused was done")
	}
	s.want(202, "started", "POST", "/api/v1/collectors/okta/run", "Authorization", bearer)
	s.want(202, "started", "POST", "/api/v1/collectors/okta/run", "X-Collectord-Token", "secret-token")
	s.want(202, "due", "POST", "/api/v1/deliveries/retry", "Authorization", bearer)
	s.want(200, "reloaded", "POST", "/-/reload", "Authorization", bearer)
	for err, status := range map[error]int{web.ErrUnknown: 404, web.ErrRunning: 409, web.ErrStopping: 503} {
		s.daemon.run = err
		s.want(status, err.Error(), "POST", "/api/v1/collectors/okta/run", "Authorization", bearer)
	}
	s.daemon.reload = errors.New("SCHEDULE: wrong")
	s.want(422, "SCHEDULE: wrong", "POST", "/-/reload", "Authorization", bearer)
}

func TestWithoutTokenNothingCanBeChanged(t *testing.T) {
	s := serve(t, noon, func(o *web.Options) { o.Token, o.Pprof = "", true })
	s.want(403, "HTTP_TOKEN is not set", "POST", "/api/v1/collectors/okta/run", "Authorization", "Bearer ")
	s.want(200, "goroutine", "GET", "/debug/pprof/")
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
	s := serve(t, noon, func(o *web.Options) { o.ConfigFile = file })
	s.want(401, "", "GET", "/metrics")
	if err := web.Check(filepath.Join(t.TempDir(), "missing")); err == nil || !strings.Contains(err.Error(), "HTTP_WEB_CONFIG_FILE") {
		t.Errorf("Check: %v", err)
	}
}

func TestFreshness(t *testing.T) {
	standing := []schedule.Standing{{Collector: "okta", Streams: []string{"s"}, Interval: 24 * time.Hour}}
	off := []schedule.Standing{{Collector: "okta", Streams: []string{"s"}}}
	ago := func(d time.Duration) time.Time { return noon.Add(-d) }
	for name, tc := range map[string]struct {
		st       state.StreamStatus
		standing []schedule.Standing
		live     bool
		want     web.Freshness
		overdue  bool
	}{
		"never":    {state.StreamStatus{}, standing, false, web.Never, true},
		"off":      {state.StreamStatus{}, off, false, web.NoTicks, false},
		"fresh":    {state.StreamStatus{LastSuccess: ago(49 * time.Hour)}, standing, false, web.Fresh, false},
		"late":     {state.StreamStatus{LastSuccess: ago(49*time.Hour + 1)}, standing, false, web.Late, true},
		"running":  {state.StreamStatus{LastSuccess: ago(50 * time.Hour)}, standing, true, web.Running, true},
		"failing":  {state.StreamStatus{LastSuccess: ago(2), LastFailure: ago(1)}, standing, false, web.Failing, false},
		"again":    {state.StreamStatus{LastSuccess: ago(1), LastFailure: ago(2)}, standing, false, web.Fresh, false},
		"restored": {state.StreamStatus{Taken: ago(time.Hour), Source: state.Restored}, standing, false, web.Restored, false},
		"stale":    {state.StreamStatus{Taken: ago(99 * time.Hour), Source: state.Restored}, standing, false, web.Late, true},
	} {
		tc.st.Collector, tc.st.Stream, tc.st.Tenancy = "okta", "s", "acme"
		var live []*schedule.Live
		if tc.live {
			live = append(live, &schedule.Live{Collector: "okta", Stream: "s"})
		}
		other := tc.st
		other.Tenancy, other.LastSuccess = "other", noon
		got := web.StreamsOf([]state.StreamStatus{tc.st, other}, tc.standing, live, "acme", noon)
		if len(got) != 1 || got[0].Freshness != tc.want || got[0].Overdue != tc.overdue {
			t.Errorf("%s: %+v, want %s, overdue %v", name, got, tc.want, tc.overdue)
		}
	}
}
