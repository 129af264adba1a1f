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

// A Reader reads a snapshot's records in order and checks them on the way:
// it says io.EOF only when length, count and sum are those that were sealed,
// so whoever stores what it returned and commits at io.EOF stores the whole
// snapshot.
type Reader struct {
	ctx     context.Context
	s       *Snapshot
	file    *os.File
	sum     hash.Hash
	unpack  *zstd.Decoder
	lines   *bufio.Reader
	long    []byte
	records int64
	bytes   int64
	err     error // why no more is returned
}

// Reader starts reading. It stops with ctx's error when ctx ends.
func (s *Snapshot) Reader(ctx context.Context) (*Reader, error) { return s.reader(ctx) }

func (s *Snapshot) reader(ctx context.Context, more ...zstd.DOption) (*Reader, error) {
	f, err := os.Open(s.Path())
	if err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	r := &Reader{ctx: ctx, s: s, file: f, sum: sha256.New()}
	r.unpack, err = zstd.NewReader(io.TeeReader(f, r.sum), append(more,
		zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		// A damaged file may ask for a window of any size.
		zstd.WithDecoderMaxWindow(8*pageWindow))...)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read snapshot: %w", err), f.Close())
	}
	return r, nil
}

// Next returns the next record without its newline, valid until the next
// call; io.EOF after the last. An error is returned again by later calls.
func (r *Reader) Next() ([]byte, error) {
	if r.err != nil {
		return nil, r.err
	}
	line, err := r.next()
	if err != nil {
		r.err = err
		return nil, err
	}
	r.records++
	r.bytes += int64(len(line))
	return line[:len(line)-1], nil
}

func (r *Reader) next() ([]byte, error) {
	if r.ctx.Err() != nil {
		return nil, context.Cause(r.ctx)
	}
	line, err := r.line()
	if err == nil {
		return line, nil
	}
	return nil, r.ended(len(line) > 0, err)
}

// ended tells why there is no more; open is whether the last record has no
// newline.
func (r *Reader) ended(open bool, err error) error {
	var disk *fs.PathError
	switch {
	case errors.As(err, &disk):
		return fmt.Errorf("read snapshot: %w", err)
	case err != io.EOF:
		return r.damaged("%w", err)
	case open:
		return r.damaged("its last record has no end")
	}
	return r.whole()
}

// line returns the next line with its newline.
func (r *Reader) line() ([]byte, error) {
	if r.lines == nil {
		r.lines = bufio.NewReaderSize(r.unpack, 256<<10)
	}
	part, err := r.lines.ReadSlice('\n')
	if err != bufio.ErrBufferFull {
		return part, err
	}
	r.long = r.long[:0]
	for err == bufio.ErrBufferFull {
		r.long = append(r.long, part...)
		if r.bytes+int64(len(r.long)) > r.s.Bytes {
			return nil, fmt.Errorf("more than the %d bytes that were sealed", r.s.Bytes)
		}
		part, err = r.lines.ReadSlice('\n')
	}
	r.long = append(r.long, part...)
	return r.long, err
}

// each passes all records to take, each with its newline, in blocks that end
// anywhere; take returns how many records end in the block. It takes the place
// of Next, and saves its copy. It returns nil when all that was sealed has been
// passed on.
func (r *Reader) each(take func(block []byte) (ends int, err error)) error {
	b := &blocks{r: r, take: take}
	_, err := r.unpack.WriteTo(b)
	switch {
	case b.err != nil:
		return b.err
	case err == nil:
		err = io.EOF
	}
	if err = r.ended(b.open, err); err == io.EOF {
		return nil
	}
	return err
}

// blocks takes what the decoder unpacks.
type blocks struct {
	r    *Reader
	take func(block []byte) (ends int, err error)
	open bool  // the last block ends within a record
	err  error // why no more is taken
}

func (b *blocks) Write(block []byte) (int, error) {
	b.r.bytes += int64(len(block))
	b.open = block[len(block)-1] != '\n'
	switch {
	case b.r.ctx.Err() != nil:
		b.err = context.Cause(b.r.ctx)
	case b.r.bytes > b.r.s.Bytes:
		b.err = b.r.damaged("more than the %d bytes that were sealed", b.r.s.Bytes)
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

// whole returns io.EOF when all that was sealed has been read.
func (r *Reader) whole() error {
	if _, err := io.Copy(io.Discard, io.TeeReader(r.file, r.sum)); err != nil {
		return fmt.Errorf("read snapshot: %w", err)
	}
	if sum := hex.EncodeToString(r.sum.Sum(nil)); sum != r.s.SHA256 {
		return r.damaged("its SHA-256 is %s, sealed with %s", sum, r.s.SHA256)
	}
	if r.records != r.s.Records || r.bytes != r.s.Bytes {
		return r.damaged("%d records of %d bytes, sealed with %d of %d", r.records, r.bytes, r.s.Records, r.s.Bytes)
	}
	return io.EOF
}

func (r *Reader) damaged(format string, args ...any) error {
	return fmt.Errorf("read snapshot %s: %w: %w", r.s.Path(), ErrDamaged, fmt.Errorf(format, args...))
}

// Close ends the reading.
func (r *Reader) Close() error {
	r.unpack.Close()
	return r.file.Close()
}

// Verify reads the compressed file once and compares its sum with the sealed
// one, for callers that hand the file itself to another program.
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

// contextReader ends a long read when its context ends.
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
