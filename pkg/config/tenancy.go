package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// tenancyExtension is that of the files in TENANCIES_DIR.
const tenancyExtension = ".env"

const fromTenancy = "tenancy"

// A role is what the sources of an [Environment] are read for.
type role int

const (
	alone   role = iota // the program and its only tenancy
	shared              // the program and what its tenancies have in common
	tenancy             // one of the tenancies
)

// TenancyFiles returns the names of the files of tenancies in a directory, ordered. Those
// that begin with a dot or do not end in .env are none.
func TenancyFiles(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		if pathError := (*fs.PathError)(nil); errors.As(err, &pathError) {
			err = pathError.Err
		}
		return nil, Invalid("TENANCIES_DIR", "%s: %v: want the directory of the files of tenancies", dir, err)
	}
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasSuffix(name, tenancyExtension) && !strings.HasPrefix(name, ".") && !entry.IsDir() {
			names = append(names, name)
		}
	}
	return names, nil
}

// WarnOfTenancies returns warnings of what is meant for a tenancy and has no effect: files in a
// directory whose names end otherwise than in .env, and credentials of systemd for a tenancy
// without one of files, or of a variable that is none. It must be called after Load.
func (e *Environment) WarnOfTenancies(dir string, files []string) (warnings []string) {
	for _, name := range entryNames(e.resolvePath(dir)) {
		if ending := filepath.Ext(name); ending != tenancyExtension && strings.EqualFold(ending, tenancyExtension) {
			warnings = append(warnings, fmt.Sprintf("TENANCIES_DIR: %s is ignored: want a name that ends in %s", name, tenancyExtension))
		}
	}
	if e.credentials == "" {
		return warnings
	}
	l := &loader{Environment: e}
	known := l.knownNames()
	for _, name := range entryNames(e.credentials) {
		at := strings.LastIndexByte(name, '.')
		if at <= 0 {
			continue
		}
		of, variable := name[:at], name[at+1:]
		switch {
		case l.isKnown(variable) && !slices.Contains(files, of+tenancyExtension):
			warnings = append(warnings, fmt.Sprintf("the credential %s is not used: TENANCIES_DIR has no file %s%s", name, of, tenancyExtension))
		case !l.isKnown(variable) && slices.Contains(files, of+tenancyExtension):
			text := fmt.Sprintf("the credential %s is not used: %s is not a setting of collectord", name, variable)
			if near := Nearest(variable, known, max(2, len(variable)/4)); near != "" {
				text += ": did you mean " + near + "?"
			}
			warnings = append(warnings, text)
		}
	}
	return warnings
}

// entryNames returns the names in a directory, ordered; none if it cannot be read.
func entryNames(dir string) (names []string) {
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// OpenTenancy reads the file of a tenancy, in a directory. What the file does not set
// comes from e, the sources that all tenancies share, except for
//
//   - secrets of collectors and variables that switch one on, which are always those of
//     one tenancy,
//   - all settings of a destination of which the file sets an address or a credential, so
//     that a shared password is not sent to a server of the tenancy.
//
// A variable that the file sets to nothing counts as not set anywhere. A credential of
// systemd for the tenancy has its name, a dot and that of the variable.
func (e *Environment) OpenTenancy(dir, name string) (*Environment, error) {
	path := filepath.Join(dir, name)
	f, err := readTenancyFile(path, e.resolvePath(path))
	if err != nil {
		return nil, &Problems{List: []*Problem{{Name: path, Message: err.Error()}}}
	}
	own := strings.TrimSuffix(name, tenancyExtension)
	// A copy, since a Load notes there what it looks up: tenancies are loaded at the same time.
	shared := *e
	shared.secrets, shared.exposed = maps.Clone(e.secrets), slices.Clone(e.exposed)
	return &Environment{
		dir: e.dir, process: map[string]string{}, origins: map[string]string{}, secrets: map[string]bool{},
		file: f, credentials: e.credentials, credentialPrefix: own + ".", tenancy: own, shared: &shared,
	}, nil
}

// readTenancyFile reads the file of a tenancy. It must be regular, so that a file that a
// person has created by mistake keeps no other tenancy waiting.
func readTenancyFile(label, path string) (*file, error) {
	text, mode, err := readRegularFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: want a readable regular file", err)
	}
	return parseAssignments(fromTenancy, label, text, mode)
}

