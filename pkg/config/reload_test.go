package config_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/pkg/config"
	"github.com/collectord/collectord/pkg/store/postgres"
)

// A reloaded is settings and the sections of the sample collectors.
type reloaded struct {
	*config.Settings
	sections []*config.Section
}

func (r reloaded) inForce() config.InForce {
	return config.InForce{Core: r.Settings, Sections: r.sections}
}

// section returns the section with a name.
func (r reloaded) section(name string) *config.Section {
	return r.sections[slices.IndexFunc(r.sections, func(s *config.Section) bool { return s.Name == name })]
}

// tenableKey returns the access key of Tenable.
func (r reloaded) tenableKey() string { return r.section("tenable").Into.(*tenable).AccessKey.Reveal() }

func (r reloaded) postgres() *postgres.Settings {
	return r.Store.Destinations[2].Into.(*postgres.Settings)
}

// environBefore is the environment in force before each reload.
var environBefore = []string{
	"TIO_ACCESS_KEY=old-access", "TIO_SECRET_KEY=old-secret", "TIO_TIMEOUT=2h", "FALCON_CLIENT_ID=id", "FALCON_SECRET=old-falcon",
	"SCHEDULE=0 1 * * *", "SCHEDULE_TENABLE=0 2 * * *", "STORE_POSTGRES_HOST=old-host", "HTTP_LISTEN=127.0.0.1:1", "COLLECTORS=tenable,crowdstrike",
}

