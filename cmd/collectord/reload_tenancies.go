package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/config"
	"github.com/collectord/collectord/pkg/state"
)

// reloadTenancies puts the settings in force that tenancies share, and those of each
// tenancy. A new file adds a tenancy; without its file a tenancy ends. A file that cannot be
// used changes nothing.
func (d *daemon) reloadTenancies(ctx context.Context) error {
	c, refused, err := d.rereadBase()
	if err = errors.Join(append(refused, err)...); err != nil {
		d.log.Error("the settings that tenancies share were not all reloaded", zap.Error(err))
	}
	d.noteShared(err)
	if c == nil {
		return err
	}
	errs := []error{err}
	for _, t := range d.listTenants() {
		if err := d.reloadTenant(ctx, c, t); err != nil {
			errs = append(errs, fmt.Errorf("tenancy %s (%s): %w", t.tenancyName(), t.file, err))
		}
	}
	return errors.Join(append(errs, d.addNewTenants(c)...)...)
}

// rereadBase puts the settings in force that tenancies share, and returns the configuration
// with the files of the tenancies. Without one, nothing was changed.
func (d *daemon) rereadBase() (c *configuration, refused []error, err error) {
	env, err := d.from.openEnvironment()
	if err != nil {
		return nil, nil, keptError(err)
	}
	c, refused = rereadConfiguration(env.ReloadShared, env, d.base.configuration)
	err = c.readTenancies(env)
	if err == nil {
		err = d.requireTenancy(c)
	}
	if err != nil {
		return nil, nil, keptError(err)
	}
	err = c.exportVariables(d.base.libraries)
	d.replaceBase(c)
	d.base.logWarnings()
	return c, refused, errors.Join(err, d.replaceTargets(), d.reloadTokens())
}

// requireTenancy returns an error when a reload would end all tenancies and begin none: the
// directory is probably not mounted.
func (d *daemon) requireTenancy(c *configuration) error {
	tenants := d.listTenants()
	isKept := func(f *tenancyFile) bool {
		return f.err == nil || slices.ContainsFunc(tenants, func(t *tenant) bool { return t.file == f.file })
	}
	if len(c.tenancies) > 0 && (len(tenants) == 0 || slices.ContainsFunc(c.tenancies, isKept)) {
		return nil
	}
	return config.Invalid("TENANCIES_DIR", "%s has no file NAME.env of a tenancy that can be used: check whether it is mounted; to end the last tenancy, stop the service", c.settings.Tenancies)
}

// noteShared records the error of the last load of the settings that tenancies share.
func (d *daemon) noteShared(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sharedLoaded, d.sharedErr = time.Now(), err
}

// lastSharedLoad returns when the settings that tenancies share were last loaded, and the error
// of that.
func (d *daemon) lastSharedLoad() (at time.Time, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sharedLoaded, d.sharedErr
}

// reloadTokens reads HTTP_TOKENS_FILE again. Tokens that cannot be used change nothing.
func (d *daemon) reloadTokens() error {
	if d.web == nil {
		return nil
	}
	tokens, warnings, err := d.base.loadTokens()
	if err != nil {
		return err
	}
	for _, text := range warnings {
		d.log.Warn(text)
	}
	d.web.ReplaceTokens(tokens)
	return nil
}

// replaceBase puts the settings in force that tenancies share.
func (d *daemon) replaceBase(c *configuration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	after := &assembly{configuration: c, output: d.base.output, state: d.base.state, shared: d.base.shared, engine: d.base.engine}
	after.redactor.Learn(c.secrets...)
	after.level.SetLevel(logLevel(c.settings.Log))
	d.base = after
}

// reloadTenant reloads the settings of a tenant, or ends it if its file is gone.
func (d *daemon) reloadTenant(ctx context.Context, c *configuration, t *tenant) error {
	i := slices.IndexFunc(c.tenancies, func(f *tenancyFile) bool { return f.file == t.file })
	if i < 0 {
		d.removeTenant(t)
		return nil
	}
	file := c.tenancies[i]
	if file.named != nil {
		d.log.Error("a tenancy keeps its settings, because of a conflict with others", zap.Error(file.refusal()))
	}
	if file.err != nil && (file.configuration == nil || file.problem == nil) { // a reload could not keep some settings
		return t.reload(ctx, nil, file.err)
	}
	return t.reload(ctx, file.env, nil)
}

