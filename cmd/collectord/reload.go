package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/calendar"
	"github.com/collectord/collectord/pkg/config"
)

// expressionOf is the schedule of one collector.
func expressionOf(a *app, name string) calendar.Expression {
	for _, s := range a.sections {
		if s.Name == name && s.Schedule.IsSet() {
			return s.Schedule
		}
	}
	return a.settings.Schedule.All
}

// Reload implements web.Daemon: it reads the settings anew and puts them in
// force. Runs and deliveries under way end by the old ones.
func (d *daemon) Reload(ctx context.Context) error {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	d.systemd.reloading()
	err := d.reload()
	d.mu.Lock()
	d.reloaded, d.reloadFail = time.Now(), err
	d.mu.Unlock()
	d.systemd.ready(d.scheduler.Standings())
	return err
}

func (d *daemon) reload() error {
	d.mu.Lock()
	old := d.app
	before := d.sinks
	d.mu.Unlock()
	fresh := &app{
		stdout: old.stdout, stderr: old.stderr, envFile: old.envFile, log: old.log, terminal: old.terminal,
		notes: old.notes, state: old.state, level: old.level, hide: old.hide, signals: old.signals,
	}
	env, err := fresh.read()
	if err != nil {
		return err
	}
	old.hide.learn(env.Secrets())
	if err := needsRestart(old.settings, fresh.settings); err != nil {
		return err
	}
	targets, err := fresh.targets()
	if err != nil {
		return err
	}
	sinks := before
	swap := !reflect.DeepEqual(old.settings.Store, fresh.settings.Store)
	if swap {
		if sinks, err = fresh.sinks(); err != nil {
			return err
		}
	}
	settings, err := d.schedules(fresh, sinks)
	if err != nil {
		if swap {
			closeSinks(sinks, d.log)
		}
		return err
	}
	for _, w := range fresh.warnings {
		d.log.Warn(w)
	}
	d.mu.Lock()
	d.app, d.sinks = fresh, sinks
	d.mu.Unlock()
	old.level.SetLevel(levelOf(fresh.settings.Log))
	if swap {
		d.deliverer.Swap(sinks, fresh.settings.Store.RetryMaxWait, fresh.settings.Store.WriteTimeout, func() { closeSinks(before, d.log) })
	}
	d.notifier.Use(targets)
	d.scheduler.Apply(settings)
	d.log.Info("the settings were read anew", zap.Int("collectors", len(settings.Plans)), zap.Int("destinations", len(sinks)))
	return nil
}

// needsRestart refuses changes that a running daemon cannot make.
func needsRestart(old, fresh config.Settings) error {
	var errs []error
	for _, s := range []struct {
		name    string
		changed bool
	}{
		{"STATE_DIR", old.StateDir != fresh.StateDir},
		{"TENANCY", old.Tenancy != fresh.Tenancy},
		{"HTTP_LISTEN", old.HTTP.Listen != fresh.HTTP.Listen},
		{"HTTP_TOKEN", old.HTTP.Token != fresh.HTTP.Token},
		{"HTTP_WEB_CONFIG_FILE", old.HTTP.ConfigFile != fresh.HTTP.ConfigFile},
		{"HTTP_PPROF", old.HTTP.Pprof != fresh.HTTP.Pprof},
		{"HTTP_SHOW_DATA", old.HTTP.ShowData != fresh.HTTP.ShowData},
		{"HTTP_QUERY", old.HTTP.Query != fresh.HTTP.Query},
		{"LOG_FORMAT", old.Log.Format != fresh.Log.Format},
	} {
		if s.changed {
			errs = append(errs, fmt.Errorf("%s: was changed, which takes a restart", s.name))
		}
	}
	return errors.Join(errs...)
}
