package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/internal/systemd"
	"github.com/collectord/collectord/pkg/cluster"
	"github.com/collectord/collectord/pkg/config"
	"github.com/collectord/collectord/pkg/metrics"
	"github.com/collectord/collectord/pkg/notify"
	"github.com/collectord/collectord/pkg/query"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/web"
)

// errStarting is the result of Ready until the service is ready.
var errStarting = errors.New("starting: the last-known snapshots are being restored")

// daemon is the program while it runs as a service: what does not belong to one tenancy.
type daemon struct {
	state   *state.State
	metrics *metrics.Metrics
	scrapes http.Handler // of metrics
	systemd *systemd.Notifier
	signals *signals
	log     *zap.Logger
	from    settingSources
	slots   *schedule.Slots // of MAX_PARALLEL_RUNS
	offered *web.QueryFiles // of HTTP_QUERIES

	beats      chan struct{} // see heartbeat
	reloading  sync.Mutex    // held during a reload
	background sync.WaitGroup
	working    sync.WaitGroup // the tenants that work
	// work is the context of the service's work; nil before it begins and when it ends.
	// It is guarded by reloading.
	work context.Context

	web     *web.Tenancies // nil without TENANCIES_DIR or HTTP
	queries *query.Engine  // of all tenancies; nil without web or HTTP_QUERY

	mu       sync.Mutex
	base     *assembly      // with the settings in force that tenancies share
	tenants  []*tenant      // ordered by name
	refused  []*tenancyFile // those of which no tenant works
	notReady error          // nil when the service is ready
	// reloaded and reloadErr are of the last reload of all tenancies.
	reloaded  time.Time
	reloadErr error
	// sharedLoaded and sharedErr are of the last load of what tenancies share.
	sharedLoaded time.Time
	sharedErr    error

	notifier *notify.Notifier // of what tenancies have in common; nil with one
	cluster  *cluster.Cluster // the services that share the state; nil with a state of its own
}

// runDaemon runs the collectors on their schedules until a signal stops it.
func runDaemon(ctx context.Context, p *program) (err error) {
	p.signals.enableForcedStop()
	a, err := p.loadAll()
	if err != nil {
		return err
	}
	if !a.hasTenancies() {
		err = errors.Join(a.requireActive(), a.checkControls())
	}
	if err != nil {
		return err
	}
	a.logWarnings()
	defer a.startTracing(ctx)()
	notifier := systemd.NewNotifier(a.log)
	started := notifier.Starting("starting")
	defer started()
	a.warnOfForeignState()
	a.isService = true
	if err := a.openState(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.state.Close()) }()
	d := newDaemon(a, p, notifier)
	defer d.closeTenants()
	if err := d.joinCluster(ctx); err != nil {
		return err
	}
	if a.hasTenancies() {
		a.warnOfOtherTenancies(ctx)
	}
	if err := d.openTenants(); err != nil {
		return err
	}
	server, err := d.newHTTPServer()
	if err != nil {
		return err
	}
	listener, err := a.listenHTTP(ctx)
	if err != nil {
		return err
	}
	return d.run(ctx, server, listener, started)
}

func newDaemon(a *assembly, p *program, notifier *systemd.Notifier) *daemon {
	d := &daemon{state: a.state, signals: p.signals, log: a.log, from: p.from, systemd: notifier, base: a, notReady: errStarting, reloaded: time.Now(),
		beats: make(chan struct{}, 1),
	}
	d.slots = schedule.NewSlots(a.settings.Run.MaxParallel)
	d.offered = web.NewQueryFiles(a.settings.HTTP.Queries, a.log)
	options := metrics.Options{State: a.state, Tenancy: a.programTenancy(), Version: version, Ready: d.Ready, Log: a.log}
	if a.hasTenancies() {
		options.LastReload, options.Unusable = d.lastSharedLoad, d.unusableNames
	}
	d.metrics = metrics.New(options)
	d.scrapes = d.metrics.Handler()
	return d
}

