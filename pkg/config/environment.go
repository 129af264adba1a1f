package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// Source is where settings are read from.
type Source struct {
	// Environ is the process environment as NAME=value, from [os.Environ]. As in
	// the C library, the first of two entries for one name is used.
	Environ []string
	// Dir is the working directory; "" is the current one. Its .env is read, or that
	// of the nearest parent directory within the same git repository.
	Dir string
	// EnvFile is the file of --env-file, relative to Dir, which is read in place of
	// .env; "" is none. Unlike .env it must exist.
	EnvFile string
}

// FromEnvironment is the origin of the values in the process environment.
const FromEnvironment = "environment"

const (
	fromCredential = "credential"
	fromDotenv     = ".env"
	fromEnvFile    = "--env-file"
	fromDefault    = "default"

	stateDirectory = "STATE_DIRECTORY" // set by systemd
)

// file is one file of assignments.
type file struct {
	origin, label string
	values        map[string]assignment
	text          string
	repeated      []string   // names to which it assigns different values, sorted
	ignored       []*Problem // lines that cannot be read
	exposure      string     // what any user of the machine can do with it: "read it"; "" for nothing
}

// Environment is the contents of a [Source]. It is not safe for concurrent use.
type Environment struct {
	dir         string
	process     map[string]string
	credentials string // directory, "" for none
	// credentialPrefix is the start of the names of the credentials.
	credentialPrefix string
	file             *file  // .env or the --env-file file; nil for none
	unreadable       string // the .env that the user may not read, or ""
	// tenancy is the name of the file of a tenancy, without .env, and shared what it has
	// in common with others. They are "" and nil for other sources.
	tenancy string
	shared  *Environment

	known   map[string]bool   // variables and their aliases, since the last Load
	origins map[string]string // by variable, since the last Load
	secrets map[string]bool
	exposed []string // warnings of files of secrets that others can read, since the last Load
}

// Open reads the process environment, and the --env-file file or .env. It does not
// change the process environment. The error is a [*Problems].
func Open(src Source) (*Environment, error) {
	e := &Environment{
		dir: src.Dir, process: map[string]string{}, origins: map[string]string{}, secrets: map[string]bool{},
	}
	for _, entry := range src.Environ {
		name, value, _ := strings.Cut(entry, "=")
		if _, twice := e.process[name]; !twice && name != "" {
			e.process[name] = value
		}
	}
	e.credentials = e.process["CREDENTIALS_DIRECTORY"]
	if problem := e.openFile(src.EnvFile); problem != nil {
		return nil, &Problems{List: []*Problem{problem}}
	}
	return e, nil
}

// openFile reads the named file; with no name .env, which need not exist. A .env
// that the user may not read is ignored with a warning: it is not necessarily meant
// for the program that was started beside it.
func (e *Environment) openFile(named string) *Problem {
	if named != "" {
		f, err := readAssignments(fromEnvFile, named, e.resolvePath(named))
		if err != nil {
			return &Problem{Name: fromEnvFile + " " + named, Message: err.Error()}
		}
		e.file = f
		return nil
	}
	label := e.findDotenv()
	f, err := readAssignments(fromDotenv, label, e.resolvePath(label))
	switch {
	case err == nil:
		e.file = f
	case errors.Is(err, fs.ErrPermission):
		e.unreadable = label
	case !errors.Is(err, fs.ErrNotExist):
		return &Problem{Name: label, Message: err.Error()}
	}
	return nil
}

// findDotenv returns the path of .env relative to the working directory: in it, or
// in the nearest parent directory that has one, up to the root of the git repository
// that the working directory belongs to.
func (e *Environment) findDotenv() string {
	exists := func(path string) bool {
		_, err := os.Stat(e.resolvePath(path))
		return err == nil
	}
	here, err := filepath.Abs(e.resolvePath("."))
	if err != nil {
		return fromDotenv
	}
	found := ""
	for prefix := ""; ; prefix += "../" {
		if found == "" && exists(prefix+fromDotenv) {
			found = prefix + fromDotenv
		}
		if found == fromDotenv || exists(prefix+".git") {
			return cmp.Or(found, fromDotenv)
		}
		if parent := filepath.Dir(here); parent == here {
			return fromDotenv
		} else {
			here = parent
		}
	}
}

// resolvePath returns the path of a file that is named relative to the working
// directory.
func (e *Environment) resolvePath(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(e.dir, name)
}

// readAssignments reads a file of assignments. Its error does not name the file.
func readAssignments(origin, label, path string) (*file, error) {
	text, mode, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: want a readable file", err)
	}
	return parseAssignments(origin, label, text, mode)
}

// parseAssignments parses the text of a file of assignments. Its error does not name the file.
func parseAssignments(origin, label, text string, mode fs.FileMode) (*file, error) {
	statements, ignored, err := parseDotenv(label, text)
	if err != nil {
		return nil, err
	}
	f := &file{origin: origin, label: label, text: text, values: map[string]assignment{}, ignored: ignored}
	for _, a := range statements {
		before, twice := f.values[a.name]
		if twice && before.value != a.value && !slices.Contains(f.repeated, a.name) {
			f.repeated = append(f.repeated, a.name)
		}
		f.values[a.name] = a
	}
	slices.Sort(f.repeated)
	f.exposure = exposureOf(mode)
	return f, nil
}

// FileExposure returns what any user of the machine can do with a file of secrets, with the
// remedy; "" for nothing.
func FileExposure(path string) string {
	info, err := os.Stat(path)
	if err != nil || exposureOf(info.Mode()) == "" || isMountedSecret(path) {
		return ""
	}
	return fmt.Sprintf("anyone on this machine can %s: run chmod 600 %s", exposureOf(info.Mode()), path)
}

// exposureOf returns what any user of the machine can do with a file of that mode; ""
// for nothing.
func exposureOf(mode fs.FileMode) string {
	// Windows has no such modes and reports every file as readable.
	if !mode.IsRegular() || runtime.GOOS == "windows" {
		return ""
	}
	switch mode.Perm() & 0o006 {
	case 0o004:
		return "read it"
	case 0o002:
		return "change it"
	case 0o006:
		return "read and change it"
	}
	return ""
}

// Origin returns where the value of a variable came from in the last Load:
// "environment", ".env", "--env-file", "credential" or "default"; the variable
// that named its file, such as "FALCON_SECRET_FILE"; the alias that was set, such
// as "CROWDSTRIKE_CLIENT_ID"; or "STATE_DIRECTORY" for systemd's. It returns "" for
// a variable that Load does not know.
func (e *Environment) Origin(name string) string { return e.origins[name] }

// IsDefault reports whether a variable has the value that it has without being set, also
// that of systemd.
func (e *Environment) IsDefault(name string) bool {
	origin := e.origins[name]
	return origin == fromDefault || origin == stateDirectory
}

// Secrets returns the values that must not appear in any text, the longest first:
// those of every [Secret], of active collectors or not, and the passwords in secret
// URLs. It returns none before Load.
func (e *Environment) Secrets() []string {
	values := make([]string, 0, len(e.secrets))
	for value := range e.secrets {
		values = append(values, value)
	}
	slices.SortFunc(values, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b))
	})
	return values
}
