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
		warnings      []string
	}{
		{name: "none"},
		{name: "one", environ: tio, active: "tenable"},
		{name: "two", environ: cs + ";" + tio, active: "crowdstrike tenable"},
		{name: "allow-list", environ: cs + ";" + tio + ";COLLECTORS=tenable", active: "tenable"},
		{
			name:    "allow-list in another case",
			environ: cs + ";" + tio + ";COLLECTORS= Tenable ,CROWDSTRIKE",
			active:  "crowdstrike tenable",
		},
		{name: "requires nothing", environ: "COLLECTORS=feed", active: "feed"},
		{name: "only optional ones set", environ: "TIO_CHUNK=100"},
		{name: "empty ones are not set", environ: tio + ";FALCON_CLIENT_ID=;FALCON_SECRET=", active: "tenable"},
		{
			name:     "half-set",
			environ:  cs + ";TIO_ACCESS_KEY=a",
			active:   "crowdstrike",
			warnings: []string{"TIO_SECRET_KEY: not set, but TIO_ACCESS_KEY is: the collector tenable is off: set TIO_ACCESS_KEY and TIO_SECRET_KEY, or none"},
		},
		{
			name:     "other half",
			environ:  "TIO_SECRET_KEY=a",
			warnings: []string{"TIO_ACCESS_KEY: not set, but TIO_SECRET_KEY is: the collector tenable is off: set TIO_ACCESS_KEY and TIO_SECRET_KEY, or none"},
		},
		{
			name:     "two of three",
			environ:  "OKTA_ID=a;OKTA_TOKEN=b",
			warnings: []string{"OKTA_DOMAIN: not set, but OKTA_ID and OKTA_TOKEN are: the collector okta is off: set OKTA_DOMAIN, OKTA_ID and OKTA_TOKEN, or none"},
		},
		{
			name:    "half-set and named",
			environ: "TIO_ACCESS_KEY=a;COLLECTORS=tenable",
			want:    []string{"COLLECTORS: tenable is named, but TIO_SECRET_KEY is not set"},
		},
		{name: "half-set and not allowed", environ: cs + ";TIO_ACCESS_KEY=a;COLLECTORS=crowdstrike", active: "crowdstrike"},
		{
			name:    "bad value and not allowed",
			environ: cs + ";TIO_CHUNK=a;COLLECTORS=crowdstrike",
			active:  "crowdstrike",
			want:    []string{`TIO_CHUNK: "a" is not a number: want 50 to 5000`},
		},
		{
			name:    "own check and not allowed",
			environ: cs + ";TIO_ACCESS_KEY=a;TIO_SECRET_KEY=a;COLLECTORS=crowdstrike",
			active:  "crowdstrike",
		},
		{
			name:    "named and not set",
			environ: cs + ";COLLECTORS=crowdstrike,okta",
			active:  "crowdstrike",
			want:    []string{"COLLECTORS: okta is named, but OKTA_DOMAIN, OKTA_ID and OKTA_TOKEN are not set"},
		},
		{
			name:    "unknown",
			environ: cs + ";COLLECTORS=crowdstrke",
			want:    []string{`COLLECTORS: "crowdstrke" is neither a collector nor a stream: did you mean crowdstrike?`},
		},

		{name: "aliases", environ: "CROWDSTRIKE_CLIENT_ID=id;CROWDSTRIKE_CLIENT_SECRET=secret", active: "crowdstrike"},
		{name: "one alias", environ: "CROWDSTRIKE_CLIENT_ID=id;FALCON_SECRET=secret", active: "crowdstrike"},
		{name: "alias and name agree", environ: cs + ";CROWDSTRIKE_CLIENT_ID=id", active: "crowdstrike"},
		{
			name:    "alias and name differ",
			environ: cs + ";CROWDSTRIKE_CLIENT_ID=other;CROWDSTRIKE_CLIENT_SECRET=other",
			active:  "crowdstrike",
			want: []string{
				"FALCON_CLIENT_ID: set, and CROWDSTRIKE_CLIENT_ID is set to another value: keep one of the two",
				"FALCON_SECRET: set, and CROWDSTRIKE_CLIENT_SECRET is set to another value: keep one of the two",
			},
		},
		{
			name:     "half-set by alias",
			environ:  "CROWDSTRIKE_CLIENT_ID=id",
			warnings: []string{"FALCON_SECRET: not set, but CROWDSTRIKE_CLIENT_ID is: the collector crowdstrike is off: set FALCON_CLIENT_ID and FALCON_SECRET, or none"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := loadSource(t, config.Source{Environ: strings.Split(tt.environ, ";")})
			if diff := cmp.Diff(tt.want, l.problems); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.warnings, l.warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
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
	l := loadSource(t, config.Source{Environ: []string{"OKTA_ID=x", "TIO_ACCESS_KEY=a", "TIO_SECRET_KEY=b"}})
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
	writeFile(t, dir, "secret", "s\n")
	l := loadWithoutProblems(t, config.Source{Dir: dir, Environ: []string{"CROWDSTRIKE_CLIENT_ID=id", "CROWDSTRIKE_CLIENT_SECRET_FILE=secret"}})
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
		if diff := cmp.Diff(want, problemLines(t, err)); diff != "" {
			t.Errorf("problems (-want +got):\n%s", diff)
		}
		if !section.Active {
			t.Error("the section is not active")
		}
	}
}

// TestWrongStructs: Load panics, since only a programmer can fix them.
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

// TestSwitchInsteadOfCredentials: a switch that is true replaces several required
// variables; one that is false, or is not set, does not.
func TestSwitchInsteadOfCredentials(t *testing.T) {
	type product struct {
		On     bool          `env:"PRODUCT" instead:"PRODUCT_ID,PRODUCT_SECRET" doc:"Use the credentials of another collector."`
		ID     string        `env:"PRODUCT_ID" required:"true" doc:"An id."`
		Secret config.Secret `env:"PRODUCT_SECRET" required:"true" doc:"A secret."`
	}
	type feed struct {
		On bool `env:"FEED_ON" required:"true" doc:"Read the feed."`
	}
	for _, tc := range []struct {
		name                          string
		environ                       []string
		wantProduct, wantFeed         bool
		missingProduct, missingOfFeed []string
	}{
		{name: "nothing", missingProduct: []string{"PRODUCT_ID", "PRODUCT_SECRET"}, missingOfFeed: []string{"FEED_ON"}},
		{name: "credentials", environ: []string{"PRODUCT_ID=i", "PRODUCT_SECRET=s"}, wantProduct: true, missingOfFeed: []string{"FEED_ON"}},
		{name: "switches", environ: []string{"PRODUCT=true", "FEED_ON=yes"}, wantProduct: true, wantFeed: true},
		{
			name: "switches that are false", environ: []string{"PRODUCT=false", "FEED_ON=false"},
			missingProduct: []string{"PRODUCT_ID", "PRODUCT_SECRET"}, missingOfFeed: []string{"FEED_ON"},
		},
		{name: "false beside credentials", environ: []string{"PRODUCT=false", "PRODUCT_ID=i", "PRODUCT_SECRET=s"}, wantProduct: true, missingOfFeed: []string{"FEED_ON"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			found, err := config.Open(config.Source{Environ: tc.environ, Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			p := &config.Section{Name: "product", Title: "Product", Into: new(product), Collector: true}
			f := &config.Section{Name: "feed", Title: "Feed", Into: new(feed), Collector: true}
			if _, err := found.Load(new(config.Settings), p, f); err != nil {
				t.Fatal(err)
			}
			if p.Active != tc.wantProduct || f.Active != tc.wantFeed {
				t.Errorf("product %v, feed %v, want %v and %v", p.Active, f.Active, tc.wantProduct, tc.wantFeed)
			}
			if diff := cmp.Diff(tc.missingProduct, p.Missing); diff != "" {
				t.Errorf("missing of the product (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.missingOfFeed, f.Missing); diff != "" {
				t.Errorf("missing of the feed (-want +got):\n%s", diff)
			}
		})
	}
	text := config.Reference(new(config.Settings),
		&config.Section{Name: "product", Title: "Product", Into: new(product), Collector: true}, &config.Section{Name: "feed", Title: "Feed", Into: new(feed), Collector: true})
	for _, want := range []string{"On when `PRODUCT_ID` and `PRODUCT_SECRET`, or `PRODUCT=true`, are set", "On when `FEED_ON=true` is set"} {
		if !strings.Contains(text, want) {
			t.Errorf("the reference lacks %q", want)
		}
	}
}

// TestSchedulesOfFeeds: a public feed runs once a day, unless it has a schedule of its own
// or nothing is scheduled.
func TestSchedulesOfFeeds(t *testing.T) {
	type feed struct {
		On bool `env:"FEED_ON" required:"true" doc:"Read the feed."`
	}
	for _, tc := range []struct {
		name    string
		environ []string
		want    string
		wantOwn bool
	}{
		{name: "nothing", want: "@daily"},
		{name: "often", environ: []string{"SCHEDULE=@every 1h"}, want: "@daily"},
		{name: "off", environ: []string{"SCHEDULE=off"}, want: "off"},
		{name: "collector", environ: []string{"SCHEDULE_FEED=@weekly", "SCHEDULE=off"}, want: "@weekly", wantOwn: true},
		{name: "stream", environ: []string{"SCHEDULE_FEED=@weekly", "SCHEDULE_FEED_ITEMS=@monthly"}, want: "@monthly", wantOwn: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			found, err := config.Open(config.Source{Environ: append(tc.environ, "FEED_ON=true"), Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			settings := new(config.Settings)
			f := &config.Section{Name: "feed", Title: "Feed", Into: new(feed), Collector: true, IsPublic: true, Streams: []config.Stream{{Name: "feed_items"}}}
			if _, err := found.Load(settings, f); err != nil {
				t.Fatal(err)
			}
			if got := settings.CalendarOf(f, &f.Streams[0]).String(); got != tc.want || f.HasSchedule() != tc.wantOwn {
				t.Errorf("schedule %s, own %v, want %s, %v", got, f.HasSchedule(), tc.want, tc.wantOwn)
			}
		})
	}
}
