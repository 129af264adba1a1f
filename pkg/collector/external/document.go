package external

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/collectord/collectord/pkg/config"
)

// A fileReader reads a file and collects its problems.
type fileReader struct {
	name     string
	reserved []string // the variables of collectord itself
	problems []Problem
}

// addProblem adds a problem in a line.
func (r *fileReader) addProblem(line int, format string, args ...any) {
	r.problems = append(r.problems, Problem{File: r.name, Line: line, Text: fmt.Sprintf(format, args...)})
}

// yamlLine finds the line in an error of the parser.
var yamlLine = regexp.MustCompile(`^(?:yaml: )?(?:unmarshal errors:\s+)?line (\d+): `)

// addYAMLError adds an error of the parser.
func (r *fileReader) addYAMLError(err error, line int) {
	text := err.Error()
	if match := yamlLine.FindStringSubmatch(text); match != nil {
		line, _ = strconv.Atoi(match[1]) // the pattern has digits only
		text = strings.TrimPrefix(text, match[0])
	}
	r.addProblem(line, "%s", strings.TrimPrefix(text, "yaml: "))
}

// A mapping is the keys of a mapping and their values.
type mapping struct {
	*fileReader
	line   int
	values map[string]*yaml.Node
}

// readMapping returns a mapping that has some of the known keys.
func (r *fileReader) readMapping(node *yaml.Node, what string, known ...string) *mapping {
	m := &mapping{fileReader: r, line: node.Line, values: map[string]*yaml.Node{}}
	if node.Kind != yaml.MappingNode {
		r.addProblem(node.Line, "%s: want keys and values, such as %s", what, known[0])
		return m
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		switch {
		case !slices.Contains(known, key.Value):
			near := config.Nearest(key.Value, known, 3)
			if near != "" {
				near = ": did you mean " + near + "?"
			}
			r.addProblem(key.Line, "unknown key %s%s", key.Value, near)
		case m.values[key.Value] != nil:
			r.addProblem(key.Line, "%s is there twice", key.Value)
		case value.Kind == yaml.AliasNode:
			r.addProblem(value.Line, "%s is an alias: write the value itself", key.Value)
		case value.Tag != "!!null":
			m.values[key.Value] = value
		}
	}
	return m
}

// lineOf returns the line of a key, or that of the mapping.
func (m *mapping) lineOf(key string) int {
	if node := m.values[key]; node != nil {
		return node.Line
	}
	return m.line
}

// text returns a text; "" without one.
func (m *mapping) text(key string) string {
	node := m.values[key]
	if node == nil {
		return ""
	}
	if node.Kind != yaml.ScalarNode {
		m.addProblem(node.Line, "%s: want a text", key)
		return ""
	}
	return node.Value
}

// flag returns true or false, and def without a value.
func (m *mapping) flag(key string, def bool) bool {
	node := m.values[key]
	if node == nil {
		return def
	}
	var value bool
	if err := node.Decode(&value); err != nil {
		m.addProblem(node.Line, "%s is %q: want true or false", key, node.Value)
	}
	return value
}

// list returns the entries of a list.
func (m *mapping) list(key string) []*yaml.Node {
	node := m.values[key]
	if node == nil {
		return nil
	}
	if node.Kind != yaml.SequenceNode {
		m.addProblem(node.Line, "%s: want a list", key)
		return nil
	}
	return node.Content
}

// words returns a list of texts.
func (m *mapping) words(key string) (words []string) {
	for _, node := range m.list(key) {
		switch {
		case node.Kind != yaml.ScalarNode:
			m.addProblem(node.Line, "%s: want a list of texts", key)
		case node.Tag == "!!null":
			m.addProblem(node.Line, `%s: an entry of the list is empty (null): remove it, or write "" for an empty text`, key)
		case strings.ContainsRune(node.Value, 0):
			m.addProblem(node.Line, "%s: %q has a NUL character, which no argument of a program can have", key, shortenLine(node.Value, 60))
		default:
			words = append(words, node.Value)
		}
	}
	return words
}

// maxDuration is the longest duration that a file may have.
const maxDuration = 8760 * time.Hour

