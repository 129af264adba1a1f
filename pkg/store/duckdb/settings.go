package duckdb

import (
	"strings"
	"time"

	"github.com/collectord/collectord/pkg/config"
	"github.com/collectord/collectord/pkg/store"
)

// Name is the destination's name in messages and metrics.
const Name = "duckdb"

const setting = "STORE_DUCKDB"

// Settings are the settings of the destination.
type Settings struct {
	Path     string        `env:"STORE_DUCKDB" target:"true" want:"a path, or off" example:"../data/collectord.duckdb" doc:"The database file; if unset or off, DuckDB is off."`
	Mode     string        `env:"STORE_DUCKDB_MODE" envDefault:"append" oneof:"append,replace" doc:"Whether a snapshot is added to the tenancy's earlier ones or replaces them."`
	Views    string        `env:"STORE_DUCKDB_VIEWS" envDefault:"on" oneof:"on,typed,off" doc:"Whether the views <stream>_latest of the newest snapshots are created; typed adds <stream>_latest_typed with a column for each member, off leaves existing views <stream>_latest as they are."`
	Keep     config.Keep   `env:"STORE_DUCKDB_KEEP" doc:"How many snapshots of a tenancy to keep, or for how long."`
	LockWait time.Duration `env:"STORE_DUCKDB_LOCK_WAIT" envDefault:"30s" doc:"How long to wait for another process that has the file open."`
}

// isOn reports whether the destination is switched on.
func (s *Settings) isOn() bool {
	return s.Path != "" && !strings.EqualFold(strings.TrimSpace(s.Path), "off")
}

// LocalDir implements store.LocalSettings.
func (s *Settings) LocalDir() (string, string) {
	if !s.isOn() {
		return setting, ""
	}
	return setting, store.TemplateDir(setting, s.Path)
}

// SwitchOff implements store.LocalSettings.
func (s *Settings) SwitchOff() { s.Path = "off" }

// Cautions implements store.CautiousSettings.
func (s *Settings) Cautions() []store.Caution {
	_, dir := s.LocalDir()
	if dir == "" {
		return nil
	}
	return store.NetworkCaution(setting, dir)
}

// Locations implements store.LocatedSettings.
func (s *Settings) Locations() []store.Location {
	if !s.isOn() {
		return nil
	}
	return []store.Location{{Setting: setting, Template: s.Path, IsDatabase: true}}
}

// Definition describes the destination.
var Definition = store.Define(store.Info{Name: Name, Title: "DuckDB"}, func(s *Settings, o store.Options) (store.Sink, error) {
	if !s.isOn() {
		return nil, nil
	}
	path, err := store.ParsePath(setting, s.Path)
	if err != nil {
		return nil, err
	}
	return New(Options{
		Path: path, Retention: store.RetentionOf(s.Mode, store.Retention(s.Keep)),
		Views: s.Views, Memory: o.Memory, LockWait: s.LockWait, Declared: o.Declared, Note: o.Note,
	})
})
