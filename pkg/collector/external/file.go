// Package external makes collectors of programs in any language: files in YAML describe
// them, and the programs print records, or the messages of Singer taps.
package external

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/config"
)

// The protocols of a program's output.
const (
	protocolLines  = "lines"
	protocolSinger = "singer"
)

// A File is the description of one collector.
type File struct {
	// Name is the name of the file in its directory, such as "hr.yaml".
	Name string
	path string

	collector string
	title     string
	command   []string
	check     []string
	protocol  string
	streams   []stream
	variables []variable
	timeout   time.Duration // 0 for none of its own
	idle      time.Duration // 0 for none of its own
	grace     time.Duration
	memory    int64
	directory string // "" for one of each run
	singer    *singerFile
	revision  string
	shared    string // why the file is open to a group; "" if it is not
}

// A stream is one stream of a file.
type stream struct {
	name, tapName, records string
}

// A variable is one that the program receives.
type variable struct {
	name, description string
	secret, required  bool
}

// A Problem is why a file cannot be used.
type Problem struct {
	// File is the name of the file; "" for the directory.
	File string
	// Line begins with 1; 0 means the whole file.
	Line int
	Text string
}

// Setting returns the problem as one of the setting EXEC_DIR.
func (p Problem) Setting() *config.Problem {
	text := p.Text
	switch {
	case p.Line > 0:
		text = fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text)
	case p.File != "":
		text = p.File + ": " + p.Text
	}
	return &config.Problem{Name: "EXEC_DIR", Message: text}
}

// maxFileBytes bounds the size of a file.
const maxFileBytes = 1 << 20

// Reserved is what files may not use.
type Reserved struct {
	// Names are those of collectors and streams.
	Names []string
	// Variables are the settings of collectord itself.
	Variables []string
}

// Load reads the files of a directory whose names end in .yml or .yaml, in the order of
// their names, and returns those that can be used and all problems of the others. Where
// two files have the same name, the one in force keeps it, or else the first.
func Load(dir string, reserved Reserved, inForce []*File) (files []*File, problems []Problem) {
	if problem := checkDirectory(dir); problem != "" {
		return nil, []Problem{{Text: problem}}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, []Problem{{Text: fmt.Sprintf("%v: want a directory that the service can read", err)}}
	}
	owners := map[string]string{}
	for _, name := range reserved.Names {
		owners[name] = "collectord itself"
	}
	isInForce := func(entry fs.DirEntry) bool {
		return slices.ContainsFunc(inForce, func(f *File) bool { return f.Name == entry.Name() })
	}
	slices.SortStableFunc(entries, func(a, b fs.DirEntry) int {
		switch inA, inB := isInForce(a), isInForce(b); {
		case inA && !inB:
			return -1
		case inB && !inA:
			return 1
		}
		return 0
	})
	for _, entry := range entries {
		name := entry.Name()
		if entry.IsDir() || !isDescription(name) {
			continue
		}
		file, found := readDescription(filepath.Join(dir, name), reserved.Variables)
		if len(found) == 0 {
			found = file.claimNames(owners)
		}
		if len(found) > 0 {
			problems = append(problems, found...)
			continue
		}
		files = append(files, file)
	}
	return files, problems
}

// isDescription reports whether a file with the name is read. Hidden files are those of
// editors and of volumes of containers.
func isDescription(name string) bool {
	extension := strings.ToLower(filepath.Ext(name))
	return !strings.HasPrefix(name, ".") && (extension == ".yml" || extension == ".yaml")
}

// setAside matches the names of files that a person, an editor or a package manager keeps
// beside a file, and that are not expected to be read, such as hr.yaml~ and hr.yml.bak.
var setAside = regexp.MustCompile(`(?i)^\.|^#.*#$|~$|\.(bak|backup|orig|old|save|sw[a-p]|tmp|disabled|off|example|sample|dist|rpmnew|rpmsave|rpmorig|ucf-.*|dpkg-.*)$`)

// nearName matches the names of files that resemble those that are read.
var nearName = regexp.MustCompile(`(?i)\.ya?ml|\.(yaaml|yam|ymal|yamll|ymll|yl|ylm|yalm)$`)

// NearMisses returns a warning for each entry of the directory that looks like the file of
// a collector and is not read.
func NearMisses(dir string) (warnings []string) {
	entries, err := os.ReadDir(dir)
	if err != nil { // which Load reports
		return nil
	}
	for _, entry := range entries {
		name := entry.Name()
		switch {
		case setAside.MatchString(name):
		case entry.IsDir() && isDescription(name):
			warnings = append(warnings, "EXEC_DIR: "+name+" is not read: it is a directory, want a file")
		case !entry.IsDir() && !isDescription(name) && nearName.MatchString(name):
			warnings = append(warnings, "EXEC_DIR: "+name+" is not read: the name of a file ends in .yml or .yaml")
		}
	}
	return warnings
}

// checkDirectory returns what is wrong with the directory of the files.
func checkDirectory(dir string) string {
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		return fmt.Sprintf("%v: want the directory of the files of collectors", err)
	case !info.IsDir():
		return dir + " is a file: want the directory of the files of collectors"
	case info.Mode().Perm()&0o002 != 0 && info.Mode()&fs.ModeSticky == 0:
		return fmt.Sprintf("anyone on this machine can change %s, and so run programs as this user: run chmod o-w %s", dir, dir)
	}
	return ""
}

