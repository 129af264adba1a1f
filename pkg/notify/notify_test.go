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
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/local"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) { http.DefaultClient.CloseIdleConnections() }),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const secretPath = "/services/T0000/B0000/abcdefghijkl"

// service is an HTTP server that accepts notifications.
type service struct {
	*httptest.Server
	bodies chan string
	status func() int
	// longest is the length of the longest body that is accepted; 0 accepts any.
	longest int
}

func startService(t *testing.T) *service {
	t.Helper()
	s := &service{bodies: make(chan string, 100), status: func() int { return 200 }}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method != "POST" || r.URL.Path != secretPath {
			t.Errorf("%s %s %v", r.Method, r.URL, err)
		}
		status := s.status()
		if s.longest > 0 && len(body) > s.longest {
			status = http.StatusBadRequest
		}
		s.bodies <- string(body)
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	return s
}

// nextBody waits for the next notification and returns it.
func (s *service) nextBody(t *testing.T) string {
	t.Helper()
	select {
	case body := <-s.bodies:
		return body
	case <-time.After(10 * time.Second):
		t.Fatal("no notification was sent")
		return ""
	}
}

func (s *service) assertNoNotification(t *testing.T) {
	t.Helper()
	select {
	case body := <-s.bodies:
		t.Errorf("an unexpected notification was sent: %s", body)
	default:
	}
}

// workspace is a state directory and the log of the programs that use it.
type workspace struct {
	*testing.T
	dir string
	log bytes.Buffer
	now time.Time // the time of the reports
	// page is the address of the status page.
	page string
}

// newWorkspace returns a workspace whose reports are three hours after noon.
func newWorkspace(t *testing.T) *workspace {
	return &workspace{T: t, dir: t.TempDir(), now: noon.Add(3 * time.Hour)}
}

func (w *workspace) openState() *state.State {
	w.Helper()
	st, err := local.Open(w.Context(), w.dir, local.Options{Now: func() time.Time { return noon }})
	if err != nil {
		w.Fatal(err)
	}
	return st
}

// report opens the state, as a program of its own, reports the results to the
// targets, and closes the state.
func (w *workspace) report(slack, urls string, results ...run.Result) {
	w.Helper()
	st := w.openState()
	encoder := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
	n := notify.New(notify.Options{
		State: st, Tenancy: "acme", Host: "host-1",
		Log:    zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(&w.log)), zap.DebugLevel)),
		Waits:  []time.Duration{0, time.Millisecond, time.Millisecond},
		Now:    func() time.Time { return w.now },
		Redact: func(text string) string { return strings.ReplaceAll(text, "vendor-secret", "[redacted]") },
	}, notify.Settings{Targets: parseTargets(w.T, slack, urls), Page: w.page})
	n.RunFinished(results)
	n.Close(time.Minute)
	if err := st.Close(); err != nil {
		w.Fatal(err)
	}
}

// collectUsers commits a snapshot of okta_users that was taken at noon.
func (w *workspace) collectUsers() {
	w.Helper()
	st := w.openState()
	h := snapshot.Header{Collector: "okta", Stream: "okta_users", Tenancy: "acme", UploadID: "id-1", UploadTimestamp: noon}
	id, err := st.Runs.Begin(w.Context(), state.RunStart{Header: h, Trigger: "test", Started: noon})
	if err != nil {
		w.Fatal(err)
	}
	writer, err := st.Snapshots.Spool(h)
	if err != nil {
		w.Fatal(err)
	}
	batch := writer.NewBatch()
	if err := errors.Join(batch.Append([]byte(`{"id":1}`)), batch.Commit()); err != nil {
		w.Fatal(err)
	}
	if _, err := st.Runs.Commit(w.Context(), id, writer, state.RunStats{Records: 1}, state.Policy{}); err != nil {
		w.Fatal(err)
	}
	if err := st.Close(); err != nil {
		w.Fatal(err)
	}
}

func parseTargets(t *testing.T, slack, urls string) []*notify.Target {
	t.Helper()
	targets, err := notify.Parse(slack, urls)
	if err != nil {
		t.Fatal(err)
	}
	return targets
}

// newNotifier returns a notifier with the default waits and without a log.
func newNotifier(st *state.State, targets []*notify.Target) *notify.Notifier {
	return notify.New(notify.Options{
		State: st, Tenancy: "acme", Redact: func(s string) string { return s }, Log: zap.NewNop(),
	}, notify.Settings{Targets: targets})
}

func failure(stream, text string) run.Result {
	return run.Result{Collector: "okta", Stream: stream, Outcome: state.Failed, Err: errors.New(text)}
}

func success(stream string) run.Result {
	return run.Result{Collector: "okta", Stream: stream, Outcome: state.Success, Records: 1234}
}

