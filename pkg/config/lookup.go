package config

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// reading is the value of one variable and where it is from.
type reading struct {
	value  string // never empty when found
	origin string // see Environment.Origin
	found  bool
	failed bool // a problem tells why there is no value
}

// variable finds a variable itself, NAME or NAME_FILE, in the process
// environment, a credential or a file, in this order.
func (e *Environment) variable(name string) (reading, *Problem) {
	if value := e.process[name]; value != "" {
		return reading{value: value, origin: fromEnvironment, found: true}, nil
	}
	if r, problem := e.credential(name); r.found || r.failed {
		return r, problem
	}
	return e.assigned(name), nil
}

// assigned finds a variable in .env or the --env-file file.
func (e *Environment) assigned(name string) reading {
	for _, f := range e.files {
		if value := f.values[name].value; value != "" {
			return reading{value: value, origin: f.origin, found: true}
		}
	}
	return reading{}
}

// credential finds a variable among systemd's credentials.
func (e *Environment) credential(name string) (reading, *Problem) {
	if e.credentials == "" {
		return reading{}, nil
	}
	text, _, err := readFile(filepath.Join(e.credentials, name))
	if errors.Is(err, fs.ErrNotExist) {
		return reading{}, nil
	}
	if err != nil {
		message := fmt.Sprintf("the credential $CREDENTIALS_DIRECTORY/%s: %v: want a readable file", name, err)
		return reading{failed: true}, &Problem{Name: name, Message: message}
	}
	value := cutNewline(text)
	return reading{value: value, origin: fromCredential, found: value != ""}, nil
}

// cutNewline takes off the one newline that editors and echo leave.
func cutNewline(text string) string {
	if cut, found := strings.CutSuffix(text, "\r\n"); found {
		return cut
	}
	return strings.TrimSuffix(text, "\n")
}

// lookup finds the value of a setting under one of its names, by all sources.
func (e *Environment) lookup(name string, secret bool) (reading, *Problem) {
	direct := e.assigned(name)
	if value := e.process[name]; value != "" {
		direct = reading{value: value, origin: fromEnvironment, found: true}
	}
	if r, problem := e.lookupFile(name, direct, secret); r.found || r.failed {
		return r, problem
	}
	if direct.origin != fromEnvironment {
		if r, problem := e.credential(name); r.found || r.failed {
			return r, problem
		}
	}
	return direct, nil
}

// lookupFile finds a value by NAME_FILE; direct is what NAME itself gives.
func (e *Environment) lookupFile(name string, direct reading, secret bool) (reading, *Problem) {
	pointer := name + "_FILE"
	if e.known[pointer] {
		return reading{}, nil
	}
	path, problem := e.variable(pointer)
	switch {
	case path.failed:
		return path, problem
	case !path.found:
		return reading{}, nil
	case direct.found:
		message := fmt.Sprintf("set %s, and %s is set %s: keep one of the two", where(direct.origin), pointer, where(path.origin))
		return reading{failed: true}, &Problem{Name: name, Message: message}
	}
	text, _, err := readFile(e.path(path.value))
	if err == nil && cutNewline(text) == "" {
		err = errors.New("empty")
	}
	if err != nil {
		shown := fmt.Sprintf("%q", path.value)
		if secret && !filepath.IsAbs(path.value) {
			shown = "the file" // it may well be the secret itself
		}
		message := fmt.Sprintf("%s: %v: want a readable file that holds the value of %s", shown, err, name)
		return reading{failed: true}, &Problem{Name: pointer, Message: message}
	}
	return reading{value: cutNewline(text), origin: pointer, found: true}, nil
}

// where puts an origin into a sentence.
func where(origin string) string {
	switch origin {
	case fromEnvironment:
		return "in the environment"
	case fromCredential:
		return "as a credential"
	case fromEnvFile:
		return "in the --env-file file"
	}
	return "in " + origin
}
