package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/backup"
	"github.com/collectord/collectord/pkg/config"
	"github.com/collectord/collectord/pkg/metrics"
	"github.com/collectord/collectord/pkg/notify"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/web"
)

// errStarting is the answer of Ready until the daemon is.
var errStarting = errors.New("starting: the last-known snapshots are being restored")

// daemon is the program while it runs as a service.
type daemon struct {
	state     *state.State
	scheduler *schedule.Scheduler
	deliverer *schedule.Deliverer
	lives     *schedule.Lives
	systemd   *systemd
	signals   *signals
	metrics   *metrics.Metrics
	notifier  *notify.Notifier
	log       *zap.Logger
	jobs      []schedule.Job // those at the start

	reloading sync.Mutex // held while settings are read anew

	mu         sync.Mutex
	app        *app // with the settings in force
	sinks      []store.Sink
	unready    error
	reloaded   time.Time
	reloadFail error
}

var _ web.Daemon = (*daemon)(nil)

// daemon runs collectors by their schedules until a signal ends it.
func (a *app) daemon(ctx context.Context) (err error) {
	a.signals.serve()
	if err := a.load(); err != nil {
		return err
	}
	for _, w := range a.warnings {
		a.log.Warn(w)
	}
	if on, _ := a.active(); len(on) == 0 {
		return none(a.sources, a.sections)
	}
	defer a.startTraces(ctx)()
	st, err := a.openState(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	d, err := a.newDaemon(st)
	if err != nil {
		return err
	}
	defer func() { closeSinks(d.sinks, d.log) }()
	http, err := d.listen(ctx)
	if err != nil {
		return err
	}
	return d.run(ctx, http)
}

func (a *app) newDaemon(st *state.State) (*daemon, error) {
	a.notes = st.Notes(a.settings.Tenancy)
	targets, err := a.targets()
	if err != nil {
		return nil, err
	}
	sinks, err := a.sinks()
	if err != nil {
		return nil, err
	}
	d := &daemon{
		state: st, lives: &schedule.Lives{}, signals: a.signals, log: a.log,
		deliverer: a.deliverer(st, sinks),
		notifier:  a.notifier(st, targets),
		app:       a, sinks: sinks, unready: errStarting, reloaded: time.Now(),
	}
	d.metrics = metrics.New(metrics.Options{State: st, Daemon: d, Tenancy: a.settings.Tenancy, Version: version, Sinks: d.sinkNames})
	settings, err := d.schedules(a, sinks)
	if err != nil {
		closeSinks(sinks, a.log)
		return nil, err
	}
	for _, p := range settings.Plans {
		d.jobs = append(d.jobs, p.Job)
	}
	d.scheduler = schedule.NewScheduler(st, a.settings.Tenancy, settings, a.log, time.Now)
	d.scheduler.Concluded = d.notifier.Concluded
	d.systemd = newSystemd(a.log)
	d.scheduler.Round = func() { d.systemd.round(d.scheduler.Standings()) }
	d.scheduler.MaxRound = d.systemd.watchdog / 3
	return d, nil
}

// schedules makes the scheduler's settings of a's.
func (d *daemon) schedules(a *app, sinks []store.Sink) (schedule.Settings, error) {
	jobs, err := a.jobs(nil)
	if err != nil {
		return schedule.Settings{}, err
	}
	s := a.settings.Schedule
	runner := a.runner(d.state, sinks, d.deliverer)
	runner.Lives, runner.Ended = d.lives, d.metrics.Ended
	settings := schedule.Settings{Runner: runner, Retries: s.Retry, CatchUp: s.CatchUp}
	for _, job := range jobs {
		name := job.Collector.Name
		settings.Plans = append(settings.Plans, schedule.Plan{
			Job: job, Calendar: expressionOf(a, name).In(s.Zone.Location()), Zone: s.Zone.String(),
			Delay: a.delay(name),
		})
	}
	return settings, nil
}

// delay is what SCHEDULE_JITTER makes of a collector's ticks.
func (a *app) delay(name string) time.Duration {
	return schedule.Delay(a.settings.Schedule.Jitter, hostname(), a.settings.Tenancy, name)
}

// run serves until ctx ends.
func (d *daemon) run(ctx context.Context, http net.Listener) error {
	work, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	delivering, stopDelivering := context.WithCancel(context.Background())
	defer stopDelivering()

	stopServing := d.serveHTTP(http) // it answers while the restore goes on
	defer stopServing()
	d.systemd.starting("restoring from the backups", d.app.settings.Restore.Timeout)
	missing := d.app.restoreAtStart(ctx, d.state, d.sinks, d.jobs, d.metrics.RestoreEnded)

	var deliveries, scheduling, rest sync.WaitGroup
	rest.Go(d.restoreLater(ctx, missing))
	deliveries.Go(func() { d.deliverer.Serve(delivering, work) })
	scheduling.Go(func() { d.scheduler.Run(ctx, work) })
	rest.Go(func() { d.housekeep(ctx) })
	rest.Go(func() { d.slim(ctx) })
	rest.Go(func() { d.obey(ctx) })
	d.setReady(nil)
	d.systemd.ready(d.scheduler.Standings())
	d.log.Info("ready", zap.Int("collectors", len(d.scheduler.Standings())), zap.String("version", version))

	<-ctx.Done()
	d.setReady(schedule.ErrStopping)
	grace := d.settings().Schedule.Grace
	d.log.Info("stopping; running work may go on for SHUTDOWN_GRACE", zap.String("cause", context.Cause(ctx).Error()), zap.Duration("grace", grace))
	stopped := d.systemd.stopping(grace)
	defer stopped()
	scheduling.Wait()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		d.scheduler.Wait()
		stopDelivering()
		deliveries.Wait()
	}()
	d.patience(ended, grace, cancel)
	rest.Wait()
	d.notifier.Close(notifyPatience)
	d.log.Info("stopped")
	return nil
}

