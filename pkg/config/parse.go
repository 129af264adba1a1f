package config

import (
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
)

// parsers replace those of the env package for types for which more notations are
// allowed.
var parsers = map[reflect.Type]env.ParserFunc{
	reflect.TypeFor[bool]():          func(v string) (any, error) { return parseBool(v) },
	reflect.TypeFor[time.Duration](): func(v string) (any, error) { return parseDuration(v) },
	reflect.TypeFor[url.URL]():       func(v string) (any, error) { return parseURL(v) },
	reflect.TypeFor[[]string]():      func(v string) (any, error) { return parseList(v), nil },
}

// parseInput sets the field to the value that was read, the default or the zero
// value. The error is a mismatch, or that of the field's UnmarshalText.
func (s *setting) parseInput() error {
	vars := map[string]string{}
	if s.input.found {
		vars[s.name] = s.inputText()
	}
	value, err := s.parseAlone(vars)
	if err != nil {
		if !s.input.found {
			panic(fmt.Sprintf("config: the default of %s: %v", s.name, err))
		}
		return err
	}
	s.target.Set(value)
	return nil
}

// parseTogether parses all settings and sets their fields. It reports whether all are valid;
// otherwise only the fields of settings without a value are set. The env package copies the environment of the process at each
// call, so that one call for each setting takes longer than all else.
func (l *loader) parseTogether() bool {
	var all []*setting
	var fields []reflect.StructField
	vars := map[string]string{}
	l.eachSetting(func(s *setting) {
		if s.isUnset() {
			s.target.SetZero()
			return
		}
		if s.input.found {
			vars[s.name] = s.inputText()
		}
		fields = append(fields, reflect.StructField{Name: fmt.Sprintf("F%d", len(fields)), Type: s.field.Type, Tag: s.field.Tag})
		all = append(all, s)
	})
	holder := reflect.New(reflect.StructOf(fields))
	if err := env.ParseWithOptions(holder.Interface(), env.Options{Environment: vars, FuncMap: parsers}); err != nil {
		return false
	}
	for i, s := range all {
		if s.checkValue(holder.Elem().Field(i)) != nil {
			return false
		}
	}
	for i, s := range all {
		s.target.Set(holder.Elem().Field(i))
	}
	return true
}

// isUnset reports whether the setting has neither a value nor a default: its field is zero.
func (s *setting) isUnset() bool {
	return (!s.input.found || s.inputText() == "") && s.tag("envDefault") == ""
}

// inputText returns the value that was read. It removes the whitespace around it
// unless any text is a valid value.
func (s *setting) inputText() string {
	if s.field.Type.Kind() == reflect.String && len(s.oneof) == 0 {
		return s.input.value
	}
	return strings.TrimSpace(s.input.value)
}

// parseAlone parses a struct that has only this field, so that an error can only be
// about this variable.
func (s *setting) parseAlone(vars map[string]string) (reflect.Value, error) {
	if s.isUnset() {
		return reflect.Zero(s.field.Type), nil
	}
	holder := reflect.New(reflect.StructOf([]reflect.StructField{{
		Name: s.field.Name, Type: s.field.Type, Tag: s.field.Tag,
	}}))
	err := env.ParseWithOptions(holder.Interface(), env.Options{Environment: vars, FuncMap: parsers})
	if err != nil {
		return reflect.Value{}, s.explainParseError(err)
	}
	value := holder.Elem().Field(0)
	return value, s.checkValue(value)
}

// checkValue checks what follows from the tags for a value that could be parsed.
func (s *setting) checkValue(value reflect.Value) error {
	if s.input.found && s.inputText() != "" && value.IsZero() && value.Kind() == reflect.Slice {
		return mismatch("is empty")
	}
	if err := s.checkOneof(value); err != nil {
		return err
	}
	return s.checkBounds(value)
}

// explainParseError returns the error of the value from an error of the env package.
func (s *setting) explainParseError(err error) error {
	var parseError env.ParseError
	if !errors.As(err, &parseError) {
		panic(fmt.Sprintf("config: the field of %s: %v", s.name, err))
	}
	var numError *strconv.NumError
	switch {
	case !errors.As(parseError.Err, &numError):
		return parseError.Err
	case errors.Is(numError, strconv.ErrRange):
		return mismatch("is out of range")
	}
	return mismatch("is not a number")
}

// checkOneof sets a string to the listed spelling.
func (s *setting) checkOneof(value reflect.Value) error {
	if len(s.oneof) == 0 || value.IsZero() {
		return nil
	}
	for _, one := range s.oneof {
		if strings.EqualFold(one, value.String()) {
			value.SetString(one)
			return nil
		}
	}
	return mismatch("is not known")
}

// checkBounds compares a number, duration or size with its min and max tags.
func (s *setting) checkBounds(value reflect.Value) error {
	if value.IsZero() && !s.input.found && s.tag("envDefault") == "" {
		return nil // bounds do not apply to a setting that is not set
	}
	for _, bound := range []string{"min", "max"} {
		text := s.tag(bound)
		if text == "" {
			continue
		}
		limit, err := s.parseBound(text)
		if err != nil {
			panic(fmt.Sprintf("config: %s: %s %q: %v", s.name, bound, text, err))
		}
		n := numberOf(value)
		if inside := bound == "min" && n >= limit || bound == "max" && n <= limit; !inside {
			return mismatch("is out of range")
		}
	}
	return nil
}

// parseBound parses a bound in the notation of the setting's type.
func (s *setting) parseBound(text string) (float64, error) {
	switch s.field.Type {
	case reflect.TypeFor[time.Duration]():
		d, err := parseDuration(text)
		return float64(d), err
	case reflect.TypeFor[Bytes]():
		var b Bytes
		err := b.UnmarshalText([]byte(text))
		return float64(b), err
	}
	return strconv.ParseFloat(text, 64)
}

func numberOf(value reflect.Value) float64 {
	switch {
	case value.CanInt():
		return float64(value.Int())
	case value.CanUint():
		return float64(value.Uint())
	case value.CanFloat():
		return value.Float()
	}
	panic(fmt.Sprintf("config: %s has no bounds", value.Type()))
}
