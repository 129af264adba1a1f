package file

import (
	"strings"

	"github.com/collectord/collectord/pkg/config"
	"github.com/collectord/collectord/pkg/store"
)

// Name is the destination's name in messages and metrics.
const Name = "file"

const setting = "STORE_FILE"

// Settings are the settings of the destination.
type Settings struct {
	// Path is a path template; "off" in any case switches the destination
	// off.
	Path string `env:"STORE_FILE" target:"true" envDefault:"../data/source/%TAG/%TENANCY.json" systemd:"source/%TAG/%TENANCY.json" want:"a path with variables such as %TAG, or off" doc:"The file of each stream's newest snapshot; under systemd the default is $STATE_DIRECTORY/source/%TAG/%TENANCY.json."`
}

// On reports whether snapshots are written to files.
func (s *Settings) On() bool {
	return s.Path != "" && !strings.EqualFold(strings.TrimSpace(s.Path), "off")
}

// Validate implements config.Validator.
func (s *Settings) Validate() []error {
	if s.Path != "" && strings.TrimSpace(s.Path) == "" {
		return []error{config.Invalid(setting, "%q is empty: want a path with variables such as %%TAG, or off", s.Path)}
	}
	return nil
}

// LocalDir implements store.LocalSettings.
func (s *Settings) LocalDir() (string, string) {
	if !s.On() {
		return setting, ""
	}
	return setting, store.TemplateDir(setting, s.Path)
}

// SwitchOff implements store.LocalSettings.
func (s *Settings) SwitchOff() { s.Path = "off" }

// Cautions implements store.CautiousSettings.
func (s *Settings) Cautions() []store.Caution {
	if !s.On() {
		return nil
	}
	return store.TenancyCaution(setting, s.Path)
}

// Locations implements store.LocatedSettings.
func (s *Settings) Locations() []store.Location {
	if !s.On() {
		return nil
	}
	return []store.Location{{Setting: setting, Template: s.Path}}
}

// Definition describes the destination.
var Definition = store.Define(store.Info{Name: Name, Title: "Files"}, func(s *Settings, o store.Options) (store.Sink, error) {
	if !s.On() {
		return nil, nil
	}
	path, err := store.ParseTarget(setting, s.Path)
	if err != nil {
		return nil, err
	}
	return New(Options{Path: path, Repair: o.Repair, Parquet: o.Parquet, Note: o.Note})
})
