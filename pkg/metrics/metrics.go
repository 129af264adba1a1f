// Package metrics publishes for Prometheus how the daemon and its data stand.
//
// Most metrics are read from the state when they are asked for, so they
// survive restarts. One process serves one tenancy, which is a label of
// collectord_build_info alone.
package metrics

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/collectord/collectord/pkg/backup"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/web"
)

// patience bounds what a scrape waits for the state.
const patience = 10 * time.Second

// Daemon is what of a web.Daemon the metrics take.
type Daemon interface {
	web.Seen
	Ready() error
	LastReload() (at time.Time, err error)
}

// Options are what Metrics are read from.
type Options struct {
	State   *state.State
	Daemon  Daemon
	Tenancy string
	Version string
	// Sinks returns the names of the destinations that are on.
	Sinks func() []string
	// Now is the clock; time.Now when nil.
	Now func() time.Time
}

// traffic is what the ended runs of a collector did.
type traffic struct {
	statuses [6]int64
	retries  int64
	waited   time.Duration
}

// Metrics is a prometheus.Collector.
type Metrics struct {
	Options

	mu      sync.Mutex
	traffic map[string]*traffic
	refused map[[2]string]bool
	skipped map[[2]string]int64
	restore map[[2]string]backup.Outcome
}

// New makes Metrics.
func New(o Options) *Metrics {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Metrics{Options: o, traffic: map[string]*traffic{}, refused: map[[2]string]bool{}, skipped: map[[2]string]int64{}, restore: map[[2]string]backup.Outcome{}}
}

// Ended counts a run that has ended; it is for schedule.Runner.
func (m *Metrics) Ended(r schedule.Result, n collector.Reading) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.traffic[r.Collector]
	if t == nil {
		t = &traffic{}
		m.traffic[r.Collector] = t
	}
	for i, k := range n.Statuses {
		t.statuses[i] += k
	}
	t.retries += n.Retries
	t.waited += n.Waited
	key := [2]string{r.Collector, r.Stream}
	if r.Outcome == state.Skipped { // the state has no run of it
		m.skipped[key]++
		return
	}
	m.refused[key] = errors.Is(r.Err, collector.ErrRefused)
}

// RestoreEnded notes how a stream's restore ended; it is for backup.Restorer.
func (m *Metrics) RestoreEnded(r backup.Result) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.restore[[2]string{r.Collector, r.Name}] = r.Outcome
}

// Registry has m and the metrics of Go and of the process.
func (m *Metrics) Registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(m, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Handler serves them.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.Registry(), promhttp.HandlerOpts{EnableOpenMetrics: true})
}

// WriteFile writes the metrics of collectord's own into a file for the node
// exporter, which sees the old content or the new. Those of the process are
// left out: the node exporter has its own.
func (m *Metrics) WriteFile(path string) error {
	r := prometheus.NewRegistry()
	r.MustRegister(m)
	if err := prometheus.WriteToTextfile(path, r); err != nil {
		return fmt.Errorf("METRICS_TEXTFILE %s: %w", path, err)
	}
	return nil
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(out chan<- *prometheus.Desc) {
	for _, one := range Own {
		out <- one.desc
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	put := func(metric *Metric, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(metric.desc, metric.Type, value, labels...)
	}
	m.program(put)
	m.collectors(put)
	for _, part := range []func(context.Context, putter) error{m.streams, m.sinks} {
		if err := part(ctx, put); err != nil {
			out <- prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
		}
	}
}

type putter func(m *Metric, value float64, labels ...string)

// flag is 1 for true.
func flag(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// stamp is t in seconds, 0 for the zero time.
func stamp(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

func (m *Metrics) program(put putter) {
	put(ready, flag(m.Daemon.Ready() == nil))
	at, err := m.Daemon.LastReload()
	put(reloadGood, flag(err == nil))
	put(reloadTime, stamp(at))
	put(buildInfo, 1, m.Version, runtime.Version(), m.Tenancy)
}

// classes name collector.Reading's status classes.
var classes = [6]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"}

func (m *Metrics) collectors(put putter) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.Daemon.Standings() {
		put(interval, s.Interval.Seconds(), s.Collector)
		put(next, stamp(s.Next), s.Collector)
		put(missed, float64(s.Missed), s.Collector)
		t := m.traffic[s.Collector]
		if t == nil {
			t = &traffic{}
		}
		for i, class := range classes {
			put(requests, float64(t.statuses[i]), s.Collector, class)
		}
		put(retries, float64(t.retries), s.Collector)
		put(waited, t.waited.Seconds(), s.Collector)
	}
}
