// Package backup keeps a copy of each stream's last-known snapshot in S3, and
// restores it where it is missing.
//
// Each backup has a second, small object with the stream's history, so that a
// new machine knows when collecting last succeeded. Its key is the directory of
// the backup's template before the first variable, then
// _history/<stream>/<tenancy>.json. For the template
// "backup/%TAG/%TENANCY.json" it is "backup/_history/okta_users/default.json".
// Patterns such as backup/*/*.json, by which other programs read the backups,
// do not match it.
package backup

import (
	"context"
	"fmt"
	"path"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/s3"
)

// Setting is the name of the setting that holds the template of the keys.
const Setting = "STORE_AWS_S3_BACKUP"

// ParsePath parses the template of the backups' keys. All snapshots of a stream
// must have the same key, different streams different keys, and the extension
// must be that of JSON or NDJSON.
func ParsePath(text string) (*store.Path, error) {
	p, err := store.ParsePath(Setting, text)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"UUID", "YYYY", "MM", "DD", "hh", "mm", "ss"} {
		if p.Uses(name) {
			return nil, fmt.Errorf("%s: %q has %%%s: a new machine could not know the key: want %%TAG and %%TENANCY alone", Setting, text, name)
		}
	}
	if !p.Uses("TAG") {
		return nil, fmt.Errorf("%s: %q has no %%TAG, so that the streams would overwrite each other", Setting, text)
	}
	format, err := snapshot.FormatOf(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", Setting, err)
	}
	if format.Kind == snapshot.Parquet {
		return nil, fmt.Errorf("%s: %q: the records' own bytes cannot be restored from Parquet: want a name ending in .json, .jsonl or .ndjson, optionally followed by .gz or .zst", Setting, text)
	}
	return p, nil
}

// Name is the destination's name in the queue, in messages and metrics.
const Name = "backup"

// Definition describes the destination. The history in the backups comes from
// st; with a nil st none is written, and only Save restores.
func Definition(st *state.State) store.Definition {
	return store.Define(store.Info{Name: Name, Title: s3.Title}, func(s *s3.Settings, o store.Options) (store.Sink, error) {
		if !s.HasBackup() {
			return nil, nil
		}
		path, err := ParsePath(s.Backup)
		if err != nil {
			return nil, err
		}
		return New(s.Options(o), path, st, o.Log)
	})
}

// A Sink is the destination named backup. Snapshots are delivered to it as to
// the others.
type Sink struct {
	*s3.Sink
	bucket string
	path   *store.Path
	state  *state.State
	log    *zap.Logger
}

// New returns a Sink. path comes from ParsePath; o's Name, Setting, Key,
// KeyTemplate, OneObject, SkipLookup, DatesForeign, Place, Sum and Exact are set by New. With a nil st no
// history is written, and only Save restores.
func New(o s3.Options, path *store.Path, st *state.State, log *zap.Logger) (*Sink, error) {
	o.Name, o.Setting, o.Key, o.Sum, o.Exact = Name, Setting, path.Render, true, true
	o.KeyTemplate, o.OneObject = path.String(), true
	o.SkipLookup, o.DatesForeign, o.Place = false, true, "the backup"
	objects, err := s3.New(o)
	if err != nil {
		return nil, err
	}
	return &Sink{Sink: objects, bucket: o.Bucket, path: path, state: st, log: log}, nil
}

// historyKey returns the key of the stream's history.
func (s *Sink) historyKey(h snapshot.Header) string {
	// TAG and TENANCY are rendered as in the key of the backup.
	directory := s.path.Directory()
	tail, err := store.ParsePath(Setting, "_history/%TAG/%TENANCY.json")
	if err != nil { // the template is constant
		panic(err)
	}
	return path.Join(directory, tail.Render(h))
}

// Write uploads the snapshot and the stream's history, unless the existing backup
// is newer by the rule of time, see snapshot.IsFromFuture: an old snapshot that
// waited in the queue of this machine must not replace what another machine has
// collected since. It refuses to replace the backup of another stream or tenancy.
// A backup that cannot be looked up is replaced: an archived or unreadable one must
// not prevent new ones.
func (s *Sink) Write(ctx context.Context, snap *snapshot.Snapshot) error {
	place, err := s.Store(ctx, snap)
	if err != nil || place != store.Current {
		return err
	}
	return s.writeHistory(ctx, snap)
}
