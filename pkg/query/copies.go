package query

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// columnsName is the name of a snapshot's columnar copy for queries in its directory. It is
// removed with the directory. There is none where queries can read the file for
// destinations.
const columnsName = "columns.parquet"

// copies makes the columnar copies of snapshots, those for queries and those for
// destinations, each once.
type copies struct {
	// ctx ends at the end of the engine. A copy is also made to the end when the query
	// that needs it has reached its deadline.
	ctx    context.Context
	cancel context.CancelFunc
	all    sync.WaitGroup
	// slots bounds the copies that are being made at once, whose queries may have
	// reached their deadlines.
	slots chan struct{}

	mu sync.Mutex
	// made has the copies that are being made, and those that could not be put into
	// the directory of their snapshot.
	made map[copyKey]*columnarCopy
	// kept are the functions that remove the latter.
	kept []func()
}

// A copyKey names a copy: one for queries or one for destinations.
type copyKey struct {
	dir     string // of the snapshot
	forFile bool
	file    FileOptions
}

// newCopyKey returns the key of a copy of a snapshot; file is nil for one for queries.
func newCopyKey(source streamSource, file *FileOptions) copyKey {
	if file == nil {
		return copyKey{dir: source.Dir}
	}
	return copyKey{dir: source.Dir, forFile: true, file: *file}
}

// A columnarCopy is a copy that is being made, or was made.
type columnarCopy struct {
	done chan struct{}
	// path, err and ended are set when done is closed.
	path  string
	err   error
	ended time.Time
}

// retryAfter is how long the error of a copy is remembered. Making it again would take
// as long as making it took.
const retryAfter = time.Minute

// isCurrent reports whether the copy is not to be made again.
func (c *columnarCopy) isCurrent() bool {
	select {
	case <-c.done:
		if c.err != nil {
			return time.Since(c.ended) < retryAfter
		}
		_, err := os.Stat(c.path)
		return err == nil
	default:
		return true
	}
}

func newCopies(slots chan struct{}) *copies {
	c := &copies{made: map[copyKey]*columnarCopy{}, slots: slots}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// Close ends the copies that are being made and waits for them.
func (e *Engine) Close() {
	e.bounds.engines.Add(-1)
	c := e.copies
	c.cancel()
	c.all.Wait()
	for _, remove := range c.kept {
		remove()
	}
}

// withColumns returns the source with a columnar copy, which it makes if there is none.
func (e *Engine) withColumns(ctx context.Context, source streamSource) (streamSource, error) {
	if found := withExistingColumns(source); found.Columns != "" {
		return found, nil
	}
	if file := e.files.Load(); file != nil {
		path, d, err := e.fileOf(ctx, source, *file)
		if err == nil && d.View != "" {
			source.Columns, source.View = path, d.View
			return source, nil
		}
		if ctx.Err() != nil {
			return source, err
		}
		// Whatever the reason, a copy for queries alone may be possible.
	}
	var err error
	source.Columns, err = e.waitForCopy(ctx, source, nil)
	return source, err
}

// withExistingColumns returns the source with a columnar copy if there is one.
func withExistingColumns(source streamSource) streamSource {
	if source.Columns = existingCopy(source, nil); source.Columns != "" {
		return source
	}
	path := filepath.Join(source.Dir, fileName)
	if d, err := readDescription(path); err == nil && d.View != "" {
		source.Columns, source.View = path, d.View
	}
	return source
}

// waitForCopy makes a copy of a snapshot, or waits for the one that is being made, and
// returns its path. file is nil for a copy for queries.
func (e *Engine) waitForCopy(ctx context.Context, source streamSource, file *FileOptions) (string, error) {
	made := e.startCopy(source, file)
	select {
	case <-made.done:
		return made.path, made.err
	case <-ctx.Done():
		return "", fmt.Errorf("%w: the columns of %s are still being prepared: try again later", context.Cause(ctx), source.Stream)
	}
}

// existingCopy returns the path of a copy of a snapshot, or "". file is nil for a copy for
// queries.
func existingCopy(source streamSource, file *FileOptions) string {
	if file == nil {
		path := filepath.Join(source.Dir, columnsName)
		if _, err := os.Stat(path); err != nil {
			return ""
		}
		return path
	}
	path := filepath.Join(source.Dir, fileName)
	if d, err := readDescription(path); err != nil || d.Repair != file.Repair {
		return ""
	}
	return path
}

// startCopy returns the copy of a snapshot, and starts it if it is new.
func (e *Engine) startCopy(source streamSource, file *FileOptions) *columnarCopy {
	c, key := e.copies, newCopyKey(source, file)
	c.mu.Lock()
	defer c.mu.Unlock()
	if made := c.made[key]; made != nil && made.isCurrent() {
		return made
	}
	made := &columnarCopy{done: make(chan struct{})}
	if made.path = existingCopy(source, file); made.path != "" { // since the caller looked
		close(made.done)
		return made
	}
	c.made[key] = made
	c.all.Go(func() {
		path, remove, err := e.makeCopy(c.ctx, source, file)
		c.mu.Lock()
		defer c.mu.Unlock()
		made.path, made.err, made.ended = path, err, time.Now()
		switch {
		case remove != nil:
			c.kept = append(c.kept, remove)
		case err == nil || errors.Is(err, errGone):
			delete(c.made, key)
		}
		close(made.done)
	})
	return made
}

// copyTimeout bounds the time of a copy. At 60 MB/s it is sufficient for 100 GB of JSON.
// Without it, records that DuckDB cannot handle would keep a slot for ever.
const copyTimeout = 30 * time.Minute

// makeCopy makes the columnar copy of a snapshot. If it cannot be put into the
// snapshot's directory, such as one of another user, it remains where it was made
// until remove is called. file is nil for a copy for queries.
func (e *Engine) makeCopy(ctx context.Context, source streamSource, file *FileOptions) (path string, remove func(), err error) {
	select {
	case e.copies.slots <- struct{}{}:
		defer func() { <-e.copies.slots }()
	case <-ctx.Done():
		return "", nil, ctx.Err()
	}
	dir, removeDir, err := e.createTaskDir()
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, copyTimeout, fmt.Errorf("it took longer than %v", copyTimeout))
	defer cancel()
	t := task{Kind: copyTask, Dir: dir, Path: filepath.Join(dir, columnsName), Streams: []streamSource{source}, Disk: e.o.Disk, Memory: defaultMemory / 2, lowPriority: e.o.LowPriority || source.background}
	place := placeCopy
	if file == nil {
		_, err = runWorker(ctx, t, defaultMemory, io.Discard)
	} else {
		t.Path, place = filepath.Join(dir, fileName), placeFile
		err = makeFile(ctx, t, *file, e.o.State.Notes(source.Tenancy))
	}
	if err == nil {
		path = filepath.Join(source.Dir, filepath.Base(t.Path))
		err = place(t.Path, path)
	}
	var failed *os.LinkError
	switch {
	case err == nil:
		removeDir()
		return path, nil, nil
	case errors.As(err, &failed) && !errors.Is(err, fs.ErrNotExist):
		return t.Path, removeDir, nil
	}
	removeDir()
	if _, gone := os.Stat(source.Dir); errors.Is(gone, fs.ErrNotExist) {
		err = withKind(errGone, err)
	}
	if file != nil {
		return "", nil, explainFileError(source.Stream, err)
	}
	return "", nil, fmt.Errorf("query: prepare the columns of %s: %w", source.Stream, err)
}

