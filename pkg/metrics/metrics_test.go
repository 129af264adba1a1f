package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"github.com/collectord/collectord/pkg/backup"
	"github.com/collectord/collectord/pkg/calendar"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/freshness"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/local"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// fakeDaemon is a Daemon with one collector, one running extraction and a settable error of
// the last reload.
type fakeDaemon struct {
	reload   error
	disabled []freshness.DisabledStream
	off      bool            // whether the collector is off
	stats    collector.Stats // of the running extraction
	totals   run.Totals
}

func (f *fakeDaemon) Statuses() []schedule.CollectorStatus {
	if f.off {
		return nil
	}
	var e calendar.Expression
	if err := e.UnmarshalText([]byte("@hourly")); err != nil {
		panic(err)
	}
	hourly := e.In(time.UTC)
	return []schedule.CollectorStatus{{
		Collector: "okta", Missed: 2, Streams: []schedule.StreamStatus{
			{Stream: "okta_groups", Interval: time.Hour, Calendar: hourly, FirstDue: noon, Next: noon.Add(time.Minute)},
			{Stream: "okta_users", Interval: time.Hour, Calendar: hourly, FirstDue: noon, Next: noon.Add(2 * time.Minute)},
		},
	}}
}
func (f *fakeDaemon) DisabledStreams() []freshness.DisabledStream { return f.disabled }
func (f *fakeDaemon) ActiveRuns() []*run.ActiveRun {
	return []*run.ActiveRun{{Collector: "okta", Stream: "okta_groups", Started: noon, Stats: &f.stats}}
}
func (f *fakeDaemon) RunTotals(_, stream string) run.Totals {
	if stream != "okta_groups" {
		return run.Totals{}
	}
	return f.totals
}
func (*fakeDaemon) MaxAge(string) time.Duration      { return 0 }
func (f *fakeDaemon) LastReload() (time.Time, error) { return noon, f.reload }

// fixture is a Metrics over a real state directory.
type fixture struct {
	*testing.T
	state   *state.State
	daemon  *fakeDaemon
	metrics *Metrics
	tenancy *Tenancy
	// closeState closes the state. It may be called repeatedly.
	closeState func()
}

// newFixture opens the state directory dir. The time of the metrics is 90 s after noon.
func newFixture(t *testing.T, dir string) *fixture {
	t.Helper()
	st, err := local.Open(t.Context(), dir, local.Options{Now: func() time.Time { return noon }})
	if err != nil {
		t.Fatal(err)
	}
	closeState := sync.OnceFunc(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(closeState)
	d := &fakeDaemon{}
	m := New(Options{
		State: st, Tenancy: "acme", Version: "v1", Ready: func() error { return nil },
		Now: func() time.Time { return noon.Add(90 * time.Second) },
	})
	tenancy := m.AddTenancy(TenancyOptions{Name: "acme", Daemon: d, Sinks: func() []string { return []string{"file", "s3"} }})
	return &fixture{t, st, d, m, tenancy, closeState}
}

// addSuccess records a run of okta_users with two doubts whose snapshot is queued for both
// destinations.
func (f *fixture) addSuccess() {
	f.Helper()
	began := noon.Add(-time.Minute)
	h := snapshot.Header{Collector: "okta", Stream: "okta_users", Tenancy: "acme", UploadID: "id-1", UploadTimestamp: began}
	id, err := f.state.Runs.Begin(f.Context(), state.RunStart{Header: h, Trigger: "test", Started: began})
	if err != nil {
		f.Fatal(err)
	}
	w, err := f.state.Snapshots.Spool(h)
	if err != nil {
		f.Fatal(err)
	}
	batch := w.NewBatch()
	if err := errors.Join(batch.Append([]byte(`{"id":1}`)), batch.Commit()); err != nil {
		f.Fatal(err)
	}
	stats := state.RunStats{Records: 1, Doubts: snapshot.Doubts{
		{Text: "received fewer users than declared", Count: 3}, {Text: "groups without members", Count: 4},
	}}
	if _, err := f.state.Runs.Commit(f.Context(), id, w, stats, state.Policy{Sinks: []string{"file", "s3"}}); err != nil {
		f.Fatal(err)
	}
}

// scrape returns the response of /metrics.
func (f *fixture) scrape() string {
	f.Helper()
	return scrape(f.T, f.metrics)
}

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil || w.Code != 200 {
		t.Fatalf("%d %v\n%s", w.Code, err, body)
	}
	return string(body)
}

