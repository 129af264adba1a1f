package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/config"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/state"
)

// reloadNote is the key of the note that has the error of the last reload.
const reloadNote = "reload"

// Reload implements web.Daemon: it reads the settings again and puts those in force that
// can be used. The error names the others, which stay as they are. Runs and deliveries in
// progress end with the old settings.
func (d *daemon) Reload(ctx context.Context) error {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	if d.work == nil && !d.isFollowing() {
		return schedule.ErrStopping
	}
	d.systemd.Reloading()
	defer func() { d.systemd.Ready(d.statusLine()) }()
	reload := d.reloadOnly
	if d.sharedSettings().Tenancies != "" {
		reload = d.reloadTenancies
	}
	err := reload(ctx)
	if d.cluster == nil {
		d.slots.SetMax(d.sharedSettings().Run.MaxParallel)
	} else {
		d.describeToCluster(ctx)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reloaded, d.reloadErr = time.Now(), err
	return err
}

// reloadOnly reloads the settings of a service with one tenancy.
func (d *daemon) reloadOnly(ctx context.Context) error {
	t := d.listTenants()[0]
	env, err := d.from.openEnvironment()
	err = t.reload(ctx, env, err)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.base = t.assembly
	return err
}

// keptError is the error of a reload that changed nothing.
func keptError(err error) error { return fmt.Errorf("the old settings stay in force: %w", err) }

// reload puts the settings of the tenancy in force that env has, and logs and records the
// error, which may be that of opening env.
func (t *tenant) reload(ctx context.Context, env *config.Environment, err error) error {
	switch {
	case t.life == nil && !t.isFollowing():
		return schedule.ErrStopping
	case err != nil:
		err = keptError(err)
	default:
		err = t.applySettings(ctx, env)
	}
	if err != nil {
		t.log.Error("the settings were not all reloaded", zap.Error(err))
	}
	t.noteReload(ctx, err)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reloaded, t.reloadErr = time.Now(), err
	return err
}

// noteReload records the error of a reload, or that there is none, for the command
// status.
func (t *tenant) noteReload(ctx context.Context, reloadErr error) {
	if t.isFollowing() { // the note is the leader's
		return
	}
	text := ""
	if reloadErr != nil {
		text = time.Now().UTC().Format(time.RFC3339) + ": " + t.assembly.redactor.Redact(reloadErr.Error())
	}
	if err := t.state.Notes(t.settings().Tenancy).SetNote(context.WithoutCancel(ctx), reloadNote, text); err != nil {
		t.log.Error("recording the reload", zap.Error(err))
	}
}

// applySettings puts the settings in force that can be used.
func (t *tenant) applySettings(ctx context.Context, env *config.Environment) error {
	t.mu.Lock()
	before, partsBefore := t.assembly, t.parts
	t.mu.Unlock()
	c, refused := rereadConfiguration(env.Reload, env, before.configuration)
	if err := c.requireActive(); err != nil {
		return keptError(err)
	}
	after := &assembly{configuration: c, output: before.output, state: before.state, hold: before.hold, shared: before.shared, engine: before.engine}
	after.redactor.Learn(c.secrets...)
	parts, more := after.reopenParts(before, partsBefore)
	refused = append(append(refused, more...), after.reloadControls(before))
	after.logWarnings()
	t.mu.Lock()
	t.assembly, t.parts = after, parts
	t.mu.Unlock()
	after.level.SetLevel(logLevel(after.settings.Log))
	sinksChanged := !slices.Equal(parts.sinks, partsBefore.sinks)
	if sinksChanged {
		s := after.settings.Store
		if !t.isFollowing() {
			after.registerDestinations(ctx, parts.sinks)
		}
		t.deliverer.ReplaceSinks(parts.sinks, s.RetryMaxWait, s.WriteTimeout, func() { after.closeDestinations(partsBefore.sinks) })
		t.deliverAgain(ctx)
	}
	t.notifier.ReplaceSettings(after.notifySettings(parts.targets))
	t.controls.ApplySettings(after.controlSettingsWith(t.newRunner(after, parts), parts.sinks))
	changes := t.scheduler.ApplySettings(t.schedulerSettings(after, parts))
	if t.life != nil { // it leads
		t.completeReload(after, parts, changes, sinksChanged)
	}
	t.log.Info("settings reloaded", zap.Strings("changed", after.changesSince(before.configuration)),
		zap.Int("collectors", len(parts.jobs)), zap.Int("destinations", len(parts.sinks)))
	if err := errors.Join(refused...); err != nil {
		return fmt.Errorf("some settings were not applied and stay as they were, all others are in force: %w", err)
	}
	return nil
}

// deliverAgain makes what is queued due at once, after the destinations were replaced.
func (t *tenant) deliverAgain(ctx context.Context) {
	if t.isFollowing() {
		return
	}
	if err := t.DeliverNow(ctx); err != nil {
		t.log.Error("what is queued is attempted when its wait is over", zap.Error(err))
	}
}

// completeReload restores and runs what changed settings need, in the background. The caller holds
// reloading.
func (t *tenant) completeReload(after *assembly, parts *parts, changes schedule.Changes, sinksChanged bool) {
	if sinksChanged {
		t.stopRestores()
		t.restores, t.stopRestores = context.WithCancel(t.life)
	}
	life, restores := t.life, t.restores
	t.background.Go(func() {
		missing := after.missingData(life, parts, changes, sinksChanged)
		t.scheduler.CatchUp(life, without(changes.Changed, missing))
		// Streams that were on before have been recovered at the start. Recovering them
		// again would hold their locks, and a retry that is due would not run.
		for _, job := range parts.jobsOf(changes.Added) {
			after.recoverSnapshots(life, job.Collector.Name, job.Streams, parts.sinks)
		}
		t.restoreMissing(restores, after, parts, missing, func() { t.scheduler.CatchUp(life, slices.Concat(changes.Changed, changes.Added)) })
	})
}

// A reloadFunc is config.Environment.Reload or ReloadShared.
type reloadFunc func(inForce config.InForce, core *config.Settings, sections ...*config.Section) (warnings []string, refused []*config.Problem)

// rereadConfiguration reads the settings again from env, with reload, which is a method of
// it. Those that cannot be used stay as they are in before, and are returned as refused.
func rereadConfiguration(reload reloadFunc, env *config.Environment, before *configuration) (c *configuration, refused []error) {
	c = newConfiguration()
	problems := c.addExternalCollectors(env, before)
	var more []*config.Problem
	c.warnings, more = reload(before.inForce(), &c.settings, c.sections...)
	c.readSources(env)
	for _, p := range append(problems, more...) {
		refused = append(refused, p)
		if p.Name == "SCHEDULE_JITTER" { // the one in force stays, which may be that without a setting
			c.hasJitter = before.hasJitter
		}
	}
	if err := c.settleSharedState(env); err != nil {
		refused = append(refused, err)
	}
	_, restart := config.LibraryChanges(before.libraries, c.libraries)
	c.keepLibraries(before.libraries, restart)
	for _, name := range restart {
		refused = append(refused, config.RestartProblem(name))
	}
	return c, refused
}

// keepLibraries replaces variables of libraries by those of before.
func (c *configuration) keepLibraries(before []config.Variable, names []string) {
	isKept := func(v config.Variable) bool { return slices.Contains(names, v.Name) }
	c.libraries = slices.DeleteFunc(c.libraries, isKept)
	for _, v := range before {
		if isKept(v) {
			c.libraries = append(c.libraries, v)
		}
	}
}

// changesSince returns the names of the variables that differ from those of before.
func (c *configuration) changesSince(before *configuration) []string {
	libraries, _ := config.LibraryChanges(before.libraries, c.libraries)
	names := append(config.ChangedSettings(before.inForce(), c.inForce()), libraries...)
	return append(names, c.changedFiles(before)...)
}

// reopenParts opens the parts of the program for changed settings. A part that cannot be
// opened stays as it was, with its settings, and its error is returned as refused.
func (a *assembly) reopenParts(before *assembly, opened *parts) (p *parts, refused []error) {
	p = &parts{}
	var err error
	if p.targets, err = a.openTargets(); err != nil {
		refused = append(refused, err)
		p.targets, a.settings.Notify = opened.targets, before.settings.Notify
	}
	if err := a.reopenDestinations(p, before, opened); err != nil {
		refused = append(refused, err)
	}
	return p, append(refused, a.reopenCollectors(p, before, opened)...)
}

// reopenDestinations opens the destinations if their settings were changed.
func (a *assembly) reopenDestinations(p *parts, before *assembly, opened *parts) error {
	p.sinks = opened.sinks
	libraries, _ := config.LibraryChanges(before.libraries, a.libraries)
	if len(libraries) == 0 && reflect.DeepEqual(before.settings.Store, a.settings.Store) {
		return nil
	}
	err := a.exportVariables(before.libraries)
	if err == nil {
		p.sinks, err = a.openDestinations()
	}
	if err != nil {
		err = errors.Join(err, before.exportVariables(a.libraries))
		p.sinks, a.settings.Store, a.libraries = opened.sinks, before.settings.Store, before.libraries
	}
	return err
}

// reopenCollectors opens the collectors that are on. One that cannot be opened and was
// not on stays off.
func (a *assembly) reopenCollectors(p *parts, before *assembly, opened *parts) (refused []error) {
	for i, d := range a.definitions {
		section := a.sections[i]
		if !section.Active {
			continue
		}
		job, err := a.openCollector(d, section.Into, nil)
		if err == nil {
			p.jobs = append(p.jobs, job)
			continue
		}
		refused = append(refused, err)
		at := slices.IndexFunc(opened.jobs, func(j run.Job) bool { return j.Collector.Name == d.Name })
		if at < 0 {
			section.Active, section.Off = false, config.OffInvalid
			continue
		}
		a.sections[i] = before.findSection(d.Name)
		p.jobs = append(p.jobs, opened.jobs[at])
	}
	return refused
}

// missingData returns the streams to restore after a reload: those that were added, and
// those without data whose settings, or whose backup, may have been changed.
func (a *assembly) missingData(ctx context.Context, p *parts, changes schedule.Changes, sinksChanged bool) []string {
	candidates := changes.Changed
	if sinksChanged {
		candidates = nil
		for _, job := range p.jobs {
			candidates = append(candidates, job.StreamNames()...)
		}
	}
	missing := slices.Clone(changes.Added)
	for _, stream := range without(candidates, missing) {
		if _, _, err := a.state.Snapshots.LastKnown(ctx, stream, a.settings.Tenancy); errors.Is(err, state.ErrNoSnapshot) {
			missing = append(missing, stream)
		}
	}
	return missing
}

// without returns the names that are not in excluded.
func without(names, excluded []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return slices.Contains(excluded, name) })
}

// jobsOf returns the jobs of the streams alone.
func (p *parts) jobsOf(streams []string) (jobs []run.Job) {
	for _, job := range p.jobs {
		isOther := func(stream string) bool { return !slices.Contains(streams, stream) }
		if job.Streams = slices.DeleteFunc(job.StreamNames(), isOther); len(job.Streams) > 0 {
			jobs = append(jobs, job)
		}
	}
	return jobs
}

// restoreMissing restores streams as at a start, until ctx ends. It calls then when they
// are restored, or after RESTORE_TIMEOUT.
func (t *tenant) restoreMissing(ctx context.Context, a *assembly, p *parts, streams []string, then func()) {
	if len(streams) == 0 {
		return
	}
	restoration := a.beginRestore(ctx, p.jobsOf(streams), p.sinks, t.restoreEnded)
	then()
	t.retryRestore(ctx, a, p, restoration)
}
