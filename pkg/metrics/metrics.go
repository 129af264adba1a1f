// Package metrics publishes the metrics of the daemon and of its data for Prometheus.
//
// Most metrics are read from the state on each scrape, so they survive restarts. One process
// serves one tenancy, which is a label of all of them.
package metrics

import (
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"github.com/collectord/collectord/internal/systemd"
	"github.com/collectord/collectord/pkg/backup"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/freshness"
	"github.com/collectord/collectord/pkg/notify"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/state"
)

// stateTimeout bounds how long a scrape waits for the state. It is less than Prometheus'
// default timeout of a scrape, 10 s.
const stateTimeout = 5 * time.Second

// Daemon is the part of the running program that metrics are read from.
type Daemon interface {
	freshness.StatusSource
	// RunTotals returns what the extractions of a stream did in this process, the running
	// one included.
	RunTotals(collector, stream string) run.Totals
	// Ready returns nil when the daemon is ready.
	Ready() error
	// LastReload returns when the settings were last loaded, and the error if that failed.
	LastReload() (at time.Time, err error)
}

// Options configure Metrics.
type Options struct {
	State   *state.State
	Daemon  Daemon
	Tenancy string
	Version string
	// Sinks returns the names of the configured destinations.
	Sinks func() []string
	// Notifications returns the numbers of notifications; nil means none.
	Notifications func() notify.Counts
	// Now returns the current time; nil means time.Now.
	Now func() time.Time
	// Log receives a warning when the state cannot be read; nil means none.
	Log *zap.Logger
}

// streamKey identifies a stream by the name of its collector and its own.
type streamKey struct{ collector, stream string }

// Metrics is a prometheus.Collector. Its methods may be called concurrently.
type Metrics struct {
	Options

	mu       sync.Mutex
	refused  map[streamKey]bool           // whether the vendor refused the credentials
	skipped  map[streamKey]int64          // skipped runs
	restores map[streamKey]backup.Outcome // the outcome of the restore

	reading     sync.Mutex // held while the state is read
	values      stateValues
	failedReads int64
}

// New returns Metrics. Their counters of runs start at 0.
func New(o Options) *Metrics {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return &Metrics{
		Options: o, refused: map[streamKey]bool{}, skipped: map[streamKey]int64{}, restores: map[streamKey]backup.Outcome{},
	}
}

// RunEnded records a run that has ended. It is a run.Runner's OnEnded.
func (m *Metrics) RunEnded(r run.Result) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := streamKey{r.Collector, r.Stream}
	if r.Outcome == state.Skipped { // the state does not record it
		m.skipped[key]++
		return
	}
	m.refused[key] = errors.Is(r.Err, collector.ErrRefused)
}

// RestoreEnded records the outcome of the restore of a stream. It is for backup.Restorer.
func (m *Metrics) RestoreEnded(r backup.Result) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.restores[streamKey{r.Collector, r.Name}] = r.Outcome
}

// Registry returns a registry of m, the metrics of Go and those of the process.
func (m *Metrics) Registry() *prometheus.Registry {
	return m.newRegistry(m, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
}

// newRegistry returns a registry of collectors, all of whose metrics have the label tenancy.
func (m *Metrics) newRegistry(all ...prometheus.Collector) *prometheus.Registry {
	r := prometheus.NewRegistry()
	prometheus.WrapRegistererWith(prometheus.Labels{"tenancy": m.Tenancy}, r).MustRegister(all...)
	return r
}

// Handler returns a handler that serves the metrics of Registry. A metric that fails does not
// take the others down.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.Registry(), promhttp.HandlerOpts{
		EnableOpenMetrics: true, ErrorHandling: promhttp.ContinueOnError, ErrorLog: errorLog{m.Log},
	})
}

// errorLog logs the errors of promhttp.
type errorLog struct{ log *zap.Logger }

func (e errorLog) Println(v ...any) { e.log.Warn("metrics: " + fmt.Sprint(v...)) }

// WriteFile writes m into a file for the textfile collector of the node exporter. It replaces
// the file atomically, and leaves it as it is when the state cannot be read. The metrics of the
// process are left out, because the node exporter has its own.
func (m *Metrics) WriteFile(path string) error {
	if _, err := m.readValues(); err != nil {
		return fmt.Errorf("METRICS_TEXTFILE %s: %w", path, err)
	}
	if err := prometheus.WriteToTextfile(path, m.newRegistry(m)); err != nil {
		if sandbox := systemd.SandboxAdvice(err); sandbox != "" {
			return fmt.Errorf("METRICS_TEXTFILE %s: %w: %s", path, err, sandbox)
		}
		return fmt.Errorf("METRICS_TEXTFILE %s: %w", path, err)
	}
	return nil
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range definitions {
		out <- d.desc
	}
}

// Collect implements prometheus.Collector. When the state cannot be read, it publishes what
// was read before.
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	publish := func(d *definition, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d.desc, d.kind, value, labels...)
	}
	values, err := m.readValues()
	if err != nil {
		m.Log.Warn("the state could not be read for the metrics; they have the values that were read before", zap.Error(err))
	}
	m.publishProgram(values, publish)
	m.publishCollectors(publish)
	if !values.read.IsZero() {
		m.publishStreams(values, publish)
		m.publishSinks(values, publish)
		publishControls(values.controls, publish)
	}
}

// A publisher publishes one value of a metric.
type publisher func(d *definition, value float64, labels ...string)

// boolValue returns 1 for true and 0 for false.
func boolValue(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// timestamp returns t in seconds since the Unix epoch; 0 for the zero time.
func timestamp(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

func (m *Metrics) publishProgram(v stateValues, publish publisher) {
	publish(ready, boolValue(m.Daemon.Ready() == nil))
	at, err := m.Daemon.LastReload()
	publish(reloadGood, boolValue(err == nil))
	publish(reloadTime, timestamp(at))
	var n notify.Counts
	if m.Notifications != nil {
		n = m.Notifications()
	}
	publish(notifications, float64(n.Sent), "sent")
	publish(notifications, float64(n.Failed), "failed")
	publish(notifications, float64(n.Dropped), "dropped")
	publish(waitingNotifications, float64(n.Waiting))
	publish(stateRead, timestamp(v.read))
	publish(scrapeErrors, float64(v.failedReads))
	publish(buildInfo, 1, m.Version, runtime.Version())
}

// statusClasses are the names of the classes of run.Totals.Statuses.
var statusClasses = [6]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"}

func (m *Metrics) publishCollectors(publish publisher) {
	for _, s := range m.Daemon.Statuses() {
		publish(interval, s.Interval().Seconds(), s.Collector)
		publish(nextRun, timestamp(s.Next()), s.Collector)
		publish(missedTicks, float64(s.Missed), s.Collector)
		for _, stream := range s.Names() {
			totals := m.Daemon.RunTotals(s.Collector, stream)
			for i, class := range statusClasses {
				publish(requests, float64(totals.Statuses[i]), s.Collector, stream, class)
			}
			publish(requestRetries, float64(totals.Retries), s.Collector, stream)
			publish(rateLimitWait, totals.Waited.Seconds(), s.Collector, stream)
		}
	}
}
