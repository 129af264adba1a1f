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

// maxDecodedRecord bounds the size of a record in Decode, in bytes. It is the bound
// for collected records.
const maxDecodedRecord = 64 << 20

// Decode reads a file that Encode or another program wrote in the format f, JSON or
// NDJSON, and passes each record to take in order. The record's bytes are valid
// until take returns. Anything but a complete file of JSON objects is an error: a
// truncated file, an HTML page, an array within the array. Memory use depends only
// on the longest record.
func Decode(ctx context.Context, r io.Reader, f Format, take func(record []byte) error) error {
	if f.Kind == Parquet {
		return errors.New("decode: Parquet cannot be restored")
	}
	plain, err := newDecompressor(r, f.Compression)
	if err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	defer plain.Close()
	d := &recordDecoder{in: &limitedReader{r: bufio.NewReaderSize(plain, 256<<10)}, take: take}
	d.Decoder = jsontext.NewDecoder(d.in, lenientJSON...)
	if f.Kind == JSON {
		err = d.decodeArray(ctx)
	} else {
		err = d.decodeLines(ctx)
	}
	if err != nil {
		return fmt.Errorf("decode: record %d: %w", d.n+1, err)
	}
	return nil
}

// A recordDecoder is one call of Decode.
type recordDecoder struct {
	*jsontext.Decoder
	in   *limitedReader
	take func(record []byte) error
	n    int64
}

func (r *recordDecoder) decodeArray(ctx context.Context) error {
	r.in.left = maxDecodedRecord
	switch t, err := r.ReadToken(); {
	case err != nil:
		return explainEarlyEnd(err)
	case t.Kind() != '[':
		return fmt.Errorf("the file starts with %s, want an array of records", t.Kind())
	}
	for r.PeekKind() != ']' {
		if err := r.decodeRecord(ctx); err != nil {
			return explainEarlyEnd(err)
		}
	}
	if _, err := r.ReadToken(); err != nil {
		return explainEarlyEnd(err)
	}
	if _, err := r.ReadToken(); err != io.EOF {
		return errors.New("the file has data after the array")
	}
	return nil
}

func (r *recordDecoder) decodeLines(ctx context.Context) error {
	for {
		if err := r.decodeRecord(ctx); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// decodeRecord reads one record and passes it on.
func (r *recordDecoder) decodeRecord(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r.in.left = maxDecodedRecord
	record, err := r.ReadValue()
	if err != nil {
		return err
	}
	if record.Kind() != '{' {
		return fmt.Errorf("%w: it starts with %.20q", ErrNotObject, []byte(record))
	}
	if err := r.take(record); err != nil {
		return err
	}
	r.n++
	return nil
}

// explainEarlyEnd returns err, with an explanation when the file ended early.
func explainEarlyEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the file ends before its array does: %w", io.ErrUnexpectedEOF)
	}
	return err
}

// A limitedReader returns an error after left bytes.
type limitedReader struct {
	r    io.Reader
	left int
}

func (l *limitedReader) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, fmt.Errorf("it is longer than %d MiB", maxDecodedRecord>>20)
	}
	n, err := l.r.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

func newDecompressor(r io.Reader, name string) (io.ReadCloser, error) {
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
