package config_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/pkg/config"
)

func TestWhichCollectorsAreActive(t *testing.T) {
	const (
		cs  = "FALCON_CLIENT_ID=id;FALCON_SECRET=secret"
		tio = "TIO_ACCESS_KEY=abcd;TIO_SECRET_KEY=efgh"
	)
	tests := []struct {
		name, environ string
		active        string
		want          []string
	}{
		{"none", "", "", nil},
		{"one", tio, "tenable", nil},
		{"two", cs + ";" + tio, "crowdstrike tenable", nil},
		{"allow-list", cs + ";" + tio + ";COLLECTORS=tenable", "tenable", nil},
		{"allow-list in another case", cs + ";" + tio + ";COLLECTORS= Tenable ,CROWDSTRIKE", "crowdstrike tenable", nil},
		{"requires nothing", "COLLECTORS=feed", "feed", nil},
		{"only optional ones set", "TIO_CHUNK=100", "", nil},
		{"empty ones are not set", tio + ";FALCON_CLIENT_ID=;FALCON_SECRET=", "tenable", nil},
		{"half-set", "TIO_ACCESS_KEY=a", "", []string{"TIO_SECRET_KEY: not set, but TIO_ACCESS_KEY is: set both to switch tenable on, or neither"}},
		{"other half", "TIO_SECRET_KEY=a", "", []string{"TIO_ACCESS_KEY: not set, but TIO_SECRET_KEY is: set both to switch tenable on, or neither"}},
		{"two of three", "OKTA_ID=a;OKTA_TOKEN=b", "", []string{"OKTA_DOMAIN: not set, but OKTA_ID and OKTA_TOKEN are: set all of OKTA_DOMAIN, OKTA_ID and OKTA_TOKEN to switch okta on, or none"}},
		{"half-set and named", "TIO_ACCESS_KEY=a;COLLECTORS=tenable", "", []string{"TIO_SECRET_KEY: not set, but TIO_ACCESS_KEY is: set both to switch tenable on, or neither"}},
		{"half-set and not allowed", cs + ";TIO_ACCESS_KEY=a;COLLECTORS=crowdstrike", "crowdstrike", nil},
		{"bad value and not allowed", cs + ";TIO_CHUNK=a;COLLECTORS=crowdstrike", "crowdstrike", []string{`TIO_CHUNK: "a" is not a number: want 50 to 5000`}},
		{"own check and not allowed", cs + ";TIO_ACCESS_KEY=a;TIO_SECRET_KEY=a;COLLECTORS=crowdstrike", "crowdstrike", nil},
		{"named and not set", cs + ";COLLECTORS=crowdstrike,okta", "crowdstrike", []string{"COLLECTORS: okta is named, but OKTA_DOMAIN, OKTA_ID and OKTA_TOKEN are not set"}},
		{"unknown", cs + ";COLLECTORS=crowdstrke", "", []string{`COLLECTORS: "crowdstrke" is not a collector: did you mean crowdstrike?`}},

		{"aliases", "CROWDSTRIKE_CLIENT_ID=id;CROWDSTRIKE_CLIENT_SECRET=secret", "crowdstrike", nil},
		{"one alias", "CROWDSTRIKE_CLIENT_ID=id;FALCON_SECRET=secret", "crowdstrike", nil},
		{"alias and name agree", cs + ";CROWDSTRIKE_CLIENT_ID=id", "crowdstrike", nil},
		{"alias and name differ", cs + ";CROWDSTRIKE_CLIENT_ID=other;CROWDSTRIKE_CLIENT_SECRET=other", "crowdstrike", []string{
			"FALCON_CLIENT_ID: set, and CROWDSTRIKE_CLIENT_ID is set to another value: keep one of the two",
			"FALCON_SECRET: set, and CROWDSTRIKE_CLIENT_SECRET is set to another value: keep one of the two",
		}},
		{"half-set by alias", "CROWDSTRIKE_CLIENT_ID=id", "", []string{"FALCON_SECRET: not set, but CROWDSTRIKE_CLIENT_ID is: set both to switch crowdstrike on, or neither"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := load(t, config.Source{Environ: strings.Split(tt.environ, ";")})
			if diff := cmp.Diff(tt.want, l.problems); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			var active []string
			for _, name := range []string{"crowdstrike", "tenable", "okta", "feed"} {
				if l.sections[name].Active {
					active = append(active, name)
				}
			}
			if got := strings.Join(active, " "); got != tt.active {
				t.Errorf("active: %q, want %q", got, tt.active)
			}
		})
	}
}

