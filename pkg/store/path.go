package store

import (
	"fmt"
	"path"
	"strings"

	"github.com/google/uuid"

	"github.com/collectord/collectord/pkg/snapshot"
)

// A Path is a parsed path template: text with variables that are replaced by
// what a snapshot's header says.
//
// The variables are %UUID, %TAG (the stream), %TENANCY, %YYYY, %MM, %DD, %hh,
// %mm and %ss; $ in place of % means the same. Times are the start of the
// collector's run in UTC. Names are case-sensitive: %mm is the minute, %MM the
// month. A variable ends where its name ends: %YYYY%MM and %TAG_old are valid.
// %% is a percent sign, $$ a dollar sign.
type Path struct {
	text     string
	segments []segment
}

// A segment is literal text, followed by a variable when variable is set.
type segment struct {
	literal  string
	variable string
}

// variables lists the names; no name is the beginning of another.
var variables = [...]string{"UUID", "TAG", "TENANCY", "hh", "mm", "ss", "YYYY", "MM", "DD"}

// ParsePath parses text, the value of the named setting. Errors name the
// setting; that for an unknown variable lists the variables.
func ParsePath(setting, text string) (*Path, error) {
	if text == "" {
		return nil, fmt.Errorf("%s: the path is empty", setting)
	}
	if strings.ContainsRune(text, 0) {
		return nil, fmt.Errorf("%s: %q holds a NUL byte", setting, text)
	}
	p := &Path{text: text}
	literal, rest := "", text
	for rest != "" {
		i := strings.IndexAny(rest, "%$")
		if i < 0 {
			break
		}
		sign := rest[i : i+1]
		literal += rest[:i]
		rest = rest[i+1:]
		if strings.HasPrefix(rest, sign) {
			literal += sign
			rest = rest[1:]
			continue
		}
		name := variableAt(rest)
		if name == "" {
			return nil, fmt.Errorf("%s: %q in %q is not a variable: want one of %%%s, or %s for the sign itself",
				setting, sign+firstWord(rest), text, strings.Join(variables[:], " %"), sign+sign)
		}
		p.segments = append(p.segments, segment{literal: literal}, segment{variable: name})
		literal, rest = "", rest[len(name):]
	}
	p.segments = append(p.segments, segment{literal: literal + rest})
	return p, nil
}

// ParseTarget is ParsePath for a destination of one file or object per
// snapshot: the extension must name a format, and streams must not overwrite
// each other.
func ParseTarget(setting, text string) (*Path, error) {
	path, err := ParsePath(setting, text)
	if err != nil {
		return nil, err
	}
	if _, err := snapshot.FormatOf(text); err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	if !path.Uses("TAG") && !path.Uses("UUID") {
		return nil, fmt.Errorf("%s: %q has neither %%TAG nor %%UUID, so that the streams would overwrite each other", setting, text)
	}
	return path, nil
}

// NamesOneObject reports whether all snapshots of a stream and tenancy have the
// same path, so that each replaces the one before.
func (p *Path) NamesOneObject() bool {
	for _, variable := range variables {
		if variable != "TAG" && variable != "TENANCY" && p.Uses(variable) {
			return false
		}
	}
	return true
}

// variableAt returns the variable whose name s begins with, or "".
func variableAt(s string) string {
	for _, name := range variables {
		if strings.HasPrefix(s, name) {
			return name
		}
	}
	return ""
}

// firstWord returns the first word of s, for a message.
func firstWord(s string) string {
	if i := strings.IndexAny(s, "/.%$-_ "); i >= 0 {
		s = s[:i]
	}
	return s
}

// String returns the text that was parsed.
func (p *Path) String() string { return p.text }

// Uses reports whether the path has the variable of that name, such as "TAG".
func (p *Path) Uses(variable string) bool {
	for _, seg := range p.segments {
		if seg.variable == variable {
			return true
		}
	}
	return false
}

// Directory returns the directory of the path before its first variable, which
// can be inspected before there is a snapshot. It is "." when there is none.
func (p *Path) Directory() string {
	return path.Dir(p.segments[0].literal + "x")
}

// Literal returns the whole path when it has no variables, otherwise "".
func (p *Path) Literal() string {
	if len(p.segments) > 1 {
		return ""
	}
	return p.segments[0].literal
}

// Render replaces the variables by what h says. The same snapshot always gives
// the same path: %UUID is computed from the upload id, the stream, the tenancy
// and the template, so that it differs between files and not between attempts.
//
// A stream or tenancy cannot leave its directory: separators, control
// characters and a leading dot in it are percent-encoded (%2F), and so is the
// percent sign, so that different names never share a file. An empty name
// becomes an underscore.
func (p *Path) Render(h snapshot.Header) string {
	var b strings.Builder
	for _, seg := range p.segments {
		b.WriteString(seg.literal)
		if seg.variable != "" {
			b.WriteString(p.valueOf(seg.variable, h))
		}
	}
	return b.String()
}

func (p *Path) valueOf(variable string, h snapshot.Header) string {
	t := h.UploadTimestamp.UTC()
	switch variable {
	case "UUID":
		key := strings.Join([]string{h.UploadID, h.Stream, h.Tenancy, p.text}, "\x00")
		return uuid.NewSHA1(uuid.NameSpaceURL, []byte(key)).String()
	case "TAG":
		return EscapeName(h.Stream)
	case "TENANCY":
		return EscapeName(h.Tenancy)
	case "YYYY":
		return t.Format("2006")
	case "MM":
		return t.Format("01")
	case "DD":
		return t.Format("02")
	case "hh":
		return t.Format("15")
	case "mm":
		return t.Format("04")
	}
	return t.Format("05") // "ss", the last of variables
}

// EscapeName returns s, a stream or tenancy, as Render writes it in a path.
func EscapeName(s string) string {
	if s == "" {
		return "_"
	}
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ', c == 0x7f, c == '/', c == '\\', c == '%', c == '.' && i == 0:
			fmt.Fprintf(&b, "%%%02X", c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
