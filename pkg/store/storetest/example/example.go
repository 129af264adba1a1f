// Package example is a small, complete destination: it writes each snapshot as
// a file of one record per line. The document on writing a destination quotes
// it.
package example

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/collectord/collectord/internal/durable"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
)

// Name is the destination's name in messages and metrics.
const Name = "lines"

// format is the format of the files.
var format = snapshot.Format{Kind: snapshot.NDJSON}

// Settings are the settings of the destination.
type Settings struct {
	Dir string `env:"STORE_LINES" want:"a directory" example:"/data/lines" doc:"The directory of the files; if unset, the destination is off."`
}

// Definition describes the destination.
var Definition = store.Define(store.Info{Name: Name, Title: "Lines"}, func(s *Settings, _ store.Options) (store.Sink, error) {
	if s.Dir == "" {
		return nil, nil // off
	}
	return New(Options{Dir: s.Dir})
})

// Options are the options of a Sink.
type Options struct {
	Dir string
}

// A Sink writes one file per stream and tenancy. Each snapshot replaces the file
// of the one before.
type Sink struct {
	opts Options
}

// New returns a Sink. It does no I/O.
func New(o Options) (*Sink, error) { return &Sink{opts: o}, nil }

// Name returns "lines".
func (s *Sink) Name() string { return Name }

// Close does nothing: a Sink keeps nothing open.
func (s *Sink) Close() error { return nil }

// Write writes the snapshot to its file. Readers see the old file or the new
// one, and the file is replaced only after all records were read and verified, and
// unless it has a newer snapshot by then.
func (s *Sink) Write(ctx context.Context, snap *snapshot.Snapshot) error {
	path := s.path(snap.Header)
	place := store.Current
	err := durable.ReplaceFileIf(path, func(temp *os.File) error {
		return snap.Encode(ctx, temp, format)
	}, func() (bool, error) {
		place = placeIncoming(ctx, path, snap.Header)
		return place == store.Current, ctx.Err()
	})
	if err != nil {
		return store.ExplainFileError("STORE_LINES", path, err)
	}
	store.ReportPlacement(ctx, nil, snap, path, place)
	return nil
}

// placeIncoming returns where a snapshot stands compared with the one in the file.
func placeIncoming(ctx context.Context, path string, h snapshot.Header) store.Placement {
	f, err := os.Open(path)
	if err != nil {
		return store.Current
	}
	defer f.Close()
	there, err := snapshot.ReadOrigin(ctx, f, format)
	if err != nil {
		return store.Current
	}
	return store.PlaceIncoming(there.UploadTimestamp, h.UploadTimestamp, time.Now())
}

// Check reports whether files can be created in the directory.
func (s *Sink) Check(context.Context) error {
	if err := durable.ProbeDir(s.opts.Dir); err != nil {
		return store.ExplainFileError("STORE_LINES", s.opts.Dir, err)
	}
	return nil
}

// path returns the path of the file of the stream and tenancy of h.
func (s *Sink) path(h snapshot.Header) string {
	return filepath.Join(s.opts.Dir, store.EscapeName(h.Stream), store.EscapeName(h.Tenancy)+".ndjson")
}
