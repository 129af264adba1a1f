package config_test

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/pkg/config"
)

// color is a type of another package.
type color struct{ name string }

func (c *color) UnmarshalText(text []byte) error {
	if string(text) != "red" {
		return errors.New("not a color: want red")
	}
	c.name = string(text)
	return nil
}

// odd has settings of the kinds that the sample collectors lack.
type odd struct {
	Color color         `env:"ODD_COLOR" doc:"A color."`
	Any   int           `env:"ODD_ANY" doc:"Any number."`
	Most  uint8         `env:"ODD_MOST" max:"9" doc:"A digit."`
	Level config.Secret `env:"ODD_LEVEL" oneof:"high,low" doc:"A hidden level."`
	Alias string        `env:"ODD_ALIAS" alias:"ODD_FIRST,ODD_SECOND" doc:"One of three names."`
	Where *url.URL      `env:"ODD_WHERE" doc:"A URL that may be missing."`
	Inner inner
	plain string
}

type inner struct {
	Fail bool `env:"ODD_FAIL" doc:"Whether the check fails."`
}

// Validate by value, with an error that names no variable.
func (i inner) Validate() []error {
	if i.Fail {
		return []error{fmt.Errorf("wrapped: %w", config.Invalid("ODD_FAIL", "set on purpose")), errors.New("plain trouble")}
	}
	return nil
}

func TestOddSections(t *testing.T) {
	tests := []struct {
		environ string
		want    []string
	}{
		{"ODD_COLOR=red;ODD_ANY=-7;ODD_MOST=9;ODD_LEVEL=LOW;ODD_SECOND=x", nil},
		{"ODD_COLOR=blue", []string{`ODD_COLOR: "blue": not a color: want red`}},
		{"ODD_ANY=x", []string{`ODD_ANY: "x" is not a number: want a number`}},
		{"ODD_MOST=10", []string{`ODD_MOST: "10" is out of range: want at most 9`}},
		{"ODD_MOST=256", []string{`ODD_MOST: "256" is out of range: want at most 9`}},
		{"ODD_LEVEL=middle", []string{"ODD_LEVEL: the value is not known: want high or low"}},
		{"ODD_FAIL=1", []string{"ODD_FAIL: set on purpose", "odd: plain trouble"}},
		{"ODD_ALIAS=a;ODD_FIRST=a;ODD_SECOND=b", []string{"ODD_ALIAS: set, and ODD_SECOND is set to another value: keep one of the two"}},
		{"ODD_FIRST=a;ODD_SECOND=b", []string{"ODD_FIRST: set, and ODD_SECOND is set to another value: keep one of the two"}},
		{"ODD_ALIAS_FILE=/no/such;ODD_SECOND=b", []string{`ODD_ALIAS_FILE: "/no/such": no such file or directory: want a readable file that holds the value of ODD_ALIAS`}},
	}
	for _, tt := range tests {
		t.Run(tt.environ, func(t *testing.T) {
			found, err := config.Open(config.Source{Dir: t.TempDir(), Environ: strings.Split(tt.environ, ";")})
			if err != nil {
				t.Fatal(err)
			}
			section := &config.Section{Name: "odd", Title: "Odd", Into: &odd{plain: "kept"}}
			_, err = found.Load(&config.Settings{}, section)
			if diff := cmp.Diff(tt.want, problemLines(t, err)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			got := section.Into.(*odd)
			if err == nil && (got.Color.name != "red" || got.Any != -7 || got.Most != 9 || got.Level.Reveal() != "low" || got.Alias != "x" || got.Where != nil) || got.plain != "kept" {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestConflictsNameTheirSources(t *testing.T) {
	dir, credentials := t.TempDir(), t.TempDir()
	writeFile(t, dir, "prod.env", "TENANCY=a\n")
	writeFile(t, credentials, "TENANCY_FILE", "x")
	l := loadSource(t, config.Source{Dir: dir, EnvFile: "prod.env", Environ: []string{"CREDENTIALS_DIRECTORY=" + credentials}})
	want := []string{"TENANCY: set in the --env-file file, and TENANCY_FILE is set as a credential: keep one of the two"}
	if diff := cmp.Diff(want, l.problems); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func TestBytes(t *testing.T) {
	tests := []struct {
		text string
		want config.Bytes
		back string
	}{
		{text: "1", want: 1, back: "1 B"}, {text: "512MB", want: 512e6, back: "488 MiB"}, {text: "10GiB", want: 10 << 30, back: "10 GiB"}, {text: " 10 gib ", want: 10 << 30, back: "10 GiB"},
		{text: "1.5k", want: 1500, back: "1.5 KiB"}, {text: "9223372036854775807", want: 1<<63 - 1, back: "8.0 EiB"},
	}
	for _, tt := range tests {
		var got config.Bytes
		if err := got.UnmarshalText([]byte(tt.text)); err != nil || got != tt.want || got.String() != tt.back {
			t.Errorf("%q gives %d (%s), %v; want %d (%s)", tt.text, got, got, err, tt.want, tt.back)
		}
	}
	if got := config.Bytes(-1).String(); got != "-1" {
		t.Errorf("-1 prints as %s", got)
	}
}

func TestKeepAll(t *testing.T) {
	if !(config.Keep{}).All() || (config.Keep{Newest: 1}).All() || (config.Keep{Age: 1}).All() {
		t.Error("only the zero value keeps all")
	}
}