// TestScrapeFormats checks the formats of a scrape, and the choice of metrics by name.
func TestScrapeFormats(t *testing.T) {
	f := newFixture(t, t.TempDir())
	for _, tc := range []struct{ name, path, accept, wantType, wantLast string }{
		{name: "text", path: "/metrics", wantType: "text/plain", wantLast: "\nprocess_virtual_memory_max_bytes{"},
		{
			name: "OpenMetrics", path: "/metrics", accept: "application/openmetrics-text;version=1.0.0",
			wantType: "application/openmetrics-text", wantLast: "\n# EOF\n",
		},
		{name: "by name", path: "/metrics?name[]=collectord_build_info", wantType: "text/plain", wantLast: "\ncollectord_build_info{"},
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", tc.path, nil)
		r.Header.Set("Accept", tc.accept)
		f.metrics.Handler().ServeHTTP(w, r)
		body := w.Body.String()
		if got := w.Header().Get("Content-Type"); !strings.HasPrefix(got, tc.wantType) || w.Header().Get("Vary") != "Accept" {
			t.Errorf("%s: headers %v, want the type %s", tc.name, w.Header(), tc.wantType)
		}
		if at := strings.LastIndex(body, tc.wantLast); at < 0 || strings.Count(body[at:], "\n") != 2 {
			t.Errorf("%s: the last line does not begin with %q:\n%s", tc.name, tc.wantLast, body[max(0, len(body)-500):])
		}
		if hasOther := strings.Contains(body, "go_goroutines"); hasOther != (tc.name != "by name") {
			t.Errorf("%s: other metrics: %t", tc.name, hasOther)
		}
	}
}

// assertLines checks that the response of a scrape has some lines.
func (f *fixture) assertLines(text string, lines ...string) {
	f.Helper()
	has := strings.Split(text, "\n")
	for _, line := range lines {
		if !slices.Contains(has, line) {
			name, _, _ := strings.Cut(line, "{")
			f.Errorf("no line %s; the lines of the metric are:", line)
			for _, h := range has {
				if strings.HasPrefix(h, name) {
					f.Log(h)
				}
			}
		}
	}
}

// TestMetricsOfAnActiveStreamBeginAtZero checks that every metric is published before the first
// run.
func TestMetricsOfAnActiveStreamBeginAtZero(t *testing.T) {
	t.Parallel()
	f := newFixture(t, t.TempDir())
	text := f.scrape()
	for _, o := range strings.Fields("success empty held failed timeout cancelled skipped interrupted") {
		f.assertLines(text, `collectord_runs_total{collector="okta",outcome="`+o+`",stream="okta_users",tenancy="acme"} 0`)
	}
	f.assertLines(text,
		`collectord_last_success_timestamp_seconds{collector="okta",stream="okta_users",tenancy="acme"} 0`,
		`collectord_data_late{collector="okta",stream="okta_users",tenancy="acme"} 0`,
		`collectord_requests_total{code="4xx",collector="okta",stream="okta_users",tenancy="acme"} 0`,
		`collectord_deliveries_total{outcome="failed",sink="s3",tenancy="acme"} 0`)
	for _, d := range definitions {
		if strings.HasPrefix(d.name, "collectord_control") || d == categoryScore {
			continue // there is no control
		}
		if strings.HasPrefix(d.name, "collectord_cluster") {
			if strings.Contains(text, d.name) {
				t.Errorf("%s is published although the state is not shared", d.name)
			}
			continue
		}
		if !strings.Contains(text, "\n"+d.name+"{") && !strings.Contains(text, "\n"+d.name+" ") {
			t.Errorf("%s is not published", d.name)
		}
	}
}

func TestMetricsSurviveARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	newFixture(t, dir).addSuccess()
	f := newFixture(t, dir)
	queue, err := f.state.Queue.Next(t.Context(), "acme")
	if err != nil || len(queue) != 2 {
		t.Fatal(queue, err)
	}
	if err := errors.Join(f.state.Queue.MarkDelivered(t.Context(), queue[0]),
		f.state.Queue.ScheduleRetry(t.Context(), queue[1], errors.New("no such bucket"), state.Refused, noon)); err != nil {
		t.Fatal(err)
	}
	f.daemon.reload = errors.New("wrong")
	f.assertLines(f.scrape(),
		`collectord_runs_total{collector="okta",outcome="success",stream="okta_users",tenancy="acme"} 1`,
		`collectord_last_success_timestamp_seconds{collector="okta",stream="okta_users",tenancy="acme"} 1.7723664e+09`,
		`collectord_data_timestamp_seconds{collector="okta",stream="okta_users",tenancy="acme"} 1.77236634e+09`,
		`collectord_last_run_success{collector="okta",stream="okta_users",tenancy="acme"} 1`,
		`collectord_last_run_duration_seconds{collector="okta",stream="okta_users",tenancy="acme"} 60`,
		`collectord_last_run_records{collector="okta",stream="okta_users",tenancy="acme"} 1`,
		`collectord_last_run_doubts{collector="okta",stream="okta_users",tenancy="acme"} 7`,
		`collectord_last_run_doubts{collector="okta",stream="okta_groups",tenancy="acme"} 0`,
		`collectord_data_late{collector="okta",stream="okta_users",tenancy="acme"} 0`,
		`collectord_running{collector="okta",stream="okta_groups",tenancy="acme"} 1`,
		`collectord_schedule_interval_seconds{collector="okta",tenancy="acme"} 3600`,
		`collectord_missed_ticks_total{collector="okta",tenancy="acme"} 2`,
		`collectord_deliveries_total{outcome="stored",sink="file",tenancy="acme"} 1`,
		`collectord_deliveries_total{outcome="failed",sink="s3",tenancy="acme"} 1`,
		`collectord_queued_snapshots{sink="file",tenancy="acme"} 0`,
		`collectord_queued_snapshots{sink="s3",tenancy="acme"} 1`,
		`collectord_refused_deliveries{sink="s3",tenancy="acme"} 1`,
		`collectord_oldest_queued_timestamp_seconds{sink="s3",tenancy="acme"} 1.7723664e+09`,
		`collectord_config_last_reload_successful{tenancy="acme"} 0`)
}

// TestStreamThatIsOff checks that a stream that is off has no metric on which an alert could
// fire, whatever its data and its last run are.
func TestStreamThatIsOff(t *testing.T) {
	t.Parallel()
	f := newFixture(t, t.TempDir())
	for _, stream := range []string{"okta_users", "okta_apps"} {
		h := snapshot.Header{Collector: "okta", Stream: stream, Tenancy: "acme", UploadID: "id-" + stream, UploadTimestamp: noon}
		id, err := f.state.Runs.Begin(t.Context(), state.RunStart{Header: h, Trigger: "test", Started: noon})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.state.Runs.Fail(t.Context(), id, state.Failed, collector.ErrForbidden, state.RunStats{}); err != nil {
			t.Fatal(err)
		}
		f.tenancy.RunEnded(run.Result{Collector: "okta", Stream: stream, Outcome: state.Failed, Err: collector.ErrRefused})
	}
	f.daemon.disabled = []freshness.DisabledStream{
		{Collector: "okta", Stream: "okta_apps", Why: "COLLECTORS excludes it"},
		{Collector: "okta", Stream: "okta_devices", Why: "COLLECTORS excludes it"},
	}
	text := f.scrape()
	f.assertLines(text,
		`collectord_credentials_refused{collector="okta",stream="okta_users",tenancy="acme"} 1`,
		`collectord_stream_enabled{collector="okta",stream="okta_users",tenancy="acme"} 1`,
		`collectord_stream_schedule_interval_seconds{collector="okta",stream="okta_users",tenancy="acme"} 3600`,
		`collectord_stream_next_run_timestamp_seconds{collector="okta",stream="okta_users",tenancy="acme"} 1.77236652e+09`,
		`collectord_next_run_timestamp_seconds{collector="okta",tenancy="acme"} 1.77236646e+09`,
	)
	var off []string
	for line := range strings.SplitSeq(text, "\n") {
		if strings.Contains(line, "okta_apps") || strings.Contains(line, "okta_devices") {
			off = append(off, line)
		}
	}
	want := []string{
		`collectord_stream_enabled{collector="okta",stream="okta_apps",tenancy="acme"} 0`,
		`collectord_stream_enabled{collector="okta",stream="okta_devices",tenancy="acme"} 0`,
	}
	if diff := cmp.Diff(want, off); diff != "" {
		t.Errorf("metrics of streams that are off (-want +got):\n%s", diff)
	}
}

