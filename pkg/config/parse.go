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

// parsers replace the engine's own where people write more than it reads.
var parsers = map[reflect.Type]env.ParserFunc{
	reflect.TypeFor[bool]():          func(v string) (any, error) { return parseBool(v) },
	reflect.TypeFor[time.Duration](): func(v string) (any, error) { return parseDuration(v) },
	reflect.TypeFor[url.URL]():       func(v string) (any, error) { return parseURL(v) },
	reflect.TypeFor[[]string]():      func(v string) (any, error) { return parseList(v), nil },
}

// parse gives the field its value, the default or its zero value. The error is
// a mismatch, or one of the field's own UnmarshalText.
func (s *setting) parse() error {
	vars := map[string]string{}
	if s.read.found {
		vars[s.name] = s.text()
	}
	value, err := s.parseVars(vars)
	if err != nil {
		if !s.read.found {
			panic(fmt.Sprintf("config: the default of %s: %v", s.name, err))
		}
		return err
	}
	s.target.Set(value)
	return nil
}

// text is the value that was read, without the blanks around it unless it is
// text itself.
func (s *setting) text() string {
	if s.field.Type.Kind() == reflect.String && len(s.oneof) == 0 {
		return s.read.value
	}
	return strings.TrimSpace(s.read.value)
}

// parseVars lets the engine fill a struct that holds this one field, so that
// its error can only be about this variable.
func (s *setting) parseVars(vars map[string]string) (reflect.Value, error) {
	holder := reflect.New(reflect.StructOf([]reflect.StructField{{
		Name: s.field.Name, Type: s.field.Type, Tag: s.field.Tag,
	}}))
	if s.field.Type.Kind() == reflect.Pointer && vars[s.name] == "" && s.tag("envDefault") == "" {
		return reflect.Zero(s.field.Type), nil
	}
	err := env.ParseWithOptions(holder.Interface(), env.Options{Environment: vars, FuncMap: parsers})
	if err != nil {
		return reflect.Value{}, s.explain(err)
	}
	value := holder.Elem().Field(0)
	if vars[s.name] != "" && value.IsZero() && value.Kind() == reflect.Slice {
		return reflect.Value{}, mismatch("is empty")
	}
	if err := s.checkOneof(value); err != nil {
		return reflect.Value{}, err
	}
	return value, s.checkBounds(value)
}

// explain takes out of an engine's error what is wrong with the value.
func (s *setting) explain(err error) error {
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

// checkOneof gives a string the listed spelling.
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

// checkBounds holds a number, duration or size against its min and max tags.
func (s *setting) checkBounds(value reflect.Value) error {
	if value.IsZero() && !s.read.found && s.tag("envDefault") == "" {
		return nil // not set, which bounds do not speak of
	}
	for _, bound := range []string{"min", "max"} {
		text := s.tag(bound)
		if text == "" {
			continue
		}
		limit, err := s.number(text)
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

// number reads a bound in the notation of the setting's type.
func (s *setting) number(text string) (float64, error) {
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