// errRemoved is the cause of the end of a tenancy's work.
var errRemoved = errors.New("the tenancy was removed: its file in TENANCIES_DIR is gone")

// removeTenant ends the work of a tenant. Its data stays. Running work may continue for
// SHUTDOWN_GRACE.
func (d *daemon) removeTenant(t *tenant) {
	d.mu.Lock()
	d.tenants = slices.DeleteFunc(slices.Clone(d.tenants), func(other *tenant) bool { return other == t })
	d.mu.Unlock()
	d.metrics.RemoveTenancy(t.tenancyName())
	d.log.Info("the tenancy ends, since its file is gone; its data stays; running work may continue for SHUTDOWN_GRACE",
		zap.String("tenancy", t.tenancyName()), zap.Int("runs", len(t.active.List())), zap.Duration("grace", d.sharedSettings().Schedule.Grace))
	if t.stop != nil { // it works
		t.stop(errRemoved)
	} else {
		close(t.ended)
	}
	d.working.Go(func() {
		<-t.ended
		d.endTasks(t.tenancyName())
		t.close()
		d.log.Info("the tenancy has ended", zap.String("tenancy", t.tenancyName()))
	})
}

// addNewTenants starts the tenancies whose files are new, or could not be used before. It
// returns the errors of those that cannot be used.
func (d *daemon) addNewTenants(c *configuration) (errs []error) {
	var refused []*tenancyFile
	for _, file := range c.tenancies {
		if slices.ContainsFunc(d.listTenants(), func(t *tenant) bool { return t.file == file.file }) {
			continue
		}
		d.refuseNameInUse(file)
		t := d.addTenant(file)
		if t == nil {
			refused, errs = append(refused, file), append(errs, file.refusal())
			continue
		}
		if d.work != nil {
			d.startTenant(t, func() {})
		} else if err := d.Ready(); errors.Is(err, state.ErrStandby) {
			t.scheduler.StandBy(err)
		}
		d.log.Info("a tenancy begins", zap.String("tenancy", t.tenancyName()))
	}
	d.replaceRefused(refused)
	return errs
}

// refuseNameInUse refuses a new file with the name of a tenancy that works: the file of that
// one may have another name now, or not be readable.
func (d *daemon) refuseNameInUse(file *tenancyFile) {
	for _, t := range d.listTenants() {
		if file.err == nil && strings.EqualFold(t.tenancyName(), file.tenancyName()) {
			file.addConflict(conflict{"TENANCY", fmt.Sprintf("%q is the name of", file.tenancyName()), []string{t.file}, "want different names"})
		}
	}
}

// replaceRefused replaces the files of which no tenant works.
func (d *daemon) replaceRefused(files []*tenancyFile) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refused = files
	if d.notifier != nil {
		d.notifier.SettingsLoaded()
	}
}

// A refusal is why a tenancy cannot be used, or why other files with the name of one that works
// cannot.
type refusal struct {
	err   error // names no other tenancy
	named error // for those who may know all tenancies; it has the names of the files
}

// refusals returns the refusals by the name of the tenancy. Files with the same name are one.
func (d *daemon) refusals() map[string]refusal {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := map[string]refusal{}
	for _, file := range d.refused {
		if slices.ContainsFunc(d.tenants, func(t *tenant) bool { return t.file == file.file }) { // it works since
			continue
		}
		one := all[file.tenancyName()]
		if one.err == nil || !strings.Contains(one.err.Error(), file.err.Error()) {
			one.err = errors.Join(one.err, file.err)
		}
		one.named = errors.Join(one.named, fmt.Errorf("%s: %w", file.file, file.operatorError()))
		all[file.tenancyName()] = one
	}
	return all
}

// isWorking reports whether a tenancy works.
func (d *daemon) isWorking(name string) bool {
	return slices.ContainsFunc(d.listTenants(), func(t *tenant) bool { return t.tenancyName() == name })
}
