package external

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A singerFile is what a file says about a Singer tap.
type singerFile struct {
	config  *yaml.Node // the content of the tap's configuration file; nil for none
	catalog string     // the path of its catalog; "" for none
	ignore  []string   // the names of streams whose messages are ignored
}

// readSinger reads the settings of a Singer tap.
func (r *fileReader) readSinger(f *File, m *mapping) {
	node := m.values["singer"]
	if f.protocol != protocolSinger {
		if node != nil {
			r.addProblem(node.Line, "singer is for protocol: singer")
		}
		return
	}
	f.singer = &singerFile{}
	if node == nil {
		return
	}
	s := r.readMapping(node, "singer", "config", "catalog", "ignore")
	f.singer.catalog, f.singer.ignore = s.text("catalog"), s.words("ignore")
	if f.singer.config = s.values["config"]; f.singer.config == nil {
		return
	}
	if f.singer.config.Kind != yaml.MappingNode {
		r.addProblem(s.lineOf("config"), "config: want keys and values")
		return
	}
	// The values are those of the check only.
	values := map[string]string{}
	for _, v := range f.variables {
		values[v.name] = v.name
	}
	var at *nodeError
	if _, err := encodeYAML(f.singer.config, f.knownVariable(values)); errors.As(err, &at) {
		r.addProblem(at.line, "config: %v", err)
	}
}

// A lookup returns the value of a variable, and whether it is set. The error is that of a
// variable that the file does not name.
type lookup func(name string) (value string, set bool, err error)

// knownVariable returns the lookup of the variables of the file in values.
func (f *File) knownVariable(values map[string]string) lookup {
	return func(name string) (string, bool, error) {
		if !slices.ContainsFunc(f.variables, func(v variable) bool { return v.name == name }) {
			return "", false, fmt.Errorf("${%s} is not among the variables of the file: add it to variables", name)
		}
		value, set := values[name]
		return value, set, nil
	}
}

// A nodeError is what is wrong with a YAML value in a line.
type nodeError struct {
	line int
	text string
}

func (e *nodeError) Error() string { return e.text }

// encodeYAML returns a YAML value as JSON, with the values of variables in place of ${NAME}
// in texts. Dates stay the texts that they are in YAML. A member whose value is a variable
// that is not set is left out. Its errors are nodeErrors.
func encodeYAML(node *yaml.Node, find lookup) ([]byte, error) {
	switch node.Kind {
	case yaml.MappingNode:
		return encodeMapping(node, find)
	case yaml.SequenceNode:
		items := [][]byte{}
		for _, entry := range node.Content {
			item, err := encodeYAML(entry, find)
			if err != nil {
				return nil, err
			}
			if item != nil {
				items = append(items, item)
			}
		}
		return slices.Concat([]byte("["), bytes.Join(items, []byte(",")), []byte("]")), nil
	case yaml.ScalarNode:
		return encodeScalar(node, find)
	}
	return nil, &nodeError{node.Line, "there is an alias: write the value itself"}
}

func encodeMapping(node *yaml.Node, find lookup) ([]byte, error) {
	members, seen := [][]byte{}, map[string]bool{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := node.Content[i]
		if seen[key.Value] {
			return nil, &nodeError{key.Line, key.Value + " is there twice"}
		}
		seen[key.Value] = true
		name, err := json.Marshal(key.Value)
		if err != nil {
			return nil, err
		}
		value, err := encodeYAML(node.Content[i+1], find)
		if err != nil {
			return nil, err
		}
		if value != nil {
			members = append(members, slices.Concat(name, []byte(":"), value))
		}
	}
	return slices.Concat([]byte("{"), bytes.Join(members, []byte(",")), []byte("}")), nil
}

