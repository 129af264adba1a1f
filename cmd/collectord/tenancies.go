package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/dustin/go-humanize/english"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

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

// tenancyName returns the name of the tenancy, which is that of its file unless that sets
// another, as far as it can be read.
func (t *tenancyFile) tenancyName() string {
	if t.configuration != nil && !t.hasProblemWith("TENANCY") {
		return t.settings.Tenancy
	}
	return strings.TrimSuffix(t.file, filepath.Ext(t.file))
}

// hasProblemWith reports whether a setting cannot be used.
func (c *configuration) hasProblemWith(name string) bool {
	problems := (*config.Problems)(nil)
	return errors.As(c.problem, &problems) && slices.ContainsFunc(problems.List, func(p *config.Problem) bool { return p.Name == name })
}

// hasTenancies reports whether the configuration is that of a program with any number of
// tenancies.
func (c *configuration) hasTenancies() bool { return c.settings.Tenancies != "" }

// programTenancy returns the label of the metrics of the program itself: its only tenancy, and ""
// when it has any number of tenancies.
func (c *configuration) programTenancy() string {
	if c.hasTenancies() {
		return ""
	}
	return c.settings.Tenancy
}

// readTenancies reads the files in TENANCIES_DIR, ordered by the names of the tenancies.
func (c *configuration) readTenancies(env *config.Environment) error {
	files, err := config.TenancyFiles(c.settings.Tenancies)
	if err != nil {
		return err
	}
	read := make([]*tenancyFile, len(files))
	var all errgroup.Group
	all.SetLimit(runtime.GOMAXPROCS(0))
	for i, name := range files {
		all.Go(func() error {
			read[i] = c.readTenancyFile(env, name)
			return nil
		})
	}
	_ = all.Wait() // each file has its own error
	for _, one := range read {
		if one != nil {
			c.tenancies = append(c.tenancies, one)
		}
	}
	slices.SortStableFunc(c.tenancies, func(a, b *tenancyFile) int { return cmp.Compare(a.tenancyName(), b.tenancyName()) })
	c.warnings = append(c.warnings, env.WarnOfTenancies(c.settings.Tenancies, files)...)
	c.refuseConflicts()
	return nil
}

// readTenancyFile reads a file in TENANCIES_DIR; nil if it was removed meanwhile.
func (c *configuration) readTenancyFile(env *config.Environment, name string) *tenancyFile {
	one := &tenancyFile{file: name}
	if one.env, one.err = env.OpenTenancy(c.settings.Tenancies, name); one.err == nil {
		one.configuration, one.err = readTenancy(one.env, c.settings.ExecDir != "")
	} else if one.isGone(c.settings.Tenancies) {
		return nil
	}
	return one
}

// isGone reports whether the file was removed since the directory was read.
func (t *tenancyFile) isGone(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, t.file))
	return errors.Is(err, fs.ErrNotExist)
}

// readTenancy reads the settings of a tenancy from its file and what it shares with others.
// hasExternal reports whether there may be collectors of EXEC_DIR, which needs a look at the
// settings of its own.
func readTenancy(env *config.Environment, hasExternal bool) (own *configuration, err error) {
	own = newConfiguration()
	var problems []*config.Problem
	if hasExternal {
		problems = own.addExternalCollectors(env, nil)
	}
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

// readable returns the configuration of the tenancy as far as it can be read. Its problem says
// why it cannot be used. Without any it has the settings that tenancies share, and no collectors.
func (t *tenancyFile) readable(shared *configuration) *configuration {
	own := configuration{settings: shared.settings}
	if t.configuration != nil {
		own = *t.configuration
	}
	own.settings.Tenancy = t.tenancyName()
	if t.err != nil {
		own.problem = t.settingsError()
	}
	return &own
}

// tenancyNames returns the names of the tenancies in TENANCIES_DIR.
func (c *configuration) tenancyNames() (names []string) {
	for _, t := range c.tenancies {
		names = append(names, t.tenancyName())
	}
	return names
}

// distinctTenancyNames is tenancyNames with a name once that several files have.
func (c *configuration) distinctTenancyNames() []string { return slices.Compact(c.tenancyNames()) }

// describeTenancies returns the names of the tenancies for an error.
func (c *configuration) describeTenancies() string {
	return cmp.Or(strings.Join(c.distinctTenancyNames(), ", "), "none")
}

// unknownTenancy returns the error of a flag whose value is the name of no tenancy.
func (c *configuration) unknownTenancy(flag, name string) error {
	hint := ""
	if near := nearestName(name, c.tenancyNames()); near != "" {
		hint = fmt.Sprintf(": did you mean %s?", near)
	}
	return usageError(fmt.Errorf("%s: there is no tenancy %q%s; the tenancies in %s are %s", flag, name, hint, c.settings.Tenancies, c.describeTenancies()))
}

// settingsError returns the error of a file that cannot be used, for a command.
func (t *tenancyFile) settingsError() error {
	return &exitError{exitSettings, fmt.Errorf("%s: %w", t.file, t.operatorError())}
}

// refusal returns the error of a file that cannot be used, for the log.
func (t *tenancyFile) refusal() error {
	return fmt.Errorf("tenancy %s (%s): %w", t.tenancyName(), t.file, t.operatorError())
}

// chooseTenancies returns the files of the tenancies that a command is for: those with the name,
// which is that of --tenancy, or all without one. There are none without TENANCIES_DIR.
func (c *configuration) chooseTenancies(name string) ([]*tenancyFile, error) {
	switch {
	case !c.hasTenancies() && name != "" && name != c.settings.Tenancy:
		return nil, usageError(fmt.Errorf("--tenancy: there is no tenancy %q: TENANCY is %s, and TENANCIES_DIR is not set", name, c.settings.Tenancy))
	case !c.hasTenancies():
		return nil, nil
	case len(c.tenancies) == 0:
		return nil, c.noTenancies()
	case name == "":
		return c.tenancies, nil
	}
	var found *tenancyFile
	for _, t := range c.tenancies { // of files with the same name, the one that can be used
		if t.tenancyName() == name && (found == nil || found.err != nil) {
			found = t
		}
	}
	if found == nil {
		return nil, c.unknownTenancy("--tenancy", name)
	}
	return []*tenancyFile{found}, nil
}

// requireTenancyFlag returns the error of a command that is for one tenancy where there are
// several.
func (c *configuration) requireTenancyFlag() error {
	return usageError(fmt.Errorf("there are %s: choose one with --tenancy: %s", english.Plural(len(c.tenancies), "tenancy", "tenancies"), c.describeTenancies()))
}

// noTenancies returns the error of a command that needs a tenancy where there is none.
func (c *configuration) noTenancies() error {
	return &exitError{exitSettings, fmt.Errorf("TENANCIES_DIR: %s has no file NAME.env", c.settings.Tenancies)}
}

// assemblyOf returns the assembly of one of several tenancies, whose name is in its log.
func (a *assembly) assemblyOf(c *configuration) *assembly {
	own := *a.output
	own.log = a.log.With(zap.String("tenancy", c.settings.Tenancy))
	own.redactor.Learn(c.secrets...)
	return &assembly{configuration: c, output: &own, state: a.state, shared: a.shared}
}
