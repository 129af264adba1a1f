package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/pkg/config"
)

// TestWhichStreamsAreOn checks what COLLECTORS leaves on while the variables of
// crowdstrike, tenable and feed are set.
func TestWhichStreamsAreOn(t *testing.T) {
	const credentials = "FALCON_CLIENT_ID=id;FALCON_SECRET=secret;TIO_ACCESS_KEY=abcd;TIO_SECRET_KEY=efgh"
	const hosts, vulnerabilities, assets, webApps = "crowdstrike_hosts", "crowdstrike_vulnerabilities", "tenable_assets", "tenable_was"
	for _, tt := range []struct {
		value string
		on    []string
		off   map[string]string // the reasons of collectors and streams
		want  []string          // problems
	}{
		{value: "", on: []string{hosts, vulnerabilities, assets, webApps}},
		{value: "tenable,-tenable_was", on: []string{assets}, off: map[string]string{
			"crowdstrike": "COLLECTORS does not name it", "feed": "COLLECTORS does not name it", webApps: "COLLECTORS excludes it",
		}},
		{value: "-tenable_was,tenable", on: []string{assets}, off: map[string]string{webApps: "COLLECTORS excludes it"}},
		{value: " - Tenable_WAS ", on: []string{hosts, vulnerabilities, assets}, off: map[string]string{webApps: "COLLECTORS excludes it"}},
		{value: "-crowdstrike", on: []string{assets, webApps}, off: map[string]string{"crowdstrike": "COLLECTORS excludes it"}},
		{value: "tenable_was", on: []string{webApps}, off: map[string]string{
			assets: "COLLECTORS does not name it", "crowdstrike": "COLLECTORS does not name it",
		}},
		{value: "tenable_was,tenable_was", on: []string{webApps}},
		{value: "tenable_was,tenable", on: []string{assets, webApps}},
		{value: "crowdstrike_hosts,tenable", on: []string{hosts, assets, webApps}},
		{value: "crowdstrike,tenable,-tenable_was,-tenable_assets", on: []string{hosts, vulnerabilities}, off: map[string]string{
			"tenable": "COLLECTORS excludes all of its streams",
		}},
		{value: "-okta_users,-feed", on: []string{hosts, vulnerabilities, assets, webApps}},
		{value: "feed_items", on: []string{"feed_items"}},
		{value: "okta_users", want: []string{"COLLECTORS: okta_users is named, but OKTA_DOMAIN, OKTA_ID and OKTA_TOKEN are not set"}},
		{value: "tenable_was okta_users", want: []string{`COLLECTORS: "tenable_was okta_users" is neither a collector nor a stream: want commas between the names`}},
		{value: "tenable_wsa", want: []string{`COLLECTORS: "tenable_wsa" is neither a collector nor a stream: did you mean tenable_was?`}},
		{value: "-tenable_asets", want: []string{`COLLECTORS: "tenable_asets" is neither a collector nor a stream: did you mean tenable_assets?`}},
		{value: "qualys", want: []string{
			`COLLECTORS: "qualys" is neither a collector nor a stream: want some of crowdstrike, tenable, okta and feed, or their streams`,
		}},
		{value: "-", want: []string{
			`COLLECTORS: "" is neither a collector nor a stream: want some of crowdstrike, tenable, okta and feed, or their streams`,
		}},
		{value: "tenable,-tenable", want: []string{"COLLECTORS: tenable is both named and excluded: keep one of the two"}},
		{value: "tenable_was,-tenable", want: []string{"COLLECTORS: tenable_was is named, but -tenable excludes all streams of tenable: keep one of the two"}},
	} {
		t.Run(tt.value, func(t *testing.T) {
			l := loadSource(t, config.Source{Environ: strings.Split(credentials+";COLLECTORS="+tt.value, ";")})
			if diff := cmp.Diff(tt.want, l.problems); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			if len(tt.want) > 0 {
				return
			}
			var on []string
			off := map[string]string{}
			for _, name := range []string{"crowdstrike", "tenable", "okta", "feed"} {
				off[name] = l.sections[name].Off
				for _, stream := range l.sections[name].Streams {
					off[stream.Name] = stream.Off
					if l.sections[name].Active && stream.Off == "" {
						on = append(on, stream.Name)
					}
				}
			}
			if diff := cmp.Diff(tt.on, on); diff != "" {
				t.Errorf("streams that are on (-want +got):\n%s", diff)
			}
			for name, want := range tt.off {
				if off[name] != want {
					t.Errorf("%s is off because of %q, want %q", name, off[name], want)
				}
			}
		})
	}
}