// TestFailureAndRecoveryAreReportedOnce, by programs that follow each other.
func TestFailureAndRecoveryAreReportedOnce(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	s := startService(t)
	slack := s.URL + secretPath
	w.collectUsers()
	w.report(slack, "", success("okta_users"))
	s.assertNoNotification(t)
	w.report(slack, "", failure("okta_users", "GET /users: 500 <vendor-secret>: ask Okta"), failure("okta_groups", "no response"))
	var message struct{ Text string }
	if err := json.Unmarshal([]byte(s.nextBody(t)), &message); err != nil {
		t.Fatal(err)
	}
	want := "collectord on host-1, tenancy acme\n\n" +
		"okta_groups failed: no response\nThere are no earlier data.\n\n" +
		"okta_users failed: GET /users: 500 &lt;[redacted]&gt;: ask Okta\nThe last good data stay: 2026-03-01 12:00 UTC, 3 hours ago."
	if message.Text != want {
		t.Errorf("%q, want %q", message.Text, want)
	}
	w.report(slack, "", failure("okta_users", "another error"), failure("okta_groups", "no response"))
	cancelled := run.Result{Collector: "okta", Stream: "okta_users", Outcome: state.Cancelled, Err: context.Canceled}
	skipped := run.Result{Collector: "okta", Stream: "okta_groups", Outcome: state.Skipped, Err: state.ErrLocked}
	w.report(slack, "", cancelled, skipped)
	s.assertNoNotification(t)
	w.report(slack, "", success("okta_users"))
	body := s.nextBody(t)
	recovery := "okta_users works again: 1,234 records. It had failed since 2026-03-01 15:00 UTC, now."
	if !strings.Contains(body, recovery) || strings.Contains(body, "okta_groups") {
		t.Errorf("recovery: %s", body)
	}
	w.report(slack, "", success("okta_users"))
	s.assertNoNotification(t)
	w.report(slack, "", failure("okta_users", "again"))
	if body := s.nextBody(t); !strings.Contains(body, "okta_users failed: again") {
		t.Errorf("a second failure: %s", body)
	}
	if w.log.Len() > 0 {
		t.Errorf("the log: %s", w.log.String())
	}
}

// TestSkippedSnapshotsAreReportedOnce for each destination, and again after it has recovered.
func TestSkippedSnapshotsAreReportedOnce(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	s := startService(t)
	skipping := func(sinks ...string) run.Result {
		r := success("okta_users")
		r.Skipped = sinks
		return r
	}
	for _, step := range []struct {
		result run.Result
		want   string // "" for no message
	}{
		{result: skipping("postgres"), want: "snapshots of it are not delivered to postgres: the queue is larger than STORE_SPOOL_MAX"},
		{result: skipping("postgres")},
		{result: skipping("postgres", "s3"), want: "not delivered to s3: "},
		{result: success("okta_users")},
		{result: skipping("postgres"), want: "not delivered to postgres: "},
	} {
		w.report(s.URL+secretPath, "", step.result)
		if step.want == "" {
			s.assertNoNotification(t)
			continue
		}
		if body := s.nextBody(t); !strings.Contains(body, step.want) {
			t.Errorf("no %q in %s", step.want, body)
		}
	}
}

// TestMessageSaysWhatToDo if the error alone does not.
func TestMessageSaysWhatToDo(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	s := startService(t)
	held := run.Result{Collector: "okta", Stream: "okta_users", Outcome: state.Held, Records: 3, LastRecords: 4000}
	refused := run.Result{Collector: "okta", Stream: "okta_groups", Outcome: state.Failed, Err: fmt.Errorf("401: %w", collector.ErrRefused)}
	long := failure("okta_logs", strings.Repeat("é", 5000))
	w.report("", "generic+"+s.URL+secretPath+"?template=json,  generic+"+s.URL+secretPath, held, refused, long)
	for range 2 {
		body := s.nextBody(t)
		for _, part := range []string{"collectord accept okta_users", "3 records after 4,000", "Renew the credentials", "ééé ..."} {
			if !strings.Contains(body, part) {
				t.Errorf("no %q in %s", part, body)
			}
		}
		if len(body) > 4000 {
			t.Errorf("%d bytes", len(body))
		}
	}
	s.assertNoNotification(t)
}

