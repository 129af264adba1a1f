package main

import (
	"cmp"
	"errors"
	"slices"

	"github.com/collectord/collectord/pkg/collector/external"
	"github.com/collectord/collectord/pkg/collector/sources"
	"github.com/collectord/collectord/pkg/config"
	"github.com/collectord/collectord/pkg/control"
	"github.com/collectord/collectord/pkg/store/sinks"
)

// addExternalCollectors adds the collectors of the files in EXEC_DIR. A file that cannot be
// used is left out, unless it is in force in before, and its problems are returned.
func (c *configuration) addExternalCollectors(env *config.Environment, before *configuration) (problems []*config.Problem) {
	// Only these two are used of the settings: which others there are depends on the files.
	settings := sinks.NewSettings()
	_, _ = env.Load(settings)
	c.settings.Tenancies = settings.Tenancies
	if settings.ExecDir == "" {
		return nil
	}
	var inForce []*external.File
	if before != nil {
		inForce = before.external
	}
	reserved := external.Reserved{
		Names:     append(namesOf(sources.All()), control.CollectorName, control.DetailStream, control.SummaryStream),
		Variables: config.VariableNames(settings),
	}
	files, found := external.Load(settings.ExecDir, reserved, inForce)
	for _, p := range found {
		problems = append(problems, p.Setting())
	}
	if before != nil {
		files = keepFiles(files, found, before.external)
	}
	for _, f := range files {
		d := f.Definition()
		c.external = append(c.external, f)
		c.definitions, c.sections = append(c.definitions, d), append(c.sections, sources.NewSection(d))
	}
	return problems
}

// keepFiles returns the files with those in force of which the new ones have problems. One
// whose names another file has now is left out.
func keepFiles(files []*external.File, problems []external.Problem, inForce []*external.File) []*external.File {
	used := map[string]bool{}
	for _, f := range files {
		used[f.Collector()] = true
		for _, name := range f.StreamNames() {
			used[name] = true
		}
	}
	for _, kept := range inForce {
		isFaulty := slices.ContainsFunc(problems, func(p external.Problem) bool { return p.File == kept.Name || p.File == "" })
		isUsed := slices.ContainsFunc(append(kept.StreamNames(), kept.Collector()), func(name string) bool { return used[name] })
		if isFaulty && !isUsed {
			files = append(files, kept)
		}
	}
	slices.SortStableFunc(files, func(a, b *external.File) int { return cmp.Compare(a.Name, b.Name) })
	return files
}

// addProblems returns an error about the settings with further problems.
func addProblems(err error, problems []*config.Problem) error {
	var all *config.Problems
	switch {
	case len(problems) == 0:
		return err
	case errors.As(err, &all):
		return &config.Problems{List: append(problems, all.List...)}
	}
	return &config.Problems{List: problems}
}

// changedFiles returns the names of the files in EXEC_DIR that are others than before.
func (c *configuration) changedFiles(before *configuration) (names []string) {
	revisions := map[string]string{}
	for _, f := range before.external {
		revisions[f.Name] = f.Definition().Revision
	}
	for _, f := range c.external {
		if revisions[f.Name] != f.Definition().Revision {
			names = append(names, f.Name)
		}
		delete(revisions, f.Name)
	}
	for name := range revisions {
		names = append(names, name)
	}
	return names
}

// findSection returns the settings of a collector that there is.
func (c *configuration) findSection(name string) *config.Section {
	return c.sections[c.indexOf(name)]
}
