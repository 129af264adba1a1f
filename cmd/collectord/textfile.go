package main

import (
	"slices"
	"time"

	"github.com/collectord/collectord/pkg/freshness"
	"github.com/collectord/collectord/pkg/metrics"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/schedule"
)

// A textfile collects the metrics of single runs and writes METRICS_TEXTFILE. A nil textfile
// does nothing.
type textfile struct {
	metrics *metrics.Metrics
	path    string
}

// newTextfile returns a textfile without a tenancy; nil when METRICS_TEXTFILE is not set.
// unusable returns the names of the tenancies that cannot be used.
func (a *assembly) newTextfile(unusable func() []string) *textfile {
	path := a.settings.HTTP.Textfile
	if path == "" {
		return nil
	}
	o := metrics.Options{State: a.state, Tenancy: a.programTenancy(), Version: version, Ready: func() error { return nil }, Log: a.log}
	if a.hasTenancies() {
		started := time.Now()
		o.LastReload, o.Unusable = func() (time.Time, error) { return started, nil }, unusable
	}
	return &textfile{path: path, metrics: metrics.New(o)}
}

// addTenancy adds the metrics of a tenancy, with those of the runner.
func (t *textfile) addTenancy(a *assembly, r *run.Runner) *metrics.Tenancy {
	if t == nil {
		return nil
	}
	m := t.metrics.AddTenancy(metrics.TenancyOptions{
		Name: a.settings.Tenancy, Daemon: singleRun{a, r, time.Now(), t.metrics.Unusable}, Sinks: func() []string { return r.Policy.Sinks },
	})
	r.OnEnded = m.RunEnded
	return m
}

func (t *textfile) write() error {
	if t == nil {
		return nil
	}
	return t.metrics.WriteFile(t.path)
}

// singleRun is the status of a program that runs collectors once, as the metrics need
// it: that of all streams that are on, also of those that it does not run.
type singleRun struct {
	assembly *assembly
	runner   *run.Runner
	started  time.Time
	unusable func() []string // the names of tenancies that cannot be used; nil for one
}

func (s singleRun) Statuses() []schedule.CollectorStatus {
	return s.assembly.plannedStatuses(s.started)
}
func (s singleRun) DisabledStreams() []freshness.DisabledStream {
	return s.assembly.disabledStreams()
}
func (s singleRun) MaxAge(stream string) time.Duration { return s.assembly.maxAgeOf(stream) }
func (s singleRun) ActiveRuns() []*run.ActiveRun       { return s.runner.Active.List() }

func (s singleRun) LastReload() (at time.Time, err error) {
	if s.unusable != nil && slices.Contains(s.unusable(), s.assembly.settings.Tenancy) {
		err = errOtherFile
	}
	return s.started, err
}

func (s singleRun) RunTotals(collector, stream string) run.Totals {
	return s.runner.Active.Totals(collector, stream)
}
