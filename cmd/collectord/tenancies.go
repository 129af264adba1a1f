package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dustin/go-humanize/english"
	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/config"
)

// A tenancyFile is a file in TENANCIES_DIR.
type tenancyFile struct {
	file string // its name
	// configuration is that of the tenancy: the file over what tenancies share. It is nil
	// when the file cannot be read. err says why the tenancy cannot be used; nil when it can.
	// It names no other tenancy; where it would have to, named does so in its place.
	*configuration
	err, named error
	// env are the sources of the configuration; nil when the file cannot be read.
	env *config.Environment
}

// tenancyName returns the name of the tenancy, which is that of its file unless that sets another.
func (t *tenancyFile) tenancyName() string {
	if t.configuration != nil && t.configuration.problem == nil {
		return t.settings.Tenancy
	}
	return strings.TrimSuffix(t.file, filepath.Ext(t.file))
}

// hasTenancies reports whether the configuration is that of a program with any number of
// tenancies.
func (c *configuration) hasTenancies() bool { return c.settings.Tenancies != "" }

// readTenancies reads the files in TENANCIES_DIR, ordered by the names of the tenancies.
func (c *configuration) readTenancies(env *config.Environment) error {
	files, err := config.TenancyFiles(c.settings.Tenancies)
	if err != nil {
		return err
	}
	for _, name := range files {
		one := &tenancyFile{file: name}
		if one.env, one.err = env.OpenTenancy(c.settings.Tenancies, name); one.err == nil {
			one.configuration, one.err = readTenancy(one.env)
		} else if one.isGone(c.settings.Tenancies) {
			continue
		}
		c.tenancies = append(c.tenancies, one)
	}
	slices.SortStableFunc(c.tenancies, func(a, b *tenancyFile) int { return cmp.Compare(a.tenancyName(), b.tenancyName()) })
	c.warnings = append(c.warnings, env.WarnOfTenancies(c.settings.Tenancies, files)...)
	c.refuseConflicts()
	return nil
}

// isGone reports whether the file was removed since the directory was read.
func (t *tenancyFile) isGone(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, t.file))
	return errors.Is(err, fs.ErrNotExist)
}

// readTenancy reads the settings of a tenancy from its file and what it shares with others.
func readTenancy(env *config.Environment) (own *configuration, err error) {
	own = newConfiguration()
	problems := own.addExternalCollectors(env, nil)
	own.warnings, err = env.Load(&own.settings, own.sections...)
	own.readSources(env)
	if err = addProblems(err, problems); err == nil {
		err = own.settleSharedState(env)
	}
	if err != nil {
		own.problem = own.addWarnings(err)
	} else {
		own.problem = own.requireActive()
	}
	return own, own.problem
}

// findTenancy returns the configuration of a tenancy.
func (c *configuration) findTenancy(name string) (*configuration, error) {
	for _, t := range c.tenancies {
		switch {
		case t.tenancyName() != name:
		case t.configuration == nil:
			return nil, t.settingsError()
		case t.err != nil:
			own := *t.configuration
			own.problem = t.settingsError()
			return &own, nil
		default:
			return t.configuration, nil
		}
	}
	return nil, usageError(fmt.Errorf("--tenancy: there is no tenancy %q; the tenancies in %s are %s", name, c.settings.Tenancies, c.describeTenancies()))
}

// tenancyNames returns the names of the tenancies in TENANCIES_DIR.
func (c *configuration) tenancyNames() (names []string) {
	for _, t := range c.tenancies {
		names = append(names, t.tenancyName())
	}
	return names
}

// describeTenancies returns the names of the tenancies for an error.
func (c *configuration) describeTenancies() string {
	return cmp.Or(strings.Join(c.tenancyNames(), ", "), "none")
}

// settingsError returns the error of a file that cannot be used, for a command.
func (t *tenancyFile) settingsError() error {
	return &exitError{exitSettings, fmt.Errorf("%s: %w", t.file, t.operatorError())}
}

// refusal returns the error of a file that cannot be used, for the log.
func (t *tenancyFile) refusal() error {
	return fmt.Errorf("tenancy %s (%s): %w", t.tenancyName(), t.file, t.operatorError())
}

// chooseTenancy returns the configuration of the tenancy that --tenancy names.
func (c *configuration) chooseTenancy(name string) (*configuration, error) {
	switch {
	case c.hasTenancies() && name == "":
		return nil, usageError(fmt.Errorf("there are %s: choose one with --tenancy: %s", english.Plural(len(c.tenancies), "tenancy", "tenancies"), c.describeTenancies()))
	case c.hasTenancies():
		return c.findTenancy(name)
	case name != "" && name != c.settings.Tenancy:
		return nil, usageError(fmt.Errorf("--tenancy: there is no tenancy %q: TENANCY is %s, and TENANCIES_DIR is not set", name, c.settings.Tenancy))
	}
	return c, nil
}

// forEachTenancy calls do with the program for the only tenancy or the one that --tenancy
// names, and otherwise for each, in text with a heading. It goes on after an error.
func (p *program) forEachTenancy(isText bool, do func(*program) error) error {
	if p.from.tenancy != "" {
		return do(p)
	}
	c, err := p.read()
	if err != nil || !c.hasTenancies() {
		return do(p) // which reports the error
	}
	var errs []error
	for i, t := range c.tenancies {
		if isText && i > 0 {
			fmt.Fprintln(p.stdout)
		}
		if isText {
			fmt.Fprintf(p.stdout, "# tenancy %s\n", t.tenancyName())
		}
		one := *p
		one.from.tenancy = t.tenancyName()
		if err := do(&one); err != nil {
			errs = append(errs, fmt.Errorf("tenancy %s: %w", t.tenancyName(), err))
		}
	}
	if len(c.tenancies) == 0 {
		errs = append(errs, c.noTenancies())
	}
	return errors.Join(errs...)
}

// noTenancies returns the error of a command that needs a tenancy where there is none.
func (c *configuration) noTenancies() error {
	return &exitError{exitSettings, fmt.Errorf("TENANCIES_DIR: %s has no file NAME.env", c.settings.Tenancies)}
}

// assemblyOf returns the assembly of a tenancy of the service.
func (a *assembly) assemblyOf(c *configuration) *assembly {
	own := *a.output
	own.log = a.log.With(zap.String("tenancy", c.settings.Tenancy))
	own.redactor.Learn(c.secrets...)
	return &assembly{configuration: c, output: &own, state: a.state, shared: a.shared}
}
