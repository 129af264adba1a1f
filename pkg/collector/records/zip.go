package records

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math"
	"os"
	"strings"

	"github.com/klauspost/compress/flate"
)

// A ZIP is an archive on the disk. Its directory is read entry by entry, so that
// the memory does not depend on the number of entries.
type ZIP struct {
	file      *os.File
	size      int64
	directory zipDirectory
}

// zipDirectory says where the directory of an archive is and how many entries it
// declares.
type zipDirectory struct {
	entries, size, offset int64
}

// An Entry is one file in an archive.
type Entry struct {
	Name string
	// Size is the declared number of bytes of the content, which is checked.
	Size int64

	method       uint16
	checksum     uint32
	packed       int64 // number of compressed bytes
	headerOffset int64
}

// Signatures and lengths of the parts of an archive, without their variable ends.
const (
	localSignature     = 0x04034b50
	entrySignature     = 0x02014b50
	endSignature       = 0x06054b50
	end64Signature     = 0x06064b50
	locator64Signature = 0x07064b50

	localLength     = 30
	entryLength     = 46
	endLength       = 22
	end64Length     = 56
	locator64Length = 20
	maxComment      = math.MaxUint16
)

const (
	methodStored   = 0
	methodDeflated = 8
	flagEncrypted  = 1 << 0
	extraZIP64     = 1
)

// OpenZIP finds the directory of the archive in file, which stays the caller's.
func OpenZIP(file *os.File) (*ZIP, error) {
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	directory, end, err := findZIPDirectory(file, size)
	if err != nil {
		return nil, err
	}
	if directory.offset < 0 || directory.size < 0 || directory.entries < 0 || directory.offset+directory.size != end {
		return nil, formatErrorf("the ZIP archive is damaged: its directory of %d bytes at %d does not end at %d", directory.size, directory.offset, end)
	}
	return &ZIP{file: file, size: size, directory: directory}, nil
}

// Entries returns the number of entries that the archive declares, directories
// included.
func (z *ZIP) Entries() int64 { return z.directory.entries }

// findZIPDirectory reads the end of an archive. It returns the directory and where
// it must end.
func findZIPDirectory(file io.ReaderAt, size int64) (d zipDirectory, end int64, err error) {
	tail := make([]byte, min(size, endLength+maxComment))
	if _, err := file.ReadAt(tail, size-int64(len(tail))); err != nil && err != io.EOF {
		return d, 0, err
	}
	at := findZIPEnd(tail)
	switch {
	case size == 0:
		return d, 0, formatErrorf("the file is empty, want a ZIP archive")
	case at < 0:
		return d, 0, formatErrorf("the file of %d bytes does not end as a ZIP archive does: %s", size, excerpt(string(tail[:min(len(tail), 200)])))
	}
	end = size - int64(len(tail)-at)
	fields := tail[at:]
	if binary.LittleEndian.Uint32(fields[4:]) != 0 {
		return d, 0, formatErrorf("the ZIP archive has several parts, want one")
	}
	d = zipDirectory{
		entries: int64(binary.LittleEndian.Uint16(fields[10:])),
		size:    int64(binary.LittleEndian.Uint32(fields[12:])),
		offset:  int64(binary.LittleEndian.Uint32(fields[16:])),
	}
	if d.entries != math.MaxUint16 && d.size != math.MaxUint32 && d.offset != math.MaxUint32 {
		return d, end, nil
	}
	return findZIP64Directory(file, d, end)
}

// findZIPEnd returns where the record at the end of the archive begins; -1 if
// there is none. Its comment must end with the file.
func findZIPEnd(tail []byte) int {
	for at := len(tail) - endLength; at >= 0; at-- {
		if binary.LittleEndian.Uint32(tail[at:]) == endSignature &&
			at+endLength+int(binary.LittleEndian.Uint16(tail[at+20:])) == len(tail) {
			return at
		}
	}
	return -1
}

// findZIP64Directory reads the numbers that are too large for the end record. An
// archive whose numbers just fit has no such record.
func findZIP64Directory(file io.ReaderAt, plain zipDirectory, end int64) (zipDirectory, int64, error) {
	locator := make([]byte, locator64Length)
	if end < locator64Length {
		return plain, end, nil
	}
	if _, err := file.ReadAt(locator, end-locator64Length); err != nil {
		return plain, 0, err
	}
	if binary.LittleEndian.Uint32(locator) != locator64Signature {
		return plain, end, nil
	}
	at := int64(binary.LittleEndian.Uint64(locator[8:]))
	if at < 0 || at > end-locator64Length-end64Length {
		return plain, 0, formatErrorf("the ZIP archive is damaged: its ZIP64 record is not where it should be")
	}
	fields := make([]byte, end64Length)
	if _, err := file.ReadAt(fields, at); err != nil {
		return plain, 0, err
	}
	if binary.LittleEndian.Uint32(fields) != end64Signature {
		return plain, 0, formatErrorf("the ZIP archive is damaged: its ZIP64 record is not where it should be")
	}
	return zipDirectory{
		entries: int64(binary.LittleEndian.Uint64(fields[32:])),
		size:    int64(binary.LittleEndian.Uint64(fields[40:])),
		offset:  int64(binary.LittleEndian.Uint64(fields[48:])),
	}, at, nil
}

