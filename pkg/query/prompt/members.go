package prompt

import (
	"regexp"
	"strings"

	"github.com/collectord/collectord/pkg/query"
)

// memberPattern matches a member of a STRUCT and its type.
var memberPattern = regexp.MustCompile(`(?s)^\s*("(?:[^"]|"")*"|\S+)\s+(.*)$`)

// membersOf returns the members of a type such as STRUCT(login VARCHAR, "first name"
// VARCHAR); none of other types.
func membersOf(kind string) (members []query.Column) {
	inner, isStruct := strings.CutPrefix(kind, "STRUCT(")
	if !isStruct || !strings.HasSuffix(inner, ")") {
		return nil
	}
	inner = strings.TrimSuffix(inner, ")") + ","
	depth, quoted, from := 0, false, 0
	for i, c := range []byte(inner) {
		switch {
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == ',' && depth == 0:
			if match := memberPattern.FindStringSubmatch(inner[from:i]); match != nil {
				members = append(members, query.Column{Name: unquoteName(match[1]), Type: match[2]})
			}
			from = i + 1
		}
		if depth < 0 { // the parenthesis was not the last one, as in STRUCT(…)[]
			return nil
		}
	}
	return members
}

// unquoteName returns the name that SQL has with quotes or without.
func unquoteName(text string) string {
	if len(text) >= 2 && text[0] == '"' {
		return strings.ReplaceAll(text[1:len(text)-1], `""`, `"`)
	}
	return text
}

// pathBefore returns the names before the dot that is tokens[dot], such as u and profile
// of "u.profile.".
func pathBefore(tokens []token, dot int) (path []string) {
	for ; dot > 0 && tokens[dot].text == "."; dot -= 2 {
		name := tokens[dot-1]
		if name.kind != wordToken && name.kind != quotedToken {
			return nil
		}
		path = append([]string{unquoteName(name.text)}, path...)
		if dot == 1 {
			break
		}
	}
	return path
}

// descend returns the members at a path in columns, the columns themselves for none.
func descend(columns []query.Column, path []string) []query.Column {
	for _, name := range path {
		var members []query.Column
		for _, c := range columns {
			if strings.EqualFold(c.Name, name) {
				members = membersOf(c.Type)
				break
			}
		}
		columns = members
	}
	return columns
}
