package config

import (
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"time"
)

// setting is one variable: its tags, and the field that Load sets.
type setting struct {
	name      string
	aliases   []string
	field     reflect.StructField
	target    reflect.Value
	group     string // title of the nested struct that holds it, or ""
	secret    bool
	required  bool
	insteadOf []string // the required variables that this one replaces, with others
	oneof     []string
	input     rawValue
	inputName string   // the name or alias that input is from
	unit      any      // see check
	section   *Section // of a collector or another part; nil for the program
}

// A check is a validator and the struct of the destination or collector that it
// belongs to; nil for the program itself.
type check struct {
	Validator
	unit any
}

func (s *setting) tag(key string) string { return s.field.Tag.Get(key) }

// variableNames returns the names of the variable, its aliases last.
func (s *setting) variableNames() []string { return append([]string{s.name}, s.aliases...) }

// describeExpected describes a valid value, for messages.
func (s *setting) describeExpected() string {
	if s.tag("want") != "" || len(s.oneof) > 0 {
		return s.describeValue()
	}
	return s.describeValue() + valueKinds[s.field.Type].examples
}

// describeValue describes a valid value, for the reference.
func (s *setting) describeValue() string {
	if want := s.tag("want"); want != "" {
		return want
	}
	if len(s.oneof) > 0 {
		return Enumerate(s.oneof, "or")
	}
	var bounds string
	switch low, high := s.tag("min"), s.tag("max"); {
	case low != "" && high != "":
		bounds = low + " to " + high
	case low != "":
		bounds = low + " or more"
	case high != "":
		bounds = "at most " + high
	}
	switch what := valueKinds[s.field.Type].name; {
	case what != "" && bounds != "":
		return what + " of " + bounds
	case what+bounds != "":
		return what + bounds
	case isNumber(s.field.Type.Kind()):
		return "a number"
	}
	return "text"
}

func isNumber(kind reflect.Kind) bool {
	return kind >= reflect.Int && kind <= reflect.Float64
}

// settingsOf returns the settings of a struct in the order of its fields, and the
// validators among the struct and its nested structs, the innermost first. It
// panics if the struct is not as the package documentation describes.
func settingsOf(into any) (settings []*setting, checks []check) {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		panic(fmt.Sprintf("config: %T is not a pointer to a struct", into))
	}
	collectSettings(v.Elem(), "", nil, &settings, &checks)
	seen := map[string]bool{}
	for _, s := range settings {
		for _, name := range s.variableNames() {
			if seen[name] {
				panic(fmt.Sprintf("config: %T has %s twice", into, name))
			}
			seen[name] = true
		}
	}
	return settings, checks
}

func collectSettings(v reflect.Value, group string, unit any, settings *[]*setting, checks *[]check) {
	for i := range v.NumField() {
		field, value := v.Type().Field(i), v.Field(i)
		name := field.Tag.Get("env")
		switch {
		case !field.IsExported():
			if name != "" {
				panic(fmt.Sprintf("config: %s.%s is not exported", v.Type(), field.Name))
			}
		case name != "":
			s := newSetting(v.Type(), field, value, group)
			s.unit = unit
			*settings = append(*settings, s)
		case field.Type == reflect.TypeFor[Groups]():
			for _, g := range value.Interface().(Groups) {
				collectSettings(reflect.ValueOf(g.Into).Elem(), g.Title, g.Into, settings, checks)
			}
		case isNested(field.Type):
			title := field.Tag.Get("title")
			if title == "" {
				title = group
			}
			collectSettings(value, title, unit, settings, checks)
		}
	}
	if validator, ok := v.Addr().Interface().(Validator); ok {
		*checks = append(*checks, check{validator, unit})
	}
}

// isNested reports whether a field of the type contains settings.
func isNested(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t != reflect.TypeFor[time.Time]() && t != reflect.TypeFor[url.URL]()
}

// isGiven reports whether the setting has a value, also one that cannot be read.
func (s *setting) isGiven() bool { return s.input.found || s.input.failed }

// switchesOn reports whether the setting counts as set where that switches a collector
// on: a switch that is false does not.
func (s *setting) switchesOn() bool {
	return s.isGiven() && !s.isOff()
}

// isOff reports whether the setting is a switch that is false.
func (s *setting) isOff() bool { return s.target.Kind() == reflect.Bool && !s.target.Bool() }

func newSetting(owner reflect.Type, field reflect.StructField, target reflect.Value, group string) *setting {
	s := &setting{
		name:     field.Tag.Get("env"),
		aliases:  parseList(field.Tag.Get("alias")),
		field:    field,
		target:   target,
		group:    group,
		secret:   field.Type == reflect.TypeFor[Secret](),
		required: field.Tag.Get("required") == "true",
		oneof:    parseList(field.Tag.Get("oneof")),

		insteadOf: parseList(field.Tag.Get("instead")),
	}
	for _, name := range s.variableNames() {
		if strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
			panic(fmt.Sprintf("config: %s.%s: %q is not the name of a variable", owner, field.Name, name))
		}
	}
	switch {
	case s.tag("doc") == "":
		panic(fmt.Sprintf("config: %s.%s has no doc tag", owner, field.Name))
	case len(s.oneof) > 0 && field.Type.Kind() != reflect.String:
		panic(fmt.Sprintf("config: %s.%s: oneof is for strings", owner, field.Name))
	case s.tag("reload") != "" && !s.needsRestart():
		panic(fmt.Sprintf("config: %s.%s: reload is not \"restart\"", owner, field.Name))
	}
	return s
}

// ownSettings returns the settings that a collector and each of its streams can have of
// their own: the schedule and the DATA_MAX_AGE.
func ownSettings(section *Section) []*setting {
	name := strings.ToUpper(section.Name)
	unset := "on SCHEDULE."
	if section.IsPublic {
		unset = "once a day, unless SCHEDULE is off."
	}
	all := []*setting{
		newOwnSetting(section, "Schedule", "SCHEDULE_"+name, scheduleTags, "When the daemon runs this collector; if unset, "+unset),
	}
	for i := range section.Streams {
		stream := &section.Streams[i]
		all = append(all, newOwnSetting(stream, "Schedule", "SCHEDULE_"+strings.ToUpper(stream.Name), scheduleTags,
			fmt.Sprintf("When the daemon runs the stream %s; if unset, with SCHEDULE_%s.", stream.Name, name)))
	}
	all = append(all, newOwnSetting(section, "MaxAge", "DATA_MAX_AGE_"+name, maxAgeTags,
		"The age at which the data of this collector is late; if unset, DATA_MAX_AGE."))
	for i := range section.Streams {
		stream := &section.Streams[i]
		all = append(all, newOwnSetting(stream, "MaxAge", "DATA_MAX_AGE_"+strings.ToUpper(stream.Name), maxAgeTags,
			fmt.Sprintf("The age at which the data of %s is late; if unset, DATA_MAX_AGE_%s.", stream.Name, name)))
	}
	return all
}

// The tags of the settings that ownSettings returns.
const (
	scheduleTags = `want:"as SCHEDULE" example:"15 */6 * * *"`
	maxAgeTags   = `min:"1s" example:"26h"`
)

// newOwnSetting returns the setting of a field of owner, a pointer to a Section or a
// Stream.
func newOwnSetting(owner any, fieldName, name, tags, doc string) *setting {
	v := reflect.ValueOf(owner).Elem()
	field, _ := v.Type().FieldByName(fieldName)
	field.Tag = reflect.StructTag(fmt.Sprintf(`env:%q %s doc:%q`, name, tags, doc))
	return newSetting(v.Type(), field, v.FieldByIndex(field.Index), "")
}
