package shared

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"github.com/collectord/collectord/internal/durable"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/database"
	"github.com/collectord/collectord/pkg/store/s3"
)

const (
	recordsName  = "records.ndjson.zst"
	manifestName = "manifest.json"
	// removalTimeout bounds the removal of the objects of discarded snapshots.
	removalTimeout = time.Minute
	// garbageAge is how old objects must be that no row names: a younger one may be that of a
	// run which is about to be recorded.
	garbageAge = 24 * time.Hour
)

// files are the sealed snapshots in the bucket. A place is the part of the keys of its two
// objects after the prefix; it is used once, by the attempt that made it up. They implement
// [database.Files].
type files struct {
	engine *engine
	bucket *s3.Sink
	prefix string
	dir    string
	cache  *cache
	log    *zap.Logger

	fetches singleflight.Group

	mu        sync.Mutex
	discarded []string
	swept     time.Time // when garbage was last looked for
}

func newFiles(dir string, e *engine, o Options) *files {
	return &files{engine: e, bucket: o.Bucket, prefix: o.Prefix, dir: dir, cache: newCache(dir, o.Cache), log: o.Log}
}

// key returns the key of an object of the snapshot at a place.
func (f *files) key(place, name string) string { return f.prefix + place + "/" + name }

// newPlace returns a new place for a snapshot.
func newPlace(h snapshot.Header) string {
	return filepath.ToSlash(database.SnapshotPlace(h)) + "-" + uuid.NewString()[:8]
}

// Seal implements [database.Files]. The sealed snapshot is in the cache, since it is about to
// be delivered.
func (f *files) Seal(ctx context.Context, w *snapshot.Writer) (*snapshot.Snapshot, string, error) {
	place := newPlace(w.Info().Header)
	dir, err := f.cache.reserve(place)
	if err != nil {
		return nil, "", fmt.Errorf("seal snapshot: %w", err)
	}
	sealed, err := w.Seal(dir)
	if err == nil {
		err = f.upload(ctx, sealed, place)
	}
	if err != nil {
		return nil, "", errors.Join(err, f.Discard(place))
	}
	return sealed, place, nil
}

// upload stores the objects of a sealed snapshot. That of the manifest is last, and reading
// begins with it.
func (f *files) upload(ctx context.Context, sealed *snapshot.Snapshot, place string) error {
	for _, name := range []string{recordsName, manifestName} {
		if err := f.bucket.PutFile(ctx, f.key(place, name), filepath.Join(sealed.Dir(), name)); err != nil {
			return fmt.Errorf("seal snapshot: %w", err)
		}
	}
	return nil
}

// Stage implements [database.Files].
func (f *files) Stage(ctx context.Context, sealed *snapshot.Snapshot, source state.Source) (string, error) {
	place := newPlace(sealed.Header)
	if source == state.Restored {
		place += database.RestoredSuffix
	}
	if err := f.upload(ctx, sealed, place); err != nil {
		return "", errors.Join(err, f.Discard(place))
	}
	return place, nil
}

// Place implements [database.Files]. The objects are there already.
func (f *files) Place(sealed *snapshot.Snapshot, place string) error {
	if _, err := os.Stat(sealed.Dir()); errors.Is(err, fs.ErrNotExist) {
		return nil // the transaction is repeated
	}
	dir, err := f.cache.reserve(place)
	if err != nil {
		return err
	}
	return os.Rename(sealed.Dir(), dir)
}

// Open implements [database.Files].
func (f *files) Open(ctx context.Context, place string) (*snapshot.Snapshot, error) {
	if sealed, err := f.cache.openCopy(place); err == nil || !snapshot.IsUnusable(err) {
		return sealed, err
	}
	opened, err, _ := f.fetches.Do(place, func() (any, error) { return f.fetch(ctx, place) })
	if err != nil {
		return nil, err
	}
	return opened.(*snapshot.Snapshot), nil
}

// fetchPrefix begins the names of the directories of snapshots that are being read, within spool.
const fetchPrefix = ".fetch-"

