package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/internal/tracing"
	"github.com/collectord/collectord/pkg/backup"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/config"
	"github.com/collectord/collectord/pkg/control"
	"github.com/collectord/collectord/pkg/delivery"
	"github.com/collectord/collectord/pkg/notify"
	"github.com/collectord/collectord/pkg/query"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/local"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/file"
	"github.com/collectord/collectord/pkg/store/sinks"
)

// assembly makes the parts of the program from its configuration.
type assembly struct {
	*configuration
	*output
	state *state.State // nil while no state is open
	hold  state.Lock   // of the tenancy; nil while the assembly is of none or does not work for it
	// engine makes the Parquet files of the destinations, and runs controls and the
	// queries of the service. It is nil until it is needed.
	engine *query.Engine
	shared *collector.Shared
	// isService reports whether the program runs as a service.
	isService bool
}

// parts are what a run, the service and a reload open, in this order.
type parts struct {
	jobs    []run.Job
	targets []*notify.Target
	sinks   []store.Sink
}

// openParts opens the collectors that the names choose, without names all that
// are switched on, the notification targets and the destinations. It does no I/O.
func (a *assembly) openParts(names []string) (*parts, error) {
	jobs, err := a.openCollectors(names)
	if err != nil {
		return nil, err
	}
	p, err := a.openReceivers()
	if err != nil {
		return nil, err
	}
	p.jobs = jobs
	a.warnOfNoDestination(p.sinks)
	return p, nil
}

// openReceivers opens the parts that need no collector: the notification targets
// and the destinations.
func (a *assembly) openReceivers() (*parts, error) {
	targets, err := a.openTargets()
	if err != nil {
		return nil, err
	}
	sinks, err := a.openDestinations()
	if err != nil {
		return nil, err
	}
	return &parts{targets: targets, sinks: sinks}, nil
}

// openCollectors opens the collectors that the names choose; see chooseStreams.
func (a *assembly) openCollectors(names []string) ([]run.Job, error) {
	if err := a.checkSelection(names); err != nil {
		return nil, err
	}
	var jobs []run.Job
	on, settings := a.active()
	for i, d := range on {
		streams, chosen := chooseStreams(d, names)
		if !chosen {
			continue
		}
		job, err := a.openCollector(d, settings[i], streams)
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, job)
	}
	return jobs, nil
}

// openCollector opens a collector for some of its streams; an empty list stands for all
// that are on.
func (a *assembly) openCollector(d collector.Definition, settings any, streams []string) (run.Job, error) {
	var notes collector.Notes
	if a.state != nil {
		notes = a.state.Notes(a.settings.Tenancy)
	}
	with := a.shared.View()
	c, err := d.Open(settings, collector.Options{
		Version: version, Log: a.log.With(zap.String("collector", d.Name)), Notes: notes, Shared: with,
	})
	if err != nil {
		return run.Job{}, &exitError{exitSettings, fmt.Errorf("%s: %w", d.Name, err)}
	}
	c.Credentials = with.Keys("limits")
	a.restrictStreams(c)
	return run.Job{Collector: c, Streams: streams}, nil
}

// restrictStreams removes the streams that are off from a collector, and lets the
// errors of the others say how to do without them.
func (a *assembly) restrictStreams(c *collector.Collector) {
	c.Streams = slices.DeleteFunc(c.Streams, func(s collector.Stream) bool {
		_, settings := a.findStream(s.Name)
		return settings != nil && settings.Off != ""
	})
	for i := range c.Streams {
		c.Streams[i] = a.adviseExclusion(c.Name, c.Streams[i])
	}
}

// adviseExclusion returns the stream with errors that say how to do without it when a
// permission is missing, which may be part of a license.
func (a *assembly) adviseExclusion(collectorName string, s collector.Stream) collector.Stream {
	without := config.WithoutStream(a.settings.Collectors, collectorName, s.Name)
	if without == "" || a.countEnabledStreams() < 2 {
		return s // without it nothing would be on
	}
	advise := func(err error) error {
		if errors.Is(err, collector.ErrForbidden) {
			return fmt.Errorf("%w; or do without this stream: COLLECTORS=%s", err, without)
		}
		return err
	}
	extract, check := s.Extract, s.Check
	s.Extract = func(ctx context.Context, out collector.Output) error { return advise(extract(ctx, out)) }
	s.Check = func(ctx context.Context) error { return advise(check(ctx)) }
	return s
}

