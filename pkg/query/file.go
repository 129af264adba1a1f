package query

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/snapshot/parquet"
	"github.com/collectord/collectord/pkg/state"
)

// A snapshot's Parquet file for destinations is in its directory, beside its description.
const (
	fileName        = "file.parquet"
	descriptionName = "file.json"
)

// FileOptions are those of the Parquet files that destinations store.
type FileOptions struct {
	// Repair replaces escapes that many programs refuse, see snapshot.RepairEscapes.
	Repair bool
	// Memory bounds DuckDB's memory in bytes; 0 is 768 MB.
	Memory int64
}

// A fileDescription describes a Parquet file for destinations. It is complete before the
// file has its name.
type fileDescription struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	// Repair is that of the FileOptions.
	Repair bool     `json:"repair"`
	Notes  []string `json:"notes,omitempty"`
	// View is the SELECT list of the columns for queries; "" when they have a copy of
	// their own.
	View string `json:"view,omitempty"`
	// Types are the types of the stream's files up to this one.
	Types string `json:"types"`
}

// ShareFiles says that destinations store the Parquet files of snapshots, so that queries
// read these where they can; nil says that none does.
func (e *Engine) ShareFiles(o *FileOptions) { e.files.Store(o) }

// A ParquetFile is a snapshot's Parquet file, which is verified and open for reading. It
// must be closed.
type ParquetFile struct {
	file        *os.File
	description fileDescription
}

// Size returns the size of the file in bytes.
func (p *ParquetFile) Size() int64 { return p.description.Size }

// Notes say how the file differs from the records or from earlier files, one sentence each.
func (p *ParquetFile) Notes() []string { return p.description.Notes }

// WriteTo writes the content of the file to w.
func (p *ParquetFile) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, io.NewSectionReader(p.file, 0, p.description.Size))
}

// Close closes the file, which stays with its snapshot.
func (p *ParquetFile) Close() error { return p.file.Close() }

// ParquetFile returns the Parquet file of a snapshot for destinations, which is made if
// there is none. The error wraps snapshot.ErrDamaged when the snapshot cannot be read.
func (e *Engine) ParquetFile(ctx context.Context, s *snapshot.Snapshot) (*ParquetFile, error) {
	var o FileOptions
	if shared := e.files.Load(); shared != nil {
		o = *shared
	}
	source := e.sourceOf(s, state.LastKnownInfo{})
	source.background = true
	path, description, err := e.fileOf(ctx, source, o)
	if err != nil {
		return nil, err
	}
	f, err := openFile(path, description)
	if !errors.Is(err, errChanged) {
		return f, err
	}
	// A file that is damaged, or of another description, is made again.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if path, description, err = e.fileOf(ctx, source, o); err != nil {
		return nil, err
	}
	return openFile(path, description)
}

// errChanged means that a file is not the one that was described.
var errChanged = errors.New("the Parquet file is damaged")

// openFile opens the file at path and verifies it.
func openFile(path string, d fileDescription) (*ParquetFile, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", errChanged, err)
	}
	if err != nil {
		return nil, err
	}
	size, sum, err := sumFile(f)
	if err == nil && (size != d.Size || sum != d.SHA256) {
		err = fmt.Errorf("%w: %s", errChanged, path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &ParquetFile{file: f, description: d}, nil
}

// sumFile returns the size and the hexadecimal SHA-256 of what is in f.
func sumFile(f io.Reader) (size int64, sum string, err error) {
	h := sha256.New()
	size, err = io.Copy(h, f)
	return size, hex.EncodeToString(h.Sum(nil)), err
}

// fileOf returns the path and the description of a snapshot's Parquet file, which it makes
// if there is none.
func (e *Engine) fileOf(ctx context.Context, source streamSource, o FileOptions) (path string, d fileDescription, err error) {
	if path = existingCopy(source, &o); path == "" {
		if path, err = e.waitForCopy(ctx, source, &o); err != nil {
			return "", d, err
		}
	}
	d, err = readDescription(path)
	return path, d, err
}

// readDescription returns the description of the file at path, if that exists.
func readDescription(path string) (d fileDescription, err error) {
	if _, err := os.Stat(path); err != nil {
		return d, err
	}
	text, err := os.ReadFile(describedBy(path))
	if err == nil {
		err = json.Unmarshal(text, &d)
	}
	return d, err
}

// describedBy returns the path of the description of the file at path.
func describedBy(path string) string { return filepath.Join(filepath.Dir(path), descriptionName) }

// describeFile writes the description of a file, in the process that made it.
func describeFile(path string, made *parquet.File, repair bool) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	d := fileDescription{Repair: repair, Notes: made.Notes, View: made.View, Types: made.Types}
	d.Size, d.SHA256, err = sumFile(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	text, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return os.WriteFile(describedBy(path), text, 0o600)
}

// fileOverhead is the memory in bytes that a process that makes a file has beyond DuckDB's.
const fileOverhead = defaultMemory / 2

// A typeMemory remembers the types of streams under their keys, see state.Notes.
type typeMemory interface {
	Note(ctx context.Context, key string) (string, error)
	SwapNote(ctx context.Context, key, old, text string) (swapped bool, err error)
}

// makeFile makes the Parquet file of a snapshot and its description, and remembers its
// types. It starts again when another process has changed these meanwhile.
func makeFile(ctx context.Context, t task, o FileOptions, memory typeMemory) error {
	key := parquet.TypesKey(t.Streams[0].Stream)
	t.Memory = cmp.Or(o.Memory, duckdb.DefaultMemory)
	for {
		types, err := memory.Note(ctx, key)
		if err != nil {
			return err
		}
		t.File = &fileTask{Types: types, Repair: o.Repair}
		_, err = runWorker(ctx, t, t.Memory+fileOverhead, io.Discard)
		if errors.Is(err, ErrMemory) && ctx.Err() == nil {
			t.File.Untyped = true
			_, err = runWorker(ctx, t, t.Memory+fileOverhead, io.Discard)
		}
		if err != nil {
			return err
		}
		made, err := readDescription(t.Path)
		if err != nil || made.Types == types {
			return err
		}
		swapped, err := memory.SwapNote(ctx, key, types, made.Types)
		if err != nil || swapped {
			return err
		}
	}
}

// placeFile moves a file and its description into the directory of the snapshot.
func placeFile(from, to string) error {
	// A file without a description is none, and one with that of another would be wrong.
	if err := os.Remove(to); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := placeCopy(describedBy(from), describedBy(to)); err != nil {
		return err
	}
	return placeCopy(from, to)
}

// explainFileError returns the error of a file that could not be made. Where err is about
// a query, it says why alone.
func explainFileError(stream string, err error) error {
	switch {
	case errors.Is(err, ErrMemory):
		return fmt.Errorf("make the Parquet file of %s: more memory is needed: %s: set STORE_DUCKDB_MEMORY to more, or STORE_FILE or STORE_AWS_S3_KEY to another format",
			stream, strings.TrimPrefix(err.Error(), ErrMemory.Error()+": "))
	case errors.Is(err, ErrNotRun):
		return fmt.Errorf("make the Parquet file of %s: %s", stream, strings.TrimPrefix(err.Error(), ErrNotRun.Error()+": "))
	}
	return fmt.Errorf("make the Parquet file of %s: %w", stream, err)
}