// duration returns a duration of at least a second; def without one.
func (m *mapping) duration(key string, def time.Duration) time.Duration {
	text := m.text(key)
	if text == "" {
		return def
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Second || d > maxDuration {
		m.addProblem(m.lineOf(key), "%s is %q: want a duration from 1s to 8760h, such as 90s, 15m or 6h", key, text)
	}
	return d
}

// minMemory is what any program needs, and maxMemory more than machines have.
const (
	minMemory = 64 << 20
	maxMemory = 1 << 40
)

// memory returns a number of bytes; def without one.
func (m *mapping) memory(key string, def int64) int64 {
	text := m.text(key)
	if text == "" {
		return def
	}
	var size config.Bytes
	if err := size.UnmarshalText([]byte(text)); err != nil || size < minMemory || size > maxMemory {
		m.addProblem(m.lineOf(key), "%s is %q: want a size from 64MiB to 1024GiB, such as 1GiB", key, text)
	}
	return int64(size)
}

// The defaults of a file.
const (
	defaultGrace  = 5 * time.Second
	defaultMemory = 1 << 30
)

// readDocument returns the file, which is complete when no problem was added.
func (r *fileReader) readDocument(text []byte) *File {
	f := &File{}
	var document yaml.Node
	documents := yaml.NewDecoder(bytes.NewReader(text))
	if err := documents.Decode(&document); err != nil && err != io.EOF {
		r.addYAMLError(err, 0)
		return f
	}
	if err := documents.Decode(&yaml.Node{}); err != io.EOF {
		r.addProblem(0, "it has several documents: want a file for each collector")
		return f
	}
	if len(document.Content) == 0 {
		r.addProblem(0, "the file is empty: want the keys of a collector, such as name, command and streams")
		return f
	}
	if document.Content[0].Kind != yaml.MappingNode {
		r.addProblem(document.Content[0].Line, "want the keys of a collector, such as name, command and streams")
		return f
	}
	m := r.readMapping(document.Content[0], "the file", "name", "title", "command", "check", "protocol", "streams", "variables",
		"timeout", "idle_timeout", "stop_timeout", "memory", "working_directory", "singer")
	f.collector = m.text("name")
	if problem := checkName(f.collector); problem != "" {
		r.addProblem(m.lineOf("name"), "name: %s", problem)
	}
	f.title = cmp.Or(m.text("title"), f.collector)
	if f.command = m.words("command"); len(f.command) == 0 || f.command[0] == "" {
		r.addProblem(m.lineOf("command"), "command: want a list, such as [/usr/local/bin/hr-people, --all]")
	}
	f.check = m.words("check")
	f.protocol = cmp.Or(m.text("protocol"), protocolLines)
	if f.protocol != protocolLines && f.protocol != protocolSinger {
		r.addProblem(m.lineOf("protocol"), "protocol is %q: want lines or singer", f.protocol)
	}
	f.timeout, f.idle = m.duration("timeout", 0), m.duration("idle_timeout", 0)
	f.grace = m.duration("stop_timeout", defaultGrace)
	f.memory = m.memory("memory", defaultMemory)
	f.directory = m.text("working_directory")
	if f.directory != "" && !strings.HasPrefix(f.directory, "/") {
		r.addProblem(m.lineOf("working_directory"), "working_directory is %q: want a path that begins with /", f.directory)
	}
	r.readStreams(f, m)
	r.readVariables(f, m)
	r.readSinger(f, m)
	return f
}

// readStreams reads the streams.
func (r *fileReader) readStreams(f *File, m *mapping) {
	entries := m.list("streams")
	if len(entries) == 0 {
		r.addProblem(m.lineOf("streams"), "streams: want a list of streams, each with a name")
	}
	for _, entry := range entries {
		e := r.readMapping(entry, "streams", "name", "records", "tap_stream")
		s := stream{name: e.text("name"), records: cmp.Or(e.text("records"), "one of the program")}
		s.tapName = cmp.Or(e.text("tap_stream"), s.name)
		if problem := checkName(s.name); problem != "" {
			r.addProblem(e.lineOf("name"), "streams: %s", problem)
		}
		if e.values["tap_stream"] != nil && f.protocol != protocolSinger {
			r.addProblem(e.lineOf("tap_stream"), "tap_stream is for protocol: singer")
		}
		for _, other := range f.streams {
			if other.name == s.name || other.tapName == s.tapName {
				r.addProblem(e.line, "streams: %s is there twice", s.name)
			}
		}
		f.streams = append(f.streams, s)
	}
}

// variablePattern matches the names of variables.
var variablePattern = regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)

// readVariables reads the variables of the program: names, or mappings.
func (r *fileReader) readVariables(f *File, m *mapping) {
	for _, entry := range m.list("variables") {
		v := variable{secret: true, required: true}
		if entry.Kind == yaml.ScalarNode {
			v.name = entry.Value
		} else {
			e := r.readMapping(entry, "variables", "name", "secret", "required", "description")
			v.name, v.secret, v.required, v.description = e.text("name"), e.flag("secret", true), e.flag("required", true), e.text("description")
		}
		switch {
		case !variablePattern.MatchString(v.name):
			r.addProblem(entry.Line, "variables: %q is not a name: want capital letters, digits and _, such as HR_TOKEN", v.name)
		case strings.HasSuffix(v.name, "_FILE"):
			r.addProblem(entry.Line, "variables: %s ends with _FILE, which names the file of a value: write %s, which %s sets as well",
				v.name, strings.TrimSuffix(v.name, "_FILE"), v.name)
		case r.whyReserved(v.name) != "":
			r.addProblem(entry.Line, "variables: %s", r.whyReserved(v.name))
		case slices.ContainsFunc(f.variables, func(other variable) bool { return other.name == v.name }):
			r.addProblem(entry.Line, "variables: %s is there twice", v.name)
		}
		v.description = cmp.Or(v.description, "Passed to the program of "+f.collector+".")
		f.variables = append(f.variables, v)
	}
}

// reservedPrefixes begin the names of variables of collectord itself, also of those for each
// collector and stream, which are no concern of a program.
var reservedPrefixes = []string{"COLLECTORD_", "SCHEDULE_", "DATA_MAX_AGE_", "STORE_"}

// ownVariables are those that collectord sets for every program.
var ownVariables = []string{"PATH", "HOME", "TMPDIR", "LANG"}

// whyReserved returns why a program cannot receive a variable; "" if it can.
func (r *fileReader) whyReserved(name string) string {
	hasPrefix := func(prefix string) bool { return strings.HasPrefix(name, prefix) }
	switch {
	case slices.Contains(r.reserved, name) || slices.ContainsFunc(reservedPrefixes, hasPrefix):
		return name + " is a variable of collectord: choose another name"
	case slices.Contains(ownVariables, name):
		return name + " is set by collectord for each run: let a script that starts the program set another value"
	case strings.HasPrefix(name, "LD_") || strings.HasPrefix(name, "DYLD_"):
		return name + " changes which code programs load: let a script that starts the program set it"
	case config.IsStoreVariable(name):
		return fmt.Sprintf("%s is what the destinations, the backup and the traces of collectord use: choose another name, such as MY_%s, and let a script that starts the program rename it", name, name)
	}
	return ""
}