// openTargets returns the notification targets of SLACK_WEBHOOK and NOTIFY_URLS.
func (a *assembly) openTargets() ([]*notify.Target, error) {
	targets, err := notify.Parse(a.settings.Notify.Slack.Reveal(), a.settings.Notify.URLs.Reveal())
	if err != nil {
		return nil, &exitError{exitSettings, err}
	}
	return targets, nil
}

// openDestinations opens the configured destinations.
func (a *assembly) openDestinations() ([]store.Sink, error) {
	if a.engine == nil && a.state != nil {
		a.engine = a.newSharedEngine(nil)
	}
	opened, err := sinks.Open(a.settings.Store, a.state, store.Options{Parquet: a.encodeParquet, Declared: control.DeclaredMembers()}, a.log)
	if err != nil {
		return nil, &exitError{exitSettings, err}
	}
	if a.engine != nil {
		a.engine.ShareFiles(a.fileOptions(opened))
	}
	return opened, nil
}

// fileOptions returns the options of the Parquet files that some of the destinations
// store; nil when none does.
func (a *assembly) fileOptions(opened []store.Sink) *query.FileOptions {
	if !slices.ContainsFunc(opened, store.StoresParquet) {
		return nil
	}
	return &query.FileOptions{Repair: a.settings.Store.FileRepair, Memory: int64(a.settings.Store.DuckDBMemory)}
}

