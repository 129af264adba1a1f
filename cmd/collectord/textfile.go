package main

import (
	"time"

	"github.com/collectord/collectord/pkg/backup"
	"github.com/collectord/collectord/pkg/metrics"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/state"
)

// single is a program that runs once, as its metrics see it.
type single struct {
	jobs  []schedule.Job
	began time.Time
}

func (s single) Standings() []schedule.Standing {
	var all []schedule.Standing
	for _, j := range s.jobs {
		one := schedule.Standing{Collector: j.Collector.Name, Schedule: "off"}
		for _, stream := range j.Collector.Streams {
			one.Streams = append(one.Streams, stream.Name)
		}
		all = append(all, one)
	}
	return all
}

func (single) Running() []*schedule.Live             { return nil }
func (single) Ready() error                          { return nil }
func (s single) LastReload() (at time.Time, _ error) { return s.began, nil }

// textfile counts what r does and returns what counts restores, and what
// writes METRICS_TEXTFILE.
func (a *app) textfile(st *state.State, r *schedule.Runner, jobs []schedule.Job) (restored func(backup.Result), write func() error) {
	path := a.settings.HTTP.Textfile
	if path == "" {
		return nil, func() error { return nil }
	}
	m := metrics.New(metrics.Options{
		State: st, Daemon: single{jobs, time.Now()}, Tenancy: a.settings.Tenancy, Version: version,
		Sinks: func() []string { return r.Policy.Sinks },
	})
	r.Ended = m.Ended
	return m.RestoreEnded, func() error { return m.WriteFile(path) }
}
