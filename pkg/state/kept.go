package state

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

	"github.com/collectord/collectord/pkg/snapshot"
)

// keptFor is how long the chunks of a job that was cut off may be used: the
// vendors drop theirs after a day.
const keptFor = 24 * time.Hour

// Kept are the chunks of a stream's export job, kept beside the spool so that
// they outlive the process. The caller holds the collector's lock.
type Kept struct {
	state  *State
	header snapshot.Header
	root   string // of the stream and tenancy, below the state folder
	dir    string // of the job, below the state folder
}

// Kept returns what is kept for the run h of a stream.
func (s *State) Kept(h snapshot.Header) *Kept {
	return &Kept{state: s, header: h, root: filepath.Join("kept", fileName(h.Stream), fileName(h.Tenancy))}
}

// prefix begins the name of the folder of a job, behind the time of its start.
func prefix(asked string) string { return fmt.Sprintf("-%x-", sha256.Sum256([]byte(asked)))[:18] + "-" }

// Find returns the job that was asked for the same and has chunks that are not
// too old; "" when there is none.
func (k *Kept) Find(asked string) (job string, err error) {
	dir, err := k.find(asked)
	if dir == "" || err != nil {
		return "", err
	}
	return url.PathUnescape(dir[len(stampLayout)+len(prefix(asked)):])
}

// find returns the name of the newest folder of a job asked for the same.
func (k *Kept) find(asked string) (string, error) {
	entries, err := os.ReadDir(filepath.Join(k.state.dir, k.root))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("kept chunks: %w", err)
	}
	found, want := "", prefix(asked)
	for _, e := range entries {
		name := e.Name()
		if len(name) <= len(stampLayout)+len(want) || name[len(stampLayout):len(stampLayout)+len(want)] != want {
			continue
		}
		began, err := time.Parse(stampLayout, name[:len(stampLayout)])
		age := k.header.UploadTimestamp.Sub(began)
		if err == nil && age >= 0 && age < keptFor {
			found = name
		}
	}
	return found, nil
}

// Begin says whose chunks follow, drops those of other jobs, and returns how
// many there are of this one.
func (k *Kept) Begin(asked, job string) (int, error) {
	name, err := k.find(asked)
	if err != nil {
		return 0, err
	}
	if name == "" || name[len(stampLayout)+len(prefix(asked)):] != fileName(job) {
		if err := k.Drop(); err != nil {
			return 0, err
		}
		name = k.header.UploadTimestamp.UTC().Format(stampLayout) + prefix(asked) + fileName(job)
	}
	k.dir = filepath.Join(k.root, name)
	if err := mkdirs(k.state.dir, k.dir); err != nil {
		return 0, fmt.Errorf("kept chunks: %w", err)
	}
	entries, err := os.ReadDir(filepath.Join(k.state.dir, k.dir))
	if err != nil {
		return 0, fmt.Errorf("kept chunks: %w", err)
	}
	return len(entries), nil
}

// Path is the folder of a chunk.
func (k *Kept) Path(chunk string) string {
	return filepath.Join(k.state.dir, k.dir, fileName(chunk))
}

// CarryTo adds a chunk to w. One that cannot be used is dropped, and the error
// is one that Unkept tells.
func (k *Kept) CarryTo(ctx context.Context, w *snapshot.Writer, chunk string) (records, bytes int64, err error) {
	page, err := snapshot.Open(k.Path(chunk))
	if err == nil {
		records, bytes, err = page.CarryTo(ctx, w)
	}
	if Unkept(err) {
		if err := k.state.discard(filepath.Join(k.dir, fileName(chunk))); err != nil {
			return 0, 0, err
		}
	}
	return records, bytes, err
}

// Unkept tells that a chunk is not there, or not as it was kept.
func Unkept(err error) bool { return unusable(err) || errors.Is(err, snapshot.ErrForeign) }

// Drop gives the space of all kept chunks of the stream back.
func (k *Kept) Drop() error {
	if _, err := os.Stat(filepath.Join(k.state.dir, k.root)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	err := k.state.discard(k.root)
	k.state.emptyTrash()
	return err
}

// sweepKept removes chunks that are too old to be used, such as those of a
// collector that runs no more. A job of a run that goes on is younger, or the
// vendor has dropped it.
func (s *State) sweepKept() error {
	jobs, err := fs.Glob(os.DirFS(s.dir), "kept/*/*/*")
	if err != nil {
		return fmt.Errorf("sweep kept chunks: %w", err)
	}
	for _, job := range jobs {
		name := filepath.Base(job)
		if len(name) < len(stampLayout) {
			continue
		}
		began, err := time.Parse(stampLayout, name[:len(stampLayout)])
		if err != nil || s.now().Sub(began) < keptFor {
			continue
		}
		if err := os.RemoveAll(filepath.Join(s.dir, job)); err != nil {
			return fmt.Errorf("sweep kept chunks: %w", err)
		}
	}
	return nil
}
