// Package file is the destination that writes each snapshot to a local file.
package file

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/collectord/collectord/internal/durable"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
)

// Options are the options of a Sink.
type Options struct {
	// Path is the template of the files' paths. Its extension names the
	// format, see snapshot.FormatOf.
	Path *store.Path
	// Setting is the setting that Path came from, for messages; "" means
	// STORE_FILE.
	Setting string
	// Repair replaces escapes that many programs refuse, see
	// snapshot.RepairEscapes.
	Repair bool
	// Parquet returns a snapshot as a Parquet file. Only paths of such files
	// need it.
	Parquet store.ParquetFunc
	// Note, when not nil, receives how a stored file differs from the
	// snapshot.
	Note store.NoteFunc
}

// A Sink writes one file per snapshot.
//
// A file appears or is replaced when all of it is on disk: readers see the old
// file or the new one. See durable.ReplaceFile for modes, owners, symbolic
// links and temporary files.
type Sink struct {
	opts Options
}

// New returns a Sink. It returns an error when the extension of the path names
// no format.
func New(o Options) (*Sink, error) {
	if o.Setting == "" {
		o.Setting = setting
	}
	if _, err := snapshot.FormatOf(o.Path.String()); err != nil {
		return nil, fmt.Errorf("%s: %w", o.Setting, err)
	}
	return &Sink{opts: o}, nil
}

// Name returns "file".
func (s *Sink) Name() string { return Name }

// Close does nothing: a Sink keeps nothing open.
func (s *Sink) Close() error { return nil }

// Write writes the snapshot to the file that the template names. A snapshot
// without records is an empty array, or an empty file in the other formats.
//
// A file whose records are newer by the rule of time, see
// snapshot.IsFromFuture, is not replaced, also if it was written in the meantime, and
// one whose records are of another tenancy is refused.
func (s *Sink) Write(ctx context.Context, snap *snapshot.Snapshot) error {
	target := s.opts.Path.Render(snap.Header)
	r := &replacement{ctx: ctx, sink: s, snap: snap, target: target}
	err := r.look()
	if err == nil && r.place == store.Current {
		err = s.writeTarget(r)
	} else if err == nil {
		err = snap.Verify(ctx)
	}
	if err != nil {
		return store.ExplainFileError(s.opts.Setting, target, err)
	}
	store.ReportPlacement(ctx, s.opts.Note, snap, target, r.place)
	return nil
}

// writeTarget writes the snapshot, unless the file is replaced by a newer one meanwhile.
func (s *Sink) writeTarget(r *replacement) error {
	format, err := snapshot.FormatOf(r.target)
	if err != nil {
		return errors.Join(store.ErrRefused, err)
	}
	if format.Kind == snapshot.Parquet {
		return s.writeParquet(r)
	}
	var escapes int64
	err = durable.ReplaceFileIf(r.target, func(temp *os.File) (err error) {
		w := &writebackWriter{file: temp}
		defer w.pending.Wait()
		escapes, err = r.snap.EncodeForOthers(r.ctx, w, format, s.opts.Repair)
		return err
	}, r.isWanted)
	if err == nil && r.place == store.Current {
		s.passNotes(r.snap, snapshot.DescribeEscapes(escapes, s.opts.Repair))
	}
	return err
}

// passNotes passes notes on to Options.Note, except empty ones.
func (s *Sink) passNotes(snap *snapshot.Snapshot, notes ...string) {
	for _, text := range notes {
		if text != "" && s.opts.Note != nil {
			s.opts.Note(snap, text)
		}
	}
}

// writeParquet is writeTarget for a Parquet file.
func (s *Sink) writeParquet(r *replacement) (err error) {
	encoded, err := s.opts.Parquet(r.ctx, r.snap)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, encoded.Close()) }()
	err = durable.ReplaceFileIf(r.target, func(temp *os.File) error {
		_, err := encoded.WriteTo(temp)
		return err
	}, r.isWanted)
	if err == nil && r.place == store.Current {
		s.passNotes(r.snap, encoded.Notes()...)
	}
	return err
}

// StoresParquet implements store.ParquetStorer.
func (s *Sink) StoresParquet() bool {
	format, err := snapshot.FormatOf(s.opts.Path.String())
	return err == nil && format.Kind == snapshot.Parquet
}

// ReplacesPrevious reports whether each snapshot of a stream replaces the file
// of the one before.
func (s *Sink) ReplacesPrevious() bool { return s.opts.Path.NamesOneObject() }

// HasLost implements store.Keeper. Only a file that each snapshot replaces is expected to
// stay: others may have been moved to where they are kept.
func (s *Sink) HasLost(h snapshot.Header) bool {
	if !s.ReplacesPrevious() {
		return false
	}
	_, err := os.Stat(s.opts.Path.Render(h))
	return errors.Is(err, os.ErrNotExist)
}

// Target implements store.Targeter.
func (s *Sink) Target() string { return s.opts.Path.String() }

// Check reports whether a file can be created in the directory of the target
// or in the nearest directory above it that exists.
func (s *Sink) Check(context.Context) error {
	if name := s.opts.Path.Literal(); name != "" {
		if fi, err := os.Stat(name); err == nil && !fi.Mode().IsRegular() {
			return store.ExplainFileError(s.opts.Setting, name, durable.ErrNotRegular)
		}
	}
	dir := s.opts.Path.Directory()
	if err := durable.ProbeDir(dir); err != nil {
		return store.ExplainFileError(s.opts.Setting, dir, err)
	}
	return nil
}

// writebackBlock is how many bytes are written before the kernel is asked to
// write them to the disk.
const writebackBlock = 2 << 20

// A writebackWriter keeps the disk busy while a file is being written, so that
// the sync at the end has little left to do.
type writebackWriter struct {
	file *os.File
	// written counts the bytes of the file, started those whose writeback has
	// been started.
	written, started int64
	busy             sync.Mutex     // held while a writeback runs
	pending          sync.WaitGroup // writebacks that use file
}

func (w *writebackWriter) Write(b []byte) (int, error) {
	n, err := w.file.Write(b)
	w.written += int64(n)
	if size := w.written - w.started; size >= writebackBlock && w.busy.TryLock() {
		offset := w.started
		w.started = w.written
		w.pending.Go(func() {
			defer w.busy.Unlock()
			startWriteback(w.file, offset, size)
		})
	}
	return n, err
}
