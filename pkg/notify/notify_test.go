package notify_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/notify"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) { http.DefaultClient.CloseIdleConnections() }),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const secretPath = "/services/T0000/B0000/abcdefghijkl"

// channel is a real HTTP server that takes notifications.
type channel struct {
	*httptest.Server
	bodies chan string
	status func() int
}

func newChannel(t *testing.T) *channel {
	t.Helper()
	c := &channel{bodies: make(chan string, 100), status: func() int { return 200 }}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method != "POST" || r.URL.Path != secretPath {
			t.Errorf("%s %s %v", r.Method, r.URL, err)
		}
		status := c.status()
		c.bodies <- string(body)
		w.WriteHeader(status)
	}))
	t.Cleanup(c.Close)
	return c
}

// next is the next notification.
func (c *channel) next(t *testing.T) string {
	t.Helper()
	select {
	case body := <-c.bodies:
		return body
	case <-time.After(10 * time.Second):
		t.Fatal("nothing was told")
		return ""
	}
}

func (c *channel) none(t *testing.T) {
	t.Helper()
	select {
	case body := <-c.bodies:
		t.Errorf("told without need: %s", body)
	default:
	}
}

type place struct {
	*testing.T
	dir string
	log bytes.Buffer
}

// tell starts a program of its own on the place's state, has it told of the
// results, one call each, and ends it.
func (p *place) tell(slack, urls string, results ...schedule.Result) {
	p.Helper()
	st, err := state.Open(p.Context(), p.dir, state.Options{Now: func() time.Time { return noon }})
	if err != nil {
		p.Fatal(err)
	}
	targets, err := notify.Parse(slack, urls)
	if err != nil {
		p.Fatal(err)
	}
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.Lock(zapcore.AddSync(&p.log)), zap.DebugLevel))
	n := notify.New(notify.Options{
		State: st, Tenancy: "acme", Host: "host-1", Log: log, Waits: []time.Duration{0, time.Millisecond, time.Millisecond}, Now: func() time.Time { return noon.Add(3 * time.Hour) },
		Redact: func(text string) string { return strings.ReplaceAll(text, "vendor-secret", "[redacted]") },
	}, targets)
	n.Concluded(results)
	n.Close(time.Minute)
	if err := st.Close(); err != nil {
		p.Fatal(err)
	}
}

// collect makes data of noon.
func (p *place) collect() {
	p.Helper()
	st, err := state.Open(p.Context(), p.dir, state.Options{Now: func() time.Time { return noon }})
	if err != nil {
		p.Fatal(err)
	}
	h := snapshot.Header{Collector: "okta", Stream: "okta_users", Tenancy: "acme", UploadID: "id-1", UploadTimestamp: noon}
	id, err := st.Begin(p.Context(), state.Start{Header: h, Trigger: "test", Started: noon})
	if err != nil {
		p.Fatal(err)
	}
	w, err := st.Spool(p.Context(), h, 1<<30)
	if err != nil {
		p.Fatal(err)
	}
	page := w.Page()
	if err := errors.Join(page.Append([]byte(`{"id":1}`)), page.Commit()); err != nil {
		p.Fatal(err)
	}
	if _, err := st.Commit(p.Context(), id, w, state.Figures{Records: 1}, state.Policy{}); err != nil {
		p.Fatal(err)
	}
	if err := st.Close(); err != nil {
		p.Fatal(err)
	}
}

func failure(stream, why string) schedule.Result {
	return schedule.Result{Collector: "okta", Stream: stream, Outcome: state.Failed, Err: errors.New(why)}
}

func success(stream string) schedule.Result {
	return schedule.Result{Collector: "okta", Stream: stream, Outcome: state.Success, Records: 1234}
}

