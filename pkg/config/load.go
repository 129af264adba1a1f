package config

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// part is one settings struct while it is loaded.
type part struct {
	section  *Section // nil for the core
	settings []*setting
	checks   []Validator
}

// loading is the work of one Load.
type loading struct {
	*Environment
	core     *Settings
	parts    []*part
	problems []*Problem
	faulty   map[string]bool // variables that have a problem
}

// Load fills the core settings and those of the sections, and decides which
// collectors are active. The warnings are worth a line in the log each. The
// error is a [*Problems] that lists everything that is wrong; the structs are
// then not to be used. Neither holds a secret. COLLECTORS is held against the
// collectors among the sections, if there are any. A further Load starts anew.
func (e *Environment) Load(core *Settings, sections ...*Section) (warnings []string, err error) {
	l := &loading{Environment: e, core: core, faulty: map[string]bool{}}
	l.add(core, nil)
	for _, section := range sections {
		l.add(section.Into, section)
	}
	// Every value is read before any is judged, so that no message can hold a
	// secret that is yet to be read.
	l.each(l.read)
	l.each(l.parse)
	core.normalize()
	l.check(l.parts[0])
	l.choose()
	for _, p := range l.parts[1:] {
		if p.section.Active {
			l.check(p)
		}
	}
	warnings = l.warn()
	if len(l.problems) > 0 {
		return warnings, &Problems{List: l.problems}
	}
	return warnings, nil
}

func (l *loading) add(into any, section *Section) {
	settings, checks := settingsOf(into)
	if section != nil && section.Collector {
		settings = append(settings, scheduleOf(section))
	}
	l.parts = append(l.parts, &part{section: section, settings: settings, checks: checks})
	if section == nil {
		l.known, l.origins, l.secrets = map[string]bool{}, map[string]string{}, map[string]bool{}
	}
	for _, s := range settings {
		for _, name := range s.names() {
			l.known[name] = true
		}
	}
}

func (l *loading) each(do func(*setting)) {
	for _, p := range l.parts {
		for _, s := range p.settings {
			do(s)
		}
	}
}

// problem notes a problem, once, and that its variable has one.
func (l *loading) problem(p *Problem) {
	p.Message = l.redact(p.Message)
	l.faulty[p.Name] = true
	same := func(other *Problem) bool { return *other == *p }
	if !slices.ContainsFunc(l.problems, same) {
		l.problems = append(l.problems, p)
	}
}

func (l *loading) problemf(name, format string, args ...any) {
	l.problem(&Problem{Name: name, Message: fmt.Sprintf(format, args...)})
}

// read finds the value of a setting under its name or an alias.
func (l *loading) read(s *setting) {
	l.origins[s.name] = fromDefault
	for _, name := range s.names() {
		r, problem := l.lookup(name, s.secret)
		if problem != nil {
			l.problem(problem)
			l.faulty[s.name] = true
		}
		switch {
		case r.failed && !s.read.found:
			s.read, s.readAs = r, name
		case !r.found:
		case strings.ContainsRune(r.value, 0):
			l.problemf(name, "the value has a NUL byte")
			l.faulty[s.name] = true
			s.read, s.readAs = reading{failed: true}, name
		case s.read.found && s.read.value != r.value:
			l.problemf(s.readAs, "set, and %s is set to another value: keep one of the two", name)
			l.faulty[s.name] = true
		case !s.read.found:
			s.read, s.readAs = r, name
		}
		if s.secret && r.found {
			l.addSecret(r.value)
		}
	}
	if s.name == "STATE_DIR" && !s.read.found {
		l.systemdState(s)
	}
	if s.read.found && s.text() == "" {
		s.read = reading{}
	}
	switch {
	case !s.read.found:
	case s.readAs == s.name:
		l.origins[s.name] = s.read.origin
	case strings.HasSuffix(s.read.origin, "_FILE"):
		l.origins[s.name] = s.read.origin
	default:
		l.origins[s.name] = s.readAs
	}
}

// systemdState takes the state directory that systemd made for the service: the
// first, if the unit names several.
func (l *loading) systemdState(s *setting) {
	if first, _, _ := strings.Cut(l.process[stateDirectory], ":"); first != "" {
		s.read, s.readAs = reading{value: first, origin: stateDirectory, found: true}, s.name
	}
}

// parse puts the value of a setting into its field.
func (l *loading) parse(s *setting) {
	err := s.parse()
	if err == nil {
		return
	}
	shown := l.show(s.read.value)
	if s.secret {
		shown = "the value"
	}
	var wrong mismatch
	switch {
	case errors.As(err, &wrong):
		l.problemf(s.readAs, "%s %s: want %s", shown, wrong, s.want())
	default:
		l.problemf(s.readAs, "%s: %v", shown, err)
	}
	l.faulty[s.name] = true
}

// inURL finds the user part of a URL within a text.
var inURL = regexp.MustCompile(`://[^/\s]*@`)

// show quotes a value for a message, shortened, without secrets and without the
// user part of URLs.
func (l *loading) show(value string) string {
	const longest = 100
	value = inURL.ReplaceAllString(l.redact(value), "://"+redacted+"@")
	if runes := []rune(value); len(runes) > longest {
		return strconv.Quote(string(runes[:longest])) + "..."
	}
	return strconv.Quote(value)
}

// check runs the checks of a part. What they say of a variable that already has
// a problem only follows from it.
func (l *loading) check(p *part) {
	before := map[string]bool{}
	for name := range l.faulty {
		before[name] = true
	}
	for _, check := range p.checks {
		for _, err := range check.Validate() {
			var problem *Problem
			switch {
			case !errors.As(err, &problem):
				name := "settings"
				if p.section != nil {
					name = p.section.Name
				}
				l.problemf(name, "%v", err)
			case !before[problem.Name]:
				l.problem(&Problem{Name: problem.Name, Message: problem.Message})
			}
		}
	}
}

// addSecret remembers a secret and, if it is a URL, the password in it.
func (e *Environment) addSecret(value string) {
	e.secrets[value] = true
	_, rest, _ := strings.Cut(value, "://")
	userinfo := rest[:max(0, strings.LastIndexByte(rest, '@'))]
	if _, password, _ := strings.Cut(userinfo, ":"); password != "" {
		e.secrets[password] = true
		if plain, err := url.PathUnescape(password); err == nil {
			e.secrets[plain] = true
		}
	}
}

// redact takes all secrets out of a text. It leaves those of less than four
// bytes, which appear in any text by chance.
func (e *Environment) redact(text string) string {
	for _, secret := range e.Secrets() {
		if len(secret) < 4 {
			break
		}
		quoted := strconv.Quote(secret)
		quoted = quoted[1 : len(quoted)-1]
		text = strings.NewReplacer(secret, redacted, quoted, redacted).Replace(text)
	}
	return text
}
