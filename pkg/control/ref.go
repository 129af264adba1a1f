package control

import (
	"fmt"
	"regexp"
	"strings"
)

// A templateError is an error in the template of a query, at a line and a column that
// begin with 1.
type templateError struct {
	line, column int
	text         string
}

func (e *templateError) Error() string { return fmt.Sprintf("column %d: %s", e.column, e.text) }

// templateMarks are what begins a part of a template that is not SQL.
var templateMarks = regexp.MustCompile(`\{\{|\{%|\{#`)

// referencePattern matches the only expression of a template: ref with the name of a
// stream.
var referencePattern = regexp.MustCompile(`^\{\{-?\s*ref\(\s*(?:'([A-Za-z_][A-Za-z0-9_]*)'|"([A-Za-z_][A-Za-z0-9_]*)")\s*\)\s*-?\}\}`)

// renderTemplate replaces each {{ ref('stream') }} in the template of a query by the
// name of the stream. It returns the SQL and the names, each once in their order, or a
// *templateError for anything else between braces.
func renderTemplate(template string) (text string, streams []string, err error) {
	var b strings.Builder
	seen := map[string]bool{}
	for rest := template; ; {
		at := templateMarks.FindStringIndex(rest)
		if at == nil {
			b.WriteString(rest)
			return b.String(), streams, nil
		}
		b.WriteString(rest[:at[0]])
		rest = rest[at[0]:]
		match := referencePattern.FindStringSubmatch(rest)
		if match == nil {
			return "", nil, newTemplateError(template[:len(template)-len(rest)], rest)
		}
		stream := match[1] + match[2]
		if !seen[stream] {
			seen[stream] = true
			streams = append(streams, stream)
		}
		b.WriteString(`"` + stream + `"`) // the pattern allows no quotes
		rest = rest[len(match[0]):]
	}
}

// newTemplateError returns the error of the part of a template that follows before.
func newTemplateError(before, part string) error {
	line := strings.Count(before, "\n") + 1
	column := len([]rune(before[strings.LastIndex(before, "\n")+1:])) + 1
	part, _, _ = strings.Cut(part, "\n")
	if end := strings.Index(part, "}}"); end >= 0 {
		part = part[:end+2]
	}
	if runes := []rune(part); len(runes) > 60 {
		part = string(runes[:60]) + "…"
	}
	return &templateError{line, column, fmt.Sprintf("%s: a query may refer to streams only, as in {{ ref('okta_users') }}", part)}
}
