package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

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

// A tenant is one tenancy of the service: its settings, and all that works with them.
type tenant struct {
	*daemon
	file      string // of the tenancy; "" for the only one
	log       *zap.Logger
	scheduler *schedule.Scheduler
	deliverer *delivery.Deliverer
	active    *run.ActiveRuns
	metrics   *metrics.Tenancy
	notifier  *notify.Notifier
	queries   *query.Engine
	controls  *control.Evaluator
	server    *web.Server

	// life is the context of the tenancy's work; nil when it is stopping. restores is that
	// of restores from the backup in force; stopRestores cancels it when the destinations
	// are replaced. All are guarded by daemon.reloading.
	life         context.Context
	restores     context.Context
	stopRestores context.CancelFunc
	background   sync.WaitGroup          // what ends with life
	stop         context.CancelCauseFunc // ends the work of the tenant
	ended        chan struct{}           // closed when the work has ended

	mu        sync.Mutex
	assembly  *assembly // with the settings in force
	parts     *parts
	reloaded  time.Time
	reloadErr error
}

var _ web.Daemon = (*tenant)(nil)

// lastNotifications bounds the wait for notifications when the service stops: the next
// start sends what was not sent. With SHUTDOWN_GRACE it must be shorter than the time that
// a container has to stop.
const lastNotifications = time.Second

func newTenant(d *daemon, a *assembly, parts *parts) *tenant {
	t := &tenant{
		daemon: d, log: a.log, active: &run.ActiveRuns{}, queries: a.engine,
		deliverer: a.newDeliverer(parts.sinks),
		assembly:  a, parts: parts, reloaded: time.Now(), ended: make(chan struct{}),
	}
	t.notifier = t.newNotifier(parts)
	t.metrics = d.metrics.AddTenancy(metrics.TenancyOptions{
		Name: a.settings.Tenancy, Daemon: t, Sinks: t.sinkNames, Notifications: t.notifier.Counts,
	})
	t.scheduler = schedule.NewScheduler(a.state, a.settings.Tenancy, t.schedulerSettings(a, parts), a.log, a.clock())
	if d.cluster != nil {
		t.scheduler.Cluster = d.cluster
	}
	t.controls = a.newEvaluator(t.queries, t.newRunner(a, parts), parts.sinks)
	t.controls.OnEvaluated = func(_, _ []control.Status) { t.notifier.ControlsEvaluated() }
	t.scheduler.OnFinished = func(results []run.Result) {
		t.notifier.RunFinished(results)
		t.prepareColumns(results)
		if hasNewData(results) {
			t.deliverer.Wake() // another service may have run it
			t.controls.Wake()
		}
	}
	t.scheduler.Heartbeat = d.heartbeat
	t.scheduler.MaxHeartbeat = d.systemd.WatchdogTimeout() / 3
	t.server = t.newServer(a.settings.HTTP)
	return t
}

// gatherNotifications is how long a problem waits for others, such as those of the other
// streams of a vendor, to be in one message with them.
const gatherNotifications = 20 * time.Second

// newNotifier returns the notifier of the tenancy.
func (t *tenant) newNotifier(p *parts) *notify.Notifier {
	o := t.assembly.notifyOptions(t.sinkNames)
	o.Streams = func(ctx context.Context) ([]freshness.Stream, error) {
		return freshness.Read(ctx, t.state, t, o.Tenancy, time.Now())
	}
	o.LastReload, o.Gather = t.LastReload, gatherNotifications
	return notify.New(o, t.assembly.notifySettings(p.targets))
}

// restoreEnded takes the result of a restore.
func (t *tenant) restoreEnded(r backup.Result) {
	t.metrics.RestoreEnded(r)
	notifyRestore(t.notifier, r)
	t.controls.Wake()
}

// newRunner returns the runner for a's configuration.
func (t *tenant) newRunner(a *assembly, parts *parts) *run.Runner {
	runner := a.newRunner(parts.sinks, t.deliverer)
	runner.Active, runner.OnEnded = t.active, t.metrics.RunEnded
	return runner
}

// schedulerSettings returns the settings of the scheduler for a's configuration.
func (t *tenant) schedulerSettings(a *assembly, parts *parts) schedule.Settings {
	s := a.settings.Schedule
	settings := schedule.Settings{Runner: t.newRunner(a, parts), Retries: s.Retry.Value, CatchUp: s.CatchUp, Slots: t.slots}
	if s.Retry.Unlimited {
		settings.Retries = -1
	}
	for _, job := range parts.jobs {
		settings.Plans = append(settings.Plans, a.plansOf(job)...)
	}
	return settings
}

