package main

import (
	"context"
	"errors"
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
func (t *tenant) Statuses() []schedule.CollectorStatus { return t.scheduler.Statuses() }

// ActiveRuns implements web.Daemon.
func (t *tenant) ActiveRuns() []*run.ActiveRun { return append(t.active.List(), t.runsElsewhere()...) }

// RunTotals implements metrics.Daemon.
func (t *tenant) RunTotals(collector, stream string) run.Totals {
	return t.active.Totals(collector, stream)
}

// MaxAge implements web.Daemon.
func (t *tenant) MaxAge(stream string) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.assembly.maxAgeOf(stream)
}

// Alive implements web.Daemon.
func (t *tenant) Alive() error { return t.scheduler.Alive() }

// Disabled implements web.Daemon.
func (t *tenant) Disabled() []web.DisabledCollector {
	t.mu.Lock()
	defer t.mu.Unlock()
	var disabled []web.DisabledCollector
	for _, s := range t.assembly.sections {
		if s.Collector && !s.Active {
			_, why := sectionState(s)
			c := web.DisabledCollector{Collector: s.Name, Title: s.Title, Why: why}
			if s.Off == "" {
				c.Missing = s.Missing
			}
			disabled = append(disabled, c)
		}
	}
	slices.SortFunc(disabled, func(a, b web.DisabledCollector) int { return strings.Compare(a.Collector, b.Collector) })
	return disabled
}

// DisabledStreams implements web.Daemon.
func (t *tenant) DisabledStreams() []freshness.DisabledStream {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.assembly.disabledStreams()
}

// RunNow implements web.Daemon.
func (t *tenant) RunNow(collector string) (streams []string, err error) {
	if streams, err = t.scheduler.RunNow(collector); err != nil {
		return nil, fmt.Errorf("%s: %w", collector, err)
	}
	return streams, nil
}

// RunStreamNow implements web.Daemon.
func (t *tenant) RunStreamNow(stream string) error {
	if err := t.scheduler.RunStreamNow(stream); err != nil {
		return fmt.Errorf("%s: %w", stream, err)
	}
	return nil
}

// DeliverNow implements web.Daemon.
func (t *tenant) DeliverNow(ctx context.Context) error {
	if err := t.state.Queue.RetryAllNow(ctx, t.settings().Tenancy); err != nil {
		return err
	}
	t.deliverer.RetryNow()
	return nil
}

// errOtherFile is the error of a tenancy that works while another file has its name.
var errOtherFile = errors.New("another file with the name of this tenancy cannot be used; the log of the service and `collectord check` say why")

// LastReload implements web.Daemon.
func (t *tenant) LastReload() (at time.Time, err error) {
	t.mu.Lock()
	at, err = t.reloaded, t.reloadErr
	t.mu.Unlock()
	if _, refused := t.refusals()[t.tenancyName()]; refused && err == nil {
		err = errOtherFile
	}
	return at, err
}