// fetch copies a snapshot to the cache and verifies it.
func (f *files) fetch(ctx context.Context, place string) (_ *snapshot.Snapshot, err error) {
	// An error of this machine's disk, such as a missing directory, says nothing about the
	// snapshot: it must not wrap fs.ErrNotExist.
	temp := filepath.Join(f.dir, "spool", fetchPrefix+uuid.NewString())
	if err := os.MkdirAll(temp, 0o700); err != nil {
		return nil, fmt.Errorf("read snapshot: STATE_DIR: %v", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	for _, name := range []string{manifestName, recordsName} {
		if err := f.download(ctx, f.key(place, name), filepath.Join(temp, name)); err != nil {
			return nil, fmt.Errorf("read snapshot: %w", err)
		}
	}
	fetched, err := snapshot.Open(temp)
	if err == nil {
		err = fetched.Verify(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("read snapshot %s: %w", f.key(place, ""), err)
	}
	dir, err := f.cache.reserve(place)
	if err == nil {
		err = os.Rename(temp, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("read snapshot: STATE_DIR: %v", err)
	}
	f.cache.trim()
	return snapshot.Open(dir)
}

// download copies an object to a new file.
func (f *files) download(ctx context.Context, key, file string) error {
	body, _, err := f.bucket.Get(ctx, key)
	if err != nil {
		return err
	}
	defer body.Close()
	out, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, body)
	return errors.Join(err, out.Close())
}

// Check implements [database.Files].
func (f *files) Check(ctx context.Context, place string) (snapshot.Info, error) {
	if sealed, err := f.cache.openCopy(place); err == nil {
		return sealed.Info, nil
	}
	key := f.key(place, manifestName)
	body, _, err := f.bucket.Get(ctx, key)
	if err != nil {
		return snapshot.Info{}, err
	}
	defer body.Close()
	text, err := io.ReadAll(io.LimitReader(body, 16<<20))
	if err != nil {
		return snapshot.Info{}, fmt.Errorf("read %s: %w", key, err)
	}
	info, err := snapshot.ParseManifest(key, text)
	if err != nil {
		return snapshot.Info{}, err
	}
	records, err := f.bucket.Stat(ctx, f.key(place, recordsName))
	if err != nil {
		return snapshot.Info{}, err
	}
	if records.Size != info.SpoolBytes {
		return snapshot.Info{}, fmt.Errorf("%s: %w: %d bytes, sealed with %d", records.Key, snapshot.ErrDamaged, records.Size, info.SpoolBytes)
	}
	return info, nil
}

// List implements [database.Files]. A snapshot that was not recorded is garbage: its run is
// repeated.
func (f *files) List([]string, string) ([]string, error) { return nil, nil }

// Discard implements [database.Files]. The objects are removed when the transaction has ended.
func (f *files) Discard(place string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.discarded = append(f.discarded, place)
	return nil
}

// EmptyTrash implements [database.Files].
func (f *files) EmptyTrash() {
	f.mu.Lock()
	places := f.discarded
	f.discarded = nil
	f.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), removalTimeout)
	defer cancel()
	for i, place := range places {
		if err := f.removeUnrecorded(ctx, place); err != nil {
			f.log.Warn("removing the objects of old snapshots failed; the next cleanup tries again", zap.Int("snapshots", len(places)-i), zap.Error(err))
			f.mu.Lock()
			f.discarded = append(f.discarded, places[i:]...)
			f.mu.Unlock()
			break
		}
	}
	database.Directory{Path: f.dir, Log: f.log}.EmptyTrash()
}

// removeUnrecorded removes the objects at a place that no row has: the transaction that
// discarded it may have failed.
func (f *files) removeUnrecorded(ctx context.Context, place string) error {
	var recorded bool
	err := f.engine.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM `+f.engine.name("snapshots")+` WHERE dir = $1)`, place).Scan(&recorded)
	if err != nil || recorded {
		return err
	}
	for _, name := range []string{manifestName, recordsName} {
		if err := f.bucket.Remove(ctx, f.key(place, name)); err != nil {
			return err
		}
	}
	return f.cache.remove(place)
}

// collectGarbage removes the objects that no row has: those of runs that were killed before
// their snapshot was recorded. It looks for them once a day.
func (f *files) collectGarbage(ctx context.Context) error {
	f.cache.trim()
	f.removeOldFetches()
	f.mu.Lock()
	isDue := time.Since(f.swept) >= garbageAge
	f.swept = time.Now()
	f.mu.Unlock()
	if !isDue {
		return nil
	}
	places := map[string]bool{}
	err := f.bucket.List(ctx, f.prefix+"snapshots/", func(o s3.Object) error {
		place := path.Dir(strings.TrimPrefix(o.Key, f.prefix))
		young := time.Since(o.Modified) < garbageAge
		places[place] = young || places[place]
		return nil
	})
	if err != nil {
		return fmt.Errorf("look for objects that are not needed: %w", err)
	}
	for place, young := range places {
		if young {
			continue
		}
		if err := f.removeUnrecorded(ctx, place); err != nil {
			return fmt.Errorf("remove objects that are not needed: %w", err)
		}
	}
	return nil
}

// removeOldFetches removes what killed processes have left of fetches.
func (f *files) removeOldFetches() {
	names, _ := fs.Glob(os.DirFS(f.dir), "spool/"+fetchPrefix+"*")
	for _, name := range names {
		name = filepath.Join(f.dir, name)
		if info, err := os.Stat(name); err == nil && time.Since(info.ModTime()) >= garbageAge {
			_ = os.RemoveAll(name) // it costs disk space until the next attempt
		}
	}
}

// A cache has copies of snapshots on this machine.
type cache struct {
	dir string
	max int64
}

// cacheDir returns the directory of the cache within that of the machine.
func cacheDir(dir string) string { return filepath.Join(dir, "cache") }

func newCache(dir string, maxBytes int64) *cache { return &cache{cacheDir(dir), maxBytes} }

// path returns the directory of a place.
func (c *cache) path(place string) string { return filepath.Join(c.dir, filepath.FromSlash(place)) }

// reserve makes room for a directory at a place and returns its name. What is there is removed.
func (c *cache) reserve(place string) (string, error) {
	dir := c.path(place)
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	return dir, os.MkdirAll(filepath.Dir(dir), 0o700)
}

// openCopy opens the copy at a place. The error wraps fs.ErrNotExist when there is none.
func (c *cache) openCopy(place string) (*snapshot.Snapshot, error) {
	dir := c.path(place)
	sealed, err := snapshot.Open(dir)
	if err == nil {
		now := time.Now()
		err = os.Chtimes(dir, now, now)
	}
	return sealed, err
}

// remove removes the copy at a place.
func (c *cache) remove(place string) error { return os.RemoveAll(c.path(place)) }

// cacheRest is how long a copy stays after its last use, whatever the size of the cache: it may
// be in use.
const cacheRest = 10 * time.Minute

// trim removes the copies that were not used for the longest time, until the others fit in the
// cache.
func (c *cache) trim() {
	type copied struct {
		dir  string
		used time.Time
		size int64
	}
	var all []copied
	var size int64
	dirs, _ := fs.Glob(os.DirFS(c.dir), "snapshots/*/*/*")
	for _, dir := range dirs {
		dir = filepath.Join(c.dir, dir)
		if info, err := os.Stat(dir); err == nil {
			one := copied{dir, info.ModTime(), durable.SizeOf(dir)}
			all, size = append(all, one), size+one.size
		}
	}
	slices.SortFunc(all, func(a, b copied) int { return a.used.Compare(b.used) })
	for _, one := range all {
		if size <= c.max || time.Since(one.used) < cacheRest {
			return
		}
		if os.RemoveAll(one.dir) == nil {
			size -= one.size
		}
	}
}
