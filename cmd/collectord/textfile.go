package main

import (
	"time"

	"github.com/collectord/collectord/pkg/backup"
	"github.com/collectord/collectord/pkg/freshness"
	"github.com/collectord/collectord/pkg/metrics"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/schedule"
)

// A textfile collects the metrics of a single run and writes METRICS_TEXTFILE. A
// nil textfile does nothing.
type textfile struct {
	metrics *metrics.Metrics
	tenancy *metrics.Tenancy
	path    string
}

// newTextfile returns a textfile that collects the metrics of the runner; nil when
// METRICS_TEXTFILE is not set.
func (a *assembly) newTextfile(r *run.Runner) *textfile {
	path := a.settings.HTTP.Textfile
	if path == "" {
		return nil
	}
	m := metrics.New(metrics.Options{
		State: a.state, Tenancy: a.settings.Tenancy, Version: version, Ready: func() error { return nil }, Log: a.log,
	})
	t := m.AddTenancy(metrics.TenancyOptions{
		Name: a.settings.Tenancy, Daemon: singleRun{a, r, time.Now()}, Sinks: func() []string { return r.Policy.Sinks },
	})
	r.OnEnded = t.RunEnded
	return &textfile{metrics: m, tenancy: t, path: path}
}

// onRestored counts a restore.
func (t *textfile) onRestored(r backup.Result) {
	if t != nil {
		t.tenancy.RestoreEnded(r)
	}
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
}

func (s singleRun) Statuses() []schedule.CollectorStatus {
	return s.assembly.plannedStatuses(s.started)
}
func (s singleRun) DisabledStreams() []freshness.DisabledStream {
	return s.assembly.disabledStreams()
}
func (s singleRun) MaxAge(stream string) time.Duration  { return s.assembly.maxAgeOf(stream) }
func (s singleRun) ActiveRuns() []*run.ActiveRun        { return s.runner.Active.List() }
func (s singleRun) LastReload() (at time.Time, _ error) { return s.started, nil }

func (s singleRun) RunTotals(collector, stream string) run.Totals {
	return s.runner.Active.Totals(collector, stream)
}
