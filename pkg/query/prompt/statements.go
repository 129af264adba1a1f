package prompt

import "strings"

// splitStatements returns the statements in text that end with a semicolon, and the rest.
// Statements without content are left out, and so is a rest without content.
func splitStatements(text string) (statements []string, rest string) {
	start, content := 0, false
	for _, t := range tokenize(text) {
		if t.kind != semicolonToken {
			content = content || t.hasContent() || t.open
			continue
		}
		if content {
			statements = append(statements, strings.TrimSpace(text[start:t.end()]))
		}
		start, content = t.end(), false
	}
	if content {
		rest = text[start:]
	}
	return statements, rest
}

// openQuote returns the first character of the literal, the name or the comment in which
// a text ends, or a dot.
func openQuote(text string) string {
	tokens := tokenize(text)
	if len(tokens) > 0 && tokens[len(tokens)-1].open {
		return tokens[len(tokens)-1].text[:1]
	}
	return "."
}

// joinLines returns a statement in one line, for the history. ok is false when that would
// change its meaning, as in a literal with line breaks.
func joinLines(statement string) (line string, ok bool) {
	var b strings.Builder
	for _, t := range tokenize(statement) {
		text := t.text
		switch {
		case !strings.Contains(text, "\n"):
		case t.kind == spaceToken:
			text = " "
		case t.kind == commentToken && strings.HasPrefix(text, "--"):
			comment := strings.TrimSpace(text[2:])
			if strings.Contains(comment, "*/") || strings.Contains(comment, "/*") {
				return "", false
			}
			text = "/* " + comment + " */ "
		case t.kind == commentToken:
			text = strings.Join(strings.Fields(text), " ")
		default:
			return "", false
		}
		b.WriteString(text)
	}
	return strings.TrimSpace(b.String()), true
}
