package snapshot

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"

	"github.com/klauspost/compress/zstd"
)

// A Reader reads a snapshot's records in order and verifies them: it returns io.EOF
// only when size, count and checksum match the manifest. A caller that commits what
// it has stored at io.EOF has stored the whole snapshot.
type Reader struct {
	ctx      context.Context
	s        *Snapshot
	file     *os.File
	sum      hash.Hash
	decoder  *zstd.Decoder
	buffered *bufio.Reader
	longLine []byte
	records  int64
	bytes    int64
	err      error // returned by all later calls
}

// Reader returns a reader of the records. It fails with the cause of ctx when ctx
// ends.
func (s *Snapshot) Reader(ctx context.Context) (*Reader, error) { return s.newReader(ctx) }

func (s *Snapshot) newReader(ctx context.Context, more ...zstd.DOption) (*Reader, error) {
	f, err := os.Open(s.Path())
	if err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	r := &Reader{ctx: ctx, s: s, file: f, sum: sha256.New()}
	r.decoder, err = zstd.NewReader(io.TeeReader(f, r.sum), append(more,
		zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		// A damaged file may claim a window of any size.
		zstd.WithDecoderMaxWindow(8*windowSize))...)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read snapshot: %w", err), f.Close())
	}
	return r, nil
}

// Next returns the next record without its newline, and io.EOF after the last one.
// The record is valid until the next call. After an error all calls return it.
func (r *Reader) Next() ([]byte, error) {
	if r.err != nil {
		return nil, r.err
	}
	line, err := r.nextLine()
	if err != nil {
		r.err = err
		return nil, err
	}
	r.records++
	r.bytes += int64(len(line))
	return line[:len(line)-1], nil
}

func (r *Reader) nextLine() ([]byte, error) {
	if r.ctx.Err() != nil {
		return nil, context.Cause(r.ctx)
	}
	line, err := r.readLine()
	if err == nil {
		return line, nil
	}
	return nil, r.endError(len(line) > 0, err)
}

// endError returns the error for the end of the file: io.EOF when everything has
// been read. open reports whether the last record has no newline.
func (r *Reader) endError(open bool, err error) error {
	var disk *fs.PathError
	switch {
	case errors.As(err, &disk):
		return fmt.Errorf("read snapshot: %w", err)
	case err != io.EOF:
		return r.damagedError("%w", err)
	case open:
		return r.damagedError("its last record is incomplete")
	}
	return r.checkSeal()
}

// readLine returns the next line, including its newline.
func (r *Reader) readLine() ([]byte, error) {
	if r.buffered == nil {
		r.buffered = bufio.NewReaderSize(r.decoder, 256<<10)
	}
	part, err := r.buffered.ReadSlice('\n')
	if err != bufio.ErrBufferFull {
		return part, err
	}
	r.longLine = r.longLine[:0]
	for err == bufio.ErrBufferFull {
		r.longLine = append(r.longLine, part...)
		if r.bytes+int64(len(r.longLine)) > r.s.Bytes {
			return nil, fmt.Errorf("more than the %d bytes that were sealed", r.s.Bytes)
		}
		part, err = r.buffered.ReadSlice('\n')
	}
	r.longLine = append(r.longLine, part...)
	return r.longLine, err
}

// eachBlock passes all records, each with its newline, to take in blocks, which may
// end within a record. take returns the number of records that end in the block.
// It is used instead of Next and saves a copy. It returns nil when all records
// have been passed on and verified.
func (r *Reader) eachBlock(take func(block []byte) (ends int, err error)) error {
	b := &blockWriter{r: r, take: take}
	_, err := r.decoder.WriteTo(b)
	switch {
	case b.err != nil:
		return b.err
	case err == nil:
		err = io.EOF
	}
	if err = r.endError(b.open, err); err == io.EOF {
		return nil
	}
	return err
}

// A blockWriter receives what the decoder decompresses.
type blockWriter struct {
	r    *Reader
	take func(block []byte) (ends int, err error)
	open bool  // the last block ends within a record
	err  error // returned by Write
}

func (b *blockWriter) Write(block []byte) (int, error) {
	b.r.bytes += int64(len(block))
	b.open = block[len(block)-1] != '\n'
	switch {
	case b.r.ctx.Err() != nil:
		b.err = context.Cause(b.r.ctx)
	case b.r.bytes > b.r.s.Bytes:
		b.err = b.r.damagedError("more than the %d bytes that were sealed", b.r.s.Bytes)
	default:
		var ends int
		ends, b.err = b.take(block)
		b.r.records += int64(ends)
	}
	if b.err != nil {
		return 0, b.err
	}
	return len(block), nil
}

// checkSeal returns io.EOF when size, count and checksum match the manifest.
func (r *Reader) checkSeal() error {
	if _, err := io.Copy(io.Discard, io.TeeReader(r.file, r.sum)); err != nil {
		return fmt.Errorf("read snapshot: %w", err)
	}
	if sum := hex.EncodeToString(r.sum.Sum(nil)); sum != r.s.SHA256 {
		return r.damagedError("its SHA-256 is %s, sealed with %s", sum, r.s.SHA256)
	}
	if r.records != r.s.Records || r.bytes != r.s.Bytes {
		return r.damagedError("%d records of %d bytes, sealed with %d of %d", r.records, r.bytes, r.s.Records, r.s.Bytes)
	}
	return io.EOF
}

func (r *Reader) damagedError(format string, args ...any) error {
	return fmt.Errorf("read snapshot %s: %w: %w", r.s.Path(), ErrDamaged, fmt.Errorf(format, args...))
}

// Close releases the resources of the reader.
func (r *Reader) Close() error {
	r.decoder.Close()
	return r.file.Close()
}

// Verify reads the compressed file and compares its checksum with the manifest, for
// callers that pass the file to another program.
func (s *Snapshot) Verify(ctx context.Context) error {
	f, err := os.Open(s.Path())
	if err != nil {
		return fmt.Errorf("verify snapshot: %w", err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, contextReader{ctx, f}); err != nil {
		return fmt.Errorf("verify snapshot: %w", err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != s.SHA256 {
		return fmt.Errorf("verify snapshot %s: %w: its SHA-256 is %s, sealed with %s", s.Path(), ErrDamaged, got, s.SHA256)
	}
	return nil
}

// A contextReader fails when its context has ended.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
