package config

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"
)

// InForce are the settings that a running program has: those of the program and of the
// sections, as [Environment.Load] or [Environment.Reload] has filled them.
type InForce struct {
	Core     *Settings
	Sections []*Section
}

// Reload is Load for a program that runs with other settings. What cannot be used stays
// as it is in force, and is returned as a problem, while all else is replaced:
//
//   - a setting of the program or a schedule that is not valid,
//   - all settings of a destination or a collector of which one is not valid, so that a
//     new password is not sent to an old address,
//   - a setting that takes effect at a start only.
func (e *Environment) Reload(inForce InForce, core *Settings, sections ...*Section) (warnings []string, refused []*Problem) {
	warnings, err := e.loadOver(&inForce, core, sections)
	var problems *Problems
	if errors.As(err, &problems) {
		refused = problems.List
	}
	return warnings, refused
}

// ChangedSettings returns the names of the settings that have different values in two
// sets of settings, in the order of the reference.
func ChangedSettings(before, after InForce) (names []string) {
	values := before.settings()
	for _, s := range after.all() {
		if b := values[s.name]; b == nil || !reflect.DeepEqual(s.target.Interface(), b.target.Interface()) {
			names = append(names, s.name)
		}
	}
	return names
}

// Sum returns a sum of the settings that tenancies may have, which is equal where they are. It
// depends on whether a secret is set, not on its value.
func Sum(of InForce) string {
	sum := sha256.New()
	for _, s := range of.all() {
		value := any(s.target.Interface())
		switch {
		case s.tag("scope") == "program":
			continue
		case s.secret:
			value = !s.target.IsZero()
		}
		fmt.Fprintf(sum, "%s=%v\n", s.name, value)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// all returns all settings.
func (i InForce) all() []*setting {
	all, _ := settingsOf(i.Core)
	for _, section := range i.Sections {
		own, _ := settingsOf(section.Into)
		all = append(all, own...)
		if section.Collector {
			all = append(all, ownSettings(section)...)
		}
	}
	return all
}

// settings returns all settings by name.
func (i InForce) settings() map[string]*setting {
	byName := map[string]*setting{}
	for _, s := range i.all() {
		byName[s.name] = s
	}
	return byName
}

// needsRestart reports whether a change of the setting takes effect at a start only.
func (s *setting) needsRestart() bool { return s.tag("reload") == "restart" }

// keepFaultySettings replaces the settings of the program and the schedules that have a
// problem by those in force.
func (l *loader) keepFaultySettings() {
	if l.inForce == nil {
		return
	}
	kept := l.inForce.settings()
	l.eachSetting(func(s *setting) {
		if s.unit == nil && l.faulty[s.name] && kept[s.name] != nil { // a collector may be new
			s.target.Set(kept[s.name].target)
		}
	})
}

// keepFaultyUnits replaces the settings of the destinations and collectors that have a
// problem by those in force.
func (l *loader) keepFaultyUnits() {
	if l.inForce == nil {
		return
	}
	for _, g := range l.core.Store.Destinations {
		for _, kept := range l.inForce.Core.Store.Destinations {
			if l.faultyUnits[g.Into] && reflect.TypeOf(kept.Into) == reflect.TypeOf(g.Into) {
				replaceStruct(g.Into, kept.Into)
			}
		}
	}
	for _, p := range l.parts[1:] {
		if l.faultyUnits[p.section.Into] {
			l.keepFaultySection(p.section)
		}
	}
}

// keepFaultySection replaces the settings of a collector that has a problem by those in
// force. One that has none, or others than before, is off.
func (l *loader) keepFaultySection(s *Section) {
	i := slices.IndexFunc(l.inForce.Sections, func(kept *Section) bool { return kept.Name == s.Name })
	if i < 0 || reflect.TypeOf(l.inForce.Sections[i].Into) != reflect.TypeOf(s.Into) {
		s.keepActive(&Section{})
		return
	}
	replaceStruct(s.Into, l.inForce.Sections[i].Into)
	if s.Off == "" {
		s.keepActive(l.inForce.Sections[i])
	}
}

// OffInvalid is the Off of a collector that was off before a reload whose new settings for
// it are not valid.
const OffInvalid = "its settings are not valid"

// keepActive leaves a collector on or off as it was.
func (s *Section) keepActive(as *Section) {
	if s.Active && !as.Active {
		s.Off = OffInvalid
	}
	s.Active, s.Missing, s.Advice = as.Active, as.Missing, as.Advice
}

// replaceStruct copies the struct that from points to.
func replaceStruct(into, from any) { reflect.ValueOf(into).Elem().Set(reflect.ValueOf(from).Elem()) }

// keepRestartSettings replaces the settings that take effect at a start only by those
// in force.
func (l *loader) keepRestartSettings() {
	if l.inForce == nil {
		return
	}
	kept := l.inForce.settings()
	for _, s := range l.parts[0].settings {
		if !s.needsRestart() || reflect.DeepEqual(s.target.Interface(), kept[s.name].target.Interface()) {
			continue
		}
		s.target.Set(kept[s.name].target)
		l.addProblem(RestartProblem(s.name))
	}
}

// RestartProblem returns the problem of a variable whose change a reload does not apply.
func RestartProblem(name string) *Problem {
	return &Problem{Name: name, Message: "was changed, which takes a restart"}
}
