package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/collectord/collectord/pkg/config"
	"github.com/collectord/collectord/pkg/store/file"
	"github.com/collectord/collectord/pkg/store/postgres"
)

// tenancyCase is sources of a program with several tenancies.
type tenancyCase struct {
	environ     []string // that tenancies share
	text        string   // of acme.env
	credentials map[string]string
}

// load returns the settings of the tenancy acme, the warnings, and the errors, one a line.
func (tc tenancyCase) load(t *testing.T) (core *config.Settings, sections []*config.Section, warnings []string, problems string) {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, dir, "acme.env", tc.text)
	environ := tc.environ
	if len(tc.credentials) > 0 {
		credentials := t.TempDir()
		for name, value := range tc.credentials {
			writeFile(t, credentials, name, value)
		}
		environ = append(environ, "CREDENTIALS_DIRECTORY="+credentials)
	}
	shared, err := config.Open(config.Source{Environ: append(environ, "TENANCIES_DIR="+dir), Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	base, baseSections := coreSettings(), sampleSections()
	if _, err := shared.LoadShared(base, baseSections...); err != nil {
		return nil, nil, nil, "shared: " + err.Error()
	}
	for _, s := range baseSections {
		if s.Active {
			t.Errorf("the collector %s is on without a tenancy", s.Name)
		}
	}
	env, err := shared.OpenTenancy(dir, "acme.env")
	if err != nil {
		return nil, nil, nil, err.Error()
	}
	core, sections = coreSettings(), sampleSections()
	warnings, err = env.Load(core, sections...)
	if err != nil {
		problems = err.Error()
	}
	for _, secret := range []string{"s3cr3t-tenable", "s3cr3t-postgres"} {
		if strings.Contains(problems+strings.Join(warnings, ""), secret) {
			t.Errorf("a secret is shown: %s %s", problems, warnings)
		}
	}
	return core, sections, warnings, problems
}

func TestTenancySettings(t *testing.T) {
	t.Parallel()
	both := "TIO_ACCESS_KEY=a\nTIO_SECRET_KEY=s3cr3t-tenable\n"
	for name, tc := range map[string]struct {
		tenancyCase
		verify func(t *testing.T, core *config.Settings, sections []*config.Section)
	}{
		"the name is that of the file": {tenancyCase{text: both}, func(t *testing.T, core *config.Settings, sections []*config.Section) {
			if core.Tenancy != "acme" || !sections[1].Active {
				t.Errorf("tenancy %q, on: %v", core.Tenancy, sections[1].Active)
			}
		}},
		"the name is set": {tenancyCase{text: both + "TENANCY=Acme Ltd\n"}, func(t *testing.T, core *config.Settings, _ []*config.Section) {
			if core.Tenancy != "Acme Ltd" {
				t.Errorf("tenancy %q", core.Tenancy)
			}
		}},
		"a shared value applies": {tenancyCase{environ: []string{"RUN_TIMEOUT=3h"}, text: both}, func(t *testing.T, core *config.Settings, _ []*config.Section) {
			if core.Run.Timeout.Hours() != 3 {
				t.Errorf("timeout %v", core.Run.Timeout)
			}
		}},
		"the file wins over the environment": {tenancyCase{environ: []string{"RUN_TIMEOUT=3h"}, text: both + "RUN_TIMEOUT=2h\n"}, func(t *testing.T, core *config.Settings, _ []*config.Section) {
			if core.Run.Timeout.Hours() != 2 {
				t.Errorf("timeout %v", core.Run.Timeout)
			}
		}},
		"nothing hides a shared value": {tenancyCase{environ: []string{"SLACK_WEBHOOK=https://hooks.example/x"}, text: both + "SLACK_WEBHOOK=\n"}, func(t *testing.T, core *config.Settings, _ []*config.Section) {
			if core.Notify.Slack.IsSet() {
				t.Error("the shared webhook is used")
			}
		}},
		"a credential of the tenancy": {tenancyCase{text: "TIO_ACCESS_KEY=a\n", credentials: map[string]string{"acme.TIO_SECRET_KEY": "s3cr3t-tenable\n", "globex.TIO_SECRET_KEY": "other"}},
			func(t *testing.T, _ *config.Settings, sections []*config.Section) {
				if got := sections[1].Into.(*tenable).SecretKey.Reveal(); got != "s3cr3t-tenable" {
					t.Errorf("secret %q", got)
				}
			}},
		"a shared destination": {tenancyCase{environ: []string{"STORE_POSTGRES_HOST=db", "STORE_POSTGRES_PASSWORD=s3cr3t-postgres"}, text: both}, func(t *testing.T, core *config.Settings, _ []*config.Section) {
			if p := postgresOf(core); p.Host != "db" || p.Password.Reveal() != "s3cr3t-postgres" {
				t.Errorf("host %q", p.Host)
			}
		}},
		"a password is not sent to a server of the tenancy": {tenancyCase{environ: []string{"STORE_POSTGRES_HOST=db", "STORE_POSTGRES_PASSWORD=s3cr3t-postgres"}, text: both + "STORE_POSTGRES_HOST=own\n"},
			func(t *testing.T, core *config.Settings, _ []*config.Section) {
				if p := postgresOf(core); p.Host != "own" || p.Password.IsSet() {
					t.Errorf("host %q, password %v", p.Host, p.Password.IsSet())
				}
			}},
		"other settings of a shared destination": {tenancyCase{environ: []string{"STORE_POSTGRES_HOST=db", "STORE_POSTGRES_PASSWORD=s3cr3t-postgres", "STORE_POSTGRES_MODE=replace"}, text: both + "STORE_POSTGRES_KEEP=3\nSTORE_POSTGRES_MODE=append\n"},
			func(t *testing.T, core *config.Settings, _ []*config.Section) {
				if p := postgresOf(core); p.Host != "db" || p.Password.Reveal() != "s3cr3t-postgres" || p.Keep.Newest != 3 || p.Mode != "append" {
					t.Errorf("host %q, password %v, keep %+v, mode %s", p.Host, p.Password.IsSet(), p.Keep, p.Mode)
				}
			}},
		"nothing of a shared destination with a credential": {tenancyCase{environ: []string{"STORE_POSTGRES_URL=postgres://u:s3cr3t-postgres@db/x", "STORE_POSTGRES_KEEP=3"}, text: both + "STORE_POSTGRES_HOST=own\nSTORE_POSTGRES_PASSWORD=own-password\n"},
			func(t *testing.T, core *config.Settings, _ []*config.Section) {
				if p := postgresOf(core); p.URL.IsSet() || p.Host != "own" || p.Keep.Newest != 0 {
					t.Errorf("URL %v, host %q, keep %+v", p.URL.IsSet(), p.Host, p.Keep)
				}
			}},
		"a destination is switched off": {tenancyCase{environ: []string{"STORE_FILE=/data/%TAG/%TENANCY.json"}, text: both + "STORE_FILE=off\n"}, func(t *testing.T, core *config.Settings, _ []*config.Section) {
			for _, g := range core.Store.Destinations {
				if f, ok := g.Into.(*file.Settings); ok && f.Path != "off" {
					t.Errorf("path %q", f.Path)
				}
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			core, sections, warnings, problems := tc.load(t)
			if problems != "" || len(warnings) > 0 {
				t.Fatalf("%s %q", problems, warnings)
			}
			tc.verify(t, core, sections)
		})
	}
}

func postgresOf(core *config.Settings) *postgres.Settings {
	i := slices.IndexFunc(core.Store.Destinations, func(g config.Group) bool { _, ok := g.Into.(*postgres.Settings); return ok })
	return core.Store.Destinations[i].Into.(*postgres.Settings)
}

func TestTenancyRefusals(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		tenancyCase
		want string
	}{
		"a setting of the program": {tenancyCase{text: "HTTP_LISTEN=:80\n"},
			"HTTP_LISTEN: is a setting of the whole program: set it in the environment or in the file that all tenancies share"},
		"a variable of a library": {tenancyCase{text: "OKTA_DOMAIN=x\nAWS_PROFILE=acme\n"},
			"AWS_PROFILE: acme.env:2: applies to the whole program: set it in the environment or in the file that all tenancies share"},
		"a name that is a path":     {tenancyCase{text: "TENANCY=../globex\n"}, `TENANCY: "../globex" has a path separator: want a name such as default or acme-eu`},
		"an invisible character":    {tenancyCase{text: "TENANCY=acme\u200b\n"}, `TENANCY: "acme\u200b" has an invisible character: want a name such as default or acme-eu`},
		"the direction of the text": {tenancyCase{text: "TENANCY=acme\u202e\n"}, `TENANCY: "acme\u202e" has an invisible character: want a name such as default or acme-eu`},
		"a space at the end":        {tenancyCase{text: "TENANCY='acme '\n"}, `TENANCY: "acme " begins or ends with a space: want a name such as default or acme-eu`},
		"a shared secret of a collector": {tenancyCase{environ: []string{"TIO_SECRET_KEY=s3cr3t-tenable"}},
			"shared: TIO_SECRET_KEY: belongs to one tenancy: set it in a file in TENANCIES_DIR"},
		"a shared name": {tenancyCase{environ: []string{"TENANCY=all"}},
			"shared: TENANCY: has no effect with TENANCIES_DIR: each tenancy has the name of its file, or sets TENANCY there"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, _, _, problems := tc.load(t); problems != tc.want {
				t.Errorf("got %q\nwant %q", problems, tc.want)
			}
		})
	}
}

// TestTenancyFiles checks which files in a directory are those of tenancies.
func TestTenancyFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"globex.env", "acme.env", ".hidden.env", "acme.env~", "README"} {
		writeFile(t, dir, name, "")
	}
	if err := os.Mkdir(filepath.Join(dir, "sub.env"), 0o700); err != nil {
		t.Fatal(err)
	}
	names, err := config.TenancyFiles(dir)
	if err != nil || !slices.Equal(names, []string{"acme.env", "globex.env"}) {
		t.Errorf("%q, %v", names, err)
	}
	_, err = config.TenancyFiles(filepath.Join(dir, "none"))
	var problem *config.Problem
	if !errors.As(err, &problem) || problem.Name != "TENANCIES_DIR" {
		t.Errorf("error %v", err)
	}
}