// encodeScalar returns nil for a variable that is not set.
func encodeScalar(node *yaml.Node, find lookup) ([]byte, error) {
	if node.Tag != "!!str" && node.Tag != "!!timestamp" {
		var value any
		err := node.Decode(&value)
		if err == nil {
			var text []byte
			if text, err = json.Marshal(value); err == nil {
				return text, nil
			}
		}
		return nil, &nodeError{node.Line, fmt.Sprintf("%.40q has no form in JSON: write a number, true, false, null, or a text in quotes", node.Value)}
	}
	var text strings.Builder
	rest, alone := node.Value, true
	for {
		before, after, found := strings.Cut(rest, "${")
		name, end, closed := strings.Cut(after, "}")
		if !found || !closed {
			text.WriteString(rest)
			return json.Marshal(text.String())
		}
		value, set, err := find(name)
		if err != nil {
			return nil, &nodeError{node.Line, err.Error()}
		}
		if alone = alone && before == "" && end == ""; alone && !set {
			return nil, nil
		}
		text.WriteString(before + value)
		rest, alone = end, false
	}
}

// writeFiles writes the files of the tap into a directory that only this user can read, and
// returns the arguments that name them.
func (s *singerFile) writeFiles(dir string, a *account, streams []string) (args []string, err error) {
	if s.config != nil {
		text, err := encodeYAML(s.config, a.knownVariable(a.values))
		if err != nil {
			return nil, err
		}
		path := filepath.Join(dir, "config.json")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return nil, err
		}
		args = append(args, "--config", path)
	}
	catalog, err := a.readCatalog(streams)
	if catalog == nil || err != nil {
		return args, err
	}
	path := filepath.Join(dir, "catalog.json")
	return append(args, "--catalog", path), os.WriteFile(path, catalog, 0o600)
}

// maxCatalogBytes bounds the size of a catalog.
const maxCatalogBytes = 64 << 20

// readCatalog returns the catalog of a tap in which the given streams are selected and no
// others; nil without a catalog.
func (f *File) readCatalog(streams []string) ([]byte, error) {
	if f.singer == nil || f.singer.catalog == "" {
		return nil, nil
	}
	path := f.singer.catalog
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(f.path), path)
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("catalog: %s does not exist: let the tap write it with --discover, or correct the path", path)
	case err == nil && !info.Mode().IsRegular():
		return nil, fmt.Errorf("catalog: %s is not a file: want that which the tap prints with --discover", path)
	case err == nil && info.Size() > maxCatalogBytes:
		return nil, fmt.Errorf("catalog: %s has %d bytes: a catalog may have %d MiB", path, info.Size(), maxCatalogBytes>>20)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("catalog: %w: want a file that the service can read", err)
	}
	if text, err = f.selectStreams(text, streams); err != nil {
		return nil, fmt.Errorf("catalog: %s%w", path, err)
	}
	return text, nil
}

// errNoCatalog is the end of the errors of files that are no catalog.
var errNoCatalog = errors.New("want the file that the tap prints with --discover")

// describeJSON returns the line of a syntax error in a text, and what is wrong.
func describeJSON(text []byte, err error) string {
	var syntax *json.SyntaxError
	if !errors.As(err, &syntax) {
		return ": it is no JSON object"
	}
	line := 1 + bytes.Count(text[:min(syntax.Offset, int64(len(text)))], []byte("\n"))
	return fmt.Sprintf(":%d: it is not valid JSON: %v", line, syntax)
}

