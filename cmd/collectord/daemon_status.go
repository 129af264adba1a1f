package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/collectord/collectord/pkg/freshness"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/web"
)

// Statuses implements web.Daemon.
func (d *daemon) Statuses() []schedule.CollectorStatus { return d.scheduler.Statuses() }

// ActiveRuns implements web.Daemon.
func (d *daemon) ActiveRuns() []*run.ActiveRun { return d.active.List() }

// RunTotals implements metrics.Daemon.
func (d *daemon) RunTotals(collector, stream string) run.Totals {
	return d.active.Totals(collector, stream)
}

// MaxAge implements web.Daemon.
func (d *daemon) MaxAge(stream string) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.assembly.maxAgeOf(stream)
}

// Alive implements web.Daemon.
func (d *daemon) Alive() error { return d.scheduler.Alive() }

// Disabled implements web.Daemon.
func (d *daemon) Disabled() []web.DisabledCollector {
	d.mu.Lock()
	defer d.mu.Unlock()
	var disabled []web.DisabledCollector
	for _, s := range d.assembly.sections {
		if s.Collector && !s.Active {
			_, why := sectionState(s)
			d := web.DisabledCollector{Collector: s.Name, Title: s.Title, Why: why}
			if s.Off == "" {
				d.Missing = s.Missing
			}
			disabled = append(disabled, d)
		}
	}
	slices.SortFunc(disabled, func(a, b web.DisabledCollector) int { return strings.Compare(a.Collector, b.Collector) })
	return disabled
}

// DisabledStreams implements web.Daemon.
func (d *daemon) DisabledStreams() []freshness.DisabledStream {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.assembly.disabledStreams()
}

// Ready implements web.Daemon.
func (d *daemon) Ready() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.notReady
}

// RunNow implements web.Daemon.
func (d *daemon) RunNow(collector string) (streams []string, err error) {
	if streams, err = d.scheduler.RunNow(collector); err != nil {
		return nil, fmt.Errorf("%s: %w", collector, err)
	}
	return streams, nil
}

// RunStreamNow implements web.Daemon.
func (d *daemon) RunStreamNow(stream string) error {
	if err := d.scheduler.RunStreamNow(stream); err != nil {
		return fmt.Errorf("%s: %w", stream, err)
	}
	return nil
}

// DeliverNow implements web.Daemon.
func (d *daemon) DeliverNow(ctx context.Context) error {
	if err := d.state.Queue.RetryAllNow(ctx, d.settings().Tenancy); err != nil {
		return err
	}
	d.deliverer.RetryNow()
	return nil
}

// LastReload implements web.Daemon.
func (d *daemon) LastReload() (at time.Time, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.reloaded, d.reloadErr
}

// statusLine returns the line that systemctl status shows now.
func (d *daemon) statusLine() string {
	return statusLine(d.scheduler.Statuses(), time.Now(), d.settings().Schedule.Zone.Location())
}
