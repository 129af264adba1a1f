package store

import (
	"fmt"
	"path"
	"strings"

	"github.com/google/uuid"

	"github.com/collectord/collectord/pkg/snapshot"
)

// A Path is a parsed target path: text with variables that each snapshot
// fills in.
//
// The variables are %UUID, %TAG (the stream), %TENANCY, %YYYY, %MM, %DD, %hh,
// %mm and %ss; $ in place of % means the same. Time is the start of the
// collector's run in UTC. Letter case tells the minute, %mm, from the month,
// %MM. A variable ends where its name ends: %YYYY%MM and %TAG_old are
// understood. %% is a percent sign, $$ a dollar sign.
type Path struct {
	text  string
	parts []part
}

// A part is literal text or, when variable is set, a variable's place.
type part struct {
	literal  string
	variable string
}

// variables lists the names; none starts another.
var variables = [...]string{"UUID", "TAG", "TENANCY", "hh", "mm", "ss", "YYYY", "MM", "DD"}

// ParsePath parses text, the value of the named setting. The error for an
// unknown variable names the setting and lists the variables.
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
			return nil, fmt.Errorf("%s: %q in %q is no variable: want one of %%%s, or %s for the sign itself",
				setting, sign+firstWord(rest), text, strings.Join(variables[:], " %"), sign+sign)
		}
		p.parts = append(p.parts, part{literal: literal}, part{variable: name})
		literal, rest = "", rest[len(name):]
	}
	p.parts = append(p.parts, part{literal: literal + rest})
	return p, nil
}

func variableAt(s string) string {
	for _, name := range variables {
		if strings.HasPrefix(s, name) {
			return name
		}
	}
	return ""
}

// firstWord cuts s for a message.
func firstWord(s string) string {
	if i := strings.IndexAny(s, "/.%$-_ "); i >= 0 {
		s = s[:i]
	}
	return s
}

// String returns the text that was parsed.
func (p *Path) String() string { return p.text }

// Uses tells whether the path has the variable of that name, such as "TAG".
// Two streams whose target has no %TAG, %UUID or other difference overwrite
// each other's file.
func (p *Path) Uses(variable string) bool {
	for _, part := range p.parts {
		if part.variable == variable {
			return true
		}
	}
	return false
}

// Folder returns the folders of the path before its first variable: what can
// be looked at before there is a snapshot. It is "." when there is none.
func (p *Path) Folder() string {
	return path.Dir(p.parts[0].literal + "x")
}

// literal returns the whole path when it has no variables.
func (p *Path) literal() string {
	if len(p.parts) > 1 {
		return ""
	}
	return p.parts[0].literal
}

// Render fills in the variables from h. The same snapshot always gives the
// same path: %UUID is made from the upload id, the stream, the tenancy and
// the path's text, and so differs between files and not between attempts.
//
// A stream or tenancy cannot leave its folder: separators, control characters
// and a leading dot in it are written as %2F and the like, and so is the
// percent sign, so that different names never share a file. An empty one
// becomes an underscore.
func (p *Path) Render(h snapshot.Header) string {
	var b strings.Builder
	for _, part := range p.parts {
		b.WriteString(part.literal)
		if part.variable != "" {
			b.WriteString(p.value(part.variable, h))
		}
	}
	return b.String()
}

func (p *Path) value(variable string, h snapshot.Header) string {
	t := h.UploadTimestamp.UTC()
	switch variable {
	case "UUID":
		key := strings.Join([]string{h.UploadID, h.Stream, h.Tenancy, p.text}, "\x00")
		return uuid.NewSHA1(uuid.NameSpaceURL, []byte(key)).String()
	case "TAG":
		return fileName(h.Stream)
	case "TENANCY":
		return fileName(h.Tenancy)
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

// fileName makes s part of a file name.
func fileName(s string) string {
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
