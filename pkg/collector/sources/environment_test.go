package sources

import (
	"strings"
	"testing"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/config"
)

// TestEnvironmentSwitchesSourcesOn: the variables of a simulated vendor enable
// its collector, and no other.
func TestEnvironmentSwitchesSourcesOn(t *testing.T) {
	definitions := map[string]collector.Definition{}
	for _, d := range All() {
		definitions[d.Name] = d
	}
	for _, vendor := range vendorsim.AllVendors() {
		t.Run(vendor.Name(), func(t *testing.T) {
			definition, known := definitions[vendor.Name()]
			if !known {
				t.Fatal("no definition of this name")
			}
			environ := append(vendor.Env("https://vendor.test"), "COLLECTORD_TENANCY=t")
			found, err := config.Open(config.Source{Environ: environ, Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			sections := map[string]*config.Section{}
			var list []*config.Section
			for name, d := range definitions {
				sections[name] = &config.Section{Name: name, Title: d.Title, Into: d.Settings(), Collector: true}
				list = append(list, sections[name])
			}
			if _, err := found.Load(new(config.Settings), list...); err != nil {
				for line := range strings.Lines(err.Error()) {
					if !strings.HasPrefix(line, "STORE_") { // destinations are not tested here
						t.Error(line)
					}
				}
			}
			for name, s := range sections {
				if s.Active != (name == vendor.Name()) {
					t.Errorf("%s active: %v, missing %v", name, s.Active, s.Missing)
				}
			}
			c, err := definition.Open(sections[vendor.Name()].Into, collector.Options{Version: "test"})
			if err != nil {
				t.Fatal(err)
			}
			if c.Name != definition.Name || len(c.Streams) != len(definition.Streams) {
				t.Errorf("collector %s has %d streams, its definition has %d", c.Name, len(c.Streams), len(definition.Streams))
			}
			for i, s := range c.Streams {
				if d := definition.Streams[i]; s.Name != d.Name || d.Records == "" || d.PageSize == "" || len(d.Endpoints) == 0 {
					t.Errorf("stream %s is described as %+v", s.Name, d)
				}
			}
			if definition.Title == "" || definition.Docs == "" || definition.Permissions == "" || definition.RateLimit == "" {
				t.Errorf("the definition is incomplete: %+v", definition.Info)
			}
		})
	}
}
