package snapshot

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/collectord/collectord/internal/durable"
)

// A Writer spools the records of one extraction and seals them as a snapshot. Its
// methods may be called from several goroutines.
type Writer struct {
	dir    string // the directory of the spool; "" after Seal or Abort
	header Header
	// storeRecord appends a record to dst in the form in which it is stored.
	storeRecord func(dst, record []byte) ([]byte, SpliceResult, error)

	mu   sync.Mutex
	file *os.File
	sum  hash.Hash
	info Info
	err  error // the first failed write; all later calls return it
}

// Create starts a snapshot. The new directory dir holds the spool until Seal or
// Abort. Its parent must exist, and be on the same file system as the directory
// that is passed to Seal.
func Create(dir string, h Header) (*Writer, error) {
	return createSpool(dir, h, NewSplicer(h).Append)
}

// CreateCopy is Create for records that were stored before and have the reserved
// members already. Append returns ErrForeign for a record whose members differ
// from h.
func CreateCopy(dir string, h Header) (*Writer, error) {
	tail := NewSplicer(h).tail
	return createSpool(dir, h, storedRecords{header: h, tail: tail[:len(tail)-1]}.appendRecord)
}

// createSpool creates the directory dir with an empty records file.
func createSpool(dir string, h Header, storeRecord func(dst, record []byte) ([]byte, SpliceResult, error)) (*Writer, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, recordsName), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("spool: %w", err), os.Remove(dir))
	}
	w := &Writer{dir: dir, header: h, storeRecord: storeRecord, file: f}
	w.resetInfo()
	return w, nil
}

func (w *Writer) resetInfo() {
	w.sum = sha256.New()
	w.info = Info{Format: manifestFormat, Header: w.header}
}

// Reset drops all batches committed so far.
func (w *Writer) Reset() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	w.resetInfo()
	if err := w.file.Truncate(0); err != nil {
		return w.setFailed(err)
	}
	if _, err := w.file.Seek(0, io.SeekStart); err != nil {
		return w.setFailed(err)
	}
	return nil
}

// SetDoubts sets the doubts that the manifest will have. Reset removes them.
func (w *Writer) SetDoubts(doubts Doubts) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.info.Doubts = slices.Clone(doubts)
}

// Info returns the content of the spool at this moment. SHA256 is empty until
// Seal.
func (w *Writer) Info() Info {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.info
}

// appendBatch appends the frames of a finished batch.
func (w *Writer) appendBatch(b *Batch) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	n, err := b.writeFrames(io.MultiWriter(w.file, w.sum))
	if err != nil {
		return w.setFailed(err)
	}
	w.info.SpoolBytes += n
	w.info.Records += b.records
	w.info.Bytes += b.bytes
	w.info.RenamedMembers += b.renamed
	w.info.RepairedUTF8 += b.repaired
	return nil
}

func (w *Writer) setFailed(err error) error {
	w.err = fmt.Errorf("spool: %w", err)
	return w.err
}

// CreateTemp returns an empty temporary file in the directory of the spool. It has no
// name, and is gone when it is closed or the process ends.
func (w *Writer) CreateTemp() (*os.File, error) {
	f, err := os.CreateTemp(w.dir, "temp-*")
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("spool: %w", err), f.Close())
	}
	return f, nil
}

// Seal syncs the spool and renames it to dir, so that dir appears complete or not
// at all. After an error the caller must call Abort.
func (w *Writer) Seal(dir string) (*Snapshot, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return nil, w.err
	}
	if err := w.sealTo(dir); err != nil {
		err = fmt.Errorf("seal snapshot: %w", err)
		w.err = err
		return nil, err
	}
	w.dir, w.err = "", errSealed
	return &Snapshot{Info: w.info, dir: dir}, nil
}

func (w *Writer) sealTo(dir string) error {
	w.info.SHA256 = hex.EncodeToString(w.sum.Sum(nil))
	if err := w.file.Sync(); err != nil {
		return err
	}
	if err := w.file.Close(); err != nil {
		return err
	}
	if err := writeManifest(filepath.Join(w.dir, manifestName), w.info); err != nil {
		return err
	}
	if err := durable.SyncDir(w.dir); err != nil {
		return err
	}
	if err := os.Rename(w.dir, dir); err != nil {
		return err
	}
	w.dir = dir // Abort removes it if the sync fails
	return durable.SyncDir(filepath.Dir(dir))
}

var (
	errSealed  = errors.New("spool: sealed already")
	errDropped = errors.New("spool: dropped already")
)

func writeManifest(path string, info Info) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	e := json.NewEncoder(f)
	e.SetIndent("", "  ")
	if err := e.Encode(newManifest(info)); err != nil {
		return err
	}
	return f.Sync()
}

// Abort removes the spool. After Seal has succeeded it does nothing.
func (w *Writer) Abort() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dir == "" {
		return nil
	}
	_ = w.file.Close() // the content is dropped
	if err := os.RemoveAll(w.dir); err != nil {
		return fmt.Errorf("drop spool: %w", err)
	}
	w.dir = ""
	if w.err == nil {
		w.err = errDropped
	}
	return nil
}