// TestSchedulesOfStreams checks that a stream can have a schedule of its own, and
// that it is validated.
func TestSchedulesOfStreams(t *testing.T) {
	l := loadWithoutProblems(t, config.Source{Environ: []string{
		"TIO_ACCESS_KEY=abcd", "TIO_SECRET_KEY=efgh", "SCHEDULE_TENABLE=@daily", "SCHEDULE_TENABLE_WAS=@hourly",
	}})
	section := l.sections["tenable"]
	assets, webApps := section.Streams[0].Schedule, section.Streams[1].Schedule
	if section.Schedule.String() != "@daily" || assets.IsSet() || webApps.String() != "@hourly" {
		t.Errorf("schedules %q, %q and %q", section.Schedule, assets, webApps)
	}
	l = loadSource(t, config.Source{Environ: []string{"SCHEDULE_TENABLE_WAS=0 0 30 2 *", "SCHEDULE_TENABLE_ASETS=@hourly"}})
	if len(l.problems) != 1 || !strings.HasPrefix(l.problems[0], `SCHEDULE_TENABLE_WAS: "0 0 30 2 *"`) {
		t.Errorf("problems %q", l.problems)
	}
	if len(l.warnings) != 1 || !strings.HasSuffix(l.warnings[0], "did you mean SCHEDULE_TENABLE_ASSETS?") {
		t.Errorf("warnings %q", l.warnings)
	}
}

// TestMaxAges checks which DATA_MAX_AGE applies to a stream, that it is validated, that
// misspelled names are reported, and that one below the interval is a warning.
func TestMaxAges(t *testing.T) {
	keys := []string{"TIO_ACCESS_KEY=abcd", "TIO_SECRET_KEY=efgh"}
	l := loadWithoutProblems(t, config.Source{Environ: append(keys,
		"DATA_MAX_AGE=2d", "DATA_MAX_AGE_TENABLE=26h", "DATA_MAX_AGE_TENABLE_WAS=8d", "SCHEDULE_TENABLE_WAS=@weekly")})
	section := l.sections["tenable"]
	for i, want := range []struct {
		name   string
		maxAge time.Duration
	}{{"DATA_MAX_AGE_TENABLE", 26 * time.Hour}, {"DATA_MAX_AGE_TENABLE_WAS", 8 * 24 * time.Hour}} {
		name, maxAge := l.MaxAgeOf(section, &section.Streams[i])
		if name != want.name || maxAge != want.maxAge {
			t.Errorf("%s: %s is %v, want %s, %v", section.Streams[i].Name, name, maxAge, want.name, want.maxAge)
		}
	}
	other := l.sections["okta"]
	if name, maxAge := l.MaxAgeOf(other, &config.Stream{Name: "okta_x"}); name != "DATA_MAX_AGE" || maxAge != 48*time.Hour {
		t.Errorf("okta: %s is %v", name, maxAge)
	}
	if len(l.warnings) > 0 {
		t.Errorf("warnings %q", l.warnings)
	}

	l = loadSource(t, config.Source{Environ: append(keys, "DATA_MAX_AGE=1h", "DATA_MAX_AGE_TENABLE_WAS=0s", "DATA_MAX_AGE_TENABLE_ASETS=1d")})
	if len(l.problems) != 1 || !strings.HasPrefix(l.problems[0], `DATA_MAX_AGE_TENABLE_WAS: "0s"`) {
		t.Errorf("problems %q", l.problems)
	}
	want := []string{
		"DATA_MAX_AGE_TENABLE_ASETS (environment): not a setting of collectord: did you mean DATA_MAX_AGE_TENABLE_ASSETS?",
		"DATA_MAX_AGE: 1h0m0s is shorter than the time between two runs of tenable_assets, up to 24h0m0s: its data will be late before the next run",
	}
	if diff := cmp.Diff(want, l.warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

// TestTextfileWithoutDeadline checks that streams of which nothing says when they are late
// are a warning when their metrics go to a file.
func TestTextfileWithoutDeadline(t *testing.T) {
	settings := []string{"TIO_ACCESS_KEY=abcd", "TIO_SECRET_KEY=efgh", "SCHEDULE=off", "SCHEDULE_TENABLE_WAS=@daily"}
	if l := loadWithoutProblems(t, config.Source{Environ: settings}); len(l.warnings) > 0 {
		t.Errorf("warnings %q", l.warnings)
	}
	settings = append(settings, "METRICS_TEXTFILE=/m.prom")
	want := []string{"METRICS_TEXTFILE: no alert notices that the data of tenable_assets is late: set SCHEDULE to the times at which it is collected, or DATA_MAX_AGE"}
	if diff := cmp.Diff(want, loadWithoutProblems(t, config.Source{Environ: settings}).warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
	if l := loadWithoutProblems(t, config.Source{Environ: append(settings, "DATA_MAX_AGE=2d")}); len(l.warnings) > 0 {
		t.Errorf("warnings %q", l.warnings)
	}
}

func TestWithoutStream(t *testing.T) {
	for _, tt := range []struct{ names, want string }{
		{"", "-tenable_was"},
		{"-okta", "-okta,-tenable_was"},
		{"okta,tenable", "okta,tenable,-tenable_was"},
		{"okta,tenable_was", "okta"},
		{"tenable,tenable_was", "tenable,-tenable_was"},
		{"tenable_was", ""},
		{"tenable_was,-okta", ""},
	} {
		var names []string
		if tt.names != "" {
			names = strings.Split(tt.names, ",")
		}
		if got := config.WithoutStream(names, "tenable", "tenable_was"); got != tt.want {
			t.Errorf("%q without tenable_was is %q, want %q", tt.names, got, tt.want)
		}
	}
}