// TestCollectorThatIsOff checks that the streams of a collector that was switched off have
// no metric on which an alert could fire.
func TestCollectorThatIsOff(t *testing.T) {
	t.Parallel()
	f := newFixture(t, t.TempDir())
	f.addSuccess()
	f.tenancy.RunEnded(run.Result{Collector: "okta", Stream: "okta_users", Outcome: state.Failed, Err: collector.ErrRefused})
	f.tenancy.RestoreEnded(backup.Result{Stream: backup.Stream{Collector: "okta", Name: "okta_users"}, Outcome: backup.Failed})
	f.daemon.off = true
	var off []string
	for line := range strings.SplitSeq(f.scrape(), "\n") {
		if strings.Contains(line, "okta") {
			off = append(off, line)
		}
	}
	if diff := cmp.Diff([]string{`collectord_stream_enabled{collector="okta",stream="okta_users",tenancy="acme"} 0`}, off); diff != "" {
		t.Errorf("metrics of a collector that is off (-want +got):\n%s", diff)
	}
}

// TestSkippedTicksAreNoRuns checks that ticks that are skipped during a long run do not
// change the metrics of the last run.
func TestSkippedTicksAreNoRuns(t *testing.T) {
	t.Parallel()
	f := newFixture(t, t.TempDir())
	f.addSuccess()
	header := func(id string) snapshot.Header {
		return snapshot.Header{Collector: "okta", Stream: "okta_users", Tenancy: "acme", UploadID: id, UploadTimestamp: noon}
	}
	if _, err := f.state.Runs.Begin(t.Context(), state.RunStart{Header: header("id-2"), Trigger: "schedule", Started: noon}); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		start := state.RunStart{Header: header(fmt.Sprint("skipped-", i)), Trigger: "schedule", Started: noon}
		if err := f.state.Runs.Skip(t.Context(), start, errors.New("the run is still in progress")); err != nil {
			t.Fatal(err)
		}
	}
	f.assertLines(f.scrape(),
		`collectord_last_run_success{collector="okta",stream="okta_users",tenancy="acme"} 1`,
		`collectord_last_run_duration_seconds{collector="okta",stream="okta_users",tenancy="acme"} 60`,
		`collectord_last_run_records{collector="okta",stream="okta_users",tenancy="acme"} 1`,
		`collectord_last_failure_timestamp_seconds{collector="okta",stream="okta_users",tenancy="acme"} 0`,
		`collectord_runs_total{collector="okta",outcome="skipped",stream="okta_users",tenancy="acme"} 30`)
}

// TestDoubtsOutlastAFailure checks that a failed run does not change the doubts of the last
// successful one.
func TestDoubtsOutlastAFailure(t *testing.T) {
	t.Parallel()
	f := newFixture(t, t.TempDir())
	f.addSuccess()
	h := snapshot.Header{Collector: "okta", Stream: "okta_users", Tenancy: "acme", UploadID: "id-2", UploadTimestamp: noon}
	id, err := f.state.Runs.Begin(t.Context(), state.RunStart{Header: h, Trigger: "test", Started: noon})
	if err != nil {
		t.Fatal(err)
	}
	stats := state.RunStats{Doubts: snapshot.Doubts{{Text: "other", Count: 1}}}
	if err := f.state.Runs.Fail(t.Context(), id, state.Failed, errors.New("no"), stats); err != nil {
		t.Fatal(err)
	}
	f.assertLines(f.scrape(),
		`collectord_last_run_success{collector="okta",stream="okta_users",tenancy="acme"} 0`,
		`collectord_last_run_doubts{collector="okta",stream="okta_users",tenancy="acme"} 7`)
}