func TestMissing(t *testing.T) {
	l := load(t, config.Source{Environ: []string{"OKTA_ID=x", "TIO_ACCESS_KEY=a", "TIO_SECRET_KEY=b"}})
	want := map[string][]string{
		"crowdstrike": {"FALCON_CLIENT_ID", "FALCON_SECRET"}, "tenable": nil, "okta": {"OKTA_DOMAIN", "OKTA_TOKEN"}, "feed": nil,
	}
	for name, section := range l.sections {
		if diff := cmp.Diff(want[name], section.Missing); diff != "" {
			t.Errorf("missing of %s (-want +got):\n%s", name, diff)
		}
	}
}

func TestOriginOfAliases(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "secret", "s\n")
	l := clean(t, config.Source{Dir: dir, Environ: []string{"CROWDSTRIKE_CLIENT_ID=id", "CROWDSTRIKE_CLIENT_SECRET_FILE=secret"}})
	got := l.sections["crowdstrike"].Into.(*crowdstrike)
	if got.ClientID != "id" || got.Secret.Reveal() != "s" {
		t.Errorf("got %q and %q", got.ClientID, got.Secret.Reveal())
	}
	if o := l.found.Origin("FALCON_CLIENT_ID"); o != "CROWDSTRIKE_CLIENT_ID" {
		t.Errorf("the origin of FALCON_CLIENT_ID is %q", o)
	}
	if o := l.found.Origin("FALCON_SECRET"); o != "CROWDSTRIKE_CLIENT_SECRET_FILE" {
		t.Errorf("the origin of FALCON_SECRET is %q", o)
	}
}

// TestOtherSections need their required variables, whatever COLLECTORS says.
func TestOtherSections(t *testing.T) {
	type extra struct {
		Name string `env:"EXTRA_NAME" required:"true" doc:"A name."`
	}
	for _, environ := range [][]string{{"COLLECTORS=x"}, {"COLLECTORS=x", "EXTRA_NAME=n"}} {
		found, err := config.Open(config.Source{Dir: t.TempDir(), Environ: environ})
		if err != nil {
			t.Fatal(err)
		}
		section := &config.Section{Name: "extra", Into: &extra{}}
		_, err = found.Load(&config.Settings{}, section)
		want := []string{"EXTRA_NAME: not set, but required"}
		if len(environ) == 2 {
			want = nil
		}
		if diff := cmp.Diff(want, lines(t, err)); diff != "" {
			t.Errorf("problems (-want +got):\n%s", diff)
		}
		if !section.Active {
			t.Error("the section is not active")
		}
	}
}

// TestWrongStructs panic at once: only a programmer can mend them.
func TestWrongStructs(t *testing.T) {
	type nested struct {
		A string `env:"A_A" doc:"d"`
		B struct {
			C string `env:"C_C" alias:"A_A" doc:"d"`
		}
	}
	tests := map[string]any{
		"no pointer": crowdstrike{},
		"no struct":  new(string),
		"nil":        (*crowdstrike)(nil),
		"no doc": &struct {
			A string `env:"A_A"`
		}{},
		"bad name": &struct {
			A string `env:"A-A" doc:"d"`
		}{},
		"engine's option": &struct {
			A string `env:"A_A,required" doc:"d"`
		}{},
		"name twice": &nested{},
		"bad default": &struct {
			A int `env:"A_A" envDefault:"x" doc:"d"`
		}{},
		"default too small": &struct {
			A int `env:"A_A" envDefault:"0" min:"1" doc:"d"`
		}{},
		"bad bound": &struct {
			A int `env:"A_A" envDefault:"5" min:"x" doc:"d"`
		}{},
		"oneof of a number": &struct {
			A int `env:"A_A" oneof:"1,2" doc:"d"`
		}{},
		"bounds of a text": &struct {
			A string `env:"A_A" envDefault:"x" min:"1" doc:"d"`
		}{},
		"unknown type": &struct {
			A chan int `env:"A_A" envDefault:"x" doc:"d"`
		}{},
		"unexported": &struct {
			a string `env:"A_A" doc:"d"`
		}{},
	}
	for name, into := range tests {
		t.Run(name, func(t *testing.T) {
			found, err := config.Open(config.Source{Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if said, _ := recover().(string); !strings.HasPrefix(said, "config: ") {
					t.Errorf("got %q, want a panic", said)
				}
			}()
			_, _ = found.Load(&config.Settings{}, &config.Section{Name: "x", Into: into})
		})
	}
}