// TestFailureAndRecoveryAreToldOnce, by programs that follow each other.
func TestFailureAndRecoveryAreToldOnce(t *testing.T) {
	t.Parallel()
	p := &place{T: t, dir: t.TempDir()}
	c := newChannel(t)
	slack := c.URL + secretPath
	p.collect()
	p.tell(slack, "", success("okta_users"))
	c.none(t)
	p.tell(slack, "", failure("okta_users", "GET /users: 500 <vendor-secret>: ask Okta"), failure("okta_groups", "no answer"))
	var message struct{ Text string }
	if err := json.Unmarshal([]byte(c.next(t)), &message); err != nil {
		t.Fatal(err)
	}
	want := "collectord on host-1, tenancy acme\n\n" +
		"okta_groups failed: no answer\nThere are no earlier data.\n\n" +
		"okta_users failed: GET /users: 500 &lt;[redacted]&gt;: ask Okta\nThe last good data stay: 2026-03-01 12:00 UTC, 3 hours ago."
	if message.Text != want {
		t.Errorf("%q, want %q", message.Text, want)
	}
	p.tell(slack, "", failure("okta_users", "another error"), failure("okta_groups", "no answer"))
	cancelled := schedule.Result{Collector: "okta", Stream: "okta_users", Outcome: state.Cancelled, Err: context.Canceled}
	skipped := schedule.Result{Collector: "okta", Stream: "okta_groups", Outcome: state.Skipped, Err: state.ErrLocked}
	p.tell(slack, "", cancelled, skipped)
	c.none(t)
	p.tell(slack, "", success("okta_users"))
	if body := c.next(t); !strings.Contains(body, "okta_users works again: 1,234 records. Its failure was told 2026-03-01 15:00 UTC, now.") || strings.Contains(body, "okta_groups") {
		t.Errorf("recovery: %s", body)
	}
	p.tell(slack, "", success("okta_users"))
	c.none(t)
	p.tell(slack, "", failure("okta_users", "again"))
	if body := c.next(t); !strings.Contains(body, "okta_users failed: again") {
		t.Errorf("a second failure: %s", body)
	}
	if p.log.Len() > 0 {
		t.Errorf("the log: %s", p.log.String())
	}
}

// TestWhatToDoIsSaid where the error alone does not.
func TestWhatToDoIsSaid(t *testing.T) {
	t.Parallel()
	p := &place{T: t, dir: t.TempDir()}
	c := newChannel(t)
	held := schedule.Result{Collector: "okta", Stream: "okta_users", Outcome: state.Held, Records: 3, LastRecords: 4000}
	refused := schedule.Result{Collector: "okta", Stream: "okta_groups", Outcome: state.Failed, Err: fmt.Errorf("401: %w", collector.ErrRefused)}
	long := failure("okta_logs", strings.Repeat("é", 5000))
	p.tell("", "generic+"+c.URL+secretPath+"?template=json,  generic+"+c.URL+secretPath, held, refused, long)
	for range 2 {
		body := c.next(t)
		for _, part := range []string{"collectord accept okta_users", "3 records after 4,000", "Renew the credentials", "ééé ..."} {
			if !strings.Contains(body, part) {
				t.Errorf("no %q in %s", part, body)
			}
		}
		if len(body) > 4000 {
			t.Errorf("%d bytes", len(body))
		}
	}
	c.none(t)
}

// TestADeadTargetStopsNobody: it is tried again, logged without its URL, and
// the others are told.
func TestADeadTargetStopsNobody(t *testing.T) {
	t.Parallel()
	p := &place{T: t, dir: t.TempDir()}
	good, bad := newChannel(t), newChannel(t)
	bad.status = func() int { return 500 }
	gone := httptest.NewServer(nil)
	gone.Close()
	p.tell(good.URL+secretPath, "generic+"+bad.URL+secretPath+"\ngeneric+"+gone.URL+secretPath, failure("okta_users", "broken"))
	good.next(t)
	good.none(t)
	if n := len(bad.bodies); n != 3 {
		t.Errorf("the failing target was tried %d times", n)
	}
	log := p.log.String()
	for _, part := range []string{"NOTIFY_URLS, URL 1 (generic+http)", "500 Internal", "NOTIFY_URLS, URL 2 (generic+http)", "connection refused"} {
		if !strings.Contains(log, part) {
			t.Errorf("no %q in %s", part, log)
		}
	}
	for _, secret := range []string{"T0000", "abcdefghijkl", "http://"} {
		if strings.Contains(log, secret) {
			t.Errorf("%q is in the log: %s", secret, log)
		}
	}
}

