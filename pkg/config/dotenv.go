package config

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/joho/godotenv"
)

// The rules of a .env file: one NAME=value a line, "export " before it or not,
// names as a shell has them; NAME: value counts too. Nothing is expanded.
//
//   - unquoted: up to the end of the line or to a # after a blank; blanks
//     around it go; every character is itself, but \$ is $
//   - 'single quotes': every character is itself, over any number of lines
//   - "double quotes": \n \r \t \" \' \\ \$ are escapes, any other backslash is
//     itself, over any number of lines
//   - the later of two lines for one name wins
//
// godotenv reads the values. It expands $NAME, takes quotes off a value that
// ends in an escaped one, drops the backslash of escapes that it does not know,
// leaves part of a comment that has two # in it, and puts the file's text into
// its errors. So each statement is found here, made safe and given to it alone,
// and its errors are not passed on.

// assignment is one statement of a file.
type assignment struct {
	name, value string
	line        int // where it starts, from 1
}

// guard stands at both ends of a quoted value while godotenv reads it, so that
// it cannot mistake an escaped quote for the closing one. No file may hold it.
const guard = "\x00"

// nameAndSign is the beginning of a statement, through the blanks after = or :.
var nameAndSign = regexp.MustCompile(`^(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.]*)[ \t]*[=:]`)

// blanks are what godotenv holds to be a space within a line.
const blanks = "\t\v\f\r \u0085\u00a0"

// parseDotenv reads the text of a file. It gives every statement that it
// understands and a problem for each that it does not, which never holds any of
// the text. The label names the file in problems.
func parseDotenv(label, text string) ([]assignment, []*Problem) {
	problem := func(line int, message string) *Problem {
		return &Problem{Name: fmt.Sprintf("%s:%d", label, line), Message: message}
	}
	text = strings.TrimPrefix(text, "\ufeff")
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)
	if line := firstBadLine(text); line > 0 {
		return nil, []*Problem{problem(line, "is not text: want UTF-8 without NUL bytes")}
	}

	var found []assignment
	var problems []*Problem
	line := 1
	for text != "" {
		statement, rest, why := cutStatement(text)
		switch {
		case why != "":
			problems = append(problems, problem(line, why))
		case statement.name != "":
			statement.line = line
			found = append(found, statement)
		}
		line += strings.Count(text[:len(text)-len(rest)], "\n")
		text = rest
	}
	return found, problems
}

// firstBadLine gives the first line that is no text, or 0.
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

// cutStatement takes the first statement off the text, with the line end. The
// statement has no name if the line is blank or a comment; why is not empty if
// it cannot be read.
func cutStatement(text string) (statement assignment, rest, why string) {
	line, after, _ := strings.Cut(text, "\n")
	trimmed := strings.TrimLeft(line, blanks)
	if trimmed == "" || trimmed[0] == '#' {
		return assignment{}, after, ""
	}
	sign := nameAndSign.FindStringSubmatch(trimmed)
	if sign == nil {
		return assignment{}, after, "is not a setting: want NAME=value"
	}
	value := trimmed[len(sign[0]):]
	start := strings.TrimLeft(value, blanks)
	if start == "" || (start[0] != '"' && start[0] != '\'') {
		statement, why = readValue(sign[1], guardPlain(value))
		return statement, after, why
	}

	// A quoted value may go on over the following lines.
	quoted := text[len(line)-len(start):]
	end := closingQuote(quoted)
	if end < 0 {
		// Where it ought to end is unknown, so nothing after it can be judged.
		return assignment{}, "", fmt.Sprintf("the value of %s has no closing %c", sign[1], start[0])
	}
	tail, after, _ := strings.Cut(quoted[end+1:], "\n")
	if comment := strings.TrimLeft(tail, blanks); comment != "" && (comment == tail || comment[0] != '#') {
		return assignment{}, after, fmt.Sprintf("the value of %s goes on after its closing %c", sign[1], start[0])
	}
	statement, why = readValue(sign[1], guardQuoted(quoted[:end+1]))
	return statement, after, why
}

// closingQuote gives the place of the quote that ends the value that the text
// begins with, or -1.
func closingQuote(text string) int {
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == '\\' && text[0] == '"':
			i++
		case text[i] == text[0]:
			return i
		}
	}
	return -1
}

// guardPlain takes the comment off an unquoted value and escapes each $ that
// is not escaped.
func guardPlain(value string) string {
	previous := ' '
	var safe strings.Builder
	for i, r := range value {
		if r == '#' && strings.ContainsRune(blanks, previous) && i > 0 {
			break
		}
		if r == '$' && previous != '\\' {
			safe.WriteByte('\\')
		}
		safe.WriteRune(r)
		previous = r
	}
	return safe.String()
}

// guardQuoted makes a quoted value one that godotenv reads by our rules.
func guardQuoted(quoted string) string {
	quote, body := quoted[:1], quoted[1:len(quoted)-1]
	if quote == `"` {
		body = guardEscapes(body)
	}
	return quote + guard + body + guard + quote
}

// guardEscapes doubles the backslashes that begin no escape, writes tabs as
// themselves and escapes each $ that is not escaped.
func guardEscapes(body string) string {
	var safe strings.Builder
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case c == '$':
			safe.WriteString(`\$`)
		case c != '\\':
			safe.WriteByte(c)
		case i+1 < len(body) && body[i+1] == 't':
			safe.WriteByte('\t')
			i++
		case i+1 < len(body) && strings.IndexByte(`nr"'\$`, body[i+1]) >= 0:
			safe.WriteString(body[i : i+2])
			i++
		default:
			safe.WriteString(`\\`)
		}
	}
	return safe.String()
}

// readValue lets godotenv read one statement.
func readValue(name, value string) (statement assignment, why string) {
	values, err := godotenv.Unmarshal(name + "=" + value)
	read, found := values[name]
	if err != nil || !found || len(values) != 1 {
		return assignment{}, fmt.Sprintf("the value of %s cannot be read: want it in quotes", name)
	}
	read = strings.TrimSuffix(strings.TrimPrefix(read, guard), guard)
	return assignment{name: name, value: read}, ""
}
