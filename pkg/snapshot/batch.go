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
	// flushSize is the number of bytes of records that are compressed at once:
	// enough to compress well, few enough to stay in the processor's cache.
	flushSize = 256 << 10
	// maxBuffered is the number of compressed bytes that a batch holds in memory.
	// Beyond it they move to a file.
	maxBuffered = 1 << 20
	// windowSize is the window of the compression, in bytes.
	windowSize = 1 << 20
)

// A Batch is a set of records that the spool keeps whole or not at all. It may be
// used by one goroutine at a time.
type Batch struct {
	w                 *Writer
	buffer            *batchBuffer
	encoder           *zstd.Encoder // nil while no records are compressed
	records           int64
	bytes             int64
	renamed, repaired int64

	overflow *os.File // the compressed bytes beyond maxBuffered; nil while there are none
}

// A batchBuffer has the buffers of a batch. Batches reuse them.
type batchBuffer struct {
	plain  []byte       // records as stored, not yet compressed
	packed bytes.Buffer // compressed frames
}

var batchBuffers = sync.Pool{New: func() any { return &batchBuffer{plain: make([]byte, 0, flushSize+64<<10)} }}

// encoders have more memory than all else of a batch. A batch takes one with its first
// compression, so that small batches that wait for the vendor have none.
var encoders = sync.Pool{New: func() any {
	e, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(1),
		zstd.WithLowerEncoderMem(true),
		zstd.WithWindowSize(windowSize))
	if err != nil { // the options are constant
		panic(err)
	}
	return e
}}

var errBatchClosed = errors.New("spool: batch is closed")

// NewBatch returns a new, empty batch. Several may be open at the same time. Each
// must end with Commit or Discard.
func (w *Writer) NewBatch() *Batch {
	b := &Batch{w: w, buffer: batchBuffers.Get().(*batchBuffer)}
	b.buffer.plain = b.buffer.plain[:0]
	b.buffer.packed.Reset()
	return b
}

// Append adds one record: a single valid JSON object in the vendor's bytes.
func (b *Batch) Append(record []byte) error {
	if b.buffer == nil {
		return errBatchClosed
	}
	before := len(b.buffer.plain)
	plain, done, err := b.w.storeRecord(b.buffer.plain, record)
	if err != nil {
		return fmt.Errorf("record %d of the batch: %w", b.records+1, err)
	}
	b.buffer.plain = plain
	b.records++
	b.bytes += int64(len(plain) - before)
	if done.Renamed {
		b.renamed++
	}
	if done.Repaired {
		b.repaired++
	}
	if len(plain) < flushSize {
		return nil
	}
	return b.compress()
}

// compress compresses the records that are not compressed yet.
func (b *Batch) compress() error {
	if b.encoder == nil {
		b.encoder = encoders.Get().(*zstd.Encoder)
		b.encoder.Reset(&b.buffer.packed)
	}
	if _, err := b.encoder.Write(b.buffer.plain); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	b.buffer.plain = b.buffer.plain[:0]
	if b.buffer.packed.Len() < maxBuffered {
		return nil
	}
	return b.moveToFile()
}

// moveToFile appends the compressed bytes to the batch's file.
func (b *Batch) moveToFile() error {
	if b.overflow == nil {
		f, err := b.w.CreateTemp()
		if err != nil {
			return err
		}
		b.overflow = f
	}
	if _, err := b.buffer.packed.WriteTo(b.overflow); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

// Commit appends the batch to the spool. After an error the spool is as it was
// before, or fails all later calls.
func (b *Batch) Commit() error {
	if b.buffer == nil {
		return errBatchClosed
	}
	defer b.Discard()
	if b.records == 0 {
		return nil
	}
	if err := b.finishFrames(); err != nil {
		return err
	}
	return b.w.appendBatch(b)
}

// finishFrames compresses the remaining records and ends the last frame.
func (b *Batch) finishFrames() error {
	if err := b.compress(); err != nil {
		return err
	}
	if err := b.encoder.Close(); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	b.releaseEncoder()
	return nil
}

// releaseEncoder lets other batches use the encoder.
func (b *Batch) releaseEncoder() {
	if b.encoder != nil {
		b.encoder.Reset(nil) // it must not keep the buffer in memory
		encoders.Put(b.encoder)
		b.encoder = nil
	}
}

// writeFrames writes the compressed batch to w. It may be called more than once.
func (b *Batch) writeFrames(w io.Writer) (int64, error) {
	var n int64
	if b.overflow != nil {
		if _, err := b.overflow.Seek(0, io.SeekStart); err != nil {
			return 0, err
		}
		var err error
		if n, err = io.Copy(w, b.overflow); err != nil {
			return n, err
		}
	}
	m, err := w.Write(b.buffer.packed.Bytes())
	return n + int64(m), err
}

// Size returns the number of records in the batch and their size as NDJSON, in
// bytes.
func (b *Batch) Size() (records, bytes int64) { return b.records, b.bytes }

// Discard drops the batch. After Commit it does nothing.
func (b *Batch) Discard() {
	if b.overflow != nil {
		_ = b.overflow.Close() // the file has no name and is not read again
		b.overflow = nil
	}
	b.releaseEncoder()
	if b.buffer != nil {
		// Buffers that a huge record has grown are not kept.
		if cap(b.buffer.plain) <= 4*flushSize && b.buffer.packed.Cap() <= 4*maxBuffered {
			batchBuffers.Put(b.buffer)
		}
		b.buffer = nil
	}
}
