package external

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/collectord/collectord/pkg/config"
)

// newSettings returns a pointer to a new settings struct with a field for each variable.
func (f *File) newSettings() any {
	var fields []reflect.StructField
	for i, v := range f.variables {
		kind := reflect.TypeFor[string]()
		if v.secret {
			kind = reflect.TypeFor[config.Secret]()
		}
		fields = append(fields, reflect.StructField{
			Name: fmt.Sprintf("V%d", i), Type: kind,
			Tag: reflect.StructTag(fmt.Sprintf(`env:%q required:%q doc:%q`, v.name, fmt.Sprint(v.required), v.description)),
		})
	}
	return reflect.New(reflect.StructOf(fields)).Interface()
}

// valuesOf returns the values of the variables that are set, by name.
func (f *File) valuesOf(settings any) map[string]string {
	values := map[string]string{}
	v := reflect.ValueOf(settings).Elem()
	for i, variable := range f.variables {
		if text := v.Field(i).String(); text != "" {
			values[variable.name] = text
		}
	}
	return values
}

// minSecretLine is the length below which a line of a secret is too common a text.
const minSecretLine = 12

// secretsIn returns the secrets among values: those of the variables that are secret, and
// the lines of secrets with several lines.
func (f *File) secretsIn(values map[string]string) (secrets []string) {
	for _, v := range f.variables {
		value := values[v.name]
		if !v.secret || value == "" {
			continue
		}
		secrets = append(secrets, value)
		for line := range strings.Lines(value) {
			if line = strings.TrimSpace(line); len(line) >= minSecretLine {
				secrets = append(secrets, line)
			}
		}
	}
	return secrets
}
