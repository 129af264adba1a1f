package config

import (
	"fmt"
	"slices"
	"strings"
)

// choose decides which sections are active.
func (l *loading) choose() {
	named := l.named()
	for _, p := range l.parts[1:] {
		if !p.section.Collector {
			l.requireAll(p)
			continue
		}
		wanted := slices.Contains(named, p.section.Name)
		if len(named) > 0 && !wanted {
			p.section.Active, p.section.Missing = false, missing(p)
			continue
		}
		l.chooseCollector(p, wanted)
	}
	l.requireAll(l.parts[0])
}

// named gives the collectors that COLLECTORS allows, and refuses those that do
// not exist.
func (l *loading) named() []string {
	var all []string
	for _, p := range l.parts[1:] {
		if p.section.Collector {
			all = append(all, p.section.Name)
		}
	}
	if len(all) == 0 {
		return l.core.Collectors
	}
	for _, name := range l.core.Collectors {
		if slices.Contains(all, name) {
			continue
		}
		if near := nearest(name, all); near != "" {
			l.problemf("COLLECTORS", "%s is not a collector: did you mean %s?", l.show(name), near)
		} else {
			l.problemf("COLLECTORS", "%s is not a collector: want some of %s", l.show(name), enumerate(all, "and"))
		}
	}
	return l.core.Collectors
}

// missing lists the required variables of a part that are not set.
func missing(p *part) []string {
	var names []string
	for _, s := range p.settings {
		if s.required && !s.read.found && !s.read.failed {
			names = append(names, s.name)
		}
	}
	return names
}

// requireAll refuses each required variable that is not set.
func (l *loading) requireAll(p *part) {
	absent := missing(p)
	for _, name := range absent {
		l.problemf(name, "not set, but required")
	}
	if p.section != nil {
		p.section.Active, p.section.Missing = true, absent
	}
}

// chooseCollector switches a collector on if its required variables are set.
func (l *loading) chooseCollector(p *part, wanted bool) {
	var required, given []string
	for _, s := range p.settings {
		if !s.required {
			continue
		}
		required = append(required, s.name)
		if s.read.found || s.read.failed {
			given = append(given, s.readAs)
		}
	}
	absent := missing(p)
	p.section.Missing = absent
	p.section.Active = len(absent) == 0 && (wanted || len(required) > 0)
	switch {
	case len(absent) == 0:
	case len(given) > 0:
		both := "both to switch " + p.section.Name + " on, or neither"
		if len(required) > 2 {
			both = fmt.Sprintf("all of %s to switch %s on, or none", enumerate(required, "and"), p.section.Name)
		}
		for _, name := range absent {
			l.problemf(name, "not set, but %s %s: set %s", enumerate(given, "and"), areOrIs(len(given)), both)
		}
	case wanted:
		l.problemf("COLLECTORS", "%s is named, but %s %s not set", p.section.Name, enumerate(absent, "and"), areOrIs(len(absent)))
	}
}

// lowered gives the names in lower case, each once, in their order.
func lowered(names []string) []string {
	var unique []string
	for _, name := range names {
		if name = strings.ToLower(name); !slices.Contains(unique, name) {
			unique = append(unique, name)
		}
	}
	return unique
}
