package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/collectord/collectord/internal/redact"
)

// part is one settings struct while it is loaded.
type part struct {
	section  *Section // nil for the core
	settings []*setting
	checks   []check
}

// loader is the state of one Load.
type loader struct {
	*Environment
	core     *Settings
	parts    []*part
	problems []*Problem
	faulty   map[string]bool // variables that have a problem
	// inForce are the settings that stay where new ones cannot be used; nil for a Load.
	inForce     *InForce
	unit        any          // the destination or collector that is being read or checked
	faultyUnits map[any]bool // those that have a problem
	off         []string     // warnings of what is off because a part of it is not set
	role        role
	ownUnits    map[any]bool // the destinations that the file of a tenancy sets
}

// Load sets the core settings and those of the sections, and which collectors are
// active. It returns warnings, each for a line of the log. The error is a
// [*Problems] that lists every problem; the structs must not be used then. Neither
// contains a secret. Load checks that the names in COLLECTORS are those of sections
// and their streams, unless none of the sections is a collector. It may be called repeatedly.
func (e *Environment) Load(core *Settings, sections ...*Section) (warnings []string, err error) {
	return e.loadOver(nil, core, sections)
}

// loadOver is Load, and Reload if inForce is not nil.
func (e *Environment) loadOver(inForce *InForce, core *Settings, sections []*Section) (warnings []string, err error) {
	if e.shared != nil {
		return e.loadAs(tenancy, inForce, core, sections)
	}
	return e.loadAs(alone, inForce, core, sections)
}

func (e *Environment) loadAs(as role, inForce *InForce, core *Settings, sections []*Section) (warnings []string, err error) {
	l := &loader{Environment: e, core: core, role: as, faulty: map[string]bool{}, inForce: inForce, faultyUnits: map[any]bool{}}
	l.addPart(core, nil)
	for _, section := range sections {
		l.addPart(section.Into, section)
	}
	// All values are read before any is parsed, so that all secrets are known when
	// the first message is written.
	if as == tenancy {
		l.findOwnUnits()
	}
	l.eachSetting(l.readSetting)
	l.addLibrarySecrets()
	if !l.parseTogether() {
		l.eachSetting(l.parseSetting) // which finds the one that is not valid
	}
	l.checkRole()
	core.normalize()
	l.validatePart(l.parts[0])
	l.keepFaultySettings()
	if as != shared {
		l.activateSections()
	}
	for _, p := range l.parts[1:] {
		if p.section.Active {
			l.validatePart(p)
		}
	}
	l.keepFaultyUnits()
	l.keepRestartSettings()
	warnings = l.collectWarnings()
	if len(l.problems) > 0 {
		return warnings, &Problems{List: l.problems}
	}
	return warnings, nil
}

// checkRole applies what is particular to the role of the sources.
func (l *loader) checkRole() {
	switch l.role {
	case shared:
		l.checkShared()
	case tenancy:
		l.checkTenancyFile()
		if l.origins["TENANCY"] == fromDefault {
			l.core.Tenancy = l.tenancy
		}
	}
}

func (l *loader) addPart(into any, section *Section) {
	settings, checks := settingsOf(into)
	if section != nil {
		for _, s := range settings {
			s.unit, s.section = into, section
		}
		for i := range checks {
			checks[i].unit = into
		}
		if section.Collector {
			settings = append(settings, ownSettings(section)...)
		}
	}
	l.parts = append(l.parts, &part{section: section, settings: settings, checks: checks})
	if section == nil {
		l.known, l.origins, l.secrets, l.exposed = map[string]bool{}, map[string]string{}, map[string]bool{}, nil
	}
	for _, s := range settings {
		for _, name := range s.variableNames() {
			l.known[name] = true
		}
	}
}

func (l *loader) eachSetting(do func(*setting)) {
	for _, p := range l.parts {
		for _, s := range p.settings {
			l.unit = s.unit
			do(s)
		}
	}
	l.unit = nil
}

// addProblem records a problem, unless it is recorded already, and that its
// variable has one.
func (l *loader) addProblem(p *Problem) {
	p.Message = l.redactText(p.Message)
	l.faulty[p.Name] = true
	if l.unit != nil {
		l.faultyUnits[l.unit] = true
	}
	same := func(other *Problem) bool { return *other == *p }
	if !slices.ContainsFunc(l.problems, same) {
		l.problems = append(l.problems, p)
	}
}

func (l *loader) addProblemf(name, format string, args ...any) {
	l.addProblem(&Problem{Name: name, Message: fmt.Sprintf(format, args...)})
}

// readSetting looks up the value of a setting.
func (l *loader) readSetting(s *setting) {
	if l.role == tenancy {
		l.readTenancySetting(s)
	} else {
		l.readSources(l.Environment, s)
	}
	if s.tag("systemd") != "" && !s.isGiven() {
		l.readSystemdDefault(s)
	}
	if s.input.found && s.inputText() == "" {
		s.input = rawValue{}
	}
	switch {
	case !s.input.found:
		l.origins[s.name] = fromDefault
	case s.inputName == s.name:
		l.origins[s.name] = s.input.origin
	case strings.HasSuffix(s.input.origin, "_FILE"):
		l.origins[s.name] = s.input.origin
	default:
		l.origins[s.name] = s.inputName
	}
}

