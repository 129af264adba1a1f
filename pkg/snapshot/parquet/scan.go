package parquet

import (
	"bytes"
	"errors"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/collectord/collectord/internal/duckdb"
)

// errMalformed means that a record is not valid JSON, which a sealed snapshot
// excludes.
var errMalformed = errors.New("the record is not valid JSON")

// A scanner splits a record into its values. It relies on the record being
// valid JSON: of an invalid one it returns some values, and err is set when
// one of them is not complete.
type scanner struct {
	data []byte
	pos  int
	err  error
}

// fail notes that the record is malformed and moves to its end, so that loops
// over its values end.
func (s *scanner) fail() {
	s.pos, s.err = len(s.data), errMalformed
}

// peek returns the first byte of the next token, 0 at the end.
func (s *scanner) peek() byte {
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
func (s *scanner) accept(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.pos++
	return true
}

// expect skips the next token, which is the delimiter c.
func (s *scanner) expect(c byte) {
	if !s.accept(c) {
		s.fail()
	}
}

// hasElement reports whether the object or list being read has another element,
// and moves to it. n is the number of elements read so far.
func (s *scanner) hasElement(end byte, n int) bool {
	if s.accept(end) {
		return false
	}
	if n > 0 {
		s.expect(',')
	}
	return s.err == nil
}

// readString returns the next token, a string with its quotes.
func (s *scanner) readString() []byte {
	if s.peek() == '"' {
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

// readScalar returns the next token, a number, true, false or null.
func (s *scanner) readScalar() []byte {
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

// readValue returns the next value as it stands in the record.
func (s *scanner) readValue() []byte {
	switch s.peek() {
	case '"':
		return s.readString()
	case '{', '[':
		return s.readNested()
	}
	return s.readScalar()
}

// readNested returns the next value, an object or list of any depth.
func (s *scanner) readNested() []byte {
	start, depth := s.pos, 0
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case '"':
			s.readString()
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

// unquoteName returns the content of the JSON string raw. Escapes that are no
// character are kept as their six letters.
func unquoteName(raw []byte) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1])
	}
	escaped, _ := duckdb.AppendJSON(nil, raw)
	name, err := jsontext.AppendUnquote(nil, escaped)
	if err != nil { // cannot happen in valid JSON
		return string(raw)
	}
	return string(name)
}
