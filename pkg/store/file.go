package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/collectord/collectord/pkg/snapshot"
)

// FileOptions say how a File works. The zero value is usable.
type FileOptions struct {
	// Setting is the setting that the template came from, for messages; ""
	// is STORE_FILE.
	Setting string
	// Memory bounds DuckDB's memory in bytes where a Parquet file is
	// written; 0 is 768 MB.
	Memory int64
	// Note, when not nil, is told what a stored file says differently from
	// the snapshot, one sentence each.
	Note func(s *snapshot.Snapshot, text string)
}

// A File is the sink that writes a file per snapshot: the name's extension
// says in which form, see snapshot.FormatOf.
//
// A file appears or is replaced by a rename, when all of it is on disk, so
// that readers see the old one or the new one. New files have mode 0640 and
// new folders 0750, both less the umask; a replaced file keeps its mode, and
// its owner where the process may set it. A symbolic link stays, and what it
// points to is replaced.
//
// The content is written beside the target under a name such as
// .users.json.collectord-<pid>-<number>. A crash can leave it behind; the
// next Write to the same target removes it, unless a living process still
// holds it.
type File struct {
	path *Path
	o    FileOptions
}

// NewFile makes a File for the template p. Its extension is checked.
func NewFile(p *Path, o FileOptions) (*File, error) {
	if o.Setting == "" {
		o.Setting = "STORE_FILE"
	}
	if _, err := snapshot.FormatOf(p.String()); err != nil {
		return nil, fmt.Errorf("%s: %w", o.Setting, err)
	}
	return &File{path: p, o: o}, nil
}

// Name returns "file".
func (f *File) Name() string { return "file" }

// Close does nothing: nothing is kept open.
func (f *File) Close() error { return nil }

// Write stores s as the file that the template names. A snapshot without
// records is an empty array, or an empty file of the other forms.
func (f *File) Write(ctx context.Context, s *snapshot.Snapshot) error {
	target := f.path.Render(s.Header)
	if err := f.write(ctx, s, target); err != nil {
		return f.explain(target, err)
	}
	return nil
}

func (f *File) write(ctx context.Context, s *snapshot.Snapshot, target string) error {
	format, err := snapshot.FormatOf(target)
	if err != nil {
		return errors.Join(ErrRefused, err)
	}
	var notes []string
	err = replaceFile(target, func(temp *os.File) error {
		if format.Kind != snapshot.Parquet {
			w := &eagerWriter{file: temp}
			defer w.wait.Wait()
			return s.Encode(ctx, w, format)
		}
		res, err := s.EncodeParquet(ctx, temp.Name(), snapshot.ParquetOptions{Memory: f.o.Memory})
		notes = res.Notes
		return err
	})
	if err != nil {
		return err
	}
	if f.o.Note != nil {
		for _, text := range notes {
			f.o.Note(s, text)
		}
	}
	return nil
}

// writebackBlock is how many bytes are gathered before the disk gets them.
const writebackBlock = 2 << 20

// An eagerWriter keeps the disk busy while a file is being written, so that
// the sync at the end finds little left to do.
type eagerWriter struct {
	file           *os.File
	written, begun int64
	busy           sync.Mutex
	wait           sync.WaitGroup // for the file to be left alone
}

func (w *eagerWriter) Write(b []byte) (int, error) {
	n, err := w.file.Write(b)
	w.written += int64(n)
	if fresh := w.written - w.begun; fresh >= writebackBlock && w.busy.TryLock() {
		offset := w.begun
		w.begun = w.written
		w.wait.Go(func() {
			defer w.busy.Unlock()
			beginWriteback(w.file, offset, fresh)
		})
	}
	return n, err
}

// Stat tells of the file that h's snapshot has. The error is fs.ErrNotExist
// when there is none.
func (f *File) Stat(h snapshot.Header) (fs.FileInfo, error) { return os.Stat(f.path.Render(h)) }

// Current tells that each snapshot of a stream takes the place of the one
// before, since nothing in the template differs between them.
func (f *File) Current() bool {
	for _, variable := range variables {
		if variable != "TAG" && variable != "TENANCY" && f.path.Uses(variable) {
			return false
		}
	}
	return true
}

// Check tries to write beside the nearest folder of the target that exists.
func (f *File) Check(context.Context) error {
	if name := f.path.literal(); name != "" {
		if fi, err := os.Stat(name); err == nil && !fi.Mode().IsRegular() {
			return f.explain(name, errNotFile)
		}
	}
	folder := f.path.Folder()
	if err := probeFolder(folder); err != nil {
		return f.explain(folder, err)
	}
	return nil
}

// explain names the setting and the path, and sorts the error.
func (f *File) explain(path string, err error) error {
	return explainFile(f.o.Setting, path, err)
}

// explainFile tells what can be done about an error of the file system.
func explainFile(setting, path string, err error) error {
	advice := ""
	switch {
	case errors.Is(err, fs.ErrPermission):
		advice = fmt.Sprintf(": give user id %d the right to write there, or change %s", os.Geteuid(), setting)
	case errors.Is(err, syscall.EROFS), errors.Is(err, errNotFile), errors.Is(err, syscall.ENOTDIR),
		errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.ELOOP):
		advice = ": change " + setting
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%s: write %s: %w: free some space there", setting, path, err)
	}
	if advice != "" {
		return fmt.Errorf("%s: write %s: %w: %w%s", setting, path, ErrRefused, err, advice)
	}
	return fmt.Errorf("%s: write %s: %w", setting, path, err)
}

// probeFolder tells whether files can be made in the nearest existing folder
// on the way to dir.
func probeFolder(dir string) error {
	for {
		fi, err := os.Stat(dir)
		if err == nil && !fi.IsDir() {
			return &fs.PathError{Op: "open", Path: dir, Err: syscall.ENOTDIR}
		}
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return err
		}
		dir = parent
	}
	probe, err := os.CreateTemp(dir, ".collectord-check-*")
	if err != nil {
		return err
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}