// TestMetricsOfRuns checks the metrics that are not read from the state: those of the
// running extraction, of this process, and of the last run's credentials.
func TestMetricsOfRuns(t *testing.T) {
	t.Parallel()
	f := newFixture(t, t.TempDir())
	f.daemon.totals = run.Totals{Retries: 3, Waited: 1500 * time.Millisecond, Statuses: [6]int64{1, 0, 7, 0, 2, 0}}
	f.daemon.stats.CountBatch(20, 400)
	f.daemon.stats.CountBatch(5, 100)
	f.daemon.stats.BeginWait(collector.Wait{Until: noon.Add(time.Minute), For: "rate limit"})
	f.tenancy.RunEnded(run.Result{Collector: "okta", Stream: "okta_users", Outcome: state.Failed, Err: collector.ErrRefused})
	f.tenancy.RunEnded(run.Result{Collector: "okta", Stream: "okta_groups", Outcome: state.Skipped})
	f.assertLines(f.scrape(),
		`collectord_run_records{collector="okta",stream="okta_groups",tenancy="acme"} 25`,
		`collectord_run_bytes{collector="okta",stream="okta_groups",tenancy="acme"} 500`,
		`collectord_run_pages{collector="okta",stream="okta_groups",tenancy="acme"} 2`,
		`collectord_run_wait_end_timestamp_seconds{collector="okta",stream="okta_groups",tenancy="acme"} 1.77236646e+09`,
		`collectord_run_records{collector="okta",stream="okta_users",tenancy="acme"} 0`,
		`collectord_requests_total{code="2xx",collector="okta",stream="okta_groups",tenancy="acme"} 7`,
		`collectord_requests_total{code="none",collector="okta",stream="okta_groups",tenancy="acme"} 1`,
		`collectord_request_retries_total{collector="okta",stream="okta_groups",tenancy="acme"} 3`,
		`collectord_rate_limit_wait_seconds_total{collector="okta",stream="okta_groups",tenancy="acme"} 1.5`,
		`collectord_credentials_refused{collector="okta",stream="okta_users",tenancy="acme"} 1`,
		`collectord_credentials_refused{collector="okta",stream="okta_groups",tenancy="acme"} 0`,
		`collectord_runs_total{collector="okta",outcome="skipped",stream="okta_groups",tenancy="acme"} 1`)
}

