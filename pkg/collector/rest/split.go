package rest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	// maxRecord bounds one record: far above any that a vendor sends, far below
	// what would endanger the process.
	maxRecord = 64 << 20
	// maxMember bounds a member of the envelope beside the records.
	maxMember = 4 << 20
	// maxEnvelope bounds all of them, names included.
	maxEnvelope = 16 << 20
	// maxPooled is the longest value after which a decoder, whose buffer never
	// shrinks, is used again.
	maxPooled = 1 << 20
)

// A Shape says where the records are in an answer's JSON document.
type Shape struct {
	// Records is the member that holds the array of records, dotted when it
	// lies deeper, such as "data" or "result.items"; "" when the document is
	// the array itself.
	Records string
	// Errors are members, dotted as Records, that must be absent, null, empty
	// or false: an answer that has them filled is a failure, whatever its
	// status says.
	Errors []string
	// Harmless tells a filled member of Errors that is no failure, such as one
	// that says which of the wanted ids do not exist; nil for none.
	Harmless func(filled []byte) bool
	// Optional permits the records member to be absent, which then means none.
	Optional bool
	// OrArray permits the document to be the array of records itself, for a
	// vendor that answers in either form; Envelope.IsArray tells which it was.
	OrArray bool
}

// An Envelope is an answer's document without its records.
type Envelope struct {
	// Records counts the records that were passed on.
	Records int
	// Header holds the answer's headers, when there are any.
	Header  http.Header
	members map[string]jsontext.Value
	array   bool
}

// IsArray tells whether the document was the array of records itself.
func (e *Envelope) IsArray() bool { return e.array }

// Value returns the raw member at the dotted path, nil when it is absent.
func (e *Envelope) Value(path string) jsontext.Value {
	// Members on the way to the records are kept under their whole path.
	for end := len(path); end > 0; end = strings.LastIndexByte(path[:end], '.') {
		if v := e.members[path[:end]]; v != nil {
			return Member(v, strings.TrimPrefix(path[end:], "."))
		}
	}
	return nil
}

// Text returns the member at path as text: a string's content, a number's
// digits; "" when it is absent, null or of another kind.
func (e *Envelope) Text(path string) string { return Text(e.Value(path)) }

// Count returns the member at path as a count, and whether it is one: a
// number that is not negative and below 2^53.
func (e *Envelope) Count(path string) (int64, bool) {
	v := e.Value(path)
	if v == nil || v.Kind() != '0' {
		return 0, false
	}
	n, err := strconv.ParseFloat(string(v), 64)
	return int64(n), err == nil && n >= 0 && n < 1<<53
}

// Member returns the raw member at the dotted path within the object v, nil
// when it is absent.
func Member(v []byte, path string) jsontext.Value {
	for path != "" {
		name, rest, _ := strings.Cut(path, ".")
		found := jsontext.Value(nil)
		d := jsontext.NewDecoder(bytes.NewBuffer(v), lenient...)
		if t, err := d.ReadToken(); err != nil || t.Kind() != '{' {
			return nil
		}
		for d.PeekKind() == '"' {
			t, err := d.ReadToken()
			if err != nil {
				return nil
			}
			if t.String() != name {
				if d.SkipValue() != nil {
					return nil
				}
				continue
			}
			if found, err = d.ReadValue(); err != nil {
				return nil
			}
			break
		}
		if found == nil {
			return nil
		}
		v, path = found.Clone(), rest
	}
	return v
}

// Text returns a raw value as text: a string's content, a number's digits;
// "" for anything else.
func Text(v jsontext.Value) string {
	switch {
	case v == nil:
	case v.Kind() == '"':
		if text, err := jsontext.AppendUnquote(nil, v); err == nil {
			return string(text)
		}
	case v.Kind() == '0':
		return string(v)
	}
	return ""
}

