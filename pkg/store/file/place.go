package file

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/snapshot/parquet"
	"github.com/collectord/collectord/pkg/store"
)

// A replacement is the replacement of the file at target by a snapshot.
type replacement struct {
	ctx    context.Context
	sink   *Sink
	snap   *snapshot.Snapshot
	target string
	seen   os.FileInfo     // the file that was looked at; nil for none
	place  store.Placement // of snap where that file is
}

// look finds out where the snapshot stands compared with what the file holds. The error
// wraps store.ErrRefused when that is of another tenancy.
func (r *replacement) look() error {
	r.seen, _ = os.Stat(r.target) // without a file there is nothing to compare with
	there, known := readOrigin(r.ctx, r.target)
	if r.ctx.Err() != nil {
		return context.Cause(r.ctx)
	}
	r.place = store.Current
	if !known || there.UploadID == r.snap.UploadID {
		return nil
	}
	if there.Tenancy != r.snap.Tenancy {
		return fmt.Errorf("%w: the file is of another tenancy and is not replaced by one of %q: put %%TENANCY into %s, or remove the file",
			store.ErrRefused, r.snap.Tenancy, r.sink.opts.Setting)
	}
	r.place = store.PlaceIncoming(there.UploadTimestamp, r.snap.UploadTimestamp, time.Now())
	return nil
}

// isWanted reports whether the snapshot may still replace the file, immediately before it
// does. It looks again if another process has written the file since, as when this one
// was suspended for long. The end of the context, such as by the loss of a lock, is an
// error.
func (r *replacement) isWanted() (bool, error) {
	if r.ctx.Err() != nil {
		return false, context.Cause(r.ctx)
	}
	if now, err := os.Stat(r.target); err == nil && !isSameFile(r.seen, now) {
		if err := r.look(); err != nil {
			return false, err
		}
	}
	return r.place == store.Current, nil
}

// isSameFile reports whether the file was neither replaced nor written between two looks.
func isSameFile(before, after os.FileInfo) bool {
	return before != nil && os.SameFile(before, after) && before.ModTime().Equal(after.ModTime()) && before.Size() == after.Size()
}

// readOrigin returns the tenancy, the upload id and the upload timestamp of the
// records in the file at path. known is false when there is no file, when it has
// no records, and when they are not of collectord or cannot be read.
func readOrigin(ctx context.Context, path string) (h snapshot.Header, known bool) {
	fi, err := os.Stat(path)
	if err != nil || !fi.Mode().IsRegular() {
		return h, false
	}
	format, err := snapshot.FormatOf(path)
	if err != nil {
		return h, false
	}
	if format.Kind == snapshot.Parquet {
		h, err = parquet.ReadOrigin(ctx, path)
		return h, err == nil
	}
	f, err := os.Open(path)
	if err != nil {
		return h, false
	}
	h, err = snapshot.ReadOrigin(ctx, f, format)
	return h, errors.Join(err, f.Close()) == nil
}

// PutBack is Write for a snapshot that was restored from a backup. It reports
// whether it wrote the file. It leaves a file that holds the snapshot, and keeps
// the snapshot out where the file holds newer records, or was written by another
// program since the snapshot was taken.
func (s *Sink) PutBack(ctx context.Context, snap *snapshot.Snapshot) (written, keptOut bool, err error) {
	target := s.opts.Path.Render(snap.Header)
	if fi, err := os.Stat(target); err == nil {
		there, known := readOrigin(ctx, target)
		isNewer := !fi.ModTime().Before(snap.UploadTimestamp.Truncate(time.Second))
		switch {
		case known && there.UploadID == snap.UploadID:
			return false, false, nil
		case !known && isNewer:
			return false, true, nil
		}
	}
	var report store.Report
	if err := s.Write(store.WithReport(ctx, &report), snap); err != nil {
		return false, false, err
	}
	return !report.KeptOut(), report.KeptOut(), nil
}