// LoadShared is [Environment.Load] for sources that several tenancies share. It does not
// activate a section, and refuses variables that belong to one tenancy.
func (e *Environment) LoadShared(core *Settings, sections ...*Section) (warnings []string, err error) {
	return e.loadAs(shared, nil, core, sections)
}

// ReloadShared is [Environment.Reload] for sources that several tenancies share.
func (e *Environment) ReloadShared(inForce InForce, core *Settings, sections ...*Section) (warnings []string, refused []*Problem) {
	warnings, err := e.loadAs(shared, &inForce, core, sections)
	var problems *Problems
	if errors.As(err, &problems) {
		refused = problems.List
	}
	return warnings, refused
}

// checkShared reports the variables that belong to one tenancy.
func (l *loader) checkShared() {
	l.eachSetting(func(s *setting) {
		if !s.isGiven() {
			return
		}
		if s.name == "TENANCY" {
			l.addProblemf(s.inputName, "has no effect with TENANCIES_DIR: each tenancy has the name of its file, or sets TENANCY there")
		}
		if s.section != nil && s.isOfOneTenancy() {
			l.addProblemf(s.inputName, "belongs to one tenancy: set it in a file in TENANCIES_DIR")
		}
	})
}

// isOfOneTenancy reports whether the setting of a collector is not shared by tenancies.
func (s *setting) isOfOneTenancy() bool { return s.secret || s.required || len(s.insteadOf) > 0 }

// readTenancySetting looks up the value of a setting in the file of the tenancy, and then
// in the sources that it shares with others.
func (l *loader) readTenancySetting(s *setting) {
	l.readSources(l.Environment, s)
	if s.isGiven() && s.tag("scope") == "program" {
		l.addProblemf(s.inputName, "is a setting of the whole program: set it in the environment or in the file that all tenancies share")
	}
	if s.isGiven() || l.hidesShared(s) || s.name == "TENANCY" {
		return
	}
	if s.section != nil && s.isOfOneTenancy() || s.section == nil && l.ownUnits[s.unit] {
		return
	}
	l.readSources(l.Environment.shared, s)
}

// hidesShared reports whether the file of the tenancy sets a variable to nothing.
func (l *loader) hidesShared(s *setting) bool {
	return slices.ContainsFunc(s.variableNames(), func(name string) bool {
		a, set := l.file.values[name]
		return set && a.value == ""
	})
}

// findOwnUnits finds the destinations of which the file of the tenancy sets an address or a
// credential.
func (l *loader) findOwnUnits() {
	l.ownUnits = map[any]bool{}
	for _, s := range l.parts[0].settings {
		if s.unit == nil || s.tag("target") == "" {
			continue
		}
		for _, name := range s.variableNames() {
			if l.setsVariable(name) || l.setsVariable(name+"_FILE") {
				l.ownUnits[s.unit] = true
			}
		}
	}
}

// setsVariable reports whether the file or the credentials of the tenancy set a variable.
func (l *loader) setsVariable(name string) bool {
	if _, set := l.file.values[name]; set {
		return true
	}
	credential, _ := l.lookupCredential(name)
	return credential.found || credential.failed
}

// checkTenancyFile reports the variables of libraries in the file of a tenancy: a library
// reads them from the environment of the process, which all tenancies share.
func (l *loader) checkTenancyFile() {
	for _, name := range sortedKeys(l.file.values) {
		if isLibraryVariable(name) {
			l.addProblemf(name, "%s:%d: applies to the whole program: set it in the environment or in the file that all tenancies share",
				filepath.Base(l.file.label), l.file.values[name].line)
		}
	}
}

// sharedOrOwn returns the sources that tenancies share, which are all sources of a program
// with one tenancy.
func (e *Environment) sharedOrOwn() *Environment {
	if e.shared != nil {
		return e.shared
	}
	return e
}