// restoreLater goes on trying to restore the streams.
func (d *daemon) restoreLater(ctx context.Context, streams []backup.Stream) func() {
	restorer := d.app.restorer(d.state, d.sinks)
	restorer.Ended = d.metrics.RestoreEnded
	return func() { restorer.Retry(ctx, streams) }
}

// patience waits for running work until the grace is over or a second signal
// comes, and then cancels it and waits for its end.
func (d *daemon) patience(ended <-chan struct{}, grace time.Duration, cancel context.CancelCauseFunc) {
	timer := time.NewTimer(grace)
	defer timer.Stop()
	var why error
	select {
	case <-ended:
		return
	case <-timer.C:
		why = fmt.Errorf("%w: SHUTDOWN_GRACE, %v, is over", schedule.ErrStopping, grace)
	case <-d.signals.hurry.Done():
		why = fmt.Errorf("%w: a second signal came", schedule.ErrStopping)
	}
	d.log.Warn("cancelling running work", zap.Error(why))
	cancel(why)
	<-ended
}

// obey does what SIGHUP and SIGUSR1 ask for.
func (d *daemon) obey(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-d.signals.asks:
			if s == syscall.SIGUSR1 {
				d.scheduler.RunAllNow()
				continue
			}
			if err := d.Reload(ctx); err != nil {
				d.log.Error("the settings were not changed; the old ones stay in force", zap.Error(err))
			}
		}
	}
}

// slim gives memory back: what starting has touched, and all that it can while
// nothing runs.
func (d *daemon) slim(ctx context.Context) {
	releaseProgram(d.log)
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	busy := true // starting was work
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		was := busy
		busy = len(d.lives.Running()) > 0
		if busy || !was {
			continue
		}
		debug.FreeOSMemory()
		releaseProgram(d.log)
	}
}

// releaseProgram gives back the memory that the program's own file takes, see
// releasePages.
func releaseProgram(log *zap.Logger) {
	if err := releasePages(); err != nil {
		log.Debug("giving memory back", zap.Error(err))
	}
}

// housekeep clears the state folder once a day.
func (d *daemon) housekeep(ctx context.Context) {
	tick := time.NewTicker(24 * time.Hour)
	defer tick.Stop()
	for {
		if err := d.state.Sweep(ctx, d.settings().StateKeep); err != nil && ctx.Err() == nil {
			d.log.Warn("clearing the state folder", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (d *daemon) settings() config.Settings {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.app.settings
}

func (d *daemon) setReady(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unready = err
}
