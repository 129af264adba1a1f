package metrics

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/calendar"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/freshness"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/local"
)

// A world has instances of the program on a fake clock, and records the metrics that they
// export in every step, as Prometheus does.
type world struct {
	*testing.T
	start time.Time
	step  time.Duration
	steps int
	hosts []*host
	// series are the values of each series in each step, in the notation of promtool.
	series map[string][]string
}

// A host is one instance of the program: the service, or collectord --once if it has a file.
type host struct {
	*world
	labels  string // instance and job
	began   time.Time
	state   *state.State
	runner  *run.Runner
	sched   *schedule.Scheduler // nil for collectord --once
	metrics *Metrics
	plans   []schedule.Plan
	file    string // METRICS_TEXTFILE
	stop    func()

	mu      sync.Mutex
	vendors map[string]vendor
	off     []freshness.DisabledStream
}

// A vendor is how the extraction of a stream goes.
type vendor struct {
	took    time.Duration
	err     error
	records int
}

func (h *host) Statuses() []schedule.CollectorStatus {
	if h.sched != nil {
		return h.sched.Statuses()
	}
	var all []schedule.CollectorStatus
	for _, p := range h.plans {
		status := schedule.CollectorStatus{Collector: p.Job.Collector.Name}
		for _, stream := range p.Job.StreamNames() {
			status.Streams = append(status.Streams, schedule.StreamStatus{
				Stream: stream, Calendar: p.Calendar, Interval: p.Calendar.Interval(), FirstDue: time.Now(),
			})
		}
		all = append(all, status)
	}
	return all
}

func (h *host) DisabledStreams() []freshness.DisabledStream {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.off
}
func (h *host) ActiveRuns() []*run.ActiveRun      { return h.runner.Active.List() }
func (*host) MaxAge(string) time.Duration         { return 0 }
func (h *host) LastReload() (time.Time, error)    { return h.began, nil }
func (h *host) RunTotals(c, s string) run.Totals  { return h.runner.Active.Totals(c, s) }
func (h *host) setVendor(stream string, v vendor) { h.mu.Lock(); h.vendors[stream] = v; h.mu.Unlock() }

// addHost adds a host that exports metrics from now on.
func (w *world) addHost(dir, instance, job, tenancy string) *host {
	w.Helper()
	st, err := local.Open(w.Context(), filepath.Join(dir, instance+"-"+tenancy), local.Options{})
	if err != nil {
		w.Fatal(err)
	}
	h := &host{world: w, labels: fmt.Sprintf("instance=%q,job=%q", instance, job), began: time.Now(), state: st, vendors: map[string]vendor{}}
	h.runner = &run.Runner{
		State: st, Tenancy: tenancy, Timeout: 12 * time.Hour, IdleTimeout: 48 * time.Hour, Parallel: 8, Log: zap.NewNop(),
		Active: &run.ActiveRuns{}, Policy: state.Policy{GuardDropPercent: 50},
	}
	h.metrics = New(Options{State: st, Tenancy: tenancy, Version: "v1", Ready: func() error { return nil }})
	h.runner.OnEnded = h.metrics.AddTenancy(TenancyOptions{Name: tenancy, Daemon: h, Sinks: func() []string { return nil }}).RunEnded
	h.stop = func() {
		if err := st.Close(); err != nil {
			w.Error(err)
		}
	}
	w.hosts = append(w.hosts, h)
	w.series["up{"+h.labels+"}"] = slices.Repeat([]string{"1"}, w.steps+1) // it is not down before
	return h
}

