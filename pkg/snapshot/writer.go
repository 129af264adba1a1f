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
	"sync"
)

// A Writer spools the records of one extraction and seals them.
type Writer struct {
	dir    string // the folder being written; "" when it is none of ours any more
	header Header
	// line appends a record to its first argument, as it is stored.
	line func(dst, record []byte) ([]byte, Spliced, error)

	mu   sync.Mutex
	file *os.File
	sum  hash.Hash
	info Info
	err  error // the first failed write: the spool is unusable from then on
}

// Create starts a snapshot in the new folder dir, which holds the unsealed
// spool until Seal or Abort. dir's parent must exist and be on the same file
// system as the folder given to Seal.
func Create(dir string, h Header) (*Writer, error) {
	return begin(dir, h, NewSplicer(h).Append)
}

// CreateCopy is Create for records that have been stored before and so have
// the three members already. They must say the same as h, else a page's Append
// fails with ErrForeign.
func CreateCopy(dir string, h Header) (*Writer, error) {
	tail := NewSplicer(h).tail
	return begin(dir, h, copier{h, tail[:len(tail)-1]}.append)
}

func begin(dir string, h Header, line func(dst, record []byte) ([]byte, Spliced, error)) (*Writer, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, recordsName), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("spool: %w", err), os.Remove(dir))
	}
	w := &Writer{dir: dir, header: h, line: line, file: f}
	w.zero()
	return w, nil
}

func (w *Writer) zero() {
	w.sum = sha256.New()
	w.info = Info{Format: manifestFormat, Header: w.header}
}

// Reset drops every page committed so far.
func (w *Writer) Reset() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	w.zero()
	if err := w.file.Truncate(0); err != nil {
		return w.fail(err)
	}
	if _, err := w.file.Seek(0, io.SeekStart); err != nil {
		return w.fail(err)
	}
	return nil
}

// Read returns what the spool holds by now. Its sums are not final.
func (w *Writer) Read() Info {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.info
}

// take appends the finished frames of a page.
func (w *Writer) take(p *Page) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	n, err := p.writeTo(io.MultiWriter(w.file, w.sum))
	if err != nil {
		return w.fail(err)
	}
	w.info.SpoolBytes += n
	w.info.Records += p.records
	w.info.Bytes += p.bytes
	w.info.RenamedMembers += p.renamed
	w.info.RepairedUTF8 += p.repaired
	return nil
}

func (w *Writer) fail(err error) error {
	w.err = fmt.Errorf("spool: %w", err)
	return w.err
}

// Seal makes the spool durable and gives it its place: dir appears whole or
// not at all. After an error the caller must Abort.
func (w *Writer) Seal(dir string) (*Snapshot, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return nil, w.err
	}
	if err := w.seal(dir); err != nil {
		err = fmt.Errorf("seal snapshot: %w", err)
		w.err = err
		return nil, err
	}
	w.dir, w.err = "", errSealed
	return &Snapshot{Info: w.info, dir: dir}, nil
}

func (w *Writer) seal(dir string) error {
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
	if err := syncDir(w.dir); err != nil {
		return err
	}
	if err := os.Rename(w.dir, dir); err != nil {
		return err
	}
	w.dir = dir // what Abort drops if the name does not become durable
	return syncDir(filepath.Dir(dir))
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
	if err := e.Encode(manifest{Info: info, Sum: info.sum()}); err != nil {
		return err
	}
	return f.Sync()
}

// Abort drops the spool and gives its space back. After Seal succeeded it
// does nothing.
func (w *Writer) Abort() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dir == "" {
		return nil
	}
	_ = w.file.Close() // its content is worth nothing from here on
	if err := os.RemoveAll(w.dir); err != nil {
		return fmt.Errorf("drop spool: %w", err)
	}
	w.dir = ""
	if w.err == nil {
		w.err = errDropped
	}
	return nil
}