// lenient takes what vendors really send: a duplicate name or a lone
// surrogate is a flaw of one record and no reason to lose the others.
var lenient = []jsontext.Options{
	jsontext.AllowDuplicateNames(true),
	jsontext.AllowInvalidUTF8(true),
}

// decoders have buffers of splitBuffer: left alone a decoder's buffer grows
// beyond 4 KiB only for a longer value, which halves its speed, so each gets
// one to read first.
var decoders = sync.Pool{New: func() any {
	d := jsontext.NewDecoder(strings.NewReader(`"` + strings.Repeat(" ", splitBuffer-2) + `"`))
	if _, err := d.ReadValue(); err != nil { // it is constant
		panic(err)
	}
	return d
}}

const splitBuffer = 64 << 10

// Split reads one JSON document from r and passes each record to record while
// the document still arrives; the bytes are valid until record returns. Its
// memory is bounded by the longest record. The Envelope that record gets holds
// what has arrived before that record. An error of the document or of r
// is a *BodyError; one of record is returned as it is. A nil record drops the
// records. When Split returns nil the document was whole and nothing followed
// it.
func Split(r io.Reader, shape Shape, record func(e *Envelope, raw []byte) error) (*Envelope, error) {
	if record == nil {
		record = func(*Envelope, []byte) error { return nil }
	}
	s := &splitter{shape: shape, record: record, envelope: Envelope{members: map[string]jsontext.Value{}}}
	buffered := bufio.NewReaderSize(r, 4<<10)
	if err := looksLikeJSON(buffered); err != nil {
		return nil, &BodyError{Err: err}
	}
	s.in = &markedReader{r: buffered}
	s.d = decoders.Get().(*jsontext.Decoder)
	s.d.Reset(s.in, lenient...)
	err := s.document()
	if err == nil && s.longest <= maxPooled {
		s.d.Reset(bytes.NewReader(nil))
		decoders.Put(s.d)
	}
	var own *recordError
	if errors.As(err, &own) {
		return nil, own.err
	}
	if err != nil {
		return nil, &BodyError{Err: err}
	}
	return &s.envelope, nil
}

// looksLikeJSON tells what is no JSON document in words. A byte order mark,
// which some servers write, is passed over.
func looksLikeJSON(r *bufio.Reader) error {
	if mark, _ := r.Peek(3); string(mark) == "\ufeff" {
		if _, err := r.Discard(3); err != nil {
			return err
		}
	}
	start, err := r.Peek(1)
	for err == nil && (start[0] == ' ' || start[0] == '\t' || start[0] == '\r' || start[0] == '\n') {
		if _, err = r.Discard(1); err == nil {
			start, err = r.Peek(1)
		}
	}
	if err == io.EOF {
		return errors.New("body is empty, want JSON")
	}
	if err != nil {
		return err
	}
	if start[0] == '<' {
		page, _ := r.Peek(120)
		return fmt.Errorf("body is an HTML or XML page, want JSON: %s", excerpt(string(page), 80))
	}
	return nil
}

// markedReader fails when more than a bound is read without a mark.
type markedReader struct {
	r     io.Reader
	read  int64
	mark  int64
	bound int64
}

func (m *markedReader) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.read += int64(n)
	if m.read-m.mark > m.bound+int64(len(p)) {
		return 0, fmt.Errorf("%w: one value has more than %d MiB", errOversize, m.bound>>20)
	}
	return n, err
}

type splitter struct {
	d        *jsontext.Decoder
	in       *markedReader
	shape    Shape
	record   func(*Envelope, []byte) error
	envelope Envelope
	kept     int // bytes of the envelope
	longest  int // bytes of the longest value
	found    bool
}

// recordError carries an error of the record function past the decoder's.
type recordError struct{ err error }

func (e *recordError) Error() string { return e.err.Error() }