// openTenants opens the only tenancy, or each of several. A file of one that cannot be
// used does not keep the others from working.
func (d *daemon) openTenants() error {
	if !d.base.hasTenancies() {
		t, err := d.openTenant(d.base)
		if err != nil {
			return err
		}
		d.tenants = []*tenant{t}
		return nil
	}
	for _, file := range d.base.tenancies {
		if d.addTenant(file) == nil {
			d.refused = append(d.refused, file)
		}
	}
	var err error
	if len(d.base.tenancies) == 0 {
		err = d.base.noTenancies()
		d.log.Error("there is no tenancy yet: add a file and reload", zap.Error(err))
	}
	d.noteShared(err)
	d.notifier = d.newNotifier()
	return d.replaceTargets()
}

// addTenant opens the tenancy of a file, or records why it cannot be.
func (d *daemon) addTenant(file *tenancyFile) *tenant {
	var t *tenant
	if file.configuration != nil {
		d.base.redactor.Learn(file.secrets...)
	}
	if file.err == nil {
		a := d.base.assemblyOf(file.configuration)
		a.logWarnings()
		if file.err = a.checkControls(); file.err == nil {
			t, file.err = d.openTenant(a)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if file.err != nil {
		d.log.Error("a tenancy cannot be used; its data stays", zap.Error(file.refusal()))
		return nil
	}
	t.file = file.file
	d.tenants = append(d.tenants, t)
	slices.SortFunc(d.tenants, func(a, b *tenant) int { return strings.Compare(a.tenancyName(), b.tenancyName()) })
	return t
}

// openTenant opens the parts of a tenancy.
func (d *daemon) openTenant(a *assembly) (*tenant, error) {
	if err := a.holdTenancy(); err != nil {
		return nil, err
	}
	a.engine = newServiceEngine(a, d.base.engine)
	if d.base.engine == nil {
		d.base.engine = a.engine
	}
	parts, err := a.openParts(nil)
	if err != nil {
		a.closeEngine()
		return nil, errors.Join(err, a.releaseTenancy())
	}
	return newTenant(d, a, parts), nil
}

// closeTenants closes the destinations and engines of the tenants, and the engine of all.
func (d *daemon) closeTenants() {
	for _, t := range d.listTenants() {
		t.close()
	}
	if d.queries != nil {
		d.queries.Close()
	}
}

// listTenants returns the tenants, ordered by name.
func (d *daemon) listTenants() []*tenant {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.tenants)
}

// run serves until ctx is cancelled and the running work has ended. It calls started when
// the service is ready.
func (d *daemon) run(ctx context.Context, server httpServer, listener net.Listener, started func()) (err error) {
	stopHTTP := d.serveHTTP(server, listener) // HTTP is served during the restore
	defer stopHTTP()
	signalled, cancelSignals := context.WithCancel(ctx)
	defer d.background.Wait()
	defer cancelSignals()
	if err := d.startCluster(ctx); err != nil {
		return err
	}
	d.background.Go(func() { d.handleSignals(signalled) })
	ctx, lock, err := d.lead(ctx, started)
	if err != nil || lock == nil {
		d.leaveCluster()
		return err
	}
	d.systemd.Status("restoring from the backups")
	var restoring sync.WaitGroup
	d.reloading.Lock()
	d.work = ctx
	for _, t := range d.listTenants() {
		restoring.Add(1)
		d.startTenant(t, restoring.Done)
	}
	d.reloading.Unlock()
	d.background.Go(func() { d.sendHeartbeats(ctx) })
	restoring.Wait()
	d.background.Go(func() { d.runCleanup(ctx) })
	d.background.Go(func() { d.releaseIdleMemory(ctx) })
	if d.notifier != nil {
		d.background.Go(func() {
			d.notifier.Run(ctx)
			d.notifier.Close(lastNotifications)
		})
	}
	d.setNotReady(nil)
	started()
	d.systemd.Ready(d.statusLine())
	d.log.Info("ready", zap.Int("collectors", len(d.statuses())), zap.String("version", version))

	<-ctx.Done()
	d.setNotReady(schedule.ErrStopping)
	grace := d.sharedSettings().Schedule.Grace
	d.log.Info("stopping; running work may continue for SHUTDOWN_GRACE",
		zap.String("cause", context.Cause(ctx).Error()), zap.Duration("grace", grace))
	stopped := d.systemd.Stopping(grace)
	defer stopped()
	defer time.AfterFunc(grace+stateGrace, d.state.Interrupt).Stop()
	if err := lock.Unlock(); err != nil { // another service leads at once; what this one still does is fenced
		d.log.Warn("the lock of the service was not released", zap.Error(err))
	}
	d.working.Go(d.leaveCluster)
	d.reloading.Lock()
	d.work = nil
	d.reloading.Unlock()
	d.working.Wait()
	cancelSignals() // they go on when another process leads
	d.background.Wait()
	d.log.Info("stopped")
	if err := context.Cause(ctx); errors.Is(err, state.ErrLost) {
		return &exitError{exitLocked, err}
	}
	return nil
}

// stateGrace is how long the end of runs that SHUTDOWN_GRACE has cancelled may wait for the
// database of a shared state. It would wait for as long as a running service does.
const stateGrace = 2 * time.Second

// startTenant starts the work of a tenant, and calls restored when its restore is over.
// The caller holds reloading.
func (d *daemon) startTenant(t *tenant, restored func()) {
	t.life, t.stop = context.WithCancelCause(d.work)
	t.restores, t.stopRestores = context.WithCancel(t.life)
	ctx, restores := t.life, t.restores // a reload may replace the second
	a, parts := t.assembly, t.parts
	d.working.Go(func() {
		defer t.stop(nil)
		t.run(ctx, restores, a, parts, restored)
	})
}

// sharedSettings returns the settings in force that tenancies share.
func (d *daemon) sharedSettings() config.Settings {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.base.settings
}

// statuses returns the statuses of the collectors of all tenants. With several, their
// names begin with that of the tenancy.
func (d *daemon) statuses() (all []schedule.CollectorStatus) {
	hasTenancies := d.sharedSettings().Tenancies != ""
	for _, t := range d.listTenants() {
		for _, s := range t.scheduler.Statuses() {
			if hasTenancies {
				s.Collector = t.tenancyName() + "/" + s.Collector
			}
			all = append(all, s)
		}
	}
	return all
}

// Alive returns nil while the loops of all schedulers iterate.
func (d *daemon) Alive() error {
	for _, t := range d.listTenants() {
		if err := t.scheduler.Alive(); err != nil {
			return fmt.Errorf("tenancy %s: %w", t.tenancyName(), err)
		}
	}
	return nil
}

// LastReload returns when the settings were last loaded, and the error of that.
func (d *daemon) LastReload() (at time.Time, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.reloaded, d.reloadErr
}

// heartbeat makes sendHeartbeats send one. The schedulers of all tenants call it.
func (d *daemon) heartbeat() {
	select {
	case d.beats <- struct{}{}:
	default:
	}
}

// minHeartbeat is the shortest time between two heartbeats.
const minHeartbeat = time.Second

// sendHeartbeats tells the service manager that the program is alive, if it is, after each
// call of heartbeat. Those within minHeartbeat are one, since the status line needs the
// statuses of all tenants.
func (d *daemon) sendHeartbeats(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.beats:
		}
		if d.Alive() == nil {
			d.systemd.Heartbeat(d.statusLine())
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(minHeartbeat):
		}
	}
}

// handleSignals reloads the settings on SIGHUP and runs all collectors on SIGUSR1.
func (d *daemon) handleSignals(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-d.signals.control:
			if s != syscall.SIGUSR1 {
				_ = d.Reload(ctx) // it logs its error
				continue
			}
			for _, t := range d.listTenants() {
				t.scheduler.RunAllNow()
			}
		}
	}
}

// runCleanup cleans up the state directory now and once a day.
func (d *daemon) runCleanup(ctx context.Context) {
	tick := time.NewTicker(24 * time.Hour)
	defer tick.Stop()
	for {
		if err := d.state.Sweep(ctx, d.sharedSettings().StateKeep); err != nil && ctx.Err() == nil {
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
	return statusLine(d.statuses(), time.Now(), d.sharedSettings().Schedule.Zone.Location())
}
