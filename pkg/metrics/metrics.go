// Package metrics publishes the metrics of the daemon and of its data for Prometheus.
//
// Most metrics are read from the state on each scrape, so they survive restarts. Those of
// streams, destinations and controls have the label tenancy. So have those of the program
// when it serves one tenancy.
package metrics

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/zap"

	"github.com/collectord/collectord/internal/systemd"
	"github.com/collectord/collectord/pkg/state"
)

// stateTimeout bounds how long a scrape waits for the state. It is less than Prometheus'
// default timeout of a scrape, 10 s.
const stateTimeout = 5 * time.Second

// Options configure Metrics.
type Options struct {
	State *state.State
	// Tenancy is the label of the metrics of the program itself; "" when it serves any
	// number of tenancies.
	Tenancy string
	Version string
	// Ready returns nil when the daemon is ready.
	Ready func() error
	// LastReload returns when the settings that tenancies share were last loaded, and the
	// error if that failed. Unusable returns the names of the tenancies that cannot be used.
	// Both are nil when the program serves one tenancy.
	LastReload func() (at time.Time, err error)
	Unusable   func() []string
	// Cluster is the services that share the state; nil when it is not shared.
	Cluster Cluster
	// Now returns the current time; nil means time.Now.
	Now func() time.Time
	// Log receives a warning when the state cannot be read; nil means none.
	Log *zap.Logger
}

// Metrics is a prometheus.Gatherer. Its methods may be called concurrently.
type Metrics struct {
	Options

	mu        sync.Mutex
	tenancies map[string]*Tenancy

	reading     sync.Mutex // held while the state is read
	values      stateValues
	failedReads int64
}

// New returns Metrics without a tenancy.
func New(o Options) *Metrics {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return &Metrics{Options: o, tenancies: map[string]*Tenancy{}}
}

// AddTenancy adds the metrics of a tenancy. Their counters of runs start at 0.
func (m *Metrics) AddTenancy(o TenancyOptions) *Tenancy {
	t := newTenancy(o, func() time.Time { return m.Now() })
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tenancies[o.Name] = t
	return t
}

// RemoveTenancy removes the metrics of a tenancy.
func (m *Metrics) RemoveTenancy(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.tenancies, name)
}

// listTenancies returns the tenancies in the order of their names.
func (m *Metrics) listTenancies() []*Tenancy {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedFunc(maps.Values(m.tenancies), func(a, b *Tenancy) int { return strings.Compare(a.Name, b.Name) })
}

// WriteFile writes m into a file for the textfile collector of the node exporter. It replaces
// the file atomically, and leaves it as it is when the state cannot be read. The metrics of the
// process are left out, because the node exporter has its own.
func (m *Metrics) WriteFile(path string) error {
	if _, err := m.readValues(); err != nil {
		return fmt.Errorf("METRICS_TEXTFILE %s: %w", path, err)
	}
	if err := prometheus.WriteToTextfile(path, m); err != nil {
		if sandbox := systemd.SandboxAdvice(err); sandbox != "" {
			return fmt.Errorf("METRICS_TEXTFILE %s: %w: %s", path, err, sandbox)
		}
		return fmt.Errorf("METRICS_TEXTFILE %s: %w", path, err)
	}
	return nil
}

// Gather implements prometheus.Gatherer. It reads the state once. When the state cannot be
// read, it returns what was read before; the error is always nil.
func (m *Metrics) Gather() (families []*dto.MetricFamily, err error) {
	m.collect().eachFamily(func(family *dto.MetricFamily) { families = append(families, family) })
	return families, nil
}

// collect returns the values of all metrics. It reads the state once, and has what was read
// before if that fails.
func (m *Metrics) collect() *collection {
	values, err := m.readValues()
	if err != nil {
		m.Log.Warn("the state could not be read for the metrics; they have the values that were read before", zap.Error(err))
	}
	all := newCollection()
	m.publishProgram(values, newPublisher(all, m.Tenancy))
	tenancies := m.listTenancies()
	m.publishUnusable(all, tenancies)
	for _, t := range tenancies {
		publish := newPublisher(all, t.Name)
		t.publishProcess(publish)
		if !values.read.IsZero() {
			t.publishState(values.tenancies[t.Name], publish)
		}
	}
	return all
}

// A publisher publishes one value of a metric.
type publisher func(d *definition, value float64, labels ...string)

// newPublisher returns a publisher of metrics of a tenancy.
func newPublisher(all *collection, tenancy string) publisher {
	return func(d *definition, value float64, labels ...string) { all.addValue(d, value, tenancy, labels) }
}

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

// publishProgram publishes the metrics of the program as a whole.
func (m *Metrics) publishProgram(v stateValues, publish publisher) {
	publish(ready, boolValue(m.Ready() == nil))
	m.publishCluster(publish)
	publish(stateRead, timestamp(v.read))
	publish(scrapeErrors, float64(v.failedReads))
	publish(buildInfo, 1, m.Version, runtime.Version())
	if m.LastReload != nil {
		publishReload(m.LastReload, publish)
	}
}

// publishReload publishes the result of the last reload.
func publishReload(lastReload func() (time.Time, error), publish publisher) {
	at, err := lastReload()
	publish(reloadGood, boolValue(err == nil))
	publish(reloadTime, timestamp(at))
}

// publishUnusable publishes that the settings of tenancies are not in force which are none of
// those that work.
func (m *Metrics) publishUnusable(all *collection, working []*Tenancy) {
	if m.Unusable == nil {
		return
	}
	for _, name := range m.Unusable() {
		if !slices.ContainsFunc(working, func(t *Tenancy) bool { return t.Name == name }) {
			newPublisher(all, name)(reloadGood, 0)
		}
	}
}