// reloadWith loads environBefore and reloads with some variables changed, "NAME=" for one
// that is removed. It returns what is in force afterwards, what was before, and the
// problems.
func reloadWith(t *testing.T, changed ...string) (after, before reloaded, problems []string) {
	t.Helper()
	open := func(environ []string) *config.Environment {
		found, err := config.Open(config.Source{Environ: environ, Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	before = reloaded{coreSettings(), sampleSections()}
	if _, err := open(environBefore).Load(before.Settings, before.sections...); err != nil {
		t.Fatal(err)
	}
	after = reloaded{coreSettings(), sampleSections()}
	// The first of two entries for one name is used.
	_, refused := open(append(changed, environBefore...)).Reload(before.inForce(), after.Settings, after.sections...)
	for _, p := range refused {
		problems = append(problems, p.Name)
	}
	return after, before, problems
}

// TestReloadKeepsWhatCannotBeUsed checks that a setting that cannot be used stays as it
// is in force, and that all others are replaced.
func TestReloadKeepsWhatCannotBeUsed(t *testing.T) {
	newFalcon := "FALCON_SECRET=new-falcon" // is replaced in each case
	for name, tc := range map[string]struct {
		changed  []string
		problems []string
		changes  []string // without FALCON_SECRET
		verify   func(t *testing.T, after reloaded)
	}{
		"nothing is wrong": {
			changed: []string{"TIO_ACCESS_KEY=new-access", "SCHEDULE=0 3 * * *", "STORE_POSTGRES_HOST=new-host"},
			changes: []string{"STORE_POSTGRES_HOST", "SCHEDULE", "TIO_ACCESS_KEY"},
		},
		"a collector keeps all its settings, and its new schedule": {
			changed:  []string{"TIO_ACCESS_KEY=new-access", "TIO_TIMEOUT=never", "SCHEDULE_TENABLE=0 4 * * *"},
			problems: []string{"TIO_TIMEOUT"}, changes: []string{"SCHEDULE_TENABLE"},
			verify: func(t *testing.T, after reloaded) {
				if s := after.section("tenable"); after.tenableKey() != "old-access" || !s.Active || s.Into.(*tenable).Export.Timeout != 2*time.Hour {
					t.Errorf("%+v", s)
				}
			},
		},
		"a validator of a collector": {
			changed: []string{"TIO_ACCESS_KEY=new-access", "TIO_SECRET_KEY=new-access"}, problems: []string{"TIO_SECRET_KEY"},
		},
		"a schedule keeps its value alone": {
			changed:  []string{"TIO_ACCESS_KEY=new-access", "SCHEDULE_TENABLE=0 0 30 2 *", "SCHEDULE=0 0 30 2 *"},
			problems: []string{"SCHEDULE", "SCHEDULE_TENABLE"}, changes: []string{"TIO_ACCESS_KEY"},
			verify: func(t *testing.T, after reloaded) {
				if all, own := after.Schedule.All.String(), after.section("tenable").Schedule.String(); all != "0 1 * * *" || own != "0 2 * * *" {
					t.Errorf("schedules %s and %s", all, own)
				}
			},
		},
		"a destination keeps all its settings": {
			changed: []string{"STORE_POSTGRES_HOST=new-host", "STORE_POSTGRES_PORT=none"}, problems: []string{"STORE_POSTGRES_PORT"},
			verify: func(t *testing.T, after reloaded) {
				if host := after.postgres().Host; host != "old-host" {
					t.Errorf("host %s", host)
				}
			},
		},
		"a validator of a destination": {
			changed: []string{"STORE_POSTGRES_URL=postgres://db", "STORE_POSTGRES_DBNAME=d"}, problems: []string{"STORE_POSTGRES_HOST", "STORE_POSTGRES_DBNAME"},
		},
		"settings that take a restart": {
			changed:  []string{"TENANCY=other", "HTTP_LISTEN=127.0.0.1:2", "HTTP_PPROF=yes", "LOG_LEVEL=debug"},
			problems: []string{"TENANCY", "HTTP_LISTEN", "HTTP_PPROF"}, changes: []string{"LOG_LEVEL"},
			verify: func(t *testing.T, after reloaded) {
				if after.Tenancy != "default" || after.HTTP.Listen != "127.0.0.1:1" || after.HTTP.Pprof {
					t.Errorf("%s, %+v", after.Tenancy, after.HTTP)
				}
			},
		},
		"a bad value of a setting that takes a restart": {
			changed: []string{"HTTP_LISTEN=nonsense", "HTTP_TOKEN=short"}, problems: []string{"HTTP_TOKEN", "HTTP_LISTEN"},
		},
		"an unknown collector": {
			changed: []string{"COLLECTORS=tenabel"}, problems: []string{"COLLECTORS"},
			verify: func(t *testing.T, after reloaded) {
				if !after.section("tenable").Active || !after.section("crowdstrike").Active || after.section("okta").Active {
					t.Error("other collectors are on than before")
				}
			},
		},
		"a collector that is named without its key": {
			changed: []string{"COLLECTORS=crowdstrike,tenable,okta"}, problems: []string{"COLLECTORS"}, changes: []string{"COLLECTORS"},
			verify: func(t *testing.T, after reloaded) {
				if !after.section("tenable").Active || after.section("okta").Active {
					t.Error("okta is on without a key, or tenable is off")
				}
			},
		},
		"a bad value of a collector that is switched on": {
			changed: []string{"COLLECTORS=tenable,crowdstrike,feed", "FEED_URL=nowhere"}, problems: []string{"FEED_URL"}, changes: []string{"COLLECTORS"},
			verify: func(t *testing.T, after reloaded) {
				if s := after.section("feed"); s.Active || s.Off != config.OffInvalid {
					t.Errorf("%+v", s)
				}
			},
		},
		"a bad value of a collector that is switched off": {
			changed: []string{"COLLECTORS=crowdstrike", "TIO_TIMEOUT=never"}, problems: []string{"TIO_TIMEOUT"}, changes: []string{"COLLECTORS"},
			verify: func(t *testing.T, after reloaded) {
				if after.section("tenable").Active {
					t.Error("tenable is on")
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			after, before, problems := reloadWith(t, append(tc.changed, newFalcon)...)
			slices.Sort(problems)
			slices.Sort(tc.problems)
			if diff := cmp.Diff(tc.problems, problems); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			if falcon := after.section("crowdstrike").Into.(*crowdstrike); falcon.Secret.Reveal() != "new-falcon" {
				t.Error("the new key of another collector is not in force")
			}
			changes := slices.DeleteFunc(config.ChangedSettings(before.inForce(), after.inForce()), func(name string) bool { return name == "FALCON_SECRET" })
			if diff := cmp.Diff(strings.Join(tc.changes, " "), strings.Join(changes, " ")); diff != "" {
				t.Errorf("changed settings (-want +got):\n%s", diff)
			}
			if tc.verify != nil {
				tc.verify(t, after)
			}
		})
	}
}