// encodeParquet returns the Parquet file of a snapshot.
func (a *assembly) encodeParquet(ctx context.Context, s *snapshot.Snapshot) (store.ParquetFile, error) {
	f, err := a.engine.ParquetFile(ctx, s)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// closeEngine ends the work of the engine, if there is one.
func (a *assembly) closeEngine() {
	if a.engine != nil {
		a.engine.Close()
	}
}

const noDestination = "no destination is configured"

// warnOfNoDestination warns of a run or a service without destinations.
func (a *assembly) warnOfNoDestination(opened []store.Sink) {
	if len(opened) == 0 {
		a.log.Warn(noDestination+": snapshots stay in the state only", zap.String("state", a.statePlace()))
	}
}

// closeDestinations closes destinations. A failure is logged only, because the
// data has been stored.
func (a *assembly) closeDestinations(sinks []store.Sink) {
	var errs []error
	for _, s := range sinks {
		if err := s.Close(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.Name(), err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		a.log.Warn("closing destinations", zap.Error(err))
	}
}

func sinkNames(sinks []store.Sink) []string {
	var names []string
	for _, s := range sinks {
		names = append(names, s.Name())
	}
	return names
}

// openState opens the state.
func (a *assembly) openState(ctx context.Context) (err error) {
	if a.hasSharedState() {
		err = a.openSharedState(ctx)
	} else {
		a.state, err = local.Open(ctx, a.settings.StateDir, local.Options{Log: a.log, Redact: a.redactor.Redact})
	}
	if err == nil {
		query.RemoveLeftovers(a.queryDir())
	}
	return classifyStateError(err)
}

// classifyStateError returns the error of opening the state, with its exit code.
func classifyStateError(err error) error {
	if errors.Is(err, state.ErrUnusable) {
		return &exitError{exitSettings, err}
	}
	return err
}

// openTenancyState opens the state directory to work for the tenancy.
func (a *assembly) openTenancyState(ctx context.Context) error {
	if err := a.openState(ctx); err != nil {
		return err
	}
	if err := a.holdTenancy(); err != nil {
		return errors.Join(err, a.state.Close())
	}
	return nil
}

// holdTenancy says that the assembly works for its tenancy, until releaseTenancy.
func (a *assembly) holdTenancy() (err error) {
	if a.hold, err = a.state.Locks.HoldTenancy(a.settings.Tenancy); errors.Is(err, state.ErrLocked) {
		return &exitError{exitLocked, err}
	}
	return err
}

func (a *assembly) releaseTenancy() error {
	if a.hold == nil {
		return nil
	}
	return a.hold.Unlock()
}

// closeState closes the state that openState or openTenancyState opened.
func (a *assembly) closeState() error { return errors.Join(a.releaseTenancy(), a.state.Close()) }

// clock returns the clock of runs and schedules: the machine's, or that of a shared state.
func (a *assembly) clock() func() time.Time {
	if s := a.sharedState(); s != nil {
		return s.ServerTime
	}
	return time.Now
}

func (a *assembly) newRunner(sinks []store.Sink, d *delivery.Deliverer) *run.Runner {
	return &run.Runner{
		State: a.state, Tenancy: a.settings.Tenancy, Policy: a.policy(sinks),
		Now: a.clock(), Timeout: a.settings.Run.Timeout, IdleTimeout: a.settings.Run.IdleTimeout, RetryTime: a.settings.Run.Patience,
		Parallel: a.settings.Run.MaxParallel, Log: a.log, OnSealed: d.Wake, OnTraced: d.LinkTrace, Active: &run.ActiveRuns{},
		FindLost: func(h snapshot.Header) []string { return store.FindLost(sinks, h) },
	}
}

// policy returns the rules by which a new snapshot is accepted and delivered.
func (a *assembly) policy(sinks []store.Sink) state.Policy {
	drop := a.settings.Guard.Drop
	if drop.Off {
		drop.Value = 0
	}
	var newestOnly []string
	for _, s := range sinks {
		if store.ReplacesPrevious(s) {
			newestOnly = append(newestOnly, s.Name())
		}
	}
	return state.Policy{
		Sinks: sinkNames(sinks), NewestOnly: newestOnly, SpoolMax: max(1, int64(a.settings.Store.SpoolMax)),
		StoreEmpty: a.settings.Store.Empty, GuardDropPercent: drop.Value,
	}
}

func (a *assembly) newDeliverer(sinks []store.Sink) *delivery.Deliverer {
	return delivery.New(a.state, a.settings.Tenancy, sinks, a.settings.Store.RetryMaxWait, a.settings.Store.WriteTimeout, a.log)
}

// notifyOptions returns the options that a notifier has in every command.
func (a *assembly) notifyOptions(sinks func() []string) notify.Options {
	return notify.Options{
		State: a.state, Tenancy: a.settings.Tenancy, Host: hostname(), Sinks: sinks, Redact: a.redactor.Redact, Log: a.log,
		Controls: func(ctx context.Context) (notify.Controls, error) {
			return readControls(ctx, a.state, a.settings.Tenancy)
		},
	}
}

func (a *assembly) notifySettings(targets []*notify.Target) notify.Settings {
	s := a.settings.Notify
	return notify.Settings{Targets: targets, Events: s.Events, Page: s.Page}
}

// notifyRestore passes the result of a restore on to a notifier.
func notifyRestore(n *notify.Notifier, r backup.Result) {
	var err error
	if r.Outcome == backup.Failed || r.Outcome == backup.Bad {
		err = r.Err
	}
	n.RestoreEnded(r.Name, err)
}

// newRestorer returns a restorer from the backup to the state and the file among
// the sinks.
func (a *assembly) newRestorer(sinks []store.Sink) *backup.Restorer {
	r := &backup.Restorer{State: a.state, Tenancy: a.settings.Tenancy, Policy: a.policy(sinks), Log: a.log}
	for _, s := range sinks {
		switch s := s.(type) {
		case *backup.Sink:
			r.Backup = s
		case *file.Sink:
			r.File = s
		}
	}
	return r
}

// startTracing starts sending traces and returns the function that ends it.
func (a *assembly) startTracing(ctx context.Context) (stop func()) {
	return tracing.Start(ctx, tracing.Options{Version: version, Log: a.log, AddSecrets: a.redactor.Learn, Redact: a.redactor.Redact})
}

// logWarnings logs the warnings about the settings.
func (a *assembly) logWarnings() {
	for _, w := range a.warnings {
		a.log.Warn(w)
	}
	for _, c := range a.cautions() {
		if c.Urgent {
			a.log.Warn(c.Text)
		}
	}
}
