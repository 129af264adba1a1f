package sources

import (
	"strings"
	"testing"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/config"
)

// TestEnvironmentSwitchesSourcesOn: the variables that name a simulated vendor
// are enough to switch its source on and open it, and nothing else is.
func TestEnvironmentSwitchesSourcesOn(t *testing.T) {
	described := map[string]collector.Source{}
	for _, s := range All() {
		described[s.Name] = s
	}
	for _, vendor := range vendorsim.All() {
		t.Run(vendor.Name(), func(t *testing.T) {
			source, known := described[vendor.Name()]
			if !known {
				t.Fatal("no source of this name")
			}
			environ := append(vendor.Env("https://vendor.test"), "COLLECTORD_TENANCY=t")
			found, err := config.Open(config.Source{Environ: environ, Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			sections := map[string]*config.Section{}
			var list []*config.Section
			for name, s := range described {
				sections[name] = &config.Section{Name: name, Title: s.Title, Into: s.Settings(), Collector: true}
				list = append(list, sections[name])
			}
			if _, err := found.Load(new(config.Settings), list...); err != nil {
				for line := range strings.Lines(err.Error()) {
					if !strings.HasPrefix(line, "STORE_") { // destinations are no matter here
						t.Error(line)
					}
				}
			}
			for name, s := range sections {
				if s.Active != (name == vendor.Name()) {
					t.Errorf("%s active: %v, missing %v", name, s.Active, s.Missing)
				}
			}
			c, err := source.Open(sections[vendor.Name()].Into, collector.Options{Version: "test"})
			if err != nil {
				t.Fatal(err)
			}
			if c.Name != source.Name || len(c.Streams) != len(source.Streams) {
				t.Errorf("collector %s has %d streams, described are %d", c.Name, len(c.Streams), len(source.Streams))
			}
			for i, s := range c.Streams {
				if d := source.Streams[i]; s.Name != d.Name || d.Records == "" || d.PageSize == "" || len(d.Endpoints) == 0 {
					t.Errorf("stream %s is described as %+v", s.Name, d)
				}
			}
			if source.Title == "" || source.Docs == "" || source.Permissions == "" || source.RateLimit == "" {
				t.Errorf("the description has gaps: %+v", source.Info)
			}
		})
	}
}
