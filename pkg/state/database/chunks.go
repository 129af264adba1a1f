package database

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/collectord/collectord/internal/durable"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// maxChunkAge is how long an export job that a run did not end can be continued:
// the vendors delete its chunks after a day.
const maxChunkAge = 24 * time.Hour

// ExportChunks are the chunks of a stream's export job. A note of the state has the name of the
// job's directory, so that also another machine continues the job. The chunks are kept outside the
// spool, so that the next run on this machine can use them when this one fails or is interrupted.
// The caller holds the stream's lock.
type ExportChunks struct {
	core   *core
	header snapshot.Header
	root   string // directory of the stream and tenancy, relative to the state directory
	dir    string // directory of the job, relative to the state directory
	// isExport reports whether the stream has export jobs, as far as this run knows.
	isExport bool
}

// ExportChunks implements [state.Snapshots].
func (s *Snapshots) ExportChunks(h snapshot.Header) state.ExportChunks {
	return &ExportChunks{core: s.core, header: h, root: filepath.Join("kept", FileName(h.Stream), FileName(h.Tenancy))}
}

// requestPart returns the part of the name of a job's directory that stands for
// its request. It follows the time at which the job began.
func requestPart(request string) string {
	return fmt.Sprintf("-%x-", sha256.Sum256([]byte(request)))[:18] + "-"
}

// Find implements [state.ExportChunks].
func (e *ExportChunks) Find(request string) (job string, err error) {
	name, err := e.findJobDir(request)
	if name == "" || err != nil {
		return "", err
	}
	return url.PathUnescape(name[len(StampLayout)+len(requestPart(request)):])
}

// Others implements [state.ExportChunks].
func (e *ExportChunks) Others(request string) (jobs []string, err error) {
	name, err := e.readJobDir()
	part := requestPart(request)
	if len(name) <= len(StampLayout)+len(part) || name[len(StampLayout):len(StampLayout)+len(part)] == part {
		return nil, err
	}
	if job, err := url.PathUnescape(name[len(StampLayout)+len(part):]); err == nil {
		jobs = append(jobs, job)
	}
	return jobs, err
}

// jobNote is the beginning of the key of the note with the name of the directory of a stream's job.
const jobNote = "export job of "

func (e *ExportChunks) notes() *Notes { return &Notes{e.core, e.header.Tenancy} }

// readJobDir returns the name of the directory of the stream's job; "" for none.
func (e *ExportChunks) readJobDir() (name string, err error) {
	e.isExport = true
	return e.notes().Note(context.Background(), jobNote+e.header.Stream)
}

// storeJobDir stores the name of the directory of the stream's job; "" for none. It waits while the
// database does not respond, and fails when another process may have the stream.
func (e *ExportChunks) storeJobDir(name string) error {
	e.isExport = true
	ctx := context.Background()
	err := e.core.inUrgentTransaction(ctx, func(tx DB) error {
		if err := e.core.fence(ctx, tx, e.header); err != nil {
			return err
		}
		return e.notes().storeNote(ctx, tx, jobNote+e.header.Stream, name)
	})
	if err != nil {
		return fmt.Errorf("note the export job: %w", err)
	}
	return nil
}

// findJobDir returns the name of the directory of a job with the same request that is not too
// old; "" for none.
func (e *ExportChunks) findJobDir(request string) (string, error) {
	name, err := e.readJobDir()
	part := requestPart(request)
	if err != nil || len(name) <= len(StampLayout)+len(part) || name[len(StampLayout):len(StampLayout)+len(part)] != part {
		return "", err
	}
	began, err := time.Parse(StampLayout, name[:len(StampLayout)])
	age := e.header.UploadTimestamp.Sub(began)
	if err != nil || age < 0 || age >= maxChunkAge {
		return "", nil //nolint:nilerr // not a name from Begin
	}
	return name, nil
}

// Begin implements [state.ExportChunks].
func (e *ExportChunks) Begin(request, job string) (int, error) {
	name, err := e.findJobDir(request)
	if err != nil {
		return 0, err
	}
	if name == "" || name[len(StampLayout)+len(requestPart(request)):] != FileName(job) {
		name = e.header.UploadTimestamp.UTC().Format(StampLayout) + requestPart(request) + FileName(job)
		if err := e.storeJobDir(name); err != nil {
			return 0, err
		}
	}
	if err := e.discardExcept(name); err != nil {
		return 0, err
	}
	e.dir = filepath.Join(e.root, name)
	if err := durable.MkdirBelow(e.core.dir, e.dir, 0o700); err != nil {
		return 0, fmt.Errorf("kept chunks: %w", err)
	}
	entries, err := os.ReadDir(filepath.Join(e.core.dir, e.dir))
	if err != nil {
		return 0, fmt.Errorf("kept chunks: %w", err)
	}
	return len(entries), nil
}

// discardExcept discards the chunks of the stream's jobs on this machine, except for those of one.
func (e *ExportChunks) discardExcept(name string) error {
	entries, err := os.ReadDir(filepath.Join(e.core.dir, e.root))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("kept chunks: %w", err)
	}
	for _, entry := range entries {
		if entry.Name() == name {
			continue
		}
		if err := e.core.discard(filepath.Join(e.root, entry.Name())); err != nil {
			return err
		}
	}
	e.core.files.EmptyTrash()
	return nil
}

// ChunkDir implements [state.ExportChunks].
func (e *ExportChunks) ChunkDir(chunk string) string {
	return filepath.Join(e.core.dir, e.dir, FileName(chunk))
}

// CopyTo implements [state.ExportChunks].
func (e *ExportChunks) CopyTo(ctx context.Context, w *snapshot.Writer, chunk string) (records, bytes int64, err error) {
	sealed, err := snapshot.Open(e.ChunkDir(chunk))
	if err == nil {
		records, bytes, err = sealed.CopyTo(ctx, w)
	}
	if state.IsUnusableChunk(err) {
		if err := e.core.discard(filepath.Join(e.dir, FileName(chunk))); err != nil {
			return 0, 0, err
		}
	}
	return records, bytes, err
}

// Drop implements [state.ExportChunks].
func (e *ExportChunks) Drop() error {
	if e.isExport {
		if err := e.storeJobDir(""); err != nil {
			return err
		}
	}
	if _, err := os.Stat(filepath.Join(e.core.dir, e.root)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	err := e.core.discard(e.root)
	e.core.files.EmptyTrash()
	return err
}

// sweepChunks removes chunks that are too old to be used, such as those of a
// collector that was switched off. The job of a run in progress is younger, or
// the vendor has deleted it.
func (s *Snapshots) sweepChunks() error {
	jobs, err := fs.Glob(os.DirFS(s.dir), "kept/*/*/*")
	if err != nil {
		return fmt.Errorf("sweep kept chunks: %w", err)
	}
	for _, job := range jobs {
		name := filepath.Base(job)
		if len(name) < len(StampLayout) {
			continue
		}
		began, err := time.Parse(StampLayout, name[:len(StampLayout)])
		if err != nil || s.now().Sub(began) < maxChunkAge {
			continue
		}
		if err := os.RemoveAll(filepath.Join(s.dir, job)); err != nil {
			return fmt.Errorf("sweep kept chunks: %w", err)
		}
	}
	return nil
}
