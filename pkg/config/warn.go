package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
)

// ownPrefixes begin the names that nothing but collectord reads. Of the process
// environment, which belongs to everybody, only those of openPrefixes count.
var (
	ownPrefixes  = []string{"STORE_", "SCHEDULE_", "RESTORE_", "RUN_", "LOG_", "GUARD_", "STATE_", "HTTP_", "METRICS_"}
	openPrefixes = []string{"STORE_", "SCHEDULE_"}
	// reportNames are read by the reports that an .env may be shared with.
	reportNames = []string{"STORE_AWS_S3_HISTORY", "STORE_AWS_S3_WEB"}
)

// warn gives what is doubtful but not wrong.
func (l *loading) warn() []string {
	var warnings []string
	for _, f := range l.files {
		warnings = append(warnings, l.warnReadable(f)...)
		warnings = append(warnings, l.warnRepeated(f)...)
	}
	warnings = append(warnings, l.warnDiffering()...)
	return append(warnings, l.warnUnknown()...)
}

// warnReadable warns of secrets in a file that others may read.
func (l *loading) warnReadable(f *file) []string {
	var held []string
	l.each(func(s *setting) {
		for _, name := range s.names() {
			if s.secret && f.values[name].value != "" {
				held = append(held, name)
			}
		}
	})
	if !f.open || len(held) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%s: anybody on this machine may read it, and it holds %s: run chmod 600 %s", f.label, enumerate(held, "and"), f.label)}
}

// warnRepeated warns of settings that one file gives different values.
func (l *loading) warnRepeated(f *file) []string {
	var warnings []string
	for _, name := range f.repeated {
		if l.isKnown(name) {
			warnings = append(warnings, fmt.Sprintf("%s: set more than once in %s, to different values: line %d is used", name, f.label, f.values[name].line))
		}
	}
	return warnings
}

// warnDiffering warns of settings that .env and the --env-file file give
// different values, unless the environment's is used in the place of both.
func (l *loading) warnDiffering() []string {
	if len(l.files) < 2 {
		return nil
	}
	dotenv, named := l.files[0], l.files[1]
	var warnings []string
	for _, name := range sortedKeys(dotenv.values) {
		r, _ := l.variable(name)
		other := named.values[name].value
		if r.origin != fromDotenv || other == "" || other == r.value || !l.isKnown(name) {
			continue
		}
		warnings = append(warnings, fmt.Sprintf("%s: %s and %s set it to different values: %s is used", name, dotenv.label, named.label, dotenv.label))
	}
	return warnings
}

// isKnown reports whether anything reads a variable.
func (l *loading) isKnown(name string) bool {
	return l.known[name] || l.known[strings.TrimSuffix(name, "_FILE")]
}

// warnUnknown warns of names that look like ours and are not.
func (l *loading) warnUnknown() []string {
	var warnings []string
	warn := func(name, where string, prefixes []string) {
		ours := func(prefix string) bool { return strings.HasPrefix(name, prefix) }
		if slices.ContainsFunc(prefixes, ours) && !l.isKnown(name) && !slices.Contains(reportNames, name) {
			warnings = append(warnings, fmt.Sprintf("%s (%s): not a setting of collectord%s", name, where, l.didYouMean(name)))
		}
	}
	for _, name := range sortedKeys(l.process) {
		if l.process[name] != "" {
			warn(name, fromEnvironment, openPrefixes)
		}
	}
	for _, f := range l.files {
		for _, name := range sortedKeys(f.values) {
			warn(name, fmt.Sprintf("%s:%d", f.label, f.values[name].line), ownPrefixes)
		}
	}
	return warnings
}

// didYouMean gives the end of a sentence about an unknown variable.
func (l *loading) didYouMean(name string) string {
	candidates := sortedKeys(l.known)
	if strings.HasSuffix(name, "_FILE") {
		for _, known := range sortedKeys(l.known) {
			candidates = append(candidates, known+"_FILE")
		}
	}
	if near := nearest(name, candidates); near != "" {
		return ": did you mean " + near + "?"
	}
	return ""
}

// nearest gives the candidate with the fewest edits between it and the word, of
// two such that with the longer common beginning, or "" if none is near.
func nearest(word string, candidates []string) string {
	best, fewest, longest := "", max(2, len(word)/4), -1
	for _, candidate := range candidates {
		edits, common, _ := levenshtein.Calculate([]rune(word), []rune(candidate), 0, 1, 1, 1)
		if edits < fewest || edits == fewest && common > longest {
			best, fewest, longest = candidate, edits, common
		}
	}
	return best
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