// placeCopy moves a copy into the directory of its snapshot. The owner of that, such as the
// user of a service, owns the copy, also if root has made it.
func placeCopy(from, to string) error {
	if err := os.Chmod(from, 0o600); err != nil {
		return err
	}
	if info, err := os.Stat(filepath.Dir(to)); err == nil && os.Geteuid() == 0 {
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return &os.LinkError{Op: "chown", Old: from, New: to, Err: errors.ErrUnsupported}
		}
		if err := os.Chown(from, int(stat.Uid), int(stat.Gid)); err != nil {
			return &os.LinkError{Op: "chown", Old: from, New: to, Err: err}
		}
	}
	if err := syncFile(from); err != nil {
		return err
	}
	return os.Rename(from, to)
}

// syncFile writes a file to the disk, so that it is complete under its final name also
// after a loss of power.
func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Prepare starts making the columnar copies of the streams' last-known snapshots that
// have none, one after the other, so that queries do not wait for them. failed is called
// for each that cannot be made.
func (e *Engine) Prepare(streams []string, failed func(stream string, err error)) {
	e.copies.all.Go(func() {
		ctx := e.copies.ctx
		for _, stream := range streams {
			sealed, info, err := e.o.State.Snapshots.LastKnown(ctx, stream, e.o.Tenancy)
			if err == nil && sealed.Records > 0 {
				source := e.sourceOf(sealed, info)
				source.background = true
				_, err = e.withColumns(ctx, source)
			}
			if err != nil && ctx.Err() == nil && !errors.Is(err, errGone) {
				failed(stream, err)
			}
		}
	})
}

// sourceOf returns the source of a stream with a snapshot. Its time is that of the data,
// which is later than the snapshot's when the vendor has said since that it has not changed.
func (e *Engine) sourceOf(s *snapshot.Snapshot, info state.LastKnownInfo) streamSource {
	return streamSource{
		Stream: s.Stream, Tenancy: s.Tenancy, UploadID: s.UploadID, Taken: info.DataTime(s.UploadTimestamp), Records: s.Records, Dir: s.Dir(), Optional: e.o.Optional[s.Stream],
		Declared: e.o.Declared[s.Stream],
	}
}
