package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// rawValue is the text of one variable, and its origin.
type rawValue struct {
	value  string // not empty when found
	origin string // see Environment.Origin
	found  bool
	failed bool // a problem was reported in place of a value
}

// lookupVariable looks up a variable, NAME or NAME_FILE, in the process environment,
// the credentials and the files, in this order.
func (e *Environment) lookupVariable(name string) (rawValue, *Problem) {
	if value := e.process[name]; value != "" {
		return rawValue{value: value, origin: FromEnvironment, found: true}, nil
	}
	if r, problem := e.lookupCredential(name); r.found || r.failed {
		return r, problem
	}
	return e.lookupInFile(name), nil
}

// lookupInFile looks up a variable in .env or the --env-file file.
func (e *Environment) lookupInFile(name string) rawValue {
	if e.file == nil || e.file.values[name].value == "" {
		return rawValue{}
	}
	return rawValue{value: e.file.values[name].value, origin: e.file.origin, found: true}
}

// lookupCredential looks up a variable among systemd's credentials.
func (e *Environment) lookupCredential(name string) (rawValue, *Problem) {
	if e.credentials == "" {
		return rawValue{}, nil
	}
	text, _, err := readFile(filepath.Join(e.credentials, e.credentialPrefix+name))
	if errors.Is(err, fs.ErrNotExist) {
		return rawValue{}, nil
	}
	if err != nil {
		message := fmt.Sprintf("the credential $CREDENTIALS_DIRECTORY/%s: %v: want a readable file", e.credentialPrefix+name, err)
		return rawValue{failed: true}, &Problem{Name: name, Message: message}
	}
	value := trimEditorMarks(text)
	return rawValue{value: value, origin: fromCredential, found: value != ""}, nil
}

// emptyValue returns the value text for a setting that a source sets to nothing,
// and no value if none does.
func (e *Environment) emptyValue(s *setting, text string) rawValue {
	for _, name := range s.variableNames() {
		if _, set := e.process[name]; set {
			return rawValue{value: text, origin: FromEnvironment, found: true}
		}
		if e.file == nil {
			continue
		}
		if _, set := e.file.values[name]; set {
			return rawValue{value: text, origin: e.file.origin, found: true}
		}
	}
	return rawValue{}
}

// trimEditorMarks removes the byte order mark and the one newline that editors and
// echo add to the text of a file.
func trimEditorMarks(text string) string {
	text = strings.TrimPrefix(text, byteOrderMark)
	if cut, found := strings.CutSuffix(text, "\r\n"); found {
		return cut
	}
	return strings.TrimSuffix(text, "\n")
}

// lookupValue looks up the value of a setting under one of its names in all sources.
func (e *Environment) lookupValue(name string, secret bool) (rawValue, *Problem) {
	direct := e.lookupInFile(name)
	if value := e.process[name]; value != "" {
		direct = rawValue{value: value, origin: FromEnvironment, found: true}
	}
	if r, problem := e.lookupByFile(name, direct, secret); r.found || r.failed {
		return r, problem
	}
	if direct.origin != FromEnvironment {
		if r, problem := e.lookupCredential(name); r.found || r.failed {
			return r, problem
		}
	}
	return direct, nil
}

// lookupByFile reads a value from the file that NAME_FILE names; direct is the value
// of NAME itself, which excludes it.
func (e *Environment) lookupByFile(name string, direct rawValue, secret bool) (rawValue, *Problem) {
	pointer := name + "_FILE"
	if e.known[pointer] {
		return rawValue{}, nil
	}
	path, problem := e.lookupVariable(pointer)
	switch {
	case path.failed:
		return path, problem
	case !path.found:
		return rawValue{}, nil
	case direct.found:
		message := fmt.Sprintf("set %s, and %s is set %s: keep one of the two",
			describeOrigin(direct.origin), pointer, describeOrigin(path.origin))
		return rawValue{failed: true}, &Problem{Name: name, Message: message}
	}
	text, mode, err := readFile(e.resolvePath(path.value))
	switch {
	case err != nil:
	case trimEditorMarks(text) == "":
		err = errors.New("empty")
	case isUTF16(text):
		err = errors.New("is UTF-16, not UTF-8")
	}
	if err != nil {
		shown := fmt.Sprintf("%q", path.value)
		if secret && !filepath.IsAbs(path.value) {
			shown = "the file" // the path may be the secret itself
		}
		message := fmt.Sprintf("%s: %v: want a readable file that holds the value of %s", shown, err, name)
		return rawValue{failed: true}, &Problem{Name: pointer, Message: message}
	}
	if exposure := exposureOf(mode); secret && exposure != "" && !isMountedSecret(e.resolvePath(path.value)) {
		e.exposed = append(e.exposed, fmt.Sprintf("%s: anyone on this machine can %s: run chmod 600 %s", pointer, exposure, path.value))
	}
	return rawValue{value: trimEditorMarks(text), origin: pointer, found: true}, nil
}

// isMountedSecret reports whether a container runtime has mounted a file, whose mode
// says nothing then: Docker and Podman mount secrets into /run/secrets, and a secret
// volume of Kubernetes has the link ..data.
func isMountedSecret(path string) bool {
	if strings.HasPrefix(filepath.Clean(path), "/run/secrets/") {
		return true
	}
	_, err := os.Lstat(filepath.Join(filepath.Dir(path), "..data"))
	return err == nil
}

// isUTF16 reports whether the text of a file begins with the byte order mark of
// UTF-16.
func isUTF16(text string) bool {
	return strings.HasPrefix(text, "\xff\xfe") || strings.HasPrefix(text, "\xfe\xff")
}

// describeOrigin returns an origin as part of a sentence.
func describeOrigin(origin string) string {
	switch origin {
	case FromEnvironment:
		return "in the environment"
	case fromCredential:
		return "as a credential"
	case fromEnvFile:
		return "in the --env-file file"
	case fromTenancy:
		return "in the file of the tenancy"
	}
	return "in " + origin
}
