package prompt

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/collectord/collectord/pkg/query"
)

// A completer completes words.
type completer struct {
	// streams returns the names of the streams that have data.
	streams func() []string
	// columns returns the columns of a stream, or none when they are not known.
	columns func(stream string) []query.Column
}

// completeText returns the texts that may be in place of the last length bytes of before. after
// is what follows the cursor.
func (c *completer) completeText(before, after string) (length int, texts []string) {
	if strings.HasPrefix(strings.TrimSpace(before), ".") && !strings.Contains(before, "\n") {
		return c.completeCommand(strings.TrimLeft(before, " \t"))
	}
	tokens := tokenize(before)
	prefix, quoted := "", false
	if n := len(tokens); n > 0 {
		switch last := tokens[n-1]; {
		case last.kind == wordToken:
			prefix, tokens = last.text, tokens[:n-1]
		case last.kind == quotedToken && last.open:
			prefix, tokens, quoted = last.text, tokens[:n-1], true
		case last.open, last.kind == commentToken && !strings.HasSuffix(last.text, "\n") && strings.HasPrefix(last.text, "--"):
			return 0, nil
		}
	}
	all := tokenize(before + after)
	switch previous := lastContent(tokens); {
	case previous.text == "." && previous.end() == len(before)-len(prefix):
		texts = c.qualifiedColumns(tokens, all)
	case previous.kind == wordToken && streamKeywords[strings.ToUpper(previous.text)]:
		texts = c.streams()
	default:
		texts = c.expressionNames(all)
		if !quoted && (prefix != "" || len(texts) == 0) { // all other words would be too many
			texts = append(texts, c.expressionWords(prefix)...)
		}
	}
	return len(prefix), matchTexts(texts, prefix, quoted)
}

// lastContent returns the last token that does not only separate others.
func lastContent(tokens []token) token {
	for _, t := range slices.Backward(tokens) {
		if t.hasContent() {
			return t
		}
	}
	return token{}
}

// expressionNames returns the columns of the streams that the statement names.
func (c *completer) expressionNames(all []token) (texts []string) {
	for _, stream := range c.namedStreams(all) {
		texts = append(texts, quoteNames(c.columns(stream))...)
	}
	return texts
}

// expressionWords returns the words that may be anywhere in a statement, the keywords in
// the case of the prefix.
func (c *completer) expressionWords(prefix string) []string {
	texts := c.streams()
	for _, keyword := range keywords {
		if prefix != "" && prefix == strings.ToLower(prefix) {
			keyword = strings.ToLower(keyword)
		}
		texts = append(texts, keyword)
	}
	if prefix != "" {
		texts = append(texts, functions...)
	}
	return texts
}

// namedStreams returns the streams that the statement names.
func (c *completer) namedStreams(all []token) (named []string) {
	for _, stream := range c.streams() {
		if slices.ContainsFunc(all, func(t token) bool { return t.isName(stream) }) {
			named = append(named, stream)
		}
	}
	return named
}

// isName reports whether the token is a name.
func (t token) isName(name string) bool {
	switch t.kind {
	case wordToken:
		return strings.EqualFold(t.text, name)
	case quotedToken:
		return strings.EqualFold(strings.Trim(t.text, `"`), name)
	}
	return false
}

// qualifiedColumns returns the columns of the stream or the alias before the dot at the end
// of tokens, or the members of the column there.
func (c *completer) qualifiedColumns(tokens, all []token) (texts []string) {
	dot := slices.IndexFunc(tokens, func(t token) bool { return t.start == lastContent(tokens).start })
	path := pathBefore(tokens, dot)
	if len(path) == 0 {
		return nil
	}
	for _, stream := range c.streams() {
		if strings.EqualFold(stream, path[0]) || hasAlias(all, stream, path[0]) {
			return quoteNames(descend(c.columns(stream), path[1:]))
		}
	}
	for _, stream := range c.namedStreams(all) {
		texts = append(texts, quoteNames(descend(c.columns(stream), path))...)
	}
	return texts
}

// quoteNames returns the names of columns as SQL has them.
func quoteNames(columns []query.Column) (texts []string) {
	for _, column := range columns {
		texts = append(texts, quoteName(column.Name))
	}
	return texts
}

// hasAlias reports whether the statement has the stream with an alias, with AS or without.
func hasAlias(all []token, stream, alias string) bool {
	var words []token
	for _, t := range all {
		if t.hasContent() {
			words = append(words, t)
		}
	}
	for i, t := range words {
		rest := words[i+1:]
		if !t.isName(stream) || len(rest) == 0 {
			continue
		}
		if rest[0].isName("AS") {
			rest = rest[1:]
		}
		if len(rest) > 0 && rest[0].isName(alias) {
			return true
		}
	}
	return false
}

var plainName = regexp.MustCompile(`^[\pL_][\pL\pN_]*$`)

// quoteName returns a name as SQL has it, with quotes if it needs them.
func quoteName(name string) string {
	if plainName.MatchString(name) && !reserved[strings.ToUpper(name)] {
		return name
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// matchTexts returns the texts that begin with the prefix, in any case, each once, and a
// space after the only one. quoted means that the prefix begins with a quote.
func matchTexts(texts []string, prefix string, quoted bool) (found []string) {
	for _, text := range texts {
		if quoted && !strings.HasPrefix(text, `"`) {
			text = `"` + text + `"`
		}
		bare := text
		if !quoted {
			bare = strings.TrimPrefix(text, `"`)
		}
		if len(bare) >= len(prefix) && strings.EqualFold(bare[:len(prefix)], prefix) {
			found = append(found, text)
		}
	}
	slices.SortFunc(found, func(a, b string) int {
		return cmp.Or(cmp.Compare(strings.ToLower(a), strings.ToLower(b)), cmp.Compare(a, b))
	})
	found = slices.CompactFunc(found, strings.EqualFold)
	if len(found) == 1 {
		found[0] += " "
	}
	return found
}

// completeCommand completes a command that begins with a dot, and its argument.
func (c *completer) completeCommand(before string) (length int, texts []string) {
	name, argument, hasArgument := strings.Cut(before, " ")
	if !hasArgument {
		for _, command := range commands {
			texts = append(texts, command.name)
		}
		return len(name), matchTexts(texts, name, false)
	}
	argument = strings.TrimLeft(argument, " ")
	switch name {
	case ".schema":
		texts = c.streams()
	case ".format":
		texts = formatNames()
	}
	return len(argument), matchTexts(texts, argument, false)
}
