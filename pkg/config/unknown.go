package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/agext/levenshtein"
)

// foreignNames begin like settings and belong to others: to reporting programs that
// read the same .env, and to systemd.
var foreignNames = []string{"STORE_AWS_S3_HISTORY", "STORE_AWS_S3_WEB", stateDirectory, "NOTIFY_SOCKET", "LOG_NAMESPACE"}

// serviceLink matches the variables that Kubernetes and Docker set for a service.
var serviceLink = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT|PORT_[0-9]+_(TCP|UDP)(_.+)?)$`)

// replaced are variables of other programs that have no effect, and what to set.
var replaced = map[string]string{
	"REQUESTS_CA_BUNDLE": "SSL_CERT_FILE",
	"CURL_CA_BUNDLE":     "SSL_CERT_FILE",
	"TZ":                 "SCHEDULE_TZ",
}

// warnUnknown warns of names that look like settings and are not, in the
// environment and in the file.
func (l *loader) warnUnknown() []string {
	prefixes, known := sync.OnceValue(l.settingPrefixes), sync.OnceValue(l.knownNames) // usually no name needs them
	var warnings []string
	for _, name := range sortedKeys(l.process) {
		if l.process[name] != "" && name != "TZ" {
			warnings = append(warnings, l.warnName(name, FromEnvironment, prefixes, known)...)
		}
	}
	if l.file == nil {
		return warnings
	}
	for _, name := range sortedKeys(l.file.values) {
		warnings = append(warnings, l.warnName(name, fmt.Sprintf("%s:%d", l.file.label, l.file.values[name].line), prefixes, known)...)
	}
	return warnings
}

// warnName returns a warning if a name is not a variable that is read, but begins
// like one, or is one but for a letter or two.
func (l *loader) warnName(name, where string, prefixes, known func() []string) []string {
	if near := misspelledLibraryName(name); near != "" {
		return []string{fmt.Sprintf("%s (%s): not a variable of the AWS SDK: did you mean %s?", name, where, near)}
	}
	if l.isKnown(name) || isLibraryVariable(name) || slices.Contains(foreignNames, name) || serviceLink.MatchString(name) {
		return nil
	}
	if instead := replaced[name]; instead != "" {
		if found, _ := l.lookupVariable(instead); found.found {
			return nil
		}
		return []string{fmt.Sprintf("%s (%s): has no effect on collectord: set %s", name, where, instead)}
	}
	candidates, most := known, max(2, len(name)/4)
	looksLikeSetting := slices.ContainsFunc(prefixes(), func(prefix string) bool { return strings.HasPrefix(name, prefix) })
	switch {
	case looksLikeSetting:
	case len(name) < 6:
		return nil
	case strings.HasPrefix(name, "PG"):
		candidates, most = func() []string { return libraryNames }, 2
	default:
		most = min(2, len(name)/7+1)
	}
	near := Nearest(name, candidates(), most)
	if near == "" && !looksLikeSetting {
		return nil
	}
	text := fmt.Sprintf("%s (%s): not a setting of collectord", name, where)
	if near != "" {
		text += ": did you mean " + near + "?"
	}
	return []string{text}
}

// settingPrefixes returns the first words of all settings, such as "STORE_".
func (l *loader) settingPrefixes() []string {
	prefixes := map[string]bool{}
	for name := range l.known {
		if word, _, found := strings.Cut(name, "_"); found {
			prefixes[word+"_"] = true
		}
	}
	return sortedKeys(prefixes)
}

// knownNames returns the names of all variables that are read.
func (l *loader) knownNames() []string {
	var names []string
	for _, name := range sortedKeys(l.known) {
		names = append(names, name, name+"_FILE")
	}
	return append(names, libraryNames...)
}

// Nearest returns the candidate with the fewest edits between it and the name, at
// most the given number; of several such that with the longest common prefix; "" if
// there is none.
func Nearest(name string, candidates []string, most int) string {
	best, fewest, longest := "", most, -1
	from := []rune(name)
	for _, candidate := range candidates {
		to := []rune(candidate)
		if max(len(from), len(to))-min(len(from), len(to)) > fewest {
			continue // each character more is one edit
		}
		edits, common, _ := levenshtein.Calculate(from, to, 0, 1, 1, 1)
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