// Each calls each with every entry that is a file, in the order of the directory,
// and with a reader of its content, and returns their number. The content is
// checked against its declared length and checksum also where each does not
// read it. All content together has at most maxBytes bytes.
func (z *ZIP) Each(maxBytes int64, each func(e Entry, content io.Reader) error) (files int64, err error) {
	w := zipWalk{
		ZIP: z, maxBytes: maxBytes,
		directory: bufio.NewReaderSize(io.NewSectionReader(z.file, z.directory.offset, z.directory.size), 64<<10),
		local:     bufio.NewReaderSize(nil, 64<<10),
	}
	for n := int64(0); ; n++ {
		e, err := w.nextEntry()
		if err == io.EOF {
			if n != z.directory.entries {
				return files, formatErrorf("the ZIP archive has %d entries, its end declares %d", n, z.directory.entries)
			}
			return files, nil
		}
		if err == nil {
			err = w.readEntry(e, each)
		}
		if err != nil {
			return files, err
		}
		if !e.isDirectory() {
			files++
		}
	}
}

// EachObject calls each with the content of every file, which must be one JSON
// object, and returns their number.
func (z *ZIP) EachObject(maxBytes int64, each func(e Entry, record []byte) error) (objects int64, err error) {
	var buffer bytes.Buffer
	return z.Each(maxBytes, func(e Entry, content io.Reader) error {
		if e.Size > maxRecord {
			return formatErrorf("%w: one record has more than %d MiB", ErrTooLong, maxRecord>>20)
		}
		record, err := readObject(content, &buffer)
		if err != nil {
			return err
		}
		return each(e, record)
	})
}

// isDirectory reports whether the entry is a directory, which has no content.
func (e Entry) isDirectory() bool { return strings.HasSuffix(e.Name, "/") && e.Size == 0 }

// A zipWalk is one pass over the entries of an archive.
type zipWalk struct {
	*ZIP
	directory *bufio.Reader // of the rest of the directory
	local     *bufio.Reader // of the compressed content of an entry, reused
	inflate   io.ReadCloser // reused
	maxBytes  int64
	packed    int64 // compressed bytes of all entries so far
	content   int64 // content bytes of all entries so far
}

// nextEntry reads one entry of the directory; io.EOF at its end.
func (z *zipWalk) nextEntry() (e Entry, err error) {
	var fields [entryLength]byte
	if _, err := io.ReadFull(z.directory, fields[:]); err != nil {
		if err == io.ErrUnexpectedEOF {
			err = formatErrorf("the ZIP archive is damaged: its directory ends within an entry")
		}
		return e, err
	}
	if binary.LittleEndian.Uint32(fields[:]) != entrySignature {
		return e, formatErrorf("the ZIP archive is damaged: its directory has something else than an entry")
	}
	nameLength, extraLength := int(binary.LittleEndian.Uint16(fields[28:])), int(binary.LittleEndian.Uint16(fields[30:]))
	commentLength := int(binary.LittleEndian.Uint16(fields[32:]))
	variable := make([]byte, nameLength+extraLength+commentLength)
	if _, err := io.ReadFull(z.directory, variable); err != nil {
		return e, formatErrorf("the ZIP archive is damaged: its directory ends within an entry")
	}
	e = Entry{
		Name:         string(variable[:nameLength]),
		method:       binary.LittleEndian.Uint16(fields[10:]),
		checksum:     binary.LittleEndian.Uint32(fields[16:]),
		packed:       int64(binary.LittleEndian.Uint32(fields[20:])),
		Size:         int64(binary.LittleEndian.Uint32(fields[24:])),
		headerOffset: int64(binary.LittleEndian.Uint32(fields[42:])),
	}
	if binary.LittleEndian.Uint16(fields[8:])&flagEncrypted != 0 {
		return e, formatErrorf("entry %s: the content is encrypted", excerpt(e.Name))
	}
	if err := e.readZIP64(variable[nameLength : nameLength+extraLength]); err != nil {
		return e, err
	}
	return e, z.countEntry(e)
}

