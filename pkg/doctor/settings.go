package doctor

import "strings"

const settingsGroup = "settings"

// Settings returns the findings about settings that were loaded: err is the
// error of loading them, warnings are the doubts about them, and collectors are
// the names of those that are on. After an error it reports that alone.
func Settings(err error, warnings, collectors []string) []Finding {
	if err != nil {
		return RefusedSettings(err)
	}
	findings := warningsOf(warnings)
	f := Finding{Group: settingsGroup, Check: "collectors", Result: OK, Text: strings.Join(collectors, ", ") + " on"}
	if len(collectors) == 0 {
		f = f.failed("none is switched on").withAdvice("`collectord list` shows what switches each on")
	}
	return append(findings, f)
}

// SharedSettings returns the findings about settings that several tenancies share: err is
// what is wrong with them, warnings are the doubts about them.
func SharedSettings(err error, warnings []string) []Finding {
	findings := warningsOf(warnings)
	if err != nil {
		findings = append(findings, RefusedSettings(err)...)
	}
	return findings
}

// warningsOf returns a finding for each doubt about settings.
func warningsOf(texts []string) (findings []Finding) {
	for _, text := range texts {
		findings = append(findings, Finding{Group: settingsGroup, Check: "settings", Result: Warning, Text: text})
	}
	return findings
}

// RefusedSettings returns a failure for each line of an error because of which
// the settings cannot be used.
func RefusedSettings(err error) []Finding {
	var findings []Finding
	for line := range strings.Lines(err.Error()) {
		f := Finding{Group: settingsGroup, Check: "settings", Result: Failed, Text: strings.TrimSpace(line)}
		findings = append(findings, f)
	}
	return findings
}
