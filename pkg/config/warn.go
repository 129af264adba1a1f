package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// collectWarnings returns the doubts about valid settings.
func (l *loader) collectWarnings() []string {
	var warnings []string
	if l.unreadable != "" {
		warnings = append(warnings, l.unreadable+": permission denied, and the file is ignored: name another with --env-file")
	}
	if l.file != nil {
		warnings = append(warnings, l.warnIgnored()...)
		warnings = append(warnings, l.warnReadable()...)
		warnings = append(warnings, l.warnRepeated()...)
		warnings = append(warnings, l.warnReferences()...)
	}
	warnings = append(warnings, l.exposed...)
	warnings = append(warnings, l.warnDiffering()...)
	warnings = append(warnings, l.warnUnknown()...)
	warnings = append(warnings, l.warnPatience()...)
	warnings = append(warnings, l.warnMaxAge()...)
	warnings = append(warnings, l.warnTextfile()...)
	return append(warnings, l.off...)
}

// warnPatience warns of a RUN_PATIENCE that is set and has no effect.
func (l *loader) warnPatience() []string {
	run := l.core.Run
	if l.origins["RUN_PATIENCE"] == fromDefault || run.Patience <= run.Timeout {
		return nil
	}
	return []string{fmt.Sprintf("RUN_PATIENCE: %v is longer than RUN_TIMEOUT, %v, which ends the run before", run.Patience, run.Timeout)}
}

// warnMaxAge warns of each DATA_MAX_AGE that is shorter than the interval of a schedule
// to which it applies.
func (l *loader) warnMaxAge() []string {
	var warnings []string
	warned := map[string]bool{}
	for _, p := range l.parts[1:] {
		if !p.section.Active {
			continue
		}
		for _, stream := range p.section.Streams {
			name, maxAge := l.core.MaxAgeOf(p.section, &stream)
			if stream.Off != "" || maxAge == 0 || warned[name] {
				continue
			}
			interval := l.core.CalendarOf(p.section, &stream).Interval()
			if maxAge >= interval {
				continue
			}
			warned[name] = true
			warnings = append(warnings, fmt.Sprintf("%s: %v is shorter than the time between two runs of %s, up to %v: its data will be late before the next run",
				name, maxAge, stream.Name, interval))
		}
	}
	return warnings
}

// warnTextfile warns of streams whose text file of metrics has no deadline, so that no alert
// notices a timer that does not run any more.
func (l *loader) warnTextfile() []string {
	if l.core.HTTP.Textfile == "" {
		return nil
	}
	var without []string
	for _, p := range l.parts[1:] {
		for _, stream := range p.section.Streams {
			_, maxAge := l.core.MaxAgeOf(p.section, &stream)
			if p.section.Active && stream.Off == "" && maxAge == 0 && l.core.CalendarOf(p.section, &stream).IsOff() {
				without = append(without, stream.Name)
			}
		}
	}
	if len(without) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("METRICS_TEXTFILE: no alert notices that the data of %s is late: set SCHEDULE to the times at which it is collected, or DATA_MAX_AGE",
		Enumerate(without, "and"))}
}

// warnIgnored warns of the lines that cannot be read.
func (l *loader) warnIgnored() []string {
	var warnings []string
	for _, p := range l.file.ignored {
		warnings = append(warnings, p.Error())
	}
	return warnings
}

// warnReadable warns of secrets in a file that other users can read.
func (l *loader) warnReadable() []string {
	var secrets []string
	add := func(name string) {
		// Several sections may have the same setting.
		if l.file.values[name].value != "" && !slices.Contains(secrets, name) {
			secrets = append(secrets, name)
		}
	}
	l.eachSetting(func(s *setting) {
		if s.secret {
			for _, name := range s.variableNames() {
				add(name)
			}
		}
	})
	for _, name := range sortedKeys(l.file.values) {
		if isLibrarySecret(name) {
			add(name)
		}
	}
	if l.file.exposure == "" || len(secrets) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%s: anyone on this machine can %s, and it contains %s: run chmod 600 %s",
		l.file.label, l.file.exposure, Enumerate(secrets, "and"), l.file.label)}
}

// warnRepeated warns of settings to which the file assigns different values.
func (l *loader) warnRepeated() []string {
	var warnings []string
	for _, name := range l.file.repeated {
		if l.isKnown(name) || isLibraryVariable(name) {
			warnings = append(warnings, fmt.Sprintf("%s: set more than once in %s, to different values: line %d is used",
				name, l.file.label, l.file.values[name].line))
		}
	}
	return warnings
}

// reference matches a variable that python-dotenv expands.
var reference = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)`)

// warnReferences warns of values in the file that refer to another variable, which
// other programs expand and collectord does not.
func (l *loader) warnReferences() []string {
	var warnings []string
	for _, name := range sortedKeys(l.file.values) {
		a := l.file.values[name]
		for _, found := range reference.FindAllStringSubmatch(a.value, -1) {
			if _, inFile := l.file.values[found[1]]; !inFile && l.process[found[1]] == "" {
				continue // such as the variables of paths
			}
			if l.isKnown(name) || isLibraryVariable(name) {
				warnings = append(warnings, fmt.Sprintf("%s (%s:%d): refers to %s, which is not expanded: want the value itself", name, l.file.label, a.line, found[1]))
			}
		}
	}
	return warnings
}

// warnDiffering warns of variables that have different values in several sources.
func (l *loader) warnDiffering() []string {
	// Of two of the three sources, one is the environment or the file.
	names := map[string]bool{}
	for name := range l.process {
		names[name] = l.isKnown(name) || isLibraryVariable(name)
	}
	if l.file != nil {
		for name := range l.file.values {
			names[name] = names[name] || l.isKnown(name)
		}
	}
	var warnings []string
	for _, name := range sortedKeys(names) {
		if !names[name] {
			continue
		}
		found := l.valuesOf(name)
		differs := func(r rawValue) bool { return r.value != found[0].value }
		if other := slices.IndexFunc(found, differs); other > 0 {
			used, ignored := l.describeSource(name, found[0].origin), l.describeSource(name, found[other].origin)
			warnings = append(warnings, fmt.Sprintf("%s: %s and %s set it to different values: that of %s is used", name, used, ignored, used))
		}
	}
	return warnings
}

// valuesOf returns the values of a variable in all sources, the one that is used
// first.
func (l *loader) valuesOf(name string) []rawValue {
	credential, _ := l.lookupCredential(name) // a problem is reported where it is used
	all := []rawValue{{value: l.process[name], origin: FromEnvironment, found: l.process[name] != ""}, credential, l.lookupInFile(name)}
	return slices.DeleteFunc(all, func(r rawValue) bool { return !r.found })
}

// describeSource returns a source of a variable as the subject of a sentence.
func (l *loader) describeSource(name, origin string) string {
	switch origin {
	case FromEnvironment:
		return "the environment"
	case fromCredential:
		return "the credential"
	}
	return fmt.Sprintf("%s:%d", l.file.label, l.file.values[name].line)
}

// isKnown reports whether a variable is read.
func (l *loader) isKnown(name string) bool {
	return l.known[name] || l.known[strings.TrimSuffix(name, "_FILE")]
}
