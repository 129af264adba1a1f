package snapshot

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// A Kind is how records are laid out in a file.
type Kind string

// The layouts.
const (
	// JSON is one array, a record a line: the form that every JSON reader
	// takes.
	JSON Kind = "json"
	// NDJSON is one record a line and nothing else.
	NDJSON Kind = "ndjson"
	// Parquet has typed columns.
	Parquet Kind = "parquet"
)

// A Format is the form of a file, told by its name's extensions.
type Format struct {
	Kind Kind
	// Compression is "", "gzip" or "zstd". Parquet compresses within.
	Compression string
}

// FormatOf returns the format that a file's name asks for: .json, .jsonl or
// .ndjson, each also with .gz or .zst, and .parquet.
func FormatOf(name string) (Format, error) {
	var f Format
	base := strings.ToLower(path.Base(name))
	switch {
	case strings.HasSuffix(base, ".gz"):
		f.Compression, base = "gzip", strings.TrimSuffix(base, ".gz")
	case strings.HasSuffix(base, ".zst"):
		f.Compression, base = "zstd", strings.TrimSuffix(base, ".zst")
	}
	switch path.Ext(base) {
	case ".json":
		f.Kind = JSON
	case ".jsonl", ".ndjson":
		f.Kind = NDJSON
	case ".parquet":
		f.Kind = Parquet
	}
	if f.Kind == "" || f.Kind == Parquet && f.Compression != "" {
		return Format{}, fmt.Errorf("%q: want a name ending in .json, .jsonl or .ndjson, with .gz or .zst behind it if wanted, or .parquet", path.Base(name))
	}
	return f, nil
}

// ContentType is the format's media type, that of the content under its
// compression.
func (f Format) ContentType() string {
	switch f.Kind {
	case JSON:
		return "application/json"
	case NDJSON:
		return "application/x-ndjson"
	}
	return "application/vnd.apache.parquet"
}

// Encode writes the snapshot's records to w in format f, JSON or NDJSON. The
// whole of the snapshot has been checked when it returns nil. Its memory does
// not grow with the snapshot. A w that is an io.ByteWriter is taken to gather
// small writes itself.
func (s *Snapshot) Encode(ctx context.Context, w io.Writer, f Format) error {
	if f.Compression == "" {
		return s.gathered(ctx, w, f.Kind)
	}
	packed, err := compressor(w, f.Compression)
	if err != nil {
		return err
	}
	if err := s.gathered(ctx, packed, f.Kind); err != nil {
		return err
	}
	if err := packed.Close(); err != nil {
		return fmt.Errorf("encode snapshot: %w", err)
	}
	return nil
}

// gathered joins small writes of a small snapshot's blocks for a w that does
// not; large blocks pass.
func (s *Snapshot) gathered(ctx context.Context, w io.Writer, k Kind) error {
	if _, ok := w.(io.ByteWriter); ok {
		return s.lay(ctx, w, k)
	}
	out := bufio.NewWriterSize(w, 256<<10)
	if err := s.lay(ctx, out, k); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("encode snapshot: %w", err)
	}
	return nil
}

// lay writes the records in the layout k.
func (s *Snapshot) lay(ctx context.Context, w io.Writer, k Kind) error {
	switch k {
	case JSON:
		return s.encodeArray(ctx, w)
	case NDJSON:
		return s.each(ctx, func(block []byte) (int, error) {
			return bytes.Count(block, newline), writeAll(w, block)
		})
	}
	return fmt.Errorf("encode snapshot: %s cannot be streamed", k)
}

var newline = []byte("\n")

// each passes the snapshot's lines to take, in blocks that end anywhere; take
// returns how many lines end in the block.
func (s *Snapshot) each(ctx context.Context, take func(block []byte) (ends int, err error)) (err error) {
	// Nobody acts on a record before the end, where the SHA-256 finds all that
	// the frames' own sums would.
	r, err := s.reader(ctx, zstd.IgnoreChecksum(true))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return r.each(take)
}

func writeAll(w io.Writer, b []byte) error {
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("encode snapshot: %w", err)
	}
	return nil
}

// encodeArray writes one array with a record on each line.
func (s *Snapshot) encodeArray(ctx context.Context, w io.Writer) error {
	comma := []byte(",\n")
	lead := []byte("[\n") // what the next byte of a record comes behind
	err := s.each(ctx, func(block []byte) (ends int, err error) {
		for len(block) > 0 {
			if lead != nil {
				if err := writeAll(w, lead); err != nil {
					return ends, err
				}
				lead = nil
			}
			line, rest, end := bytes.Cut(block, newline)
			if err := writeAll(w, line); err != nil {
				return ends, err
			}
			if end {
				lead = comma
				ends++
			}
			block = rest
		}
		return ends, nil
	})
	if err != nil {
		return err
	}
	if s.Records == 0 {
		return writeAll(w, []byte("[]\n"))
	}
	return writeAll(w, []byte("\n]\n"))
}

func compressor(w io.Writer, name string) (io.WriteCloser, error) {
	if name == "gzip" {
		return gzip.NewWriterLevel(w, gzip.BestSpeed)
	}
	return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedDefault),
		zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true),
		zstd.WithZeroFrames(true)) // nothing is a frame too: an empty file is no zstd
}
