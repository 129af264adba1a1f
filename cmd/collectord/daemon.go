package main

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/internal/systemd"
	"github.com/collectord/collectord/pkg/metrics"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/state"
)

// errStarting is the result of Ready until the service is ready.
var errStarting = errors.New("starting: the last-known snapshots are being restored")

// daemon is the program while it runs as a service: what does not belong to one tenancy.
type daemon struct {
	state   *state.State
	metrics *metrics.Metrics
	systemd *systemd.Notifier
	signals *signals
	log     *zap.Logger
	from    settingSources
	tenant  *tenant

	reloading  sync.Mutex // held during a reload
	background sync.WaitGroup

	mu       sync.Mutex
	notReady error // nil when the service is ready
}

// runDaemon runs the collectors on their schedules until a signal stops it.
func runDaemon(ctx context.Context, p *program) (err error) {
	p.signals.enableForcedStop()
	a, err := p.load()
	if err != nil {
		return err
	}
	if err := errors.Join(a.requireActive(), a.checkControls()); err != nil {
		return err
	}
	a.logWarnings()
	defer a.startTracing(ctx)()
	notifier := systemd.NewNotifier(a.log)
	started := notifier.Starting("starting")
	defer started()
	a.warnOfForeignState()
	if err := a.openState(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.state.Close()) }()
	a.engine = newServiceEngine(a)
	defer a.closeEngine()
	parts, err := a.openParts(nil)
	if err != nil {
		return err
	}
	d := newDaemon(a, p, notifier)
	d.tenant = newTenant(d, a, parts)
	defer func() { a.closeDestinations(d.tenant.parts.sinks) }()
	listener, err := a.listenHTTP(ctx)
	if err != nil {
		return err
	}
	return d.run(ctx, listener, started)
}

func newDaemon(a *assembly, p *program, notifier *systemd.Notifier) *daemon {
	d := &daemon{state: a.state, signals: p.signals, log: a.log, from: p.from, systemd: notifier, notReady: errStarting}
	d.metrics = metrics.New(metrics.Options{
		State: a.state, Tenancy: a.settings.Tenancy, Version: version, Ready: d.Ready, Log: a.log,
	})
	return d
}

// run serves until ctx is cancelled and the running work has ended. It calls started when
// the service is ready.
func (d *daemon) run(ctx context.Context, listener net.Listener, started func()) error {
	stopHTTP := d.serveHTTP(listener) // HTTP is served during the restore
	defer stopHTTP()
	d.systemd.Status("restoring from the backups")
	t := d.tenant
	ready := make(chan struct{})
	var working sync.WaitGroup
	working.Go(func() { t.run(ctx, func() { close(ready) }) })
	<-ready
	d.background.Go(func() { d.runCleanup(ctx) })
	d.background.Go(func() { d.releaseIdleMemory(ctx) })
	d.background.Go(func() { d.handleSignals(ctx) })
	d.setNotReady(nil)
	started()
	d.systemd.Ready(d.statusLine())
	d.log.Info("ready", zap.Int("collectors", len(t.scheduler.Statuses())), zap.String("version", version))

	<-ctx.Done()
	d.setNotReady(schedule.ErrStopping)
	grace := t.settings().Schedule.Grace
	d.log.Info("stopping; running work may continue for SHUTDOWN_GRACE",
		zap.String("cause", context.Cause(ctx).Error()), zap.Duration("grace", grace))
	stopped := d.systemd.Stopping(grace)
	defer stopped()
	working.Wait()
	d.background.Wait()
	d.log.Info("stopped")
	return nil
}

// handleSignals reloads the settings on SIGHUP and runs all collectors on SIGUSR1.
func (d *daemon) handleSignals(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-d.signals.control:
			if s == syscall.SIGUSR1 {
				d.tenant.scheduler.RunAllNow()
				continue
			}
			_ = d.Reload(ctx) // it logs its error
		}
	}
}

// runCleanup cleans up the state directory now and once a day.
func (d *daemon) runCleanup(ctx context.Context) {
	tick := time.NewTicker(24 * time.Hour)
	defer tick.Stop()
	for {
		if err := d.state.Sweep(ctx, d.tenant.settings().StateKeep); err != nil && ctx.Err() == nil {
			d.log.Warn("cleaning up the state directory", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (d *daemon) setNotReady(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.notReady = err
}

// Ready implements web.Daemon.
func (d *daemon) Ready() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.notReady
}

// statusLine returns the line that systemctl status shows now.
func (d *daemon) statusLine() string {
	t := d.tenant
	return statusLine(t.scheduler.Statuses(), time.Now(), t.settings().Schedule.Zone.Location())
}
