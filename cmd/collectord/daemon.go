package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/internal/systemd"
	"github.com/collectord/collectord/pkg/backup"
	"github.com/collectord/collectord/pkg/config"
	"github.com/collectord/collectord/pkg/control"
	"github.com/collectord/collectord/pkg/delivery"
	"github.com/collectord/collectord/pkg/freshness"
	"github.com/collectord/collectord/pkg/metrics"
	"github.com/collectord/collectord/pkg/notify"
	"github.com/collectord/collectord/pkg/query"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/web"
)

// errStarting is the result of Ready until the service is ready.
var errStarting = errors.New("starting: the last-known snapshots are being restored")

// daemon is the program while it runs as a service.
type daemon struct {
	state     *state.State
	scheduler *schedule.Scheduler
	deliverer *delivery.Deliverer
	active    *run.ActiveRuns
	systemd   *systemd.Notifier
	signals   *signals
	metrics   *metrics.Metrics
	notifier  *notify.Notifier
	queries   *query.Engine
	controls  *control.Evaluator
	log       *zap.Logger
	from      settingSources

	reloading sync.Mutex // held during a reload
	// life is the context of the service; nil when it is stopping. restores is that of
	// restores from the backup in force; stopRestores cancels it when the destinations
	// are replaced. All are guarded by reloading.
	life         context.Context
	restores     context.Context
	stopRestores context.CancelFunc
	background   sync.WaitGroup // what ends with life

	mu        sync.Mutex
	assembly  *assembly // with the settings in force
	parts     *parts
	notReady  error // nil when the service is ready
	reloaded  time.Time
	reloadErr error
}

var _ web.Daemon = (*daemon)(nil)

// lastNotifications bounds the wait for notifications when the service stops: the next
// start sends what was not sent. With SHUTDOWN_GRACE it must be shorter than the time that
// a container has to stop.
const lastNotifications = time.Second

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
	d := newDaemon(a, p, parts, notifier)
	defer func() { a.closeDestinations(d.parts.sinks) }()
	listener, err := a.listenHTTP(ctx)
	if err != nil {
		return err
	}
	return d.run(ctx, listener, parts, started)
}

func newDaemon(a *assembly, p *program, parts *parts, notifier *systemd.Notifier) *daemon {
	d := &daemon{
		state: a.state, active: &run.ActiveRuns{}, signals: p.signals, log: a.log, from: p.from,
		deliverer: a.newDeliverer(parts.sinks),
		queries:   a.engine,
		systemd:   notifier,
		assembly:  a, parts: parts, notReady: errStarting, reloaded: time.Now(),
	}
	d.notifier = d.newNotifier(parts)
	d.metrics = metrics.New(metrics.Options{
		State: a.state, Daemon: d, Tenancy: a.settings.Tenancy, Version: version, Sinks: d.sinkNames,
		Notifications: d.notifier.Counts, Log: a.log,
	})
	d.scheduler = schedule.NewScheduler(a.state, a.settings.Tenancy, d.schedulerSettings(a, parts), a.log, time.Now)
	d.controls = a.newEvaluator(d.queries, d.newRunner(a, parts), parts.sinks)
	d.controls.OnEvaluated = func(_, _ []control.Status) { d.notifier.ControlsEvaluated() }
	d.scheduler.OnFinished = func(results []run.Result) {
		d.notifier.RunFinished(results)
		d.prepareColumns(results)
		if hasNewData(results) {
			d.controls.Wake()
		}
	}
	d.scheduler.Heartbeat = func() { d.systemd.Heartbeat(d.statusLine()) }
	d.scheduler.MaxHeartbeat = d.systemd.WatchdogTimeout() / 3
	return d
}

// gatherNotifications is how long a problem waits for others, such as those of the other
// streams of a vendor, to be in one message with them.
const gatherNotifications = 20 * time.Second

// newNotifier returns the notifier of the service.
func (d *daemon) newNotifier(p *parts) *notify.Notifier {
	o := d.assembly.notifyOptions(d.sinkNames)
	o.Streams = func(ctx context.Context) ([]freshness.Stream, error) {
		return freshness.Read(ctx, d.state, d, o.Tenancy, time.Now())
	}
	o.LastReload, o.Gather = d.LastReload, gatherNotifications
	return notify.New(o, d.assembly.notifySettings(p.targets))
}

// restoreEnded takes the result of a restore.
func (d *daemon) restoreEnded(r backup.Result) {
	d.metrics.RestoreEnded(r)
	notifyRestore(d.notifier, r)
	d.controls.Wake()
}

// newRunner returns the runner for a's configuration.
func (d *daemon) newRunner(a *assembly, parts *parts) *run.Runner {
	runner := a.newRunner(parts.sinks, d.deliverer)
	runner.Active, runner.OnEnded = d.active, d.metrics.RunEnded
	return runner
}