func (s *splitter) document() error {
	s.in.bound = maxMember
	if s.shape.Records == "" || s.shape.OrArray && s.d.PeekKind() == '[' {
		s.envelope.array = true
		if err := s.records("the document"); err != nil {
			return err
		}
	} else {
		if s.d.PeekKind() != '{' {
			if s.shape.Records == noRecords {
				return s.unexpected("an object")
			}
			return s.unexpected("an object with the member " + s.shape.Records)
		}
		if err := s.object(""); err != nil {
			return err
		}
	}
	if _, err := s.d.ReadToken(); err != io.EOF {
		if err == nil {
			return errors.New("something follows the JSON document")
		}
		return err
	}
	if err := s.refusals(); err != nil {
		return err
	}
	if !s.found && !s.shape.Optional {
		return fmt.Errorf("the member %s is missing", s.shape.Records)
	}
	return nil
}

// object reads the object at prefix, on the way to the records or with them.
func (s *splitter) object(prefix string) error {
	if _, err := s.d.ReadToken(); err != nil {
		return err
	}
	for s.d.PeekKind() == '"' {
		t, err := s.d.ReadToken()
		if err != nil {
			return err
		}
		path := prefix + t.String()
		switch {
		case path == s.shape.Records:
			if s.found {
				return fmt.Errorf("the member %s comes twice", path)
			}
			err = s.records("the member " + path)
		case s.d.PeekKind() == '{' && strings.HasPrefix(s.shape.Records, path+"."):
			err = s.object(path + ".")
		default:
			err = s.member(path)
		}
		if err != nil {
			return err
		}
	}
	_, err := s.d.ReadToken()
	return err
}

// member keeps a member of the envelope.
func (s *splitter) member(path string) error {
	s.in.bound, s.in.mark = maxMember, s.d.InputOffset()
	v, err := s.d.ReadValue()
	if err != nil {
		return err
	}
	s.longest = max(s.longest, len(v))
	if s.kept += len(path) + len(v); s.kept > maxEnvelope {
		return fmt.Errorf("%w: what surrounds the records has more than %d MiB", errOversize, maxEnvelope>>20)
	}
	s.envelope.members[path] = v.Clone()
	return nil
}

// records reads the array of records.
func (s *splitter) records(what string) error {
	s.found = true
	switch s.d.PeekKind() {
	case '[':
	case 'n': // null: no records
		_, err := s.d.ReadToken()
		return err
	default:
		return s.unexpected(what + " to be an array")
	}
	if _, err := s.d.ReadToken(); err != nil {
		return err
	}
	s.in.bound = maxRecord
	for {
		s.in.mark = s.d.InputOffset()
		if k := s.d.PeekKind(); k == ']' || k == 0 {
			break
		}
		raw, err := s.d.ReadValue()
		if err != nil {
			return fmt.Errorf("record %d: %w", s.envelope.Records+1, err)
		}
		s.longest = max(s.longest, len(raw))
		if err := s.record(&s.envelope, raw); err != nil {
			return &recordError{err}
		}
		s.envelope.Records++
	}
	s.in.bound = maxMember
	_, err := s.d.ReadToken()
	return err
}

func (s *splitter) unexpected(want string) error {
	if s.d.PeekKind() == 0 {
		_, err := s.d.ReadToken()
		return err
	}
	v, err := s.d.ReadValue()
	if err != nil {
		return err
	}
	return fmt.Errorf("want %s, got %s", want, excerpt(string(v), 80))
}

// refusals fails an answer that carries errors under a status of success.
func (s *splitter) refusals() error {
	for _, path := range s.shape.Errors {
		v := s.envelope.Value(path)
		if v == nil {
			continue
		}
		switch strings.Join(strings.Fields(string(v)), "") {
		case "null", "[]", "{}", "false", `""`:
		default:
			if s.shape.Harmless != nil && s.shape.Harmless(v) {
				continue
			}
			return fmt.Errorf("the answer carries %s: %s", path, excerpt(string(v), 200))
		}
	}
	return nil
}
