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

// placeIncoming returns where snap stands compared with what the file at target
// holds. The error wraps store.ErrRefused when that is of another tenancy.
func (s *Sink) placeIncoming(ctx context.Context, snap *snapshot.Snapshot, target string) (store.Placement, error) {
	there, known := readOrigin(ctx, target)
	if err := ctx.Err(); err != nil {
		return store.Current, context.Cause(ctx)
	}
	if !known || there.UploadID == snap.UploadID {
		return store.Current, nil
	}
	if there.Tenancy != snap.Tenancy {
		return store.Current, fmt.Errorf("%w: the file is of another tenancy and is not replaced by one of %q: put %%TENANCY into %s, or remove the file",
			store.ErrRefused, snap.Tenancy, s.opts.Setting)
	}
	return store.PlaceIncoming(there.UploadTimestamp, snap.UploadTimestamp, time.Now()), nil
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
