package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/config"
)

// reloadTenancies puts the settings in force that tenancies share, and those of each
// tenancy. A new file adds a tenancy; without its file a tenancy ends. A file that cannot be
// used changes nothing.
func (d *daemon) reloadTenancies(ctx context.Context) error {
	env, c, refused, err := d.rereadBase()
	if err = errors.Join(append(refused, err)...); err != nil {
		d.log.Error("the settings that tenancies share were not all reloaded", zap.Error(err))
	}
	if c == nil {
		return err
	}
	errs := []error{err}
	for _, t := range d.listTenants() {
		if err := d.reloadTenant(ctx, env, c, t); err != nil {
			errs = append(errs, fmt.Errorf("tenancy %s (%s): %w", t.tenancyName(), t.file, err))
		}
	}
	return errors.Join(append(errs, d.addNewTenants(c)...)...)
}

// rereadBase puts the settings in force that tenancies share, and returns their sources and
// the configuration with the files of the tenancies. Without one, nothing was changed.
func (d *daemon) rereadBase() (env *config.Environment, c *configuration, refused []error, err error) {
	if env, err = d.from.openEnvironment(); err != nil {
		return nil, nil, nil, keptError(err)
	}
	c, refused = rereadConfiguration(env.ReloadShared, env, d.base.configuration)
	if err := c.readTenancies(env); err != nil {
		return nil, nil, nil, keptError(err)
	}
	err = c.exportVariables(d.base.libraries)
	d.replaceBase(c)
	return env, c, refused, errors.Join(err, d.reloadTokens())
}

// reloadTokens reads HTTP_TOKENS_FILE again. Tokens that cannot be used change nothing.
func (d *daemon) reloadTokens() error {
	if d.web == nil {
		return nil
	}
	tokens, err := d.base.readTokens()
	if err == nil {
		d.web.ReplaceTokens(tokens)
	}
	return err
}

// replaceBase puts the settings in force that tenancies share.
func (d *daemon) replaceBase(c *configuration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	after := &assembly{configuration: c, output: d.base.output, state: d.base.state, shared: d.base.shared, engine: d.base.engine}
	after.redactor.Learn(c.secrets...)
	after.level.SetLevel(logLevel(c.settings.Log))
	d.base, d.refused = after, nil
}

// reloadTenant reloads the settings of a tenant, or ends it if its file is gone.
func (d *daemon) reloadTenant(ctx context.Context, shared *config.Environment, c *configuration, t *tenant) error {
	i := slices.IndexFunc(c.tenancies, func(f *tenancyFile) bool { return f.file == t.file })
	if i < 0 {
		d.removeTenant(t)
		return nil
	}
	file := c.tenancies[i]
	if file.err != nil && file.configuration != nil && file.configuration.problem == nil { // it conflicts with another one
		return t.reload(ctx, nil, file.err)
	}
	env, err := shared.OpenTenancy(c.settings.Tenancies, t.file)
	return t.reload(ctx, env, err)
}

// removeTenant ends the work of a tenant. Its data stays. Running work may continue for
// SHUTDOWN_GRACE.
func (d *daemon) removeTenant(t *tenant) {
	d.mu.Lock()
	d.tenants = slices.DeleteFunc(slices.Clone(d.tenants), func(other *tenant) bool { return other == t })
	d.mu.Unlock()
	d.metrics.RemoveTenancy(t.tenancyName())
	d.log.Info("the tenancy ends, since its file is gone; its data stays", zap.String("tenancy", t.tenancyName()))
	t.stop()
	d.working.Go(func() {
		<-t.ended
		t.close()
	})
}

// addNewTenants starts the tenancies whose files are new, or could not be used before. It
// returns the errors of those that cannot be used.
func (d *daemon) addNewTenants(c *configuration) (refused []error) {
	for _, file := range c.tenancies {
		if slices.ContainsFunc(d.listTenants(), func(t *tenant) bool { return t.file == file.file }) {
			continue
		}
		t := d.addTenant(file)
		if t == nil {
			refused = append(refused, file.refusal())
			continue
		}
		d.startTenant(t, func() {})
		d.log.Info("a tenancy begins", zap.String("tenancy", t.tenancyName()))
	}
	return refused
}
