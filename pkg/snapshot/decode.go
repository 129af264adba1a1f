package snapshot

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxDecoded bounds one record that Decode reads, in bytes: as many as one
// that is collected may have.
const maxDecoded = 64 << 20

// Decode reads what Encode wrote, or another program in the same form, and
// passes each record to take in order; its bytes are valid until take returns.
// f is JSON, one array, or NDJSON. Anything but a whole file of JSON objects
// is an error: a cut end, an error page, an array within the array. Its memory
// grows with the longest record alone.
func Decode(ctx context.Context, r io.Reader, f Format, take func(record []byte) error) error {
	if f.Kind == Parquet {
		return errors.New("decode: Parquet is no form to restore from")
	}
	plain, err := decompressor(r, f.Compression)
	if err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	defer plain.Close()
	d := &decoding{in: &budget{r: bufio.NewReaderSize(plain, 256<<10)}, take: take}
	d.Decoder = jsontext.NewDecoder(d.in, lenient...)
	if f.Kind == JSON {
		err = d.array(ctx)
	} else {
		err = d.records(ctx)
	}
	if err != nil {
		return fmt.Errorf("decode: record %d: %w", d.n+1, err)
	}
	return nil
}

// decoding is the work of one Decode.
type decoding struct {
	*jsontext.Decoder
	in   *budget
	take func(record []byte) error
	n    int64
}

func (d *decoding) array(ctx context.Context) error {
	d.in.left = maxDecoded
	switch t, err := d.ReadToken(); {
	case err != nil:
		return cut(err)
	case t.Kind() != '[':
		return fmt.Errorf("the file starts with %s, want an array of records", t.Kind())
	}
	for d.PeekKind() != ']' {
		if err := d.one(ctx); err != nil {
			return cut(err)
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return cut(err)
	}
	if _, err := d.ReadToken(); err != io.EOF {
		return errors.New("something stands behind the array")
	}
	return nil
}

func (d *decoding) records(ctx context.Context) error {
	for {
		if err := d.one(ctx); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// one reads one record.
func (d *decoding) one(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	d.in.left = maxDecoded
	record, err := d.ReadValue()
	if err != nil {
		return err
	}
	if record.Kind() != '{' {
		return fmt.Errorf("%w: it starts with %.20q", ErrNotObject, []byte(record))
	}
	if err := d.take(record); err != nil {
		return err
	}
	d.n++
	return nil
}

// cut is err, in words where the file ends too early.
func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the file ends before its array does: %w", io.ErrUnexpectedEOF)
	}
	return err
}

// A budget reads no more than left bytes.
type budget struct {
	r    io.Reader
	left int
}

func (b *budget) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("it is longer than %d MiB", maxDecoded>>20)
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

func decompressor(r io.Reader, name string) (io.ReadCloser, error) {
	switch name {
	case "gzip":
		return gzip.NewReader(r)
	case "zstd":
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
	return io.NopCloser(r), nil
}