// selectStreams returns a catalog in which the given streams are selected and no others.
// The texts of its errors follow the path of the catalog.
func (f *File) selectStreams(text []byte, streams []string) ([]byte, error) {
	var catalog map[string]json.RawMessage
	var entries []map[string]json.RawMessage
	if err := json.Unmarshal(text, &catalog); err != nil {
		return nil, fmt.Errorf("%s: %w", describeJSON(text, err), errNoCatalog)
	}
	if json.Unmarshal(catalog["streams"], &entries) != nil || entries == nil {
		return nil, fmt.Errorf(": it has no list of streams: %w", errNoCatalog)
	}
	missing := map[string]bool{}
	for _, s := range f.streams {
		if slices.Contains(streams, s.name) {
			missing[s.tapName] = true
		}
	}
	wanted := func(name string) bool { return missing[name] }
	found := map[string]bool{}
	for _, entry := range entries {
		stream, _ := textOf(entry["stream"])
		id, _ := textOf(entry["tap_stream_id"])
		selected := wanted(stream) || stream == "" && wanted(id)
		found[stream], found[id] = true, true
		if err := selectEntry(entry, selected); err != nil {
			return nil, fmt.Errorf(": stream %s: %w", cmp.Or(stream, id), err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		if !found[name] {
			return nil, fmt.Errorf(": it does not have the stream %s, which %s names: it has %s", name, f.Name, describeStreams(namesIn(found)))
		}
	}
	var err error
	if catalog["streams"], err = json.Marshal(entries); err != nil {
		return nil, err
	}
	return json.Marshal(catalog)
}

// namesIn returns the names that a catalog has, of which the empty one stands for none.
func namesIn(found map[string]bool) []string {
	names := slices.Sorted(maps.Keys(found))
	return slices.DeleteFunc(names, func(name string) bool { return name == "" })
}

// selectEntry sets whether a stream of a catalog is selected: in its metadata, and in its
// schema, where older taps look.
func selectEntry(entry map[string]json.RawMessage, selected bool) error {
	value, err := json.Marshal(selected)
	if err != nil {
		return err
	}
	if schema := (map[string]json.RawMessage{}); len(entry["schema"]) > 0 {
		if json.Unmarshal(entry["schema"], &schema) != nil || schema == nil {
			return fmt.Errorf("its schema is no object: %w", errNoCatalog)
		}
		schema["selected"] = value
		if entry["schema"], err = json.Marshal(schema); err != nil {
			return err
		}
	}
	type node struct {
		Breadcrumb []string                   `json:"breadcrumb"`
		Metadata   map[string]json.RawMessage `json:"metadata"`
	}
	nodes := []node{}
	if len(entry["metadata"]) > 0 {
		if json.Unmarshal(entry["metadata"], &nodes) != nil {
			return fmt.Errorf("its metadata is no list of objects with breadcrumb and metadata: %w", errNoCatalog)
		}
	}
	at := slices.IndexFunc(nodes, func(n node) bool { return len(n.Breadcrumb) == 0 })
	if at < 0 {
		at, nodes = len(nodes), append(nodes, node{Breadcrumb: []string{}})
	}
	if nodes[at].Metadata == nil {
		nodes[at].Metadata = map[string]json.RawMessage{}
	}
	nodes[at].Metadata["selected"] = value
	entry["metadata"], err = json.Marshal(nodes)
	return err
}

// A singerProtocol reads the messages of a Singer tap.
type singerProtocol struct {
	*splitter
	ignore  []string
	seed    maphash.Seed
	streams map[*splitStream]*singerStream
}

// A singerStream is what the messages of a tap said of a stream.
type singerStream struct {
	described bool     // there was a schema
	keys      []string // the members that identify a record
	version   string   // of the records and of ACTIVATE_VERSION; "" for none
	seen      map[uint64]struct{}
	repeated  int64
}

func newSingerProtocol(p *splitter, f *singerFile) *singerProtocol {
	s := &singerProtocol{splitter: p, ignore: f.ignore, seed: maphash.MakeSeed(), streams: map[*splitStream]*singerStream{}}
	for _, stream := range p.streams {
		s.streams[stream] = &singerStream{seen: map[uint64]struct{}{}}
	}
	return s
}

func (sp *singerProtocol) readLine(line []byte, number int64) error {
	members, err := sp.session.readLineObject(line, number)
	if err != nil {
		return err
	}
	kind, err := findMember(members, "type", number)
	if err != nil {
		return err
	}
	text, isText := textOf(kind)
	if !isText {
		return lineError(number, "is no Singer message: it has no type; let the tap print anything else to standard error")
	}
	switch strings.ToUpper(text) {
	case "STATE":
		// A snapshot has all records, so that no run continues another.
		if value, err := findMember(members, "value", number); err != nil || value == nil {
			return lineError(number, "is a STATE message without value")
		}
		return nil
	case "RECORD":
		return sp.readStreamMessage(members, number, sp.readRecord)
	case "SCHEMA":
		return sp.readStreamMessage(members, number, sp.readSchema)
	case "ACTIVATE_VERSION":
		return sp.readStreamMessage(members, number, sp.activateVersion)
	case "BATCH":
		return lineError(number, "is a BATCH message, which names files of records: configure the tap to print RECORD messages")
	}
	return lineError(number, "is a message of the type %s: want RECORD, SCHEMA, STATE or ACTIVATE_VERSION", sp.session.quote([]byte(text), 40))
}

// readStreamMessage calls read with a message about a stream, unless the stream is ignored.
func (sp *singerProtocol) readStreamMessage(members []member, number int64, read func(*splitStream, []member, int64) error) error {
	value, err := findMember(members, "stream", number)
	if err != nil {
		return err
	}
	name, isText := textOf(value)
	s := sp.splitter.streams[name]
	switch {
	case !isText:
		return lineError(number, "has no stream")
	case slices.Contains(sp.ignore, name):
		return nil
	case s == nil:
		return fmt.Errorf("%w: add it to streams with tap_stream: %s, or to ignore", sp.unknownStream(name, number), name)
	}
	return read(s, members, number)
}

func (sp *singerProtocol) readSchema(s *splitStream, members []member, number int64) error {
	schema, err := findMember(members, "schema", number)
	if err != nil {
		return err
	}
	if len(schema) == 0 || schema[0] != '{' {
		return lineError(number, "is a SCHEMA message whose schema is no object")
	}
	keys, err := findMember(members, "key_properties", number)
	if err != nil {
		return err
	}
	about := sp.streams[s]
	about.described, about.keys = true, nil
	if len(keys) > 0 {
		if err := json.Unmarshal(keys, &about.keys); err != nil {
			return lineError(number, "is a SCHEMA message whose key_properties are no list of texts")
		}
	}
	return nil
}

func (sp *singerProtocol) readRecord(s *splitStream, members []member, number int64) error {
	record, err := findMember(members, "record", number)
	if err != nil {
		return err
	}
	if len(record) == 0 || record[0] != '{' {
		return lineError(number, "is a RECORD message whose record is no object")
	}
	version, err := findMember(members, "version", number)
	if err != nil {
		return err
	}
	if err := sp.streams[s].setVersion(version, number); err != nil {
		return err
	}
	if err := sp.noteKey(s, record, number); err != nil {
		return err
	}
	return s.passRecord(record)
}

// activateVersion reads the message that all records of other versions are to be removed.
// It changes nothing as long as all records have one version.
func (sp *singerProtocol) activateVersion(s *splitStream, members []member, number int64) error {
	version, err := findMember(members, "version", number)
	if err != nil {
		return err
	}
	if version == nil {
		return lineError(number, "is an ACTIVATE_VERSION message without version")
	}
	return sp.streams[s].setVersion(version, number)
}

// setVersion sets the version of the records of a stream, which has only one in a run.
func (s *singerStream) setVersion(version []byte, number int64) error {
	switch text := string(version); {
	case text == "" || text == "null" || text == s.version:
	case s.version != "":
		return lineError(number, "has another version than records of the stream before it: a snapshot has records of one version")
	default:
		s.version = text
	}
	return nil
}

// noteKey counts a record whose key another record has. A hash of 8 bytes stands for a key.
func (sp *singerProtocol) noteKey(s *splitStream, record []byte, number int64) error {
	about := sp.streams[s]
	if len(about.keys) == 0 || !s.requested {
		return nil
	}
	members, err := sp.session.readLineObject(record, number)
	if err != nil {
		return err
	}
	var sum maphash.Hash
	sum.SetSeed(sp.seed)
	for _, key := range about.keys {
		for _, m := range members {
			if m.name == key {
				_, _ = sum.Write(m.value)
			}
		}
		_ = sum.WriteByte('\n') // no value has one
	}
	if _, seen := about.seen[sum.Sum64()]; seen {
		about.repeated++
	}
	about.seen[sum.Sum64()] = struct{}{}
	return nil
}

// finish checks that the tap has mentioned each stream, and reports repeated keys.
func (sp *singerProtocol) finish() error {
	for _, s := range sp.requested() {
		about := sp.streams[s]
		if !about.described && s.records == 0 {
			return incomplete("the tap printed neither a schema nor a record of %s: does it have this stream, and is it selected in the catalog?", s.tapName)
		}
		s.stats.AddDoubt("records have the key of another record", about.repeated)
	}
	return nil
}
