package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/web"
)

// Standings implements web.Daemon.
func (d *daemon) Standings() []schedule.Standing { return d.scheduler.Standings() }

// Running implements web.Daemon.
func (d *daemon) Running() []*schedule.Live { return d.lives.Running() }

// Alive implements web.Daemon.
func (d *daemon) Alive() error { return d.scheduler.Alive() }

// Off implements web.Daemon.
func (d *daemon) Off() []web.Off {
	d.mu.Lock()
	defer d.mu.Unlock()
	var off []web.Off
	for _, s := range d.app.sections {
		if s.Collector && !s.Active {
			_, why := stateOf(s)
			off = append(off, web.Off{Collector: s.Name, Title: s.Title, Missing: s.Missing, Why: why})
		}
	}
	slices.SortFunc(off, func(a, b web.Off) int { return strings.Compare(a.Collector, b.Collector) })
	return off
}

// Ready implements web.Daemon.
func (d *daemon) Ready() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.unready
}

// RunNow implements web.Daemon.
func (d *daemon) RunNow(collector string) error {
	if err := d.scheduler.RunNow(collector); err != nil {
		return fmt.Errorf("%s: %w", collector, err)
	}
	return nil
}

// DeliverNow implements web.Daemon.
func (d *daemon) DeliverNow(ctx context.Context) error {
	if err := d.state.RetryNow(ctx); err != nil {
		return err
	}
	d.deliverer.Wake()
	return nil
}

// LastReload implements web.Daemon.
func (d *daemon) LastReload() (at time.Time, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.reloaded, d.reloadFail
}
