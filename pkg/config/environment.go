package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// Source says where settings are read from.
type Source struct {
	// Environ is the process environment as NAME=value, from [os.Environ]. As in
	// the C library, the first of two entries for one name counts.
	Environ []string
	// Dir is the working directory, which holds .env; "" is the current one.
	Dir string
	// EnvFile is the file of --env-file, relative to Dir; "" is none. Unlike
	// .env it must exist.
	EnvFile string
}

const (
	fromEnvironment = "environment"
	fromCredential  = "credential"
	fromDotenv      = ".env"
	fromEnvFile     = "--env-file"
	fromDefault     = "default"

	stateDirectory = "STATE_DIRECTORY" // systemd's
)

// maxFile bounds what is read of any file, in bytes.
const maxFile = 1 << 20

// file is one file of assignments.
type file struct {
	origin, label string
	values        map[string]assignment
	repeated      []string // names that it gives different values, sorted
	open          bool     // anybody on the machine may read it
}

// Environment is what was found at a [Source]. It is not safe for concurrent use.
type Environment struct {
	dir         string
	process     map[string]string
	credentials string // folder, "" for none
	files       []*file

	known   map[string]bool   // variables and their aliases, since the last Load
	origins map[string]string // by variable, since the last Load
	secrets map[string]bool
}

// Open reads the process environment, .env and the --env-file file. It changes
// nothing of the process. The error is a [*Problems] that lists every line that
// cannot be read.
func Open(src Source) (*Environment, error) {
	e := &Environment{dir: src.Dir, process: map[string]string{}, origins: map[string]string{}, secrets: map[string]bool{}}
	for _, entry := range src.Environ {
		name, value, _ := strings.Cut(entry, "=")
		if _, twice := e.process[name]; !twice && name != "" {
			e.process[name] = value
		}
	}
	e.credentials = e.process["CREDENTIALS_DIRECTORY"]

	var problems []*Problem
	dotenv, unread := openFile(fromDotenv, fromDotenv, e.path(fromDotenv))
	problems = append(problems, unread...)
	if dotenv != nil {
		e.files = append(e.files, dotenv)
	}
	if src.EnvFile != "" && !sameFile(e.path(src.EnvFile), e.path(fromDotenv)) {
		named, unread := openFile(fromEnvFile, src.EnvFile, e.path(src.EnvFile))
		problems = append(problems, unread...)
		if named != nil {
			e.files = append(e.files, named)
		}
	}
	if len(problems) > 0 {
		return nil, &Problems{List: problems}
	}
	return e, nil
}

// path gives a file's place, seen from the working directory.
func (e *Environment) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(e.dir, name)
}

func sameFile(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// openFile reads a file of assignments; it gives nil for a .env that is not there.
func openFile(origin, label, path string) (*file, []*Problem) {
	text, mode, err := readFile(path)
	if origin == fromDotenv && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		if origin == fromEnvFile {
			label = fromEnvFile + " " + label
		}
		return nil, []*Problem{{Name: label, Message: fmt.Sprintf("%v: want a readable file", err)}}
	}
	statements, problems := parseDotenv(label, text)
	f := &file{origin: origin, label: label, values: map[string]assignment{}}
	for _, a := range statements {
		before, twice := f.values[a.name]
		if twice && before.value != a.value && !slices.Contains(f.repeated, a.name) {
			f.repeated = append(f.repeated, a.name)
		}
		f.values[a.name] = a
	}
	slices.Sort(f.repeated)
	// Windows has no such modes and reports every file as readable.
	f.open = mode.IsRegular() && mode.Perm()&0o004 != 0 && runtime.GOOS != "windows"
	return f, problems
}

// readFile reads a file, pipe or device to its end. The error does not name the
// path, which a user may have mixed up with a secret.
func readFile(path string) (text string, mode fs.FileMode, err error) {
	bare := func(err error) error {
		if pathError := (*fs.PathError)(nil); errors.As(err, &pathError) {
			return pathError.Err
		}
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", 0, bare(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", 0, bare(err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", 0, bare(err)
	}
	if len(data) > maxFile {
		return "", 0, errors.New("longer than 1 MiB")
	}
	return string(data), info.Mode(), nil
}

// Origin says where the value of a variable came from in the last Load:
// "environment", ".env", "--env-file", "credential" or "default"; the variable
// that named its file, such as "FALCON_SECRET_FILE"; the alias that gave it,
// such as "CROWDSTRIKE_CLIENT_ID"; "STATE_DIRECTORY" for systemd's. It is empty
// for a variable that Load does not know.
func (e *Environment) Origin(name string) string { return e.origins[name] }

// Secrets gives the values that must not appear in any text, the longest first:
// those of every [Secret], of active collectors or not, and the passwords
// within secret URLs. It is empty before Load.
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
