package config

import (
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"time"
)

// setting is one variable: its tags, and the field that takes its value.
type setting struct {
	name     string
	aliases  []string
	field    reflect.StructField
	target   reflect.Value
	group    string // title of the nested struct that holds it, or ""
	secret   bool
	required bool
	oneof    []string
	read     reading
	readAs   string // the name or alias that gave it
}

func (s *setting) tag(key string) string { return s.field.Tag.Get(key) }

// names are all the variables that give it, its own first.
func (s *setting) names() []string { return append([]string{s.name}, s.aliases...) }

// want says what a good value is, for messages.
func (s *setting) want() string {
	if s.tag("want") != "" || len(s.oneof) > 0 {
		return s.describe()
	}
	return s.describe() + kinds[s.field.Type].such
}

// describe says what a good value is, for the reference.
func (s *setting) describe() string {
	if want := s.tag("want"); want != "" {
		return want
	}
	if len(s.oneof) > 0 {
		return enumerate(s.oneof, "or")
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
	switch what := kinds[s.field.Type].what; {
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

// settingsOf lists the settings of a struct in the order of its fields, and
// those of its parts that check themselves, the innermost first. It panics if
// the struct is not one that the package documentation describes.
func settingsOf(into any) (settings []*setting, checks []Validator) {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		panic(fmt.Sprintf("config: %T is not a pointer to a struct", into))
	}
	walk(v.Elem(), "", &settings, &checks)
	seen := map[string]bool{}
	for _, s := range settings {
		for _, name := range s.names() {
			if seen[name] {
				panic(fmt.Sprintf("config: %T has %s twice", into, name))
			}
			seen[name] = true
		}
	}
	return settings, checks
}

func walk(v reflect.Value, group string, settings *[]*setting, checks *[]Validator) {
	for i := range v.NumField() {
		field, value := v.Type().Field(i), v.Field(i)
		name := field.Tag.Get("env")
		switch {
		case !field.IsExported():
			if name != "" {
				panic(fmt.Sprintf("config: %s.%s is not exported", v.Type(), field.Name))
			}
		case name != "":
			*settings = append(*settings, newSetting(v.Type(), field, value, group))
		case field.Type.Kind() == reflect.Struct && field.Type != reflect.TypeFor[time.Time]() && field.Type != reflect.TypeFor[url.URL]():
			title := field.Tag.Get("title")
			if title == "" {
				title = group
			}
			walk(value, title, settings, checks)
		}
	}
	if check, ok := v.Addr().Interface().(Validator); ok {
		*checks = append(*checks, check)
	}
}

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
	}
	for _, name := range s.names() {
		if strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
			panic(fmt.Sprintf("config: %s.%s: %q is not the name of a variable", owner, field.Name, name))
		}
	}
	switch {
	case s.tag("doc") == "":
		panic(fmt.Sprintf("config: %s.%s has no doc tag", owner, field.Name))
	case len(s.oneof) > 0 && field.Type.Kind() != reflect.String:
		panic(fmt.Sprintf("config: %s.%s: oneof is for strings", owner, field.Name))
	}
	return s
}

// scheduleOf is the setting of a collector's own schedule.
func scheduleOf(section *Section) *setting {
	owner := reflect.TypeFor[Section]()
	field, _ := owner.FieldByName("Schedule")
	field.Tag = reflect.StructTag(fmt.Sprintf(`env:"SCHEDULE_%s" want:"as SCHEDULE" example:"15 */6 * * *" doc:"When the daemon runs this collector; if unset, by SCHEDULE."`, strings.ToUpper(section.Name)))
	return newSetting(owner, field, reflect.ValueOf(section).Elem().FieldByIndex(field.Index), "")
}
