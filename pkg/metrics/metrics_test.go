package metrics_test

import (
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/collectord/collectord/pkg/backup"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/metrics"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// steered is a daemon whose answers a test sets.
type steered struct{ reload error }

func (*steered) Standings() []schedule.Standing {
	return []schedule.Standing{{Collector: "okta", Streams: []string{"okta_groups", "okta_users"}, Interval: time.Hour, Next: noon.Add(time.Minute), Missed: 2}}
}
func (*steered) Running() []*schedule.Live {
	return []*schedule.Live{{Collector: "okta", Stream: "okta_groups", Started: noon}}
}
func (*steered) Ready() error                     { return nil }
func (d *steered) LastReload() (time.Time, error) { return noon, d.reload }

type place struct {
	*testing.T
	state   *state.State
	daemon  *steered
	metrics *metrics.Metrics
}

func newPlace(t *testing.T, dir string) *place {
	t.Helper()
	st, err := state.Open(t.Context(), dir, state.Options{Now: func() time.Time { return noon }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	d := &steered{}
	return &place{t, st, d, metrics.New(metrics.Options{
		State: st, Daemon: d, Tenancy: "acme", Version: "v1", Sinks: func() []string { return []string{"file", "s3"} },
		Now: func() time.Time { return noon.Add(90 * time.Second) },
	})}
}

// collect notes a run of okta_users that is queued for both destinations.
func (p *place) collect() {
	p.Helper()
	began := noon.Add(-time.Minute)
	h := snapshot.Header{Collector: "okta", Stream: "okta_users", Tenancy: "acme", UploadID: "id-1", UploadTimestamp: began}
	id, err := p.state.Begin(p.Context(), state.Start{Header: h, Trigger: "test", Started: began})
	if err != nil {
		p.Fatal(err)
	}
	w, err := p.state.Spool(p.Context(), h, 1<<30)
	if err != nil {
		p.Fatal(err)
	}
	page := w.Page()
	if err := errors.Join(page.Append([]byte(`{"id":1}`)), page.Commit()); err != nil {
		p.Fatal(err)
	}
	if _, err := p.state.Commit(p.Context(), id, w, state.Figures{Records: 1}, state.Policy{Sinks: []string{"file", "s3"}}); err != nil {
		p.Fatal(err)
	}
}

// scrape returns what /metrics answers.
func (p *place) scrape() string {
	p.Helper()
	w := httptest.NewRecorder()
	p.metrics.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil || w.Code != 200 {
		p.Fatalf("%d %v\n%s", w.Code, err, body)
	}
	return string(body)
}

func (p *place) want(text string, lines ...string) {
	p.Helper()
	has := strings.Split(text, "\n")
	for _, line := range lines {
		if !slices.Contains(has, line) {
			name, _, _ := strings.Cut(line, "{")
			p.Errorf("no line %s; there are:", line)
			for _, h := range has {
				if strings.HasPrefix(h, name) {
					p.Log(h)
				}
			}
		}
	}
}

func TestMetricsOfAnActiveStreamBeginAtZero(t *testing.T) {
	t.Parallel()
	p := newPlace(t, t.TempDir())
	text := p.scrape()
	for _, o := range strings.Fields("success empty held failed timeout cancelled skipped interrupted") {
		p.want(text, `collectord_runs_total{collector="okta",outcome="`+o+`",stream="okta_users"} 0`)
	}
	p.want(text,
		`collectord_last_success_timestamp_seconds{collector="okta",stream="okta_users"} 0`,
		`collectord_data_late{collector="okta",stream="okta_users"} 1`,
		`collectord_requests_total{code="4xx",collector="okta"} 0`,
		`collectord_deliveries_total{outcome="failed",sink="s3"} 0`)
	for _, m := range metrics.Own {
		if !strings.Contains(text, "\n"+m.Name+"{") && !strings.Contains(text, "\n"+m.Name+" ") {
			t.Errorf("%s is not published", m.Name)
		}
	}
}

func TestMetricsSurviveARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	newPlace(t, dir).collect()
	p := newPlace(t, dir)
	heads, err := p.state.Heads(t.Context())
	if err != nil || len(heads) != 2 {
		t.Fatal(heads, err)
	}
	if err := errors.Join(p.state.Delivered(t.Context(), heads[0].ID),
		p.state.Retry(t.Context(), heads[1].ID, errors.New("no such bucket"), state.Refused, noon)); err != nil {
		t.Fatal(err)
	}
	p.daemon.reload = errors.New("wrong")
	p.want(p.scrape(),
		`collectord_runs_total{collector="okta",outcome="success",stream="okta_users"} 1`,
		`collectord_last_success_timestamp_seconds{collector="okta",stream="okta_users"} 1.7723664e+09`,
		`collectord_data_timestamp_seconds{collector="okta",stream="okta_users"} 1.77236634e+09`,
		`collectord_last_run_success{collector="okta",stream="okta_users"} 1`,
		`collectord_last_run_duration_seconds{collector="okta",stream="okta_users"} 60`,
		`collectord_last_run_records{collector="okta",stream="okta_users"} 1`,
		`collectord_data_late{collector="okta",stream="okta_users"} 0`,
		`collectord_running{collector="okta",stream="okta_groups"} 1`,
		`collectord_schedule_interval_seconds{collector="okta"} 3600`,
		`collectord_missed_ticks_total{collector="okta"} 2`,
		`collectord_deliveries_total{outcome="stored",sink="file"} 1`,
		`collectord_deliveries_total{outcome="failed",sink="s3"} 1`,
		`collectord_queued_snapshots{sink="file"} 0`,
		`collectord_queued_snapshots{sink="s3"} 1`,
		`collectord_refused_deliveries{sink="s3"} 1`,
		`collectord_oldest_queued_age_seconds{sink="s3"} 90`,
		`collectord_config_last_reload_successful 0`)
}

func TestMetricsCountWhatRunsDid(t *testing.T) {
	t.Parallel()
	p := newPlace(t, t.TempDir())
	n := collector.Reading{Retries: 3, Waited: 1500 * time.Millisecond, Statuses: [6]int64{1, 0, 7, 0, 2, 0}}
	p.metrics.Ended(schedule.Result{Collector: "okta", Stream: "okta_users", Outcome: state.Failed, Err: collector.ErrRefused}, n)
	p.metrics.Ended(schedule.Result{Collector: "okta", Stream: "okta_groups", Outcome: state.Skipped}, collector.Reading{})
	p.want(p.scrape(),
		`collectord_requests_total{code="2xx",collector="okta"} 7`,
		`collectord_requests_total{code="none",collector="okta"} 1`,
		`collectord_request_retries_total{collector="okta"} 3`,
		`collectord_rate_limit_wait_seconds_total{collector="okta"} 1.5`,
		`collectord_credentials_refused{collector="okta",stream="okta_users"} 1`,
		`collectord_credentials_refused{collector="okta",stream="okta_groups"} 0`,
		`collectord_runs_total{collector="okta",outcome="skipped",stream="okta_groups"} 1`)
}

func TestMetricsTellOfRestores(t *testing.T) {
	t.Parallel()
	p := newPlace(t, t.TempDir())
	p.want(p.scrape(), `collectord_restore_outcome{collector="okta",outcome="current",stream="okta_users"} 0`)
	one := backup.Stream{Collector: "okta", Name: "okta_users"}
	p.metrics.RestoreEnded(backup.Result{Stream: one, Outcome: backup.Failed})
	p.metrics.RestoreEnded(backup.Result{Stream: backup.Stream{Collector: "okta", Name: "okta_groups"}, Outcome: backup.NoBackup})
	p.want(p.scrape(),
		`collectord_restore_outcome{collector="okta",outcome="failed",stream="okta_users"} 1`,
		`collectord_restore_outcome{collector="okta",outcome="restored",stream="okta_users"} 0`,
		`collectord_restore_outcome{collector="okta",outcome="no_backup",stream="okta_groups"} 1`)
	p.metrics.RestoreEnded(backup.Result{Stream: one, Outcome: backup.Restored})
	p.want(p.scrape(),
		`collectord_restore_outcome{collector="okta",outcome="failed",stream="okta_users"} 0`,
		`collectord_restore_outcome{collector="okta",outcome="restored",stream="okta_users"} 1`)
}

// TestPromtoolFindsNothing has Prometheus' own tool look at the metrics.
func TestPromtoolFindsNothing(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Fatal("promtool is missing; run: make test-servers")
	}
	p := newPlace(t, t.TempDir())
	p.collect()
	path := filepath.Join(t.TempDir(), "collectord.prom")
	if err := p.metrics.WriteFile(path); err != nil {
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
	if err := p.metrics.WriteFile(filepath.Join(path, "x.prom")); err == nil || !strings.Contains(err.Error(), "METRICS_TEXTFILE") {
		t.Errorf("WriteFile: %v", err)
	}
}
