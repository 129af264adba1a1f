package records

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
)

// Gunzip returns a reader of the content of a gzip file, of at most maxBytes bytes.
// The file may have several members, one after the other; anything else after
// the end of a member is an error. Each trailer must match the content, so the
// reader must be read up to io.EOF.
func Gunzip(r io.Reader, maxBytes int64) io.Reader {
	return &gzipFile{file: bufio.NewReaderSize(r, 64<<10), maxBytes: maxBytes}
}

// gzipMagic begins each member of a gzip file (RFC 1952, section 2.3.1).
const gzipMagic = "\x1f\x8b"

// GunzipIfNeeded is Gunzip for a file that a server may have decompressed: a file
// that does not begin as a gzip file does is returned as it is.
func GunzipIfNeeded(r io.Reader, maxBytes int64) (io.Reader, error) {
	file := bufio.NewReaderSize(r, 64<<10)
	start, err := file.Peek(2)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if string(start) == gzipMagic {
		return Gunzip(file, maxBytes), nil
	}
	return file, nil
}

type gzipFile struct {
	file     *bufio.Reader
	maxBytes int64
	read     int64
	z        *gzip.Reader
	err      error
}

// Read implements io.Reader. It opens the file at the first call.
func (g *gzipFile) Read(p []byte) (int, error) {
	if g.err == nil && g.z == nil {
		if g.z, g.err = gzip.NewReader(g.file); g.err == nil {
			g.z.Multistream(false)
		}
		g.err = explainGzip(g.err)
	}
	if g.err != nil {
		return 0, g.err
	}
	n, err := g.z.Read(p)
	if g.read += int64(n); g.read > g.maxBytes {
		g.err = formatError(fmt.Errorf("%w: the content of the gzip file has more than %d MiB", ErrTooLong, g.maxBytes>>20))
		return 0, g.err
	}
	switch {
	case err == io.EOF:
		err = g.nextMember()
	case err != nil:
		err = explainGzip(err)
	}
	g.err = err
	return n, err
}

// nextMember begins the next member of the file, and returns io.EOF if there is none.
func (g *gzipFile) nextMember() error {
	start, err := g.file.Peek(2)
	switch {
	case err != nil && err != io.EOF:
		return err
	case len(start) == 0:
		return io.EOF
	case string(start) != gzipMagic:
		return formatErrorf("the gzip data is followed by something else: the file is damaged, or something was appended to it")
	}
	if err := g.z.Reset(g.file); err != nil {
		return explainGzip(err)
	}
	g.z.Multistream(false)
	return nil
}

// explainGzip returns a decoder's error as a FormatError, and any other error,
// which is that of the file's reader, unchanged.
func explainGzip(err error) error {
	var corrupt flate.CorruptInputError
	switch {
	case err == nil:
		return nil
	case err == io.EOF, errors.Is(err, io.ErrUnexpectedEOF):
		return formatErrorf("the gzip file ends early: %w", io.ErrUnexpectedEOF)
	case errors.Is(err, gzip.ErrHeader):
		return formatErrorf("the file is no gzip data")
	case errors.Is(err, gzip.ErrChecksum):
		return formatErrorf("the gzip file is damaged: its content does not match its trailer")
	case errors.As(err, &corrupt):
		return formatErrorf("the gzip file is damaged: %w", err)
	}
	return err
}
