package config

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// The syntax of a .env file is that of python-dotenv: one NAME=value per line,
// optionally after "export ". NAME: value and 'NAME'=value are allowed as well.
// Nothing is expanded.
//
//   - An unquoted value ends at the end of the line, or at a # after whitespace.
//     Whitespace around it is removed. Every character is itself.
//   - In 'single quotes' \' and \\ are escapes and any other backslash is itself,
//     over any number of lines.
//   - In "double quotes" \n \r \t \" \' \\ \$ are escapes and any other backslash is
//     itself, over any number of lines.
//   - The later of two lines for one name is used.
//   - A line that cannot be read is ignored, with a warning.

// assignment is one statement of a file.
type assignment struct {
	name, value string
	line        int // of its start, from 1
}

// nameAndSign matches the start of a statement through = or :.
var nameAndSign = regexp.MustCompile(`^(?:export[ \t]+)?(?:'([^'\n]+)'|([^\s=:#'"]+))[ \t]*[=:]`)

// byteOrderMark is what some editors write at the start of a file.
const byteOrderMark = "\ufeff"

// whitespace is the characters that are spaces within a line.
const whitespace = "\t\v\f\r \u0085\u00a0"

// parseDotenv parses the text of a file. It returns every valid statement, and a
// problem for each other line, which contains nothing of the text. The label names
// the file in problems.
func parseDotenv(label, text string) (found []assignment, ignored []*Problem, err error) {
	text = strings.TrimPrefix(text, byteOrderMark)
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)
	if line := firstBadLine(text); line > 0 {
		return nil, nil, fmt.Errorf("line %d is not text: want UTF-8, not UTF-16, and no NUL bytes", line)
	}
	line := 1
	for text != "" {
		statement, rest, why := cutStatement(text)
		switch {
		case why != "":
			ignored = append(ignored, &Problem{Name: fmt.Sprintf("%s:%d", label, line), Message: why})
		case statement.name != "":
			statement.line = line
			found = append(found, statement)
		}
		line += strings.Count(text[:len(text)-len(rest)], "\n")
		text = rest
	}
	return found, ignored, nil
}

// firstBadLine returns the number of the first line that is not text, or 0.
func firstBadLine(text string) int {
	line := 1
	for i, r := range text {
		switch r {
		case '\n':
			line++
		case 0:
			return line
		case utf8.RuneError:
			if _, size := utf8.DecodeRuneInString(text[i:]); size == 1 {
				return line
			}
		}
	}
	return 0
}

// cutStatement returns the first statement of the text, and the rest after its
// line end. The statement has no name if the line is empty or a comment; why is the
// reason if it cannot be read.
func cutStatement(text string) (statement assignment, rest, why string) {
	line, after, _ := strings.Cut(text, "\n")
	trimmed := strings.TrimLeft(line, whitespace)
	if trimmed == "" || trimmed[0] == '#' {
		return assignment{}, after, ""
	}
	sign := nameAndSign.FindStringSubmatch(trimmed)
	if sign == nil {
		return assignment{}, after, "is not a setting and is ignored: want NAME=value"
	}
	name, value := sign[1]+sign[2], trimmed[len(sign[0]):]
	start := strings.TrimLeft(value, whitespace)
	if start == "" || (start[0] != '"' && start[0] != '\'') {
		return assignment{name: name, value: plainValue(value)}, after, ""
	}

	// A quoted value may continue on the following lines.
	quoted := text[len(line)-len(start):]
	end := closingQuote(quoted)
	if end < 0 {
		return assignment{}, after, fmt.Sprintf("the value of %s has no closing %c, and the line is ignored: add it", name, start[0])
	}
	tail, after, _ := strings.Cut(quoted[end+1:], "\n")
	if comment := strings.TrimLeft(tail, whitespace); comment != "" && comment[0] != '#' {
		return assignment{}, after, fmt.Sprintf("the value of %s continues after its closing %c, and the line is ignored: put the whole value in quotes", name, start[0])
	}
	return assignment{name: name, value: unescapeQuoted(quoted[0], quoted[1:end])}, after, ""
}

// closingQuote returns the index of the quote that ends the value at the start of
// the text, or -1. A backslash before a single quote escapes it only if another one
// follows, so that 'C:\' is a value as well.
func closingQuote(text string) int {
	escaped := -1 // the first single quote after a backslash
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text):
			i++
			if text[0] == '\'' && text[i] == '\'' && escaped < 0 {
				escaped = i
			}
		case text[i] == text[0]:
			return i
		}
	}
	return escaped
}

// plainValue returns an unquoted value without the comment and the whitespace
// around it.
func plainValue(value string) string {
	previous := ' '
	for i, r := range value {
		if r == '#' && strings.ContainsRune(whitespace, previous) && i > 0 {
			value = value[:i]
			break
		}
		previous = r
	}
	return strings.Trim(value, whitespace)
}

// escapes is what each character means after a backslash in double quotes.
var escapes = map[byte]byte{'n': '\n', 'r': '\r', 't': '\t', '"': '"', '\'': '\'', '\\': '\\', '$': '$'}

// unescapeQuoted returns the value between two quotes.
func unescapeQuoted(quote byte, body string) string {
	var value strings.Builder
	for i := 0; i < len(body); i++ {
		if body[i] == '\\' && i+1 < len(body) {
			meant, known := escapes[body[i+1]]
			if known && (quote == '"' || body[i+1] == '\'' || body[i+1] == '\\') {
				value.WriteByte(meant)
				i++
				continue
			}
		}
		value.WriteByte(body[i])
	}
	return value.String()
}