// TestWhatNobodyTookIsToldLater, by the next run.
func TestWhatNobodyTookIsToldLater(t *testing.T) {
	t.Parallel()
	p := &place{T: t, dir: t.TempDir()}
	c := newChannel(t)
	st, err := state.Open(t.Context(), p.dir, state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	targets, err := notify.Parse(c.URL+secretPath, "")
	if err != nil {
		t.Fatal(err)
	}
	c.status = func() int { return 503 }
	n := notify.New(notify.Options{State: st, Tenancy: "acme", Redact: func(s string) string { return s }, Log: zap.NewNop()}, targets)
	n.Concluded([]schedule.Result{failure("okta_users", "first")})
	c.next(t)
	n.Close(0)
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	c.status = func() int { return 200 }
	p.tell(c.URL+secretPath, "", failure("okta_users", "second"))
	if body := c.next(t); !strings.Contains(body, "second") {
		t.Error(body)
	}
}

// TestAHangingTargetDelaysNothing: neither who reports nor the end.
func TestAHangingTargetDelaysNothing(t *testing.T) {
	t.Parallel()
	asked, release := make(chan bool, 10), make(chan bool)
	hanging := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- true
		<-release
	}))
	defer hanging.Close()
	defer close(release)
	st, err := state.Open(t.Context(), filepath.Join(t.TempDir(), "state"), state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	targets, err := notify.Parse(hanging.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	n := notify.New(notify.Options{State: st, Tenancy: "acme", Redact: func(s string) string { return s }, Log: zap.NewNop()}, targets)
	began := time.Now()
	n.Concluded([]schedule.Result{failure("okta_users", "x")})
	<-asked
	for range 1000 {
		n.Concluded([]schedule.Result{failure("okta_users", "x")})
	}
	n.Close(10 * time.Millisecond)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	n.Concluded([]schedule.Result{failure("okta_groups", "x")}) // is too late
	if len(asked) > 0 {
		t.Error("asked again while it hangs")
	}
}

// TestBadTargetsAreRefused by the variable's name, and show no URL.
func TestBadTargetsAreRefused(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ slack, urls, says string }{
		{"hooks.slack.com/secretpart", "", "SLACK_WEBHOOK"},
		{"ftp://secretpart/x", "", "SLACK_WEBHOOK"},
		{"https://\x7fsecretpart", "", "SLACK_WEBHOOK"},
		{"", "generic+https://example.com/x secretpart", "NOTIFY_URLS, URL 2"},
		{"", "carrier-pigeon://secretpart", `no notification service is called "carrier-pigeon"`},
		{"", "telegram://secretpart@telegram", `does not fit the service "telegram"`},
		{"", "discord+https://secretpart", `NOTIFY_URLS, URL 1`},
		{"", "generic://secretpart:x%zz", "NOTIFY_URLS, URL 1"},
	} {
		_, err := notify.Parse(tc.slack, tc.urls)
		if err == nil || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "secretpart") {
			t.Errorf("%+v: %v", tc, err)
		}
	}
	targets, err := notify.Parse(" https://hooks.slack.com/services/a/b/c ", "smtp://u:p@mail.example.com:25/?from=a@b.example&to=c@d.example,e@f.example, ntfy://ntfy.sh/topic\ngeneric://example.com")
	if err != nil || len(targets) != 4 {
		t.Errorf("%v %v", targets, err)
	}
}
