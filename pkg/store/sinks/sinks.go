// Package sinks lists the destinations and opens those that are switched on.
package sinks

import (
	"reflect"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/backup"
	"github.com/collectord/collectord/pkg/config"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/duckdb"
	"github.com/collectord/collectord/pkg/store/file"
	"github.com/collectord/collectord/pkg/store/postgres"
	"github.com/collectord/collectord/pkg/store/s3"
)

// Definitions returns the definitions of all destinations, in the order in which they
// are opened and shown. st is where the history in backups comes from; it may
// be nil where no backup is written.
func Definitions(st *state.State) []store.Definition {
	return []store.Definition{
		file.Definition,
		duckdb.Definition,
		postgres.Definition,
		s3.Definition,
		backup.Definition(st),
	}
}

// Names returns the names of all destinations.
func Names() []string {
	var names []string
	for _, d := range Definitions(nil) {
		names = append(names, d.Name)
	}
	return names
}

// Settings returns empty settings of all destinations, for package config to
// fill. Destinations with the same type of settings share one struct.
func Settings() config.Groups {
	var groups config.Groups
	for _, d := range Definitions(nil) {
		into := d.NewSettings()
		if findSettings(groups, into) == nil {
			groups = append(groups, config.Group{Title: d.Title, Into: into})
		}
	}
	return groups
}

// NewSettings returns empty settings of the program, with those of all
// destinations, for package config to fill.
func NewSettings() *config.Settings {
	return &config.Settings{Store: config.Store{Destinations: Settings()}}
}

// findSettings returns the settings in groups that have the type of like, or
// nil.
func findSettings(groups config.Groups, like any) any {
	for _, g := range groups {
		if reflect.TypeOf(g.Into) == reflect.TypeOf(like) {
			return g.Into
		}
	}
	return nil
}

// Open opens the destinations that s switches on. It does no I/O.
// s.Destinations comes from Settings and was filled by package config. st may be nil
// when nothing is written. Of o, the program sets what is no setting. The notes of
// the destinations are logged.
func Open(s config.Store, st *state.State, o store.Options, log *zap.Logger) ([]store.Sink, error) {
	var opened []store.Sink
	for _, d := range Definitions(st) {
		sink, err := openOne(d, s, o, log)
		if err != nil {
			return nil, err
		}
		if sink != nil {
			opened = append(opened, sink)
		}
	}
	return opened, nil
}

// OpenBackup opens the backups without a state: they can be read, and not
// written with a history. It returns nil when s switches backups off.
func OpenBackup(s config.Store, log *zap.Logger) (*backup.Sink, error) {
	sink, err := openOne(backup.Definition(nil), s, store.Options{}, log)
	if sink == nil || err != nil {
		return nil, err
	}
	return sink.(*backup.Sink), nil
}

// OpenBucket returns the bucket of s for other objects than those of the destinations; nil when
// none is set.
func OpenBucket(s config.Store, log *zap.Logger) (*s3.Sink, error) {
	settings, ok := findSettings(s.Destinations, new(s3.Settings)).(*s3.Settings)
	if !ok || settings.Bucket == "" {
		return nil, nil
	}
	o := settings.Options(store.Options{Note: func(s *snapshot.Snapshot, text string) { logNote(log, s, text) }})
	o.Key = func(snapshot.Header) string { return "" }
	return s3.New(o)
}

// IsBackupOff reports whether s switches on S3 without backups.
func IsBackupOff(s config.Store) bool {
	settings, ok := findSettings(s.Destinations, new(s3.Settings)).(*s3.Settings)
	return ok && settings.Bucket != "" && !settings.HasBackup()
}

// openOne opens the destination d, or returns nil when s switches it off.
func openOne(d store.Definition, s config.Store, o store.Options, log *zap.Logger) (store.Sink, error) {
	log = log.With(zap.String("sink", d.Name))
	o.Memory, o.Repair, o.Log = int64(s.DuckDBMemory), s.FileRepair, log
	o.Note = func(s *snapshot.Snapshot, text string) { logNote(log, s, text) }
	return d.Open(findSettings(s.Destinations, d.NewSettings()), o)
}

// logNote logs a note about the snapshot s, which may be nil.
func logNote(log *zap.Logger, s *snapshot.Snapshot, text string) {
	if s != nil {
		log = log.With(zap.String("stream", s.Stream), zap.String("upload_id", s.UploadID))
	}
	log.Warn(text)
}
