package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/collectord/collectord/pkg/config"
	"github.com/collectord/collectord/pkg/doctor"
	"github.com/collectord/collectord/pkg/query"
)

// A selection is the tenancies that a command works for: the only one, the one that --tenancy
// names, or all.
type selection struct {
	base    *assembly   // with the settings that tenancies share; that of the only one
	chosen  []*assembly // ordered by name; the problem of each says why it cannot be used
	several bool        // whether the command works for all of several tenancies
}

// choose reads the configuration, opens the log, and returns the tenancies that the command is
// for. Settings of which some cannot be used are no error, as long as they say where the state
// is.
func (p *program) choose() (*selection, error) {
	c, err := p.read()
	if err != nil && (c.problem == nil || c.settings.StateDir == "" || c.hasTenancies()) {
		return nil, err
	}
	files, err := c.chooseTenancies(p.from.tenancy)
	if err != nil {
		return nil, err
	}
	base, err := p.assemble(c)
	if err != nil {
		return nil, err
	}
	if !c.hasTenancies() {
		return &selection{base: base, chosen: []*assembly{base}}, nil
	}
	s := &selection{base: base, several: p.from.tenancy == ""}
	for _, t := range files {
		s.chosen = append(s.chosen, base.assemblyOf(t.readable(c)))
	}
	return s, nil
}

// one returns the assembly of the only tenancy of the selection, and an error when there are
// several or when its settings cannot be used.
func (s *selection) one() (*assembly, error) {
	if s.several {
		return nil, s.base.requireTenancyFlag()
	}
	return s.chosen[0], s.chosen[0].problem
}

// A tenanciesView is the document of --json of a command that works for several tenancies.
type tenanciesView struct {
	Version   string        `json:"version"`
	Errors    []string      `json:"errors"`
	Warnings  []string      `json:"warnings"`
	Findings  []findingView `json:"findings"`
	Tenancies []any         `json:"tenancies"`
}

// common is what a command reports about what several tenancies share.
type common struct {
	err      error
	warnings []string
	findings []doctor.Finding
}

// report calls do for each tenancy, for some at once, and prints the texts that it prints to
// the standard output of the assembly, in order and with headings, or one document with the
// views. It goes on after an error. For a single tenancy there is no heading, and the document
// is its view; a nil view is none.
func (s *selection) report(asJSON bool, shared common, do func(*assembly) (view any, err error)) error {
	if !s.several {
		view, err := do(s.chosen[0])
		if asJSON && view != nil {
			err = errors.Join(err, writeJSON(s.base.stdout, view))
		}
		return err
	}
	texts := make([]bytes.Buffer, len(s.chosen))
	views, errs := make([]any, len(s.chosen)), make([]error, len(s.chosen))
	s.forEach(func(i int, a *assembly) {
		a.stdout = a.redactor.Writer(&texts[i])
		views[i], errs[i] = do(a)
	})
	var err error
	if asJSON {
		err = writeJSON(s.base.stdout, tenanciesView{version, errorTexts(shared.err), append([]string{}, shared.warnings...), findingViews(shared.findings), views})
	} else {
		err = s.printTexts(texts)
	}
	return errors.Join(err, s.joinErrors(shared.err, errs))
}

// forEach calls do for each tenancy, for at most MAX_PARALLEL_RUNS at once.
func (s *selection) forEach(do func(i int, a *assembly)) {
	slots := make(chan struct{}, max(1, s.base.settings.Run.MaxParallel))
	var all sync.WaitGroup
	for i, a := range s.chosen {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			do(i, a)
		})
	}
	all.Wait()
}

// printTexts prints the text of each tenancy below a heading.
func (s *selection) printTexts(texts []bytes.Buffer) error {
	for i, a := range s.chosen {
		if i > 0 {
			fmt.Fprintln(s.base.stdout)
		}
		printTenancyHeading(s.base.stdout, a.settings.Tenancy)
		if _, err := texts[i].WriteTo(s.base.stdout); err != nil {
			return err
		}
	}
	return nil
}

func printTenancyHeading(w io.Writer, tenancy string) {
	fmt.Fprintf(w, "# tenancy %s\n", query.ReplaceControl(tenancy))
}

// joinErrors returns one error for those of the tenancies, in their order, each line of which
// names its tenancy, and for an error about what they share.
func (s *selection) joinErrors(shared error, errs []error) error {
	joined := &tenanciesError{}
	if shared != nil {
		joined.addError(shared, shared.Error())
	}
	for i, err := range errs {
		if err != nil {
			joined.addError(err, prefixLines(s.chosen[i].settings.Tenancy, err.Error()))
		}
	}
	return joined.orNil()
}

// prefixLines puts the name of a tenancy before each line.
func prefixLines(tenancy, text string) string {
	prefix := "tenancy " + query.ReplaceControl(tenancy) + ": "
	return prefix + strings.ReplaceAll(text, "\n", "\n"+prefix)
}

// A tenanciesError is the error of a command that works for several tenancies.
type tenanciesError struct {
	texts []string // of the errors that were not reported yet
	codes []int
}

func (e *tenanciesError) addError(err error, text string) {
	e.codes = append(e.codes, exitCode(err))
	if !errors.Is(err, errReported) {
		e.texts = append(e.texts, text)
	}
}

func (e *tenanciesError) Error() string { return strings.Join(e.texts, "\n") }

// orNil returns the error with its exit code: that of bad settings if any tenancy has it, the
// common one of all errors, and otherwise that of a partial failure.
func (e *tenanciesError) orNil() error {
	if len(e.codes) == 0 {
		return nil
	}
	code := exitPartial
	if slices.Contains(e.codes, exitSettings) {
		code = exitSettings
	} else if all := slices.Compact(slices.Clone(e.codes)); len(all) == 1 {
		code = all[0]
	}
	if len(e.texts) == 0 {
		return &exitError{code, errReported}
	}
	return &exitError{code, e}
}

// errorTexts returns the texts of an error: those of its problems with settings, one for each
// variable, or the error alone; none for nil.
func errorTexts(err error) []string {
	if err == nil {
		return []string{}
	}
	if problems := (*config.Problems)(nil); errors.As(err, &problems) {
		var texts []string
		for _, p := range problems.List {
			texts = append(texts, p.Error())
		}
		return texts
	}
	return []string{err.Error()}
}

// unusable returns the names of the tenancies whose settings cannot be used.
func (s *selection) unusable() (names []string) {
	for _, a := range s.chosen {
		if a.problem != nil {
			names = append(names, a.settings.Tenancy)
		}
	}
	return names
}
