package main

import (
	"context"
	"errors"
	"io"

	"github.com/collectord/collectord/pkg/collector"
)

// program is one call of collectord.
type program struct {
	stdout, stderr io.Writer
	from           settingSources
	signals        *signals
	// configuration and readErr are the result of read; both are nil before.
	configuration *configuration
	readErr       error
}

// read reads the configuration once: a command for each tenancy needs the same several times.
func (p *program) read() (*configuration, error) {
	if p.configuration == nil {
		p.configuration, p.readErr = readConfiguration(p.from)
	}
	return p.configuration, p.readErr
}

// load reads the configuration of the tenancy that the command is for, and opens the log.
func (p *program) load() (*assembly, error) {
	a, err := p.loadPartly()
	if err == nil {
		err = a.problem
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

// loadPartly is load for commands that can do without some settings: it accepts settings of
// which some cannot be used, as long as they say where the state is.
func (p *program) loadPartly() (*assembly, error) {
	c, err := p.read()
	if err != nil && (c.problem == nil || c.settings.StateDir == "" || c.hasTenancies()) {
		return nil, err
	}
	if c, err = c.chooseTenancy(p.from.tenancy); err != nil {
		return nil, err
	}
	return p.assemble(c)
}

// loadAll reads the configuration of the program with all its tenancies, and opens the log.
func (p *program) loadAll() (*assembly, error) {
	c, err := readConfiguration(p.from)
	if err != nil {
		return nil, err
	}
	return p.assemble(c)
}

// loadOneOrAll is load for the tenancy that --tenancy names, and loadAll without it.
func (p *program) loadOneOrAll() (*assembly, error) {
	if p.from.tenancy != "" {
		return p.load()
	}
	a, err := p.loadAll()
	if err == nil && a.hasTenancies() && len(a.tenancies) == 0 {
		return nil, a.noTenancies()
	}
	return a, err
}

// assemble opens the log of a configuration.
func (p *program) assemble(c *configuration) (*assembly, error) {
	if err := c.exportVariables(nil); err != nil {
		return nil, err
	}
	return &assembly{configuration: c, output: newOutput(p.stdout, p.stderr, c), shared: new(collector.Shared)}, nil
}

// withState calls do with the configuration of one tenancy loaded and the state open, as the
// user who owns it. It creates no state: without one the settings are probably not those of
// the service.
func (p *program) withState(ctx context.Context, do func(*assembly) error) (err error) {
	a, err := p.load()
	if err != nil {
		return err
	}
	return a.withOpenState(ctx, a.openTenancyState, do)
}

// withWholeState is withState with the configuration of the program with all its tenancies.
func (p *program) withWholeState(ctx context.Context, do func(*assembly) error) (err error) {
	a, err := p.loadAll()
	if err != nil {
		return err
	}
	return a.withOpenState(ctx, a.openState, do)
}

// withNewState is withWholeState for a command that may be the first one with a shared state,
// which it creates.
func (p *program) withNewState(ctx context.Context, do func(*assembly) error) (err error) {
	a, err := p.loadAll()
	if err != nil {
		return err
	}
	if a.hasSharedState() {
		if err := a.openState(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, a.closeState()) }()
		return do(a)
	}
	return a.withOpenState(ctx, a.openState, do)
}

// withOpenState calls do with the state that open opens, as the user who owns it.
func (a *assembly) withOpenState(ctx context.Context, open func(context.Context) error, do func(*assembly) error) (err error) {
	exists, err := a.hasState(ctx)
	if err != nil {
		return err
	}
	if !exists {
		return &missingStateError{a.describeState()}
	}
	if err := a.becomeStateOwner(); err != nil {
		return err
	}
	if err := open(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.closeState()) }()
	defer a.closeEngine()
	return do(a)
}
