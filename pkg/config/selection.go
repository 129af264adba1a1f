package config

import (
	"slices"
	"strings"
)

// exclusionSign precedes the names in COLLECTORS that are switched off.
const exclusionSign = "-"

// selection is the value of COLLECTORS: names of collectors and streams. What is
// excluded is off, wherever it stands in the list.
type selection struct {
	named, excluded []string
}

// newSelection returns the selection of a list of names.
func newSelection(names []string) *selection {
	s := &selection{}
	for _, name := range names {
		if without, excluded := strings.CutPrefix(name, exclusionSign); excluded {
			s.excluded = append(s.excluded, without)
		} else {
			s.named = append(s.named, name)
		}
	}
	return s
}

// normalizeSelection returns the names of COLLECTORS in lower case, without spaces
// after a sign, and each once, in their order.
func normalizeSelection(names []string) []string {
	var unique []string
	for _, name := range names {
		if without, excluded := strings.CutPrefix(name, exclusionSign); excluded {
			name = exclusionSign + strings.TrimSpace(without)
		}
		if name = strings.ToLower(name); !slices.Contains(unique, name) {
			unique = append(unique, name)
		}
	}
	return unique
}

// reasonOff returns why a collector or a stream is off; "" if it is on. It is given
// by its names: its own, and that of the collector of a stream.
func (s *selection) reasonOff(names ...string) string {
	for _, name := range names {
		if slices.Contains(s.excluded, name) {
			return "COLLECTORS excludes it"
		}
	}
	for _, name := range names {
		if slices.Contains(s.named, name) {
			return ""
		}
	}
	if len(s.named) > 0 {
		return "COLLECTORS does not name it"
	}
	return ""
}

// namesPartOf returns the name that asks for a collector: its own, or that of one
// of its streams; "" for none.
func (s *selection) namesPartOf(section *Section) string {
	for _, name := range s.named {
		if name == section.Name || slices.ContainsFunc(section.Streams, func(stream Stream) bool { return stream.Name == name }) {
			return name
		}
	}
	return ""
}

// parseSelection returns the selection of COLLECTORS. It reports the names that do
// not exist, and those that are both named and excluded.
func (l *loader) parseSelection() *selection {
	chosen := newSelection(l.core.Collectors)
	var collectors, all []string
	parents := map[string]string{} // the collector of each stream
	for _, p := range l.parts[1:] {
		if !p.section.Collector {
			continue
		}
		collectors = append(collectors, p.section.Name)
		for _, stream := range p.section.Streams {
			all = append(all, stream.Name)
			parents[stream.Name] = p.section.Name
		}
	}
	if len(collectors) == 0 {
		return chosen
	}
	all = append(all, collectors...)
	for _, name := range slices.Concat(chosen.named, chosen.excluded) {
		l.checkSelected(name, all, collectors)
	}
	for _, name := range chosen.named {
		parent, isStream := parents[name]
		switch {
		case slices.Contains(chosen.excluded, name):
			l.addProblemf("COLLECTORS", "%s is both named and excluded: keep one of the two", name)
		case isStream && slices.Contains(chosen.excluded, parent):
			l.addProblemf("COLLECTORS", "%s is named, but -%s excludes all streams of %s: keep one of the two", name, parent, parent)
		}
	}
	return chosen
}

// checkSelected reports a name that is none of all.
func (l *loader) checkSelected(name string, all, collectors []string) {
	if slices.Contains(all, name) {
		return
	}
	if len(strings.Fields(name)) > 1 {
		l.addProblemf("COLLECTORS", "%s is neither a collector nor a stream: want commas between the names", l.quoteValue(name))
		return
	}
	if near := Nearest(name, all, max(2, len(name)/4)); near != "" {
		l.addProblemf("COLLECTORS", "%s is neither a collector nor a stream: did you mean %s?", l.quoteValue(name), near)
		return
	}
	l.addProblemf("COLLECTORS", "%s is neither a collector nor a stream: want some of %s, or their streams",
		l.quoteValue(name), Enumerate(collectors, "and"))
}

// WithoutStream returns the value of COLLECTORS that switches a stream of a
// collector off in addition to what names, the value in force, does; "" if that
// would leave nothing.
func WithoutStream(names []string, collector, stream string) string {
	kept := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == stream })
	if len(newSelection(names).named) > 0 && len(newSelection(kept).named) == 0 {
		return ""
	}
	if newSelection(kept).reasonOff(stream, collector) == "" {
		kept = append(kept, exclusionSign+stream)
	}
	return strings.Join(kept, ",")
}
