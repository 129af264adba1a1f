package config

import (
	"fmt"
	"strings"
)

// SystemdDifferences returns a line for each variable of the --env-file file that
// systemd's EnvironmentFile= reads as another value or not at all. The file of a
// service is often checked with --env-file. It returns none for .env, which systemd
// does not read. It must be called after Load.
func (e *Environment) SystemdDifferences() []string {
	if e.file == nil || e.file.origin != fromEnvFile {
		return nil
	}
	bySystemd := parseEnvironmentFile(strings.NewReplacer("\r\n", "\n").Replace(e.file.text))
	var lines []string
	for _, name := range sortedKeys(e.file.values) {
		if !e.known[name] && !e.known[strings.TrimSuffix(name, "_FILE")] && !isLibraryVariable(name) {
			continue
		}
		a := e.file.values[name]
		value, found := bySystemd[name]
		what := "reads another value"
		switch {
		case found && value == a.value:
			continue
		case !found:
			what = "does not set it"
		}
		lines = append(lines, fmt.Sprintf("%s (%s:%d): systemd's EnvironmentFile= %s: want NAME='value' without export, backslashes and a comment on the line",
			name, e.file.label, a.line, what))
	}
	return lines
}

// environmentFile parses the syntax of systemd.exec(5), EnvironmentFile=.
type environmentFile struct {
	values     map[string]string
	key, value strings.Builder
	// trailing is the length of the value without the whitespace at its end.
	trailing int
}

// parseEnvironmentFile returns the variables of a file as systemd reads it.
func parseEnvironmentFile(text string) map[string]string {
	f := &environmentFile{values: map[string]string{}}
	parse := f.parseLineStart
	for i := 0; i < len(text); i++ {
		parse = parse(text[i])
	}
	f.setValue()
	return f.values
}

// parseByte parses one byte and returns the function for the next one.
type parseByte func(c byte) parseByte

const systemdSpaces = " \t\n\r"

func (e *environmentFile) parseLineStart(c byte) parseByte {
	switch {
	case strings.IndexByte("#;", c) >= 0:
		return e.parseComment
	case strings.IndexByte(systemdSpaces, c) >= 0:
		return e.parseLineStart
	}
	e.key.Reset()
	return e.parseKey(c)
}

func (e *environmentFile) parseComment(c byte) parseByte {
	if c == '\n' {
		return e.parseLineStart
	}
	return e.parseComment
}

func (e *environmentFile) parseKey(c byte) parseByte {
	switch c {
	case '\n':
		e.key.Reset()
		return e.parseLineStart
	case '=':
		e.value.Reset()
		e.trailing = 0
		return e.parseValueStart
	}
	e.key.WriteByte(c)
	return e.parseKey
}

// parseValueStart parses what follows the sign or a closing quote.
func (e *environmentFile) parseValueStart(c byte) parseByte {
	switch {
	case c == '\n':
		e.setValue()
		return e.parseLineStart
	case c == '\'':
		return e.parseSingleQuoted
	case c == '"':
		return e.parseDoubleQuoted
	case c == '\\':
		return e.parseEscape
	case strings.IndexByte(systemdSpaces, c) >= 0:
		return e.parseValueStart
	}
	return e.parsePlain(c)
}

func (e *environmentFile) parsePlain(c byte) parseByte {
	switch c {
	case '\n':
		e.setValue()
		return e.parseLineStart
	case '\\':
		return e.parseEscape
	}
	e.value.WriteByte(c)
	if strings.IndexByte(systemdSpaces, c) < 0 {
		e.trailing = e.value.Len()
	}
	return e.parsePlain
}

func (e *environmentFile) parseEscape(c byte) parseByte {
	if c != '\n' {
		e.writeQuoted(c)
	}
	return e.parsePlain
}

func (e *environmentFile) parseSingleQuoted(c byte) parseByte {
	if c == '\'' {
		return e.parseValueStart
	}
	e.writeQuoted(c)
	return e.parseSingleQuoted
}

func (e *environmentFile) parseDoubleQuoted(c byte) parseByte {
	switch c {
	case '"':
		return e.parseValueStart
	case '\\':
		return e.parseDoubleQuotedEscape
	}
	e.writeQuoted(c)
	return e.parseDoubleQuoted
}

func (e *environmentFile) parseDoubleQuotedEscape(c byte) parseByte {
	switch {
	case strings.IndexByte("\"\\`$", c) >= 0:
		e.writeQuoted(c)
	case c != '\n':
		e.writeQuoted('\\')
		e.writeQuoted(c)
	}
	return e.parseDoubleQuoted
}

// writeQuoted adds a character that is kept at the end of the value, also if it is
// whitespace.
func (e *environmentFile) writeQuoted(c byte) {
	e.value.WriteByte(c)
	e.trailing = e.value.Len()
}

// setValue sets the variable of the statement, if its name is one of a shell.
func (e *environmentFile) setValue() {
	name := strings.TrimRight(e.key.String(), systemdSpaces)
	if name != "" && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") == "" {
		e.values[name] = e.value.String()[:e.trailing]
	}
	e.key.Reset()
	e.value.Reset()
	e.trailing = 0
}
