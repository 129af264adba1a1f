package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/klauspost/compress/zstd"
)

const (
	// pageFlush is how many bytes of records are gathered before they are
	// compressed: enough to compress well, little enough to stay in the cache.
	pageFlush = 256 << 10
	// pageMemory is how many compressed bytes a page holds in memory before it
	// moves to a file of its own.
	pageMemory = 1 << 20
	// pageWindow is how far back the compression looks.
	pageWindow = 1 << 20
)

// A Page gathers records that are kept together or not at all. It belongs to
// one goroutine.
type Page struct {
	w                 *Writer
	press             *press
	records           int64
	bytes             int64
	renamed, repaired int64

	overflow *os.File // holds the compressed bytes past pageMemory
}

// A press is the working memory of a page, used again by later pages.
type press struct {
	plain   []byte       // records, spliced, not yet compressed
	packed  bytes.Buffer // compressed frames
	encoder *zstd.Encoder
}

var presses = sync.Pool{New: func() any {
	e, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(1),
		zstd.WithLowerEncoderMem(true),
		zstd.WithWindowSize(pageWindow))
	if err != nil { // the options are constant
		panic(err)
	}
	return &press{encoder: e, plain: make([]byte, 0, pageFlush+64<<10)}
}}

var errPageClosed = errors.New("spool: page is closed")

// Page opens a page. Pages open at the same time do not disturb each other.
func (w *Writer) Page() *Page {
	p := &Page{w: w, press: presses.Get().(*press)}
	p.press.plain = p.press.plain[:0]
	p.press.packed.Reset()
	p.press.encoder.Reset(&p.press.packed)
	return p
}

// Append adds one record: a single valid JSON object in the vendor's bytes.
func (p *Page) Append(record []byte) error {
	if p.press == nil {
		return errPageClosed
	}
	before := len(p.press.plain)
	plain, done, err := p.w.line(p.press.plain, record)
	if err != nil {
		return fmt.Errorf("record %d of the page: %w", p.records+1, err)
	}
	p.press.plain = plain
	p.records++
	p.bytes += int64(len(plain) - before)
	if done.Renamed {
		p.renamed++
	}
	if done.Repaired {
		p.repaired++
	}
	if len(plain) < pageFlush {
		return nil
	}
	return p.flush()
}

func (p *Page) flush() error {
	if _, err := p.press.encoder.Write(p.press.plain); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	p.press.plain = p.press.plain[:0]
	if p.press.packed.Len() < pageMemory {
		return nil
	}
	return p.spill()
}

// spill moves the compressed bytes to the page's own file.
func (p *Page) spill() error {
	if p.overflow == nil {
		f, err := os.CreateTemp(p.w.dir, "page-*")
		if err != nil {
			return fmt.Errorf("spool: %w", err)
		}
		// Without a name it cannot outlive the process.
		if err := os.Remove(f.Name()); err != nil {
			return errors.Join(fmt.Errorf("spool: %w", err), f.Close())
		}
		p.overflow = f
	}
	if _, err := p.press.packed.WriteTo(p.overflow); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

// Commit keeps the page.
func (p *Page) Commit() error {
	if p.press == nil {
		return errPageClosed
	}
	defer p.Discard()
	if p.records == 0 {
		return nil
	}
	if err := p.finish(); err != nil {
		return err
	}
	return p.w.take(p)
}

// finish compresses the rest of the page.
func (p *Page) finish() error {
	if err := p.flush(); err != nil {
		return err
	}
	if err := p.press.encoder.Close(); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

// writeTo writes the compressed page to w. It can be written again.
func (p *Page) writeTo(w io.Writer) (int64, error) {
	var n int64
	if p.overflow != nil {
		if _, err := p.overflow.Seek(0, io.SeekStart); err != nil {
			return 0, err
		}
		var err error
		if n, err = io.Copy(w, p.overflow); err != nil {
			return n, err
		}
	}
	m, err := w.Write(p.press.packed.Bytes())
	return n + int64(m), err
}

// Size is what the page holds so far: records, and their bytes as NDJSON.
func (p *Page) Size() (records, bytes int64) { return p.records, p.bytes }

// Discard drops the page. After Commit it does nothing.
func (p *Page) Discard() {
	if p.overflow != nil {
		_ = p.overflow.Close() // it has no name and nobody reads it again
		p.overflow = nil
	}
	if p.press != nil {
		// One huge record must not stay in memory for good.
		if cap(p.press.plain) <= 4*pageFlush && p.press.packed.Cap() <= 4*pageMemory {
			presses.Put(p.press)
		}
		p.press = nil
	}
}
