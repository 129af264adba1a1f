package columns

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/collectord/collectord/pkg/snapshot"
)

// errMalformed means that a record is not valid JSON, which a sealed snapshot
// excludes.
var errMalformed = errors.New("the record is not valid JSON")

// A Scanner splits a record into its values. It relies on the record being
// valid JSON: of an invalid one it returns some values, and Err is set when
// one of them is not complete.
type Scanner struct {
	data []byte
	pos  int
	err  error
}

// NewScanner returns a Scanner of record, which must not change meanwhile.
func NewScanner(record []byte) Scanner { return Scanner{data: record} }

// Err returns why the record could not be read; nil if it could.
func (s *Scanner) Err() error { return s.err }

// Fail sets the error and moves to the end of the record, so that loops over its
// values end.
func (s *Scanner) Fail(err error) { s.pos, s.err = len(s.data), err }

// fail notes that the record is malformed.
func (s *Scanner) fail() { s.Fail(errMalformed) }

// Peek returns the first byte of the next token, 0 at the end.
func (s *Scanner) Peek() byte {
	for s.pos < len(s.data) {
		switch c := s.data[s.pos]; c {
		case ' ', '\t', '\r', '\n':
			s.pos++
		default:
			return c
		}
	}
	return 0
}

// accept skips the next token if it is the delimiter c.
func (s *Scanner) accept(c byte) bool {
	if s.Peek() != c {
		return false
	}
	s.pos++
	return true
}

// Expect skips the next token, which is the delimiter c.
func (s *Scanner) Expect(c byte) {
	if !s.accept(c) {
		s.fail()
	}
}

// HasElement reports whether the object or list being read has another element,
// and moves to it. n is the number of elements read so far.
func (s *Scanner) HasElement(end byte, n int) bool {
	if s.accept(end) {
		return false
	}
	if n > 0 {
		s.Expect(',')
	}
	return s.err == nil
}

// ReadString returns the next token, a string with its quotes.
func (s *Scanner) ReadString() []byte {
	if s.Peek() == '"' {
		for i := s.pos + 1; i < len(s.data); i++ {
			switch s.data[i] {
			case '\\':
				i++
			case '"':
				raw := s.data[s.pos : i+1]
				s.pos = i + 1
				return raw
			}
		}
	}
	s.fail()
	return []byte(`""`)
}

// ReadScalar returns the next token, a number, true, false or null.
func (s *Scanner) ReadScalar() []byte {
	for i := s.pos; i < len(s.data); i++ {
		switch s.data[i] {
		case ',', ']', '}', ' ', '\t', '\r', '\n':
			if i > s.pos {
				raw := s.data[s.pos:i]
				s.pos = i
				return raw
			}
		}
	}
	s.fail()
	return []byte("null")
}

// ReadValue returns the next value as it stands in the record.
func (s *Scanner) ReadValue() []byte {
	switch s.Peek() {
	case '"':
		return s.ReadString()
	case '{', '[':
		return s.readNested()
	}
	return s.ReadScalar()
}

// readNested returns the next value, an object or list of any depth.
func (s *Scanner) readNested() []byte {
	start, depth := s.pos, 0
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case '"':
			s.ReadString()
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		s.pos++
		if depth == 0 {
			return s.data[start:s.pos]
		}
	}
	s.fail()
	return []byte("null")
}

// UnquoteName returns the content of the JSON string raw. Escapes that are no
// character are kept as their six letters.
func UnquoteName(raw []byte) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1])
	}
	escaped, _ := snapshot.EscapeSurrogates(nil, raw)
	name, err := jsontext.AppendUnquote(nil, escaped)
	if err != nil { // cannot happen in valid JSON
		return string(raw)
	}
	return string(name)
}

// largeText is the size in bytes from which a text is large.
const largeText = 1 << 20

// AppendQuoted appends text, which is UTF-8, as a JSON string.
func AppendQuoted(dst, text []byte) []byte {
	if len(text) >= largeText { // growing in steps would leave several times the text behind
		dst = slices.Grow(dst, len(text)+bytes.Count(text, []byte{'"'})+bytes.Count(text, []byte{'\\'})+2)
	}
	dst = append(dst, '"')
	copied := 0
	for i, c := range text {
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, text[copied:i]...)
		if c < ' ' {
			dst = fmt.Appendf(dst, `\u%04x`, c)
		} else {
			dst = append(dst, '\\', c)
		}
		copied = i + 1
	}
	return append(append(dst, text[copied:]...), '"')
}