// plan returns the plan of a stream, <collector>_users, whose vendor the host has.
func (h *host) plan(name, expression string) schedule.Plan {
	h.Helper()
	var e calendar.Expression
	if err := e.UnmarshalText([]byte(expression)); err != nil {
		h.Fatal(err)
	}
	stream := name + "_users"
	extract := func(ctx context.Context, out collector.Output) error {
		h.mu.Lock()
		v := h.vendors[stream]
		h.mu.Unlock()
		select {
		case <-time.After(v.took):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if v.err != nil {
			return v.err
		}
		batch := out.NewBatch()
		for range max(1, v.records) {
			if err := batch.Append([]byte(`{"id":1}`)); err != nil {
				return err
			}
		}
		return batch.Commit()
	}
	c := &collector.Collector{Name: name, Streams: []collector.Stream{{Name: stream, Extract: extract}}}
	return schedule.Plan{Job: run.Job{Collector: c}, Calendar: e.In(time.UTC), Zone: "UTC"}
}

// serve starts the service with plans.
func (h *host) serve(plans ...schedule.Plan) {
	h.sched = schedule.NewScheduler(h.state, h.runner.Tenancy, h.settings(plans), zap.NewNop(), time.Now)
	ctx, cancel := context.WithCancel(h.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.sched.Run(ctx, ctx)
		h.sched.Wait()
	}()
	closeState := h.stop
	h.stop = func() { cancel(); <-ended; closeState() }
}

func (h *host) settings(plans []schedule.Plan) schedule.Settings {
	return schedule.Settings{Runner: h.runner, Plans: plans, Retries: 3, CatchUp: true}
}

// reload puts other plans in force.
func (h *host) reload(off []freshness.DisabledStream, plans ...schedule.Plan) {
	h.mu.Lock()
	h.off = off
	h.mu.Unlock()
	changes := h.sched.ApplySettings(h.settings(plans))
	h.sched.CatchUp(h.Context(), changes.Added)
}

// runOnce runs the plans of the host once and writes its file.
func (h *host) runOnce() {
	h.Helper()
	var jobs []run.Job
	for _, p := range h.plans {
		jobs = append(jobs, p.Job)
	}
	h.runner.RunAll(h.Context(), jobs, "once", schedule.NewSlots(8).AcquireFor(h.runner.Tenancy))
	if err := h.metrics.WriteFile(h.file); err != nil {
		h.Error(err)
	}
}

// pass lets time pass, and scrapes all hosts in every step.
func (w *world) pass(d time.Duration) {
	w.Helper()
	for range int(d / w.step) {
		w.steps++
		time.Sleep(time.Until(w.start.Add(time.Duration(w.steps) * w.step)))
		synctest.Wait()
		for _, h := range w.hosts {
			h.scrape()
		}
		for name, values := range w.series {
			if len(values) <= w.steps {
				w.series[name] = append(values, "stale")
			}
		}
	}
}

// scrape records the values of all metrics of a host.
func (h *host) scrape() {
	h.Helper()
	if h.file != "" {
		text, err := os.Open(h.file)
		if errors.Is(err, os.ErrNotExist) {
			return
		}
		if err != nil {
			h.Fatal(err)
		}
		defer text.Close()
		parser := expfmt.NewTextParser(model.UTF8Validation)
		families, err := parser.TextToMetricFamilies(text)
		if err != nil {
			h.Fatal(err)
		}
		h.recordFamilies(slices.Collect(maps.Values(families)))
		return
	}
	families, err := h.metrics.Gather()
	if err != nil {
		h.Fatal(err)
	}
	h.recordFamilies(families)
	h.record("up{"+h.labels+"}", 1)
	h.record(fmt.Sprintf("process_start_time_seconds{%s,tenancy=%q}", h.labels, h.runner.Tenancy), float64(h.began.Unix()))
}

func (h *host) recordFamilies(families []*dto.MetricFamily) {
	for _, family := range families {
		for _, m := range family.Metric {
			labels := []string{h.labels}
			for _, l := range m.Label {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			h.record(family.GetName()+"{"+strings.Join(labels, ",")+"}", m.GetGauge().GetValue()+m.GetCounter().GetValue()+m.GetUntyped().GetValue())
		}
	}
}

// record records the value of a series in the current step. Timestamps are relative to the
// start of the world, which is time 0 of promtool.
func (h *host) record(name string, value float64) {
	h.Helper()
	if metric, _, _ := strings.Cut(name, "{"); value != 0 && (strings.HasSuffix(metric, "_timestamp_seconds") || metric == "process_start_time_seconds") {
		value -= float64(h.start.Unix())
	}
	values := h.series[name]
	if len(values) > h.steps {
		h.Fatalf("two values of %s", name)
	}
	for len(values) < h.steps {
		values = append(values, "_")
	}
	h.series[name] = append(values, strconv.FormatFloat(value, 'f', -1, 64))
}

// A firing is an expectation of the alerts that fire at a time, or, with ever, of those
// that have fired until then.
type firing struct {
	at   time.Duration
	ever bool
	// alerts are such as "CollectordDataLate - acme okta_users": the alert, the instance or "-",
	// the tenancy, and the stream or else the collector.
	alerts []string
}

// assertAlerts evaluates the rules over the recorded series with promtool.
func (w *world) assertAlerts(rules string, expected []firing) {
	w.Helper()
	text := readDeployFile(w.T, "prometheus/"+rules)
	dir := w.TempDir()
	var b strings.Builder
	fmt.Fprintf(&b, "rule_files: [rules.yml]\nevaluation_interval: %v\ntests:\n  - interval: %v\n    input_series:\n", w.step, w.step)
	for _, name := range slices.Sorted(maps.Keys(w.series)) {
		fmt.Fprintf(&b, "      - series: '%s'\n        values: '%s'\n", name, strings.Join(w.series[name], " "))
	}
	b.WriteString("    promql_expr_test:\n")
	for _, f := range expected {
		expr := `ALERTS{alertstate="firing"}`
		if f.ever {
			expr = fmt.Sprintf("max_over_time(%s[%ds])", expr, int((f.at + w.step).Seconds()))
		}
		fmt.Fprintf(&b, "      - expr: 'count by (alertname, instance, tenancy, stream) (%s)'\n        eval_time: %v\n        exp_samples:\n", expr, f.at)
		for _, alert := range f.alerts {
			parts := strings.Fields(alert)
			labels := fmt.Sprintf("alertname=%q,tenancy=%q", parts[0], parts[2])
			if parts[1] != "-" {
				labels += fmt.Sprintf(",instance=%q", parts[1])
			}
			if len(parts) > 3 {
				labels += fmt.Sprintf(",stream=%q", parts[3])
			}
			fmt.Fprintf(&b, "          - labels: '{%s}'\n            value: 1\n", labels)
		}
	}
	for name, content := range map[string]string{"rules.yml": text, "test.yml": b.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			w.Fatal(err)
		}
	}
	runPromtool(w.T, dir, "test", "rules", "test.yml")
	if !regexp.MustCompile(`(?m)^ +- alert:`).MatchString(text) {
		w.Errorf("%s has no alerts", rules)
	}
}

var (
	errBroken  = errors.New("the vendor is broken")
	errRefused = fmt.Errorf("401: %w", collector.ErrRefused)
)

const day = 24 * time.Hour

// TestAlertScenarios lets the scheduler, the runs, the state and the metrics of the program
// work on a fake clock, and evaluates the shipped alert rules over the metrics that they
// export.
func TestAlertScenarios(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		rules    string // alerts.yml when empty
		step     time.Duration
		play     func(w *world, dir string)
		expected []firing
	}{
		{
			name: "a first run that is long",
			play: func(w *world, dir string) {
				h := w.addHost(dir, "a", "collectord", "acme")
				h.setVendor("okta_users", vendor{took: 10 * time.Hour})
				h.serve(h.plan("okta", "0 0 * * *"))
				w.pass(12 * time.Hour)
			},
			expected: []firing{{at: 12 * time.Hour, ever: true}},
		},
		{
			name: "a first run that never succeeds",
			play: func(w *world, dir string) {
				h := w.addHost(dir, "a", "collectord", "acme")
				h.setVendor("okta_users", vendor{took: time.Minute, err: errBroken})
				h.serve(h.plan("okta", "0 0 * * *"))
				w.pass(3 * time.Hour)
			},
			expected: []firing{
				{at: time.Hour, ever: true},
				{at: 2 * time.Hour, alerts: []string{"CollectordDataLate - acme okta_users", "CollectordRunFailing - acme okta_users"}},
			},
		},
		{
			name: "runs that are longer than the period, after a failure",
			play: func(w *world, dir string) {
				h := w.addHost(dir, "a", "collectord", "acme")
				h.setVendor("okta_users", vendor{err: errBroken})
				h.serve(h.plan("okta", "@hourly"))
				w.pass(10 * time.Minute)
				h.setVendor("okta_users", vendor{}) // the retry succeeds
				w.pass(30 * time.Minute)
				h.setVendor("okta_users", vendor{took: 150 * time.Minute})
				w.pass(day)
			},
			expected: []firing{{at: day, ever: true, alerts: []string{"CollectordTicksMissed - acme"}}},
		},
		{
			name: "another process collects the stream meanwhile",
			play: func(w *world, dir string) {
				h := w.addHost(dir, "a", "collectord", "acme")
				h.serve(h.plan("okta", "@hourly"))
				w.pass(10 * time.Minute)
				lock, err := h.state.Locks.LockStream("okta_users", h.runner.Tenancy)
				if err != nil {
					w.Fatal(err)
				}
				w.pass(100 * time.Minute)
				if err := lock.Unlock(); err != nil {
					w.Fatal(err)
				}
				w.pass(3 * time.Hour)
			},
			expected: []firing{{at: 4 * time.Hour, ever: true}},
		},
		{
			name: "weekdays only, over a weekend", step: 30 * time.Minute,
			play: func(w *world, dir string) { // it begins on a Saturday
				h := w.addHost(dir, "a", "collectord", "acme")
				h.serve(h.plan("okta", "0 6 * * 1-5"))
				w.pass(9*day + 12*time.Hour)
				h.setVendor("okta_users", vendor{err: errBroken}) // on Monday after the run
				w.pass(2 * day)
			},
			expected: []firing{
				{at: 9 * day, ever: true},
				{at: 10*day + 8*time.Hour + 30*time.Minute, alerts: []string{"CollectordRunFailing - acme okta_users"}},
				{at: 11*day + 8*time.Hour + 30*time.Minute, alerts: []string{"CollectordDataLate - acme okta_users", "CollectordRunFailing - acme okta_users"}},
			},
		},
		{
			name: "a vendor that refuses the credentials of one of two instances, which is then switched off",
			play: func(w *world, dir string) {
				healthy, h := w.addHost(dir, "a", "collectord", "acme"), w.addHost(dir, "b", "collectord", "other")
				healthy.serve(healthy.plan("okta", "@hourly"))
				h.serve(h.plan("okta", "@hourly"), h.plan("snyk", "@hourly"))
				w.pass(30 * time.Minute)
				h.setVendor("okta_users", vendor{err: errRefused})
				w.pass(6 * time.Hour)
				h.reload(nil, h.plan("snyk", "@hourly"))
				w.pass(2 * time.Hour)
			},
			expected: []firing{
				{at: 80 * time.Minute, alerts: []string{"CollectordCredentialsRefused - other okta_users"}},
				{at: 6 * time.Hour, alerts: []string{
					"CollectordCredentialsRefused - other okta_users", "CollectordDataLate - other okta_users", "CollectordRunFailing - other okta_users",
				}},
				{at: 8 * time.Hour},
			},
		},
		{
			name: "a snapshot that is held, of a stream that is then switched off",
			play: func(w *world, dir string) {
				h := w.addHost(dir, "a", "collectord", "acme")
				h.setVendor("okta_users", vendor{records: 100})
				h.serve(h.plan("okta", "@hourly"), h.plan("snyk", "@hourly"))
				w.pass(30 * time.Minute)
				h.setVendor("okta_users", vendor{records: 1})
				w.pass(time.Hour)
				h.reload([]freshness.DisabledStream{{Collector: "okta", Stream: "okta_users", Why: "test"}}, h.plan("snyk", "@hourly"))
				w.pass(time.Hour)
			},
			expected: []firing{
				{at: 80 * time.Minute, alerts: []string{"CollectordRecordsFell - acme okta_users"}},
				{at: 2 * time.Hour},
			},
		},
		{
			name: "a reload that switches on a stream with old data and makes another more frequent", step: 30 * time.Minute,
			play: func(w *world, dir string) {
				h := w.addHost(dir, "a", "collectord", "acme")
				h.serve(h.plan("okta", "0 0 * * *"), h.plan("snyk", "@weekly"))
				w.pass(time.Hour)
				h.reload(nil, h.plan("snyk", "@weekly"))
				w.pass(5 * day)
				h.setVendor("okta_users", vendor{took: 3 * time.Hour})
				h.reload(nil, h.plan("okta", "0 0 * * *"), h.plan("snyk", "@hourly"))
				w.pass(2 * day)
			},
			expected: []firing{{at: 7 * day, ever: true}},
		},
		{
			name: "two tenancies on timers, one of which dies", rules: "alerts-timer.yml", step: 30 * time.Minute,
			play: func(w *world, dir string) {
				var hosts []*host
				for _, tenancy := range []string{"acme", "other"} {
					h := w.addHost(dir, "a", "node", tenancy)
					h.plans, h.file = []schedule.Plan{h.plan("okta", "0 0 * * *")}, filepath.Join(dir, tenancy+".prom")
					hosts = append(hosts, h)
				}
				for n := range 6 {
					hosts[0].runOnce()
					if n < 3 {
						hosts[1].runOnce()
					}
					w.pass(day)
				}
			},
			expected: []firing{
				// The last run of the other tenancy is that of the third day; the second tick
				// without one is on the fifth.
				{at: 4*day + time.Hour, ever: true},
				{at: 4*day + 150*time.Minute, alerts: []string{"CollectordDataLate a other okta_users"}},
			},
		},
		{
			name: "a timer whose runs fail", rules: "alerts-timer.yml", step: 30 * time.Minute,
			play: func(w *world, dir string) {
				h := w.addHost(dir, "a", "node", "acme")
				h.plans, h.file = []schedule.Plan{h.plan("okta", "0 0 * * *")}, filepath.Join(dir, "acme.prom")
				h.setVendor("okta_users", vendor{err: errRefused})
				for range 3 {
					h.runOnce()
					w.pass(day)
				}
			},
			expected: []firing{
				{at: time.Hour, alerts: []string{"CollectordCredentialsRefused a acme okta_users"}},
				{at: day, alerts: []string{
					"CollectordCredentialsRefused a acme okta_users", "CollectordDataLate a acme okta_users", "CollectordRunFailing a acme okta_users",
				}},
				{at: day + time.Hour, alerts: []string{
					"CollectordCredentialsRefused a acme okta_users", "CollectordDataLate a acme okta_users", "CollectordRunFailing a acme okta_users",
				}},
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := &world{T: t, step: cmp.Or(tc.step, 10*time.Minute), series: map[string][]string{}}
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				w.T, w.start = t, time.Now()
				w.pass(w.step) // a timestamp of 0 means never
				tc.play(w, dir)
				for _, h := range w.hosts {
					h.stop()
				}
			})
			w.T = t
			if !t.Failed() {
				w.assertAlerts(cmp.Or(tc.rules, "alerts.yml"), tc.expected)
			}
		})
	}
}