// readSources looks up the value of a setting in some sources, under its name and its
// aliases.
func (l *loader) readSources(e *Environment, s *setting) {
	e.known = l.known
	for _, name := range s.variableNames() {
		r, problem := e.lookupValue(name, s.secret)
		if problem != nil {
			l.addProblem(problem)
			l.faulty[s.name] = true
		}
		switch {
		case r.failed && !s.input.found:
			s.input, s.inputName = r, name
		case !r.found:
		case strings.ContainsRune(r.value, 0):
			l.addProblemf(name, "the value has a NUL byte")
			l.faulty[s.name] = true
			s.input, s.inputName = rawValue{failed: true}, name
		case e.keepsQuotes(s, r):
			l.addProblemf(name, "%s: the value begins and ends with %c, which is part of it there: remove both", describeOrigin(r.origin), r.value[0])
			l.faulty[s.name] = true
			s.input, s.inputName = rawValue{failed: true}, name
		case s.input.found && s.input.value != r.value:
			l.addProblemf(s.inputName, "set, and %s is set to another value: keep one of the two", name)
			l.faulty[s.name] = true
		case !s.input.found:
			s.input, s.inputName = r, name
		}
		if s.secret && r.found {
			l.addSecret(r.value)
		}
	}
	if text := s.tag("empty"); text != "" && !s.input.found && !s.input.failed {
		s.input = e.emptyValue(s, text)
		s.inputName = s.name
	}
}

// keepsQuotes reports whether a value is in quotes that belong to the notation of a
// file. docker run --env-file and LoadCredential leave them in the value.
func (e *Environment) keepsQuotes(s *setting, r rawValue) bool {
	if !s.secret && r.origin != FromEnvironment || e.file != nil && r.origin == e.file.origin {
		return false
	}
	last := len(r.value) - 1
	return last > 0 && (r.value[0] == '"' || r.value[0] == '\'') && strings.IndexByte(r.value[1:], r.value[0]) == last-1
}

// readSystemdDefault uses the default of a setting below the state directory that systemd
// created for the service: the first, if the unit names several. In a default with
// variables, signs in the name of the directory are doubled, so that they are none.
func (l *loader) readSystemdDefault(s *setting) {
	dir, _, _ := strings.Cut(l.sharedOrOwn().process[stateDirectory], ":")
	if dir == "" {
		return
	}
	if strings.Contains(s.tag("systemd"), "%") {
		dir = strings.NewReplacer("%", "%%", "$", "$$").Replace(dir)
	}
	s.input, s.inputName = rawValue{value: filepath.Join(dir, s.tag("systemd")), origin: stateDirectory, found: true}, s.name
}

// parseSetting parses the value of a setting and sets its field.
func (l *loader) parseSetting(s *setting) {
	err := s.parseInput()
	if err == nil {
		return
	}
	shown := l.quoteValue(s.input.value)
	if s.secret {
		shown = "the value"
	}
	var wrong mismatch
	switch {
	case errors.As(err, &wrong):
		l.addProblemf(s.inputName, "%s %s: want %s", shown, wrong, s.describeExpected())
	default:
		l.addProblemf(s.inputName, "%s: %v", shown, err)
	}
	l.faulty[s.name] = true
}

// userInURL matches the user part of a URL in a text.
var userInURL = regexp.MustCompile(`://[^/\s]*@`)

// quoteValue returns a value in quotes for a message: shortened, without secrets
// and without the user part of URLs.
func (l *loader) quoteValue(value string) string {
	const longest = 100
	value = userInURL.ReplaceAllString(l.redactText(value), "://"+redact.Hidden+"@")
	if runes := []rune(value); len(runes) > longest {
		return strconv.Quote(string(runes[:longest])) + "..."
	}
	return strconv.Quote(value)
}

// validatePart runs the validators of a part. It drops their errors about variables
// that already have a problem, since that is their cause.
func (l *loader) validatePart(p *part) {
	before := map[string]bool{}
	for name := range l.faulty {
		before[name] = true
	}
	defer func() { l.unit = nil }()
	for _, check := range p.checks {
		l.unit = check.unit
		for _, err := range check.Validate() {
			var problem *Problem
			var incomplete *partError
			switch {
			case errors.As(err, &incomplete):
				l.off = append(l.off, l.redactText(incomplete.Error()))
			case !errors.As(err, &problem):
				name := "settings"
				if p.section != nil {
					name = p.section.Name
				}
				l.addProblemf(name, "%v", err)
			case !before[problem.Name]:
				l.addProblem(&Problem{Name: problem.Name, Message: problem.Message})
			}
		}
	}
}

// addSecret records a secret and, if it is a URL, the password in it.
func (e *Environment) addSecret(value string) {
	e.secrets[value] = true
	for _, password := range redact.FromURL(value) {
		e.secrets[password] = true
	}
}

// redactText returns a text without secrets. It leaves those of fewer than four
// bytes, which occur in any text by chance.
func (e *Environment) redactText(text string) string {
	return redact.NewSet(4, e.Secrets()...).Redact(text)
}
