package store

import (
	"path/filepath"
	"strings"
)

// A Location is where the settings of a destination let it store: files, objects, or a
// database in a file.
type Location struct {
	// Setting is the name of the setting, and Template its value, a path template.
	Setting, Template string
	// Bucket is that of objects; "" for files of this machine.
	Bucket string
	// IsDatabase means that several tenancies may store in it.
	IsDatabase bool
}

// LocatedSettings is implemented by the settings of destinations in which the files or
// objects of one tenancy could replace those of another.
type LocatedSettings interface {
	// Locations returns where the destination stores; none when it is off.
	Locations() []Location
}

// Of returns a text that two tenancies have in common if one would replace what the other
// has stored: for files the absolute path without symbolic links, as far as it exists, and
// for objects the bucket and the key. Variables other than %TENANCY stay, each between two
// NUL. It is "" for a template that is not valid.
func (l Location) Of(tenancy string) string {
	p, err := ParsePath(l.Setting, l.Template)
	if err != nil {
		return ""
	}
	text := p.textOf(tenancy)
	if l.Bucket != "" {
		return "s3://" + l.Bucket + "/" + text
	}
	return resolveLinks(text)
}

// Uses reports whether the template has the variable of that name, such as "TENANCY".
func (l Location) Uses(variable string) bool {
	p, err := ParsePath(l.Setting, l.Template)
	return err == nil && p.Uses(variable)
}

// textOf returns the template with the name of a tenancy in place of %TENANCY, and other
// variables between two NUL, which no path has.
func (p *Path) textOf(tenancy string) string {
	var b strings.Builder
	for _, seg := range p.segments {
		b.WriteString(seg.literal)
		switch seg.variable {
		case "":
		case "TENANCY":
			b.WriteString(EscapeName(tenancy))
		default:
			b.WriteString("\x00" + seg.variable + "\x00")
		}
	}
	return b.String()
}

// resolveLinks returns the absolute path of a file, without the symbolic links among its
// directories that exist.
func resolveLinks(path string) string {
	path, err := filepath.Abs(path)
	if err != nil {
		return path // the working directory is gone
	}
	for existing, rest := path, ""; ; {
		if resolved, err := filepath.EvalSymlinks(existing); err == nil {
			return filepath.Join(resolved, rest)
		}
		parent := filepath.Dir(existing)
		if parent == existing {
			return path
		}
		existing, rest = parent, filepath.Join(filepath.Base(existing), rest)
	}
}

// EntryIn returns the name in a directory to which a path belongs that Of has returned; ""
// if it is not below the directory.
func EntryIn(dir, path string) string {
	rest, err := filepath.Rel(resolveLinks(dir), path)
	if err != nil || !filepath.IsLocal(rest) {
		return ""
	}
	first, _, _ := strings.Cut(filepath.ToSlash(rest), "/")
	return first
}