// readDescription reads one file.
func readDescription(path string, reserved []string) (*File, []Problem) {
	name := filepath.Base(path)
	text, shared, err := readText(path)
	if err != nil {
		return nil, []Problem{{File: name, Text: err.Error()}}
	}
	r := &fileReader{name: name, reserved: reserved}
	file := r.readDocument(text)
	if len(r.problems) > 0 {
		return nil, r.problems
	}
	sum := sha256.Sum256(text)
	file.Name, file.path, file.revision, file.shared = name, path, hex.EncodeToString(sum[:]), shared
	return file, nil
}

// readText reads the text of a file, which others may not change.
func readText(path string) (text []byte, shared string, err error) {
	info, err := os.Stat(path) // a link is followed, as in the volumes of containers
	if err != nil {
		return nil, "", err
	}
	if !info.Mode().IsRegular() {
		return nil, "", fmt.Errorf("not a file")
	}
	if info.Size() > maxFileBytes {
		return nil, "", fmt.Errorf("it has %d bytes: a file may have %d MiB", info.Size(), maxFileBytes>>20)
	}
	if err := checkWritable(path); err != nil {
		return nil, "", err
	}
	text, err = os.ReadFile(path)
	return text, describeGroupAccess(path), err
}

// namePattern matches the names of collectors and streams, which are names of tables, files
// and labels. Views of a stream have up to 13 characters more.
var namePattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,47}$`)

// settingNames are the names whose setting of the schedule, SCHEDULE_<NAME>, there is
// already for another purpose.
var settingNames = []string{"tz", "jitter", "catchup", "retry"}

// viewSuffixes end the names of views of other streams.
var viewSuffixes = []string{"_latest", "_latest_typed"}

// checkName returns what is wrong with the name of a collector or stream.
func checkName(name string) string {
	if !namePattern.MatchString(name) {
		return fmt.Sprintf("%q is not a name: want 1 to 48 small letters, digits and _, the first a letter", name)
	}
	if slices.Contains(settingNames, name) {
		return fmt.Sprintf("SCHEDULE_%s is a setting of collectord: choose another name than %s", strings.ToUpper(name), name)
	}
	for _, suffix := range viewSuffixes {
		if strings.HasSuffix(name, suffix) {
			return fmt.Sprintf("%s ends with %s, as the views of tables do: choose another name", name, suffix)
		}
	}
	return ""
}

// claimNames makes the file the owner of its names, unless another is.
func (f *File) claimNames(owners map[string]string) (problems []Problem) {
	names := f.StreamNames()
	if !slices.Contains(names, f.collector) {
		names = append([]string{f.collector}, names...)
	}
	for _, name := range names {
		if owner := owners[name]; owner != "" {
			problems = append(problems, Problem{File: f.Name, Text: fmt.Sprintf("the name %s is used by %s: choose another", name, owner)})
		}
	}
	if len(problems) > 0 {
		return problems
	}
	for _, name := range names {
		owners[name] = f.Name
	}
	return nil
}

// StreamNames returns the names of the streams.
func (f *File) StreamNames() (names []string) {
	for _, s := range f.streams {
		names = append(names, s.name)
	}
	return names
}

// Cautions returns why the file, although it can be used, may not be what a person wants.
func (f *File) Cautions() (texts []string) {
	if f.shared != "" {
		texts = append(texts, f.shared)
	}
	for _, err := range f.checkParts(f.StreamNames(), f.command, f.check) {
		texts = append(texts, err.Error())
	}
	for i := range texts {
		texts[i] = "EXEC_DIR: " + f.Name + ": " + texts[i]
	}
	return texts
}

// checkParts returns what is wrong with what the program needs, for the given streams: the
// given commands, the working directory and the catalog.
func (f *File) checkParts(streams []string, commands ...[]string) (problems []error) {
	for _, command := range commands {
		if len(command) == 0 {
			continue
		}
		if _, err := f.resolve(command); err != nil {
			problems = append(problems, err)
		}
	}
	if err := f.checkWorkingDirectory(); err != nil {
		problems = append(problems, err)
	}
	if _, err := f.readCatalog(streams); err != nil {
		problems = append(problems, err)
	}
	return problems
}

// checkWorkingDirectory returns an error if the program cannot run in the directory that the
// file names.
func (f *File) checkWorkingDirectory() error {
	if f.directory == "" {
		return nil
	}
	info, err := os.Stat(f.directory)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("working_directory: %s does not exist: create it, or correct the path", f.directory)
	case err != nil:
		return fmt.Errorf("working_directory: %w: want a directory that the service can enter", err)
	case !info.IsDir():
		return fmt.Errorf("working_directory: %s is a file: want a directory", f.directory)
	}
	return nil
}

// Collector returns the name of the collector.
func (f *File) Collector() string { return f.collector }

// Definition returns the definition of the collector.
func (f *File) Definition() collector.Definition {
	d := collector.Definition{
		Info: collector.Info{
			Name: f.collector, Title: f.title, Permissions: "those that its program needs", RateLimit: "its program observes it",
		},
		Settings: f.newSettings, Open: f.open, OnByDefault: true, Revision: f.revision,
	}
	for _, v := range f.variables {
		d.OnByDefault = d.OnByDefault && !v.required
	}
	for _, s := range f.streams {
		d.Streams = append(d.Streams, collector.StreamInfo{Name: s.name, Records: s.records})
	}
	return d
}
