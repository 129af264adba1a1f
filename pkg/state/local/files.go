package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/collectord/collectord/internal/durable"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/database"
)

// files are the sealed snapshots of a state directory, each in a directory of its own. A place
// is its name relative to the state directory. They implement [database.Files].
type files struct{ *core }

// Seal implements [database.Files].
func (f files) Seal(_ context.Context, w *snapshot.Writer) (*snapshot.Snapshot, string, error) {
	place := database.SnapshotPlace(w.Info().Header)
	if err := durable.MkdirBelow(f.dir, filepath.Dir(place), 0o700); err != nil {
		return nil, "", fmt.Errorf("seal snapshot: %w", err)
	}
	sealed, err := w.Seal(filepath.Join(f.dir, place))
	if err != nil {
		// The directory may be in place, if only the last sync failed.
		return nil, "", errors.Join(err, f.Discard(place))
	}
	return sealed, place, nil
}

// Stage implements [database.Files].
func (f files) Stage(_ context.Context, sealed *snapshot.Snapshot, source state.Source) (string, error) {
	place := database.SnapshotPlace(sealed.Header)
	if source == state.Restored {
		place += database.RestoredSuffix
	}
	return place, durable.MkdirBelow(f.dir, filepath.Dir(place), 0o700)
}

// Place implements [database.Files].
func (f files) Place(sealed *snapshot.Snapshot, place string) error {
	if err := f.Discard(place); err != nil { // a leftover of the same name
		return err
	}
	path := filepath.Join(f.dir, place)
	if err := os.Rename(sealed.Dir(), path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

// Unstage implements [database.Files]. A place does not exist before Place, and Recover deals
// with files that are not recorded.
func (files) Unstage(string) error { return nil }

// OpenVerified implements [database.Files].
func (f files) OpenVerified(ctx context.Context, place string) (*snapshot.Snapshot, error) {
	sealed, err := f.Open(ctx, place)
	if err != nil {
		return nil, err
	}
	return sealed, sealed.Verify(ctx)
}

// Open implements [database.Files].
func (f files) Open(_ context.Context, place string) (*snapshot.Snapshot, error) {
	return snapshot.Open(filepath.Join(f.dir, place))
}

// Check implements [database.Files].
func (f files) Check(ctx context.Context, place string) (snapshot.Info, error) {
	sealed, err := f.Open(ctx, place)
	if err != nil {
		return snapshot.Info{}, err
	}
	return sealed.Info, nil
}

// List implements [database.Files]. Without streams it returns the places of all collectors
// and tenancies, since a directory does not say whose it is.
func (f files) List(streams []string, tenancy string) (places []string, err error) {
	patterns := []string{"snapshots/*/*/*"}
	if len(streams) > 0 {
		patterns = nil
	}
	for _, stream := range streams {
		patterns = append(patterns, filepath.ToSlash(database.StreamPlace(stream, tenancy))+"/*")
	}
	for _, pattern := range patterns {
		found, err := fs.Glob(os.DirFS(f.dir), pattern)
		if err != nil {
			return nil, err
		}
		for _, place := range found {
			places = append(places, filepath.FromSlash(place))
		}
	}
	return places, nil
}

// directory returns the state directory.
func (c *core) directory() database.Directory {
	return database.Directory{Path: c.dir, Log: c.log}
}

// Discard implements [database.Files].
func (f files) Discard(place string) error { return f.directory().Discard(place) }

// EmptyTrash implements [database.Files]. The space that it frees is used first to have the
// reserve again.
func (f files) EmptyTrash() {
	f.directory().EmptyTrash()
	f.keepReserve()
}
