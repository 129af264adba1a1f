// Package records reads the files that vendors publish and makes raw JSON
// records of their content: gzip, ZIP, CSV, NDJSON and XML. It knows nothing
// about requests.
//
// All readers need bounded memory: that of the longest record, of at most 64 MiB.
// None of them changes a value. JSON objects keep their bytes. What is not JSON
// becomes JSON strings by the rules of CSV and XML: numbers stay text, because
// only the vendor knows whether 1e-05, 007 or 1.10 is a number.
//
// If a reader returns nil, the file was complete and nothing followed it.
package records

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/collectord/collectord/pkg/collector"
)

// maxRecord bounds the bytes of one record. Tests change it.
var maxRecord int64 = 64 << 20

// ErrTooLong means that a file or a record is longer than allowed. The same
// request would have the same result.
var ErrTooLong = errors.New("too long")

// A Func handles one record, a JSON object. The bytes are valid until the
// function returns. Its errors end the reading and are returned as they are.
type Func func(record []byte) error

// A FormatError means that a file is incomplete, damaged, or not what it should
// be.
type FormatError struct{ Err error }

func (e *FormatError) Error() string { return e.Err.Error() }

// Unwrap returns the cause and collector.ErrIncomplete.
func (e *FormatError) Unwrap() []error { return []error{e.Err, collector.ErrIncomplete} }

// formatError returns err as a FormatError. The end of the file is an error
// wherever it is reported as one.
func formatError(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return &FormatError{Err: err}
}

// formatErrorf returns a FormatError with a text.
func formatErrorf(format string, args ...any) error { return formatError(fmt.Errorf(format, args...)) }

// recordBound is a reader that fails when more than the limit of one record is
// read after the last call of beginRecord. What a decoder above it has buffered
// counts for the next record.
type recordBound struct {
	in   io.Reader
	read int64 // since beginRecord
}

func (r *recordBound) Read(p []byte) (int, error) {
	n, err := r.in.Read(p)
	if r.read += int64(n); r.read > maxRecord {
		return 0, fmt.Errorf("%w: one record has more than %d MiB", ErrTooLong, maxRecord>>20)
	}
	return n, err
}

func (r *recordBound) beginRecord() { r.read = 0 }

// newTextReader returns a buffered reader of a text in UTF-8, without its byte
// order mark.
func newTextReader(r io.Reader) (*bufio.Reader, error) {
	text := bufio.NewReaderSize(r, 64<<10)
	start, err := text.Peek(3)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case strings.HasPrefix(string(start), "\xef\xbb\xbf"):
		_, err := text.Discard(3)
		return text, err
	case strings.HasPrefix(string(start), "\xff\xfe"), strings.HasPrefix(string(start), "\xfe\xff"):
		return nil, formatErrorf("the text is UTF-16, want UTF-8")
	}
	return text, nil
}

const hexDigits = "0123456789abcdef"

// AppendString appends text as a JSON string. Bytes that are not UTF-8 are kept,
// so that they are counted where records are stored.
func AppendString(dst []byte, text string) []byte {
	dst = append(dst, '"')
	copied := 0
	for i := range len(text) {
		c := text[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, text[copied:i]...)
		copied = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(append(dst, text[copied:]...), '"')
}

// excerpt returns the start of a text for an error, in one line. Characters that cannot be
// printed, such as those that control a terminal, are replaced.
func excerpt(text string) string {
	text = strings.Map(func(c rune) rune {
		switch {
		case unicode.IsSpace(c):
			return ' '
		case !unicode.IsPrint(c):
			return utf8.RuneError
		}
		return c
	}, strings.ToValidUTF8(text, "\ufffd"))
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 80 {
		end := 80
		for !utf8.RuneStart(text[end]) {
			end--
		}
		text = text[:end] + "…"
	}
	return text
}

// asFormatError returns the FormatError in err; nil if there is none.
func asFormatError(err error) *FormatError {
	var f *FormatError
	if errors.As(err, &f) {
		return f
	}
	return nil
}
