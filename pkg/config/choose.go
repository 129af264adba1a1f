package config

import (
	"fmt"
	"slices"
)

// activateSections sets which sections and which of their streams are active.
func (l *loader) activateSections() {
	chosen := l.parseSelection()
	if l.inForce != nil && l.faulty["COLLECTORS"] {
		l.core.Collectors = l.inForce.Core.Collectors
		chosen = newSelection(l.core.Collectors)
	}
	for _, p := range l.parts[1:] {
		if !p.section.Collector {
			l.requireAllSet(p)
			continue
		}
		l.selectStreams(p.section, chosen)
		if p.section.Off != "" {
			p.section.Active = false
			p.setMissing()
			continue
		}
		l.unit = p.section.Into
		l.activateCollector(p, chosen.namesPartOf(p.section))
		l.unit = nil
	}
	l.requireAllSet(l.parts[0])
}

// selectStreams sets which streams of a collector the selection switches off, and
// whether it leaves none.
func (l *loader) selectStreams(section *Section, chosen *selection) {
	section.Off = chosen.reasonOff(section.Name)
	on := 0
	for i := range section.Streams {
		stream := &section.Streams[i]
		stream.Off = chosen.reasonOff(stream.Name, section.Name)
		if stream.Off == "" {
			on++
		}
	}
	switch {
	case on > 0:
		section.Off = ""
	case section.Off == "" && len(section.Streams) > 0:
		section.Off = "COLLECTORS excludes all of its streams"
	}
}

// requiredSettings returns the settings that a part needs: the required ones, and
// those that are set, at least in part, in place of a required one.
func requiredSettings(p *part) []*setting {
	var all []*setting
	add := func(s *setting) {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	for _, s := range p.settings {
		if !s.required {
			continue
		}
		replacing := replacingSettings(p, s)
		if s.switchesOn() || !slices.ContainsFunc(replacing, (*setting).switchesOn) {
			add(s)
			continue
		}
		for _, other := range replacing {
			add(other)
		}
	}
	return all
}

// replacingSettings returns the settings that together replace a required one.
func replacingSettings(p *part, required *setting) []*setting {
	var all []*setting
	for _, s := range p.settings {
		if slices.Contains(s.insteadOf, required.name) {
			all = append(all, s)
		}
	}
	return all
}

// missingRequired returns the required variables of a part that are not set.
func missingRequired(p *part) []string {
	var names []string
	for _, s := range requiredSettings(p) {
		if !s.switchesOn() {
			names = append(names, s.name)
		}
	}
	return names
}

// setMissing sets which required variables are missing, and what to set for them.
func (p *part) setMissing() {
	p.section.Missing = missingRequired(p)
	var required, instead []string
	for _, s := range p.settings {
		if !slices.Contains(p.section.Missing, s.name) {
			continue
		}
		required = append(required, s.switchText())
		for _, other := range replacingSettings(p, s) {
			if !slices.Contains(instead, other.switchText()) {
				instead = append(instead, other.switchText())
			}
		}
	}
	p.section.Advice = Enumerate(required, "and")
	if len(instead) > 0 {
		p.section.Advice += ", or " + Enumerate(instead, "and")
	}
}

// requireAllSet reports each required variable that is not set.
func (l *loader) requireAllSet(p *part) {
	absent := missingRequired(p)
	for _, name := range absent {
		l.addProblemf(name, "not set, but required")
	}
	if p.section != nil {
		p.section.Active = true
		p.setMissing()
	}
}

// activateCollector switches a collector on if its required variables are set.
// named is the name in COLLECTORS that asks for it; "" for none.
func (l *loader) activateCollector(p *part, named string) {
	var required, given []string
	for _, s := range requiredSettings(p) {
		required = append(required, s.name)
		if s.switchesOn() {
			given = append(given, s.inputName)
		}
	}
	p.setMissing()
	absent := p.section.Missing
	p.section.Active = len(absent) == 0 && (named != "" || len(required) > 0 || p.section.OnByDefault)
	switch {
	case len(absent) == 0:
	case named != "":
		l.addProblemf("COLLECTORS", "%s is named, but %s %s not set", named, Enumerate(absent, "and"), areOrIs(len(absent)))
	case len(given) > 0:
		l.off = append(l.off, fmt.Sprintf("%s: not set, but %s %s: the collector %s is off: set %s, or none",
			Enumerate(absent, "and"), Enumerate(given, "and"), areOrIs(len(given)), p.section.Name, Enumerate(required, "and")))
	}
}