// run restores what is missing, with the context restores, and works until ctx is cancelled
// and the running work has ended. It calls started when the restore is over. a and parts are
// those in force at first.
func (t *tenant) run(ctx, restores context.Context, a *assembly, parts *parts, started func()) {
	defer close(t.ended)
	work, cancelWork := context.WithCancelCause(context.Background())
	defer cancelWork(nil)
	delivering, stopDelivering := context.WithCancel(context.Background())
	defer stopDelivering()

	t.noteReload(ctx, nil)
	a.registerDestinations(ctx, parts.sinks)
	if err := t.state.Queue.RetryRefusedNow(ctx, a.settings.Tenancy); err != nil {
		t.log.Error("refused deliveries are attempted when their wait is over", zap.Error(err))
	}
	restoration := a.restoreAtStart(restores, parts, t.restoreEnded)

	var deliveries, scheduling sync.WaitGroup
	t.background.Go(func() { t.retryRestore(restores, a, parts, restoration) })
	deliveries.Go(func() { t.deliverer.RunGracefully(delivering, work) })
	scheduling.Go(func() { t.scheduler.Run(ctx, work) })
	t.background.Go(func() { t.notifier.Run(ctx) })
	t.background.Go(func() { t.controls.Run(ctx) })
	started()

	<-ctx.Done()
	scheduling.Wait()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		t.scheduler.Wait()
		if isRemoved(ctx) { // no other start delivers what these runs have sealed
			t.deliverLast(work)
		}
		stopDelivering()
		deliveries.Wait()
	}()
	t.waitOrCancel(ended, endReason(ctx), t.settings().Schedule.Grace, cancelWork)
	t.reloading.Lock()
	t.life = nil
	t.stopRestores()
	t.reloading.Unlock()
	t.background.Wait()
	t.notifier.Close(lastNotifications)
}

// retryRestore repeats the restores that failed until ctx ends.
func (t *tenant) retryRestore(ctx context.Context, a *assembly, p *parts, restoration *backup.Restoration) {
	restorer := a.newRestorer(p.sinks)
	restorer.Ended = t.restoreEnded
	restorer.Retry(ctx, restoration.Failed())
}

// isRemoved reports whether the life of a tenancy has ended because its file is gone.
func isRemoved(life context.Context) bool { return errors.Is(context.Cause(life), errRemoved) }

// endReason returns why the life of a tenancy has ended, for what that cancels.
func endReason(life context.Context) error {
	if isRemoved(life) {
		return errRemoved
	}
	return schedule.ErrStopping
}

// deliverLast waits until what is queued is stored or refused, or ctx is cancelled.
func (t *tenant) deliverLast(ctx context.Context) {
	switch undelivered, err := t.deliverer.WaitUntilDelivered(ctx); {
	case err != nil:
		t.log.Error("the last deliveries of the tenancy are not waited for", zap.Error(err))
	case len(undelivered) > 0:
		t.log.Warn("deliveries stay queued until the tenancy has a file again, or is forgotten", zap.Int("queued", len(undelivered)))
	}
}

// waitOrCancel waits until the running work has ended. It cancels the work, with the reason of
// the end, when the grace period is over or a second signal arrives.
func (t *tenant) waitOrCancel(ended <-chan struct{}, reason error, grace time.Duration, cancel context.CancelCauseFunc) {
	timer := time.NewTimer(grace)
	defer timer.Stop()
	var cause error
	select {
	case <-ended:
		return
	case <-timer.C:
		cause = fmt.Errorf("%w: SHUTDOWN_GRACE, %v, is over", reason, grace)
	case <-t.signals.forced.Done():
		cause = fmt.Errorf("%w: a second signal arrived", reason)
	}
	t.log.Warn("cancelling running work", zap.Error(cause))
	cancel(cause)
	<-ended
}

// controlSource returns where the controls of the settings in force come from.
func (t *tenant) controlSource() web.ControlSource {
	s := t.settings().Controls
	return web.ControlSource{Dir: s.Dir, Detail: s.Detail}
}

// prepareColumns prepares the columns of the new snapshots of a run, if there may be
// queries.
func (t *tenant) prepareColumns(results []run.Result) {
	var streams []string
	for _, r := range results {
		if r.Outcome == state.Success {
			streams = append(streams, r.Stream)
		}
	}
	if s := t.settings().HTTP; s.Listen != "" && s.Query && len(streams) > 0 {
		t.queries.Prepare(streams, func(stream string, err error) {
			t.log.Warn("the columns for queries could not be prepared; a query tries it again", zap.String("stream", stream), zap.Error(err))
		})
	}
}

// close closes the destinations and the engine of a tenant whose work has ended.
func (t *tenant) close() {
	t.assembly.closeDestinations(t.parts.sinks)
	t.queries.Close()
	if err := t.assembly.releaseTenancy(); err != nil {
		t.log.Warn("the data of the tenancy cannot be deleted until the service ends", zap.Error(err))
	}
}

// tenancyName returns the name of the tenancy.
func (t *tenant) tenancyName() string { return t.metrics.Name }

// settings returns the settings in force.
func (t *tenant) settings() config.Settings {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.assembly.settings
}

// sinkNames returns the names of the destinations in force.
func (t *tenant) sinkNames() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return sinkNames(t.parts.sinks)
}
