package config_test

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/collectord/collectord/pkg/config"
)

// program has variables as the files of EXEC_DIR name them.
type program struct {
	Token config.Secret `env:"HR_TOKEN" required:"true" doc:"The token."`
}

// changedProgram is program after its file was changed.
type changedProgram struct {
	Token config.Secret `env:"HR_TOKEN" required:"true" doc:"The token."`
	URL   string        `env:"HR_URL" doc:"The address."`
}

func programSection(into any) *config.Section {
	return &config.Section{Name: "hr", Into: into, Collector: true, OnByDefault: true, Streams: []config.Stream{{Name: "hr_people"}}}
}

// TestOnByDefault: a collector without required variables is on, unless COLLECTORS says
// otherwise.
func TestOnByDefault(t *testing.T) {
	for _, tc := range []struct {
		collectors string
		wantOn     bool
	}{
		{wantOn: true},
		{collectors: "hr", wantOn: true},
		{collectors: "-hr"},
		{collectors: "tenable,-hr_people"},
	} {
		section := programSection(&struct{}{})
		environ := []string{"COLLECTORS=" + tc.collectors, "TIO_ACCESS_KEY=access", "TIO_SECRET_KEY=secret"}
		found, err := config.Open(config.Source{Environ: environ, Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := found.Load(coreSettings(), append(sampleSections(), section)...); err != nil {
			t.Fatal(err)
		}
		if section.Active != tc.wantOn {
			t.Errorf("with COLLECTORS=%s it is on: %v, want %v", tc.collectors, section.Active, tc.wantOn)
		}
	}
}

// TestReloadOfCollectorsThatWereNot: a collector that is new, or has other variables than
// before, is off when its settings cannot be used; one that stays as it was keeps them.
func TestReloadOfCollectorsThatWereNot(t *testing.T) {
	open := func(environ ...string) *config.Environment {
		found, err := config.Open(config.Source{Environ: environ, Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	gone := "HR_TOKEN_FILE=" + filepath.Join(t.TempDir(), "gone")
	for name, tc := range map[string]struct {
		before  []*config.Section
		into    any
		environ []string
		wantOn  bool
		want    []string // the names of the problems
	}{
		"new, good":             {into: &program{}, environ: []string{"HR_TOKEN=new"}, wantOn: true},
		"new, no file":          {into: &program{}, environ: []string{gone}, want: []string{"HR_TOKEN_FILE"}},
		"new, bad schedule":     {into: &program{}, environ: []string{"HR_TOKEN=new", "SCHEDULE_HR=never"}, wantOn: true, want: []string{"SCHEDULE_HR"}},
		"changed, no file":      {before: []*config.Section{programSection(&program{})}, into: &changedProgram{}, environ: []string{gone}, want: []string{"HR_TOKEN_FILE"}},
		"as it was, no file":    {before: []*config.Section{programSection(&program{})}, into: &program{}, environ: []string{gone}, wantOn: true, want: []string{"HR_TOKEN_FILE"}},
		"changed, with a token": {before: []*config.Section{programSection(&program{})}, into: &changedProgram{}, environ: []string{"HR_TOKEN=new"}, wantOn: true},
	} {
		t.Run(name, func(t *testing.T) {
			core := coreSettings()
			if _, err := open("HR_TOKEN=old").Load(core, tc.before...); err != nil {
				t.Fatal(err)
			}
			section := programSection(tc.into)
			_, refused := open(tc.environ...).Reload(config.InForce{Core: core, Sections: tc.before}, coreSettings(), section)
			var names []string
			for _, p := range refused {
				names = append(names, p.Name)
			}
			if section.Active != tc.wantOn || !slices.Equal(names, tc.want) {
				t.Errorf("it is on: %v, problems %v, want %v, %v", section.Active, names, tc.wantOn, tc.want)
			}
		})
	}
}