// TestStateThatCannotBeRead checks that a scrape then has the values of the one before, that
// deadlines go on to pass, and that a text file stays as it is.
func TestStateThatCannotBeRead(t *testing.T) {
	t.Parallel()
	f := newFixture(t, t.TempDir())
	f.addSuccess()
	path := filepath.Join(t.TempDir(), "collectord.prom")
	if err := f.metrics.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f.closeState()
	f.metrics.Now = func() time.Time { return noon.Add(3*time.Hour + 1) }
	f.assertLines(f.scrape(),
		`collectord_scrape_errors_total{tenancy="acme"} 1`,
		`collectord_state_read_timestamp_seconds{tenancy="acme"} 1.77236649e+09`,
		`collectord_ready{tenancy="acme"} 1`,
		`collectord_data_records{collector="okta",stream="okta_users",tenancy="acme"} 1`,
		`collectord_queued_snapshots{sink="s3",tenancy="acme"} 1`,
		`collectord_runs_total{collector="okta",outcome="success",stream="okta_users",tenancy="acme"} 1`,
		`collectord_data_late{collector="okta",stream="okta_users",tenancy="acme"} 1`)
	if err := f.metrics.WriteFile(path); err == nil || !strings.Contains(err.Error(), "METRICS_TEXTFILE") {
		t.Errorf("WriteFile: %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("the file was changed: %v\n%s", err, after)
	}

	fresh := New(f.metrics.Options)
	fresh.AddTenancy(f.tenancy.TenancyOptions)
	text := scrape(t, fresh)
	f.assertLines(text, `collectord_scrape_errors_total{tenancy="acme"} 1`, `collectord_state_read_timestamp_seconds{tenancy="acme"} 0`)
	if strings.Contains(text, "collectord_data_late") {
		t.Errorf("streams without the state:\n%s", text)
	}
}

// TestEveryMetricHasTheTenancy checks the label also of the metrics of Go and of the process.
func TestEveryMetricHasTheTenancy(t *testing.T) {
	t.Parallel()
	f := newFixture(t, t.TempDir())
	for line := range strings.Lines(f.scrape()) {
		if !strings.HasPrefix(line, "#") && !strings.Contains(line, `tenancy="acme"`) {
			t.Errorf("no tenancy: %s", line)
		}
	}
}

func TestMetricsOfRestores(t *testing.T) {
	t.Parallel()
	f := newFixture(t, t.TempDir())
	f.assertLines(f.scrape(), `collectord_restore_outcome{collector="okta",outcome="current",stream="okta_users",tenancy="acme"} 0`)
	users := backup.Stream{Collector: "okta", Name: "okta_users"}
	f.tenancy.RestoreEnded(backup.Result{Stream: users, Outcome: backup.Failed})
	f.tenancy.RestoreEnded(backup.Result{Stream: backup.Stream{Collector: "okta", Name: "okta_groups"}, Outcome: backup.NoBackup})
	f.assertLines(f.scrape(),
		`collectord_restore_outcome{collector="okta",outcome="failed",stream="okta_users",tenancy="acme"} 1`,
		`collectord_restore_outcome{collector="okta",outcome="restored",stream="okta_users",tenancy="acme"} 0`,
		`collectord_restore_outcome{collector="okta",outcome="no_backup",stream="okta_groups",tenancy="acme"} 1`)
	f.tenancy.RestoreEnded(backup.Result{Stream: users, Outcome: backup.Restored})
	f.assertLines(f.scrape(),
		`collectord_restore_outcome{collector="okta",outcome="failed",stream="okta_users",tenancy="acme"} 0`,
		`collectord_restore_outcome{collector="okta",outcome="restored",stream="okta_users",tenancy="acme"} 1`)
}

// TestPromtoolFindsNothing checks the metrics with promtool.
func TestPromtoolFindsNothing(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Fatal("promtool is missing; run: make test-servers")
	}
	f := newFixture(t, t.TempDir())
	f.addSuccess()
	path := filepath.Join(t.TempDir(), "collectord.prom")
	if err := f.metrics.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "promtool", "check", "metrics")
	cmd.Stdin = strings.NewReader(string(text))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
	if err := f.metrics.WriteFile(filepath.Join(path, "x.prom")); err == nil || !strings.Contains(err.Error(), "METRICS_TEXTFILE") {
		t.Errorf("WriteFile: %v", err)
	}
}

// countedState counts how often all streams are read.
type countedState struct {
	state.Backend
	streams, ofTenancy int
}

func (c *countedState) Streams(ctx context.Context) ([]state.StreamStatus, error) {
	c.streams++
	return c.Backend.Streams(ctx)
}

func (c *countedState) TenancyStreams(ctx context.Context, tenancy string) ([]state.StreamStatus, error) {
	c.ofTenancy++
	return c.Backend.TenancyStreams(ctx, tenancy)
}

// TestScrapeReadsStateOnce checks that a scrape reads the streams once, whatever the number of
// tenancies, and that its metrics pass the checks of a registry.
func TestScrapeReadsStateOnce(t *testing.T) {
	f := newFixture(t, t.TempDir())
	f.addSuccess()
	for _, name := range []string{"globex", "umbrella"} {
		f.metrics.AddTenancy(TenancyOptions{Name: name, Daemon: f.daemon, Sinks: func() []string { return []string{"file"} }})
	}
	counted := &countedState{Backend: f.state.Backend}
	f.state.Backend = counted
	families, err := prometheus.Gatherers{f.metrics}.Gather()
	if err != nil {
		t.Error(err)
	}
	if counted.streams != 1 || counted.ofTenancy != 0 {
		t.Errorf("the streams were read %d times, and %d times of a tenancy; want 1 and 0", counted.streams, counted.ofTenancy)
	}
	i := slices.IndexFunc(families, func(family *dto.MetricFamily) bool { return family.GetName() == "collectord_data_records" })
	if i < 0 || len(families[i].Metric) != 6 {
		t.Errorf("no metrics of the 6 streams of 3 tenancies in %v", families)
	}
}
