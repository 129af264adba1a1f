// Package backup keeps a copy of each stream's last-known snapshot in S3, and
// brings it back where it is missing.
//
// Beside each backup lies a small object with the stream's history, so that a
// new machine knows when the data was last good. Its key is that of the
// backup's template up to the folder before the first variable, then
// _history/<stream>/<tenancy>.json: "backup/%TAG/%TENANCY.json" has
// "backup/_history/okta_users/default.json". Programs that read the backups by
// a pattern such as backup/*/*.json do not meet it.
package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/store"
)

// Setting is the name of the setting that says where backups lie.
const Setting = "STORE_AWS_S3_BACKUP"

// ParsePath parses the template of the backups' keys. It must name the same
// object for every snapshot of a stream and another for another stream, and
// its extension must ask for JSON or NDJSON.
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
		return nil, fmt.Errorf("%s: %q: the records' own bytes cannot be restored from Parquet: want a name ending in .json, .jsonl or .ndjson, with .gz or .zst behind it if wanted", Setting, text)
	}
	return p, nil
}

// A Sink is the destination named backup. It is delivered to like the others.
type Sink struct {
	*store.S3
	bucket string
	path   *store.Path
	state  *state.State
	log    *zap.Logger
}

// Name is the destination's name in the queue, in messages and metrics.
const Name = "backup"

// New makes the Sink. o's bucket, encryption and log are used; path comes from
// ParsePath. Without a state no history goes along and only Save restores.
func New(o store.S3Options, path *store.Path, st *state.State, log *zap.Logger) (*Sink, error) {
	o.Name, o.Key, o.Sum = Name, path.Render, true
	s3, err := store.NewS3(o)
	if err != nil {
		return nil, err
	}
	return &Sink{S3: s3, bucket: o.Bucket, path: path, state: st, log: log}, nil
}

// historyKey is the key of the stream's history.
func (s *Sink) historyKey(h snapshot.Header) string {
	// TAG and TENANCY are rendered as in the backup's own key.
	folder := s.path.Folder()
	tail, err := store.ParsePath(Setting, "_history/%TAG/%TENANCY.json")
	if err != nil { // it is constant
		panic(err)
	}
	return path.Join(folder, tail.Render(h))
}

// skewed is how far ahead another machine's clock may be. A backup that is
// further ahead does not keep newer ones out.
const skewed = time.Hour

// Write uploads the snapshot and the stream's history, unless the backup that
// is there is newer: an old snapshot that waited in this machine's queue must
// not replace what another machine has collected since.
func (s *Sink) Write(ctx context.Context, snap *snapshot.Snapshot) error {
	there, err := s.Stat(ctx, s.path.Render(snap.Header))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if taken := takenAt(there); err == nil && taken.After(snap.UploadTimestamp) && taken.Before(time.Now().Add(skewed)) {
		s.log.Warn("the backup is newer than the snapshot and stays", zap.String("stream", snap.Stream),
			zap.String("upload_id", snap.UploadID), zap.Time("taken", snap.UploadTimestamp), zap.Time("backup_taken", taken))
		return snap.Verify(ctx)
	}
	if err := s.S3.Write(ctx, snap); err != nil {
		return err
	}
	return s.writeHistory(ctx, snap.Header)
}

// takenAt is when the data of an object was taken, as far as can be told
// without reading it.
func takenAt(o store.S3Object) time.Time {
	if o.UploadTimestamp.IsZero() {
		return o.Modified
	}
	return o.UploadTimestamp
}
