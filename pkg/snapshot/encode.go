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

// A Kind is the layout of records in a file.
type Kind string

// The kinds.
const (
	// JSON is one array, with one record per line.
	JSON Kind = "json"
	// NDJSON is one record per line.
	NDJSON Kind = "ndjson"
	// Parquet has typed columns. Package parquet writes it.
	Parquet Kind = "parquet"
)

// A Format is the format of a file, which the extensions of its name select.
type Format struct {
	Kind Kind
	// Compression is "", "gzip" or "zstd"; always "" for Parquet, which has
	// compression of its own.
	Compression string
}

// FormatOf returns the format that a file name selects: .json, .jsonl or .ndjson,
// each also with .gz or .zst, and .parquet.
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
		return Format{}, fmt.Errorf("%q: want a name ending in .json, .jsonl or .ndjson, optionally followed by .gz or .zst, or .parquet",
			path.Base(name))
	}
	return f, nil
}

// ContentType returns the media type of the content, regardless of compression.
func (f Format) ContentType() string {
	switch f.Kind {
	case JSON:
		return "application/json"
	case NDJSON:
		return "application/x-ndjson"
	}
	return "application/vnd.apache.parquet"
}

// Encode writes the snapshot's records to w in the format f, JSON or NDJSON. When
// it returns nil the whole snapshot has been verified. Its memory use does not
// grow with the snapshot. A w that implements io.ByteWriter is assumed to buffer
// small writes.
func (s *Snapshot) Encode(ctx context.Context, w io.Writer, f Format) error {
	return compress(w, f.Compression, func(w io.Writer) error {
		return buffer(w, func(w io.Writer) error { return s.encodeKind(ctx, w, f.Kind) })
	})
}

// EncodeForOthers is Encode for files that other programs read. It returns the
// number of records with escapes that many of them refuse, see RepairEscapes. If
// repair is set these are replaced by U+FFFD, which takes half of the bytes.
func (s *Snapshot) EncodeForOthers(ctx context.Context, w io.Writer, f Format, repair bool) (escapes int64, err error) {
	filter := &escapeFilter{repair: repair}
	err = compress(w, f.Compression, func(w io.Writer) error {
		return buffer(w, func(w io.Writer) error {
			filter.out = w
			if err := s.encodeKind(ctx, filter, f.Kind); err != nil {
				return err
			}
			return filter.finish()
		})
	})
	return filter.records, err
}

// compress calls write with a writer that compresses what is written to w.
func compress(w io.Writer, compression string, write func(io.Writer) error) error {
	if compression == "" {
		return write(w)
	}
	packed, err := newCompressor(w, compression)
	if err != nil {
		return err
	}
	if err := write(packed); err != nil {
		return err
	}
	if err := packed.Close(); err != nil {
		return fmt.Errorf("encode snapshot: %w", err)
	}
	return nil
}

// buffer calls write with a writer that buffers small writes to w, unless w does.
// Large blocks are not copied.
func buffer(w io.Writer, write func(io.Writer) error) error {
	if _, ok := w.(io.ByteWriter); ok {
		return write(w)
	}
	out := bufio.NewWriterSize(w, 256<<10)
	if err := write(out); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("encode snapshot: %w", err)
	}
	return nil
}

// encodeKind writes the records in the kind k.
func (s *Snapshot) encodeKind(ctx context.Context, w io.Writer, k Kind) error {
	switch k {
	case JSON:
		return s.encodeArray(ctx, w)
	case NDJSON:
		return s.eachBlock(ctx, func(block []byte) (int, error) {
			return bytes.Count(block, newline), writeAll(w, block)
		})
	}
	return fmt.Errorf("encode snapshot: %s cannot be streamed", k)
}

var newline = []byte("\n")

// eachBlock passes the snapshot's lines to take in blocks, which may end within a
// line. take returns the number of lines that end in the block.
func (s *Snapshot) eachBlock(ctx context.Context, take func(block []byte) (ends int, err error)) (err error) {
	// The SHA-256 at the end finds all damage that the checksums of the frames
	// would, and no record is used before the end.
	r, err := s.newReader(ctx, zstd.IgnoreChecksum(true))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return r.eachBlock(take)
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
	lead := []byte("[\n") // precedes the next byte of a record
	err := s.eachBlock(ctx, func(block []byte) (ends int, err error) {
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

func newCompressor(w io.Writer, name string) (io.WriteCloser, error) {
	if name == "gzip" {
		return gzip.NewWriterLevel(w, gzip.BestSpeed)
	}
	return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedDefault),
		zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true),
		zstd.WithZeroFrames(true)) // an empty file is not valid Zstandard
}