// readZIP64 reads the numbers that are too large for the entry's own fields from
// its extra fields, where they are in a fixed order.
func (e *Entry) readZIP64(extra []byte) error {
	var wanted []*int64
	for _, number := range []*int64{&e.Size, &e.packed, &e.headerOffset} {
		if *number == math.MaxUint32 {
			wanted = append(wanted, number)
		}
	}
	for len(extra) >= 4 {
		id, length := binary.LittleEndian.Uint16(extra), int(binary.LittleEndian.Uint16(extra[2:]))
		extra = extra[4:]
		if length > len(extra) {
			return nil // some programs write extra fields of their own form
		}
		for field := extra[:length]; id == extraZIP64 && len(field) >= 8 && len(wanted) > 0; field = field[8:] {
			*wanted[0] = int64(binary.LittleEndian.Uint64(field))
			wanted = wanted[1:]
		}
		extra = extra[length:]
	}
	if e.Size < 0 || e.packed < 0 || e.headerOffset < 0 {
		return formatErrorf("the ZIP archive is damaged: entry %s has a negative size", excerpt(e.Name))
	}
	return nil
}

// countEntry bounds what the entries declare. Entries that share their compressed
// bytes, with which a small archive can have an enormous content, exceed the
// length of the file.
func (z *zipWalk) countEntry(e Entry) error {
	if e.packed > z.size-z.packed {
		return formatErrorf("the ZIP archive is damaged: its entries declare more compressed bytes than it has")
	}
	if e.Size > z.maxBytes-z.content {
		return formatErrorf("%w: the content of the ZIP archive has more than %d MiB", ErrTooLong, z.maxBytes>>20)
	}
	z.packed += e.packed
	z.content += e.Size
	return nil
}

// readEntry calls each with the content of an entry, and checks the content.
func (z *zipWalk) readEntry(e Entry, each func(Entry, io.Reader) error) error {
	content, err := z.openEntry(e)
	if err == nil && !e.isDirectory() {
		err = each(e, content)
	}
	if err == nil {
		_, err = io.Copy(io.Discard, content)
	}
	if f := asFormatError(err); f != nil {
		return formatErrorf("entry %s: %w", excerpt(e.Name), f.Err)
	}
	return err
}

// openEntry returns a reader of the content of an entry, which fails at its end
// unless length and checksum match.
func (z *zipWalk) openEntry(e Entry) (io.Reader, error) {
	begin, err := z.findContent(e)
	if err != nil {
		return nil, err
	}
	z.local.Reset(io.NewSectionReader(z.file, begin, e.packed))
	switch e.method {
	case methodStored:
		return &entryContent{r: z.local, entry: e}, nil
	case methodDeflated:
		if z.inflate == nil {
			z.inflate = flate.NewReader(z.local)
		} else if err := z.inflate.(flate.Resetter).Reset(z.local, nil); err != nil {
			return nil, err
		}
		return &entryContent{r: z.inflate, entry: e}, nil
	}
	return nil, formatErrorf("it has the compression method %d, want 0 or 8", e.method)
}

// findContent returns where the compressed content of an entry begins, after a
// header of its own.
func (z *zipWalk) findContent(e Entry) (int64, error) {
	var fields [localLength]byte
	end := z.ZIP.directory.offset
	if e.headerOffset <= end-localLength {
		if _, err := z.file.ReadAt(fields[:], e.headerOffset); err != nil {
			return 0, err
		}
	}
	begin := e.headerOffset + localLength + int64(binary.LittleEndian.Uint16(fields[26:])) + int64(binary.LittleEndian.Uint16(fields[28:]))
	if binary.LittleEndian.Uint32(fields[:]) != localSignature || begin > end-e.packed {
		return 0, formatErrorf("the ZIP archive is damaged: the entry is not where its directory says")
	}
	return begin, nil
}

// entryContent is the content of an entry.
type entryContent struct {
	r     io.Reader
	entry Entry
	read  int64
	sum   uint32
}

func (e *entryContent) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	e.sum = crc32.Update(e.sum, crc32.IEEETable, p[:n])
	e.read += int64(n)
	var corrupt flate.CorruptInputError
	switch {
	case e.read > e.entry.Size:
		return 0, formatErrorf("the content has more than the declared %d bytes", e.entry.Size)
	case err == io.EOF && e.read < e.entry.Size:
		return n, formatErrorf("the content has %d bytes, the directory declares %d", e.read, e.entry.Size)
	case err == io.EOF && e.sum != e.entry.checksum:
		return n, formatErrorf("the content does not match its checksum")
	case errors.As(err, &corrupt), errors.Is(err, io.ErrUnexpectedEOF):
		return n, formatErrorf("the content is damaged: %w", err)
	}
	return n, err
}
