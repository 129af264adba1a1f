package control

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/agext/levenshtein"
	"go.yaml.in/yaml/v3"
)

// idPattern matches the ids of controls, which are labels of metrics.
var idPattern = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,100}$`)

// A fileReader reads the control of one file and collects its problems.
type fileReader struct {
	file     string
	text     []byte
	fields   map[string]*yaml.Node
	problems []Problem
}

func newFileReader(file string, text []byte) *fileReader {
	return &fileReader{file: file, text: bytes.TrimPrefix(text, []byte("\ufeff")), fields: map[string]*yaml.Node{}}
}

// addProblem adds a problem in a line.
func (r *fileReader) addProblem(line int, format string, args ...any) {
	r.problems = append(r.problems, Problem{File: r.file, Line: line, Text: fmt.Sprintf(format, args...)})
}

// knownFields are the names of all fields.
var knownFields = []string{
	"metric_id", "title", "category", "type", "description", "how", "slo", "slo_min", "weight", "enabled", "indicator", "references", "query",
}

// yamlLine finds the line in an error of the parser.
var yamlLine = regexp.MustCompile(`^(?:yaml: )?line (\d+): `)

// readControl returns the control, which is complete when no problem was added.
func (r *fileReader) readControl() *Control {
	c := &Control{Files: []string{r.file}, Hash: hashOf(r.text)}
	var document yaml.Node
	err := yaml.Unmarshal(r.text, &document)
	switch {
	case err != nil:
		r.addSyntaxProblem(err)
		problems := r.problems
		defer func() { r.problems = problems }() // what else cannot be read follows from it
		r.readLines()
	case len(document.Content) == 0 || document.Content[0].Kind != yaml.MappingNode:
		r.addProblem(0, "want the fields of one control, such as metric_id and query")
		return c
	default:
		r.readFields(document.Content[0])
	}
	c.ID = r.readID()
	c.Title, c.Category = r.requireText("title"), r.requireText("category")
	c.Type, c.Description, c.How = r.readText("type"), r.readText("description"), r.readText("how")
	if !slices.Contains([]string{"", "control", "risk", "performance"}, c.Type) {
		r.addProblem(r.fields["type"].Line, "type is %q: it may be control, risk or performance", c.Type)
	}
	c.Minimum, c.Target = r.readTargets()
	c.Weight = r.readWeight()
	c.Indicator = r.readBool("indicator", false)
	c.References = r.readReferences()
	c.Queries = r.readQueries()
	switch {
	case !r.readBool("enabled", true):
		c.Off, c.Queries = "enabled is false", nil
	case len(c.Queries) == 0:
		c.Off = "it has no query"
	}
	return c
}

// addSyntaxProblem adds the error of the parser.
func (r *fileReader) addSyntaxProblem(err error) {
	text, line := err.Error(), 0
	if match := yamlLine.FindStringSubmatch(text); match != nil {
		line, _ = strconv.Atoi(match[1]) // the pattern has digits only
		text = strings.TrimPrefix(text, match[0])
	}
	text = strings.TrimPrefix(text, "yaml: ")
	r.addProblem(line, "not YAML: %s", text)
}

// fieldLine matches a field with its value in one line.
var fieldLine = regexp.MustCompile(`(?m)^[a-z_]+:[ \t]+\S.*$`)

// readLines reads the fields that are alone in their lines, of a file that is no YAML as a
// whole.
func (r *fileReader) readLines() {
	for _, line := range fieldLine.FindAll(r.text, -1) {
		var document yaml.Node
		if err := yaml.Unmarshal(line, &document); err == nil && len(document.Content) == 1 && document.Content[0].Kind == yaml.MappingNode {
			r.readFields(document.Content[0])
		}
	}
}

// readFields reads the fields of the file and reports those that are unknown.
func (r *fileReader) readFields(mapping *yaml.Node) {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		key, value := mapping.Content[i], mapping.Content[i+1]
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		switch {
		case !slices.Contains(knownFields, key.Value):
			r.problems = append(r.problems, Problem{
				File: r.file, Line: key.Line, Harmless: true, Text: fmt.Sprintf("unknown field %s%s", key.Value, suggestField(key.Value)),
			})
		case r.fields[key.Value] != nil:
			r.addProblem(key.Line, "%s is there twice", key.Value)
		case value.Tag != "!!null":
			r.fields[key.Value] = value
		}
	}
}

// suggestField returns the name of a field that a misspelled one may mean.
func suggestField(name string) string {
	best, text := 3, ""
	for _, known := range knownFields {
		if d := levenshtein.Distance(strings.ToLower(name), known, nil); d < best {
			best, text = d, ": did you mean "+known+"?"
		}
	}
	return text
}

func (r *fileReader) readID() string {
	id := r.requireText("metric_id")
	if id != "" && !idPattern.MatchString(id) {
		r.addProblem(r.fields["metric_id"].Line, "metric_id is %q: it may have up to 100 letters, digits, _, . and -", id)
		return ""
	}
	return id
}

// requireText returns the text of a field that must be there.
func (r *fileReader) requireText(name string) string {
	text := r.readText(name)
	if text == "" && (r.fields[name] == nil || r.fields[name].Kind == yaml.ScalarNode) {
		line := 0
		if r.fields[name] != nil {
			line = r.fields[name].Line
		}
		r.addProblem(line, "%s is missing", name)
	}
	return text
}

// readText returns the text of a field, "" when it is not there.
func (r *fileReader) readText(name string) string {
	node := r.fields[name]
	if node == nil {
		return ""
	}
	if node.Kind != yaml.ScalarNode {
		r.addProblem(node.Line, "%s is not a text", name)
		return ""
	}
	return strings.TrimSpace(node.Value)
}

func (r *fileReader) readBool(name string, unset bool) (value bool) {
	node := r.fields[name]
	if node == nil {
		return unset
	}
	if err := node.Decode(&value); err != nil {
		r.addProblem(node.Line, "%s is %q: it may be true or false", name, node.Value)
	}
	return value
}

// readTargets returns the minimum and the target: slo and slo_min, or the two values
// of the list slo. One value is both.
func (r *fileReader) readTargets() (minimum, target float64) {
	slo, lowest := r.fields["slo"], r.fields["slo_min"]
	switch {
	case slo == nil:
		r.addProblem(0, "slo is missing: want the score from which the control is green, such as 0.95")
		return 0, 0
	case slo.Kind == yaml.SequenceNode:
		return r.readTargetList(slo, lowest)
	}
	target = r.readShare("slo", slo)
	minimum = target
	if lowest != nil {
		minimum = r.readShare("slo_min", lowest)
	}
	r.checkTargets(slo.Line, minimum, target)
	return minimum, target
}

func (r *fileReader) readTargetList(slo, lowest *yaml.Node) (minimum, target float64) {
	if lowest != nil {
		r.addProblem(lowest.Line, "slo_min is the first value of the list slo: remove one of them")
	}
	if n := len(slo.Content); n < 1 || n > 2 {
		r.addProblem(slo.Line, "slo has %d values: want the minimum and the target, such as [0.80, 0.95]", n)
		return 0, 0
	}
	minimum = r.readShare("slo", slo.Content[0])
	target = r.readShare("slo", slo.Content[len(slo.Content)-1])
	r.checkTargets(slo.Line, minimum, target)
	return minimum, target
}

func (r *fileReader) checkTargets(line int, minimum, target float64) {
	if minimum > target {
		r.addProblem(line, "the minimum %v is above the target %v", minimum, target)
	}
}

// readShare returns a number from 0 to 1.
func (r *fileReader) readShare(name string, node *yaml.Node) float64 {
	value, err := decodeNumber(node)
	if err != nil || value < 0 || value > 1 {
		r.addProblem(node.Line, "%s is %q: it may be a number from 0 to 1, such as 0.95", name, node.Value)
		return 0
	}
	return value
}

func (r *fileReader) readWeight() float64 {
	node := r.fields["weight"]
	if node == nil {
		r.addProblem(0, "weight is missing: want the share of the control in the score of its category, such as 1")
		return 0
	}
	value, err := decodeNumber(node)
	if err != nil || value < 0 || value > maxWeight {
		r.addProblem(node.Line, "weight is %q: it may be a number from 0 to %d", node.Value, maxWeight)
		return 0
	}
	return value
}

// maxWeight is the largest weight. Sums of scores by weight stay exact.
const maxWeight = 1_000_000

// decodeNumber returns the finite number of a node.
func decodeNumber(node *yaml.Node) (value float64, err error) {
	if err := node.Decode(&value); err != nil {
		return 0, err
	}
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return 0, errors.New("not finite")
	}
	return value, nil
}

// readReferences returns the sections of frameworks in their own text: 5.20 is a
// section and not the number 5.2.
func (r *fileReader) readReferences() (references []Reference) {
	node := r.fields["references"]
	if node == nil {
		return nil
	}
	if node.Kind != yaml.MappingNode {
		r.addProblem(node.Line, "references is not a list of frameworks, each with a list of sections")
		return nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		reference := Reference{Framework: node.Content[i].Value}
		sections := []*yaml.Node{node.Content[i+1]}
		if sections[0].Kind == yaml.SequenceNode {
			sections = sections[0].Content
		}
		for _, section := range sections {
			if section.Kind != yaml.ScalarNode {
				r.addProblem(section.Line, "a section of %s is not a text", reference.Framework)
				continue
			}
			if section.Tag != "!!null" {
				reference.Sections = append(reference.Sections, section.Value)
			}
		}
		references = append(references, reference)
	}
	return references
}

// readQueries returns the queries: one text, or a list of them.
func (r *fileReader) readQueries() (queries []Query) {
	node := r.fields["query"]
	if node == nil {
		return nil
	}
	texts := []*yaml.Node{node}
	if node.Kind == yaml.SequenceNode {
		texts = node.Content
	}
	for _, text := range texts {
		switch {
		case text.Kind != yaml.ScalarNode:
			r.addProblem(text.Line, "query is neither a text nor a list of texts")
		case text.Tag != "!!null" && strings.TrimSpace(text.Value) != "":
			queries = append(queries, r.readQuery(text))
		}
	}
	return queries
}

func (r *fileReader) readQuery(node *yaml.Node) Query {
	q := Query{File: r.file, Line: node.Line}
	if node.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		q.Line++ // the text begins below its mark
	}
	text, streams, err := renderTemplate(node.Value)
	var e *templateError
	if errors.As(err, &e) {
		r.addProblem(q.Line+e.line-1, "query: %s", e)
		return q
	}
	q.Text, q.Streams = strings.TrimRight(text, "; \t\r\n"), streams
	return q
}