// schedulerSettings returns the settings of the scheduler for a's configuration.
func (d *daemon) schedulerSettings(a *assembly, parts *parts) schedule.Settings {
	s := a.settings.Schedule
	settings := schedule.Settings{Runner: d.newRunner(a, parts), Retries: s.Retry.Value, CatchUp: s.CatchUp}
	if s.Retry.Unlimited {
		settings.Retries = -1
	}
	for _, job := range parts.jobs {
		settings.Plans = append(settings.Plans, a.plansOf(job)...)
	}
	return settings
}

// run restores what is missing, and serves until ctx is cancelled and the running
// work has ended. It calls started when the service is ready.
func (d *daemon) run(ctx context.Context, listener net.Listener, parts *parts, started func()) error {
	work, cancelWork := context.WithCancelCause(context.Background())
	defer cancelWork(nil)
	delivering, stopDelivering := context.WithCancel(context.Background())
	defer stopDelivering()

	a := d.assembly // a reload may replace it
	d.life = ctx
	d.restores, d.stopRestores = context.WithCancel(ctx)
	restores := d.restores // a reload may replace it
	d.noteReload(ctx, nil)
	stopHTTP := d.serveHTTP(listener) // HTTP is served during the restore
	defer stopHTTP()
	a.registerDestinations(ctx, parts.sinks)
	if err := d.state.Queue.RetryRefusedNow(ctx, a.settings.Tenancy); err != nil {
		d.log.Error("refused deliveries are attempted when their wait is over", zap.Error(err))
	}
	d.systemd.Status("restoring from the backups")
	restoration := a.restoreAtStart(restores, parts, d.restoreEnded)

	var deliveries, scheduling sync.WaitGroup
	d.background.Go(func() { d.retryRestore(restores, a, parts, restoration) })
	deliveries.Go(func() { d.deliverer.RunGracefully(delivering, work) })
	scheduling.Go(func() { d.scheduler.Run(ctx, work) })
	d.background.Go(func() { d.runCleanup(ctx) })
	d.background.Go(func() { d.releaseIdleMemory(ctx) })
	d.background.Go(func() { d.handleSignals(ctx) })
	d.background.Go(func() { d.notifier.Run(ctx) })
	d.background.Go(func() { d.controls.Run(ctx) })
	d.setNotReady(nil)
	started()
	d.systemd.Ready(d.statusLine())
	d.log.Info("ready", zap.Int("collectors", len(d.scheduler.Statuses())), zap.String("version", version))

	<-ctx.Done()
	d.setNotReady(schedule.ErrStopping)
	grace := d.settings().Schedule.Grace
	d.log.Info("stopping; running work may continue for SHUTDOWN_GRACE",
		zap.String("cause", context.Cause(ctx).Error()), zap.Duration("grace", grace))
	stopped := d.systemd.Stopping(grace)
	defer stopped()
	scheduling.Wait()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		d.scheduler.Wait()
		stopDelivering()
		deliveries.Wait()
	}()
	d.waitOrCancel(ended, grace, cancelWork)
	d.reloading.Lock()
	d.life = nil
	d.stopRestores()
	d.reloading.Unlock()
	d.background.Wait()
	d.notifier.Close(lastNotifications)
	d.log.Info("stopped")
	return nil
}

// retryRestore repeats the restores that failed until ctx ends.
func (d *daemon) retryRestore(ctx context.Context, a *assembly, p *parts, restoration *backup.Restoration) {
	restorer := a.newRestorer(p.sinks)
	restorer.Ended = d.restoreEnded
	restorer.Retry(ctx, restoration.Failed())
}

// waitOrCancel waits until the running work has ended. It cancels the work when the
// grace period is over or a second signal arrives.
func (d *daemon) waitOrCancel(ended <-chan struct{}, grace time.Duration, cancel context.CancelCauseFunc) {
	timer := time.NewTimer(grace)
	defer timer.Stop()
	var cause error
	select {
	case <-ended:
		return
	case <-timer.C:
		cause = fmt.Errorf("%w: SHUTDOWN_GRACE, %v, is over", schedule.ErrStopping, grace)
	case <-d.signals.forced.Done():
		cause = fmt.Errorf("%w: a second signal arrived", schedule.ErrStopping)
	}
	d.log.Warn("cancelling running work", zap.Error(cause))
	cancel(cause)
	<-ended
}

// handleSignals reloads the settings on SIGHUP and runs all collectors on SIGUSR1.
func (d *daemon) handleSignals(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-d.signals.control:
			if s == syscall.SIGUSR1 {
				d.scheduler.RunAllNow()
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
		if err := d.state.Sweep(ctx, d.settings().StateKeep); err != nil && ctx.Err() == nil {
			d.log.Warn("cleaning up the state directory", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// settings returns the settings in force.
func (d *daemon) settings() config.Settings {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.assembly.settings
}

func (d *daemon) setNotReady(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.notReady = err
}

// sinkNames returns the names of the destinations in force.
func (d *daemon) sinkNames() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return sinkNames(d.parts.sinks)
}