// TestFailingTargetsAreIsolated: each is retried and logged without its URL, and
// the other targets receive the message.
func TestFailingTargetsAreIsolated(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	good, bad := startService(t), startService(t)
	bad.status = func() int { return 500 }
	closed := httptest.NewServer(nil)
	closed.Close()
	w.report(good.URL+secretPath, "generic+"+bad.URL+secretPath+"\ngeneric+"+closed.URL+secretPath, failure("okta_users", "broken"))
	good.nextBody(t)
	good.assertNoNotification(t)
	if n := len(bad.bodies); n != 3 {
		t.Errorf("there were %d attempts to send to the failing target", n)
	}
	log := w.log.String()
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

// TestUnsentMessageIsSentLater, by the next program, with the time of the failure.
func TestUnsentMessageIsSentLater(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	s := startService(t)
	s.status = func() int { return 503 }
	w.report(s.URL+secretPath, "", failure("okta_users", "first"))
	for range 3 {
		s.nextBody(t)
	}
	s.status = func() int { return 200 }
	w.now = w.now.Add(time.Hour)
	w.report(s.URL+secretPath, "", failure("okta_users", "second"))
	text := s.nextText(t)
	if !strings.HasPrefix(text, "Delayed, this is of 2026-03-01 15:00 UTC, 1 hour ago:\n") || !strings.Contains(text, "okta_users failed: first") {
		t.Error(text)
	}
	s.assertNoNotification(t)
}

// TestLongMessageIsCut: services refuse long texts, of an outage with many streams.
func TestLongMessageIsCut(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	w.page = "https://collectord.example.com/"
	s := startService(t)
	s.longest = 4096
	w.report("", "generic+"+s.URL+secretPath, manyFailures()...)
	text := s.nextBody(t)
	for _, part := range []string{"stream_01 failed", "`collectord status` shows the rest", "\n\nStatus page: https://collectord.example.com/"} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in %s", part, text)
		}
	}
	if strings.Contains(text, "stream_30") {
		t.Error("the message was not cut: ", text)
	}
	s.assertNoNotification(t)
}

// TestRefusedLongMessageIsSentShorter, so that it does not keep back those that follow.
func TestRefusedLongMessageIsSentShorter(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	s := startService(t)
	s.longest = 1000
	w.report("", "generic+"+s.URL+secretPath, manyFailures()...)
	var texts []string
	for range 3 {
		w.now = w.now.Add(time.Hour)
		w.report("", "generic+"+s.URL+secretPath, success("stream_01"))
	}
	for len(s.bodies) > 0 {
		if text := <-s.bodies; len(text) <= s.longest {
			texts = append(texts, text)
		}
	}
	if len(texts) != 2 || !strings.Contains(texts[0], "stream_01 failed") || !strings.Contains(texts[1], "stream_01 works again") {
		t.Errorf("%d messages were accepted, want the failures and the recovery: %q", len(texts), texts)
	}
}

// manyFailures returns the failures of thirty streams, with long errors.
func manyFailures() (results []run.Result) {
	for i := range 30 {
		results = append(results, failure(fmt.Sprintf("stream_%02d", i+1), strings.Repeat("unreachable ", 25)))
	}
	return results
}

// TestHangingTargetDelaysNothing: neither the caller of RunFinished nor Close.
func TestHangingTargetDelaysNothing(t *testing.T) {
	t.Parallel()
	requested, release := make(chan bool, 10), make(chan bool)
	hanging := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		requested <- true
		<-release
	}))
	defer hanging.Close()
	defer close(release)
	st, err := local.Open(t.Context(), filepath.Join(t.TempDir(), "state"), local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	n := newNotifier(st, parseTargets(t, hanging.URL, ""))
	ctx, stop := context.WithCancel(t.Context())
	stopped := make(chan bool)
	go func() {
		n.Run(ctx)
		close(stopped)
	}()
	n.RunFinished([]run.Result{failure("okta_users", "x")})
	<-requested
	for range 1000 {
		n.RunFinished([]run.Result{failure("okta_users", "x")})
	}
	stop()
	<-stopped
	n.Close(10 * time.Millisecond)
	n.RunFinished([]run.Result{failure("okta_groups", "x")}) // after Close
	if len(requested) > 0 {
		t.Error("there was another request while the first one hangs")
	}
}

// TestInvalidTargetsAreRefused: the error names the variable and contains no URL.
func TestInvalidTargetsAreRefused(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		slack    string
		urls     string
		contains string
	}{
		{slack: "hooks.slack.com/secretpart", contains: "SLACK_WEBHOOK"},
		{slack: "ftp://secretpart/x", contains: "SLACK_WEBHOOK"},
		{slack: "https://\x7fsecretpart", contains: "SLACK_WEBHOOK"},
		{urls: "generic+https://example.com/x secretpart", contains: "NOTIFY_URLS, URL 2"},
		{urls: "carrier-pigeon://secretpart", contains: `no notification service is called "carrier-pigeon"`},
		{urls: "telegram://secretpart@telegram", contains: `does not fit the service "telegram"`},
		{urls: "discord+https://secretpart", contains: "NOTIFY_URLS, URL 1"},
		{urls: "generic://secretpart:x%zz", contains: "NOTIFY_URLS, URL 1"},
	} {
		_, err := notify.Parse(test.slack, test.urls)
		if err == nil || !strings.Contains(err.Error(), test.contains) || strings.Contains(err.Error(), "secretpart") {
			t.Errorf("%+v: %v", test, err)
		}
	}
}

// TestTargetsAreSeparated by commas and whitespace; a URL may contain commas.
func TestTargetsAreSeparated(t *testing.T) {
	t.Parallel()
	targets, err := notify.Parse(" https://hooks.slack.com/services/a/b/c ",
		"smtp://u:p@mail.example.com:25/?from=a@b.example&to=c@d.example,e@f.example, ntfy://ntfy.sh/topic\ngeneric://example.com")
	if err != nil || len(targets) != 4 {
		t.Errorf("%v %v", targets, err)
	}
}
