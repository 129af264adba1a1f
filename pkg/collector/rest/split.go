package rest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	// maxRecord bounds the bytes of one record. It is much larger than the
	// records of any vendor, and small enough for the memory of the process.
	maxRecord = 64 << 20
	// maxMember bounds the bytes of one member of the envelope.
	maxMember = 4 << 20
	// maxEnvelope bounds the bytes of all members of the envelope.
	maxEnvelope = 16 << 20
	// maxPooled is the longest value after which a decoder is used again. The
	// buffer of a decoder never shrinks.
	maxPooled = 1 << 20
)

// A Shape says where the records are in the JSON document of a response.
type Shape struct {
	// Records is the dotted path of the array of records, such as "data" or
	// "result.items"; "" if the document itself is the array.
	Records string
	// Errors are the dotted paths of members that must be absent, null, empty or
	// false. A response with another value is a failure, even if its status says
	// success.
	Errors []string
	// Require are members whose raw values the response must have, by their dotted
	// paths, such as "success": "true" or "error_code": "0". A response with
	// another value, or without the member, is a failure, even if its status says
	// success.
	Require map[string]string
	// Message is the dotted path of the vendor's text about a failure, which
	// the error shows; "" for none.
	Message string
	// Element is the dotted path of the record in each element of the array, such
	// as "node"; "" if the elements are the records.
	Element string
	// Harmless reports whether the value of a member of Errors is not a failure,
	// such as a list of requested ids that do not exist. It may be nil.
	Harmless func(filled []byte) bool
	// Optional means that the member Records may be absent if there are no
	// records.
	Optional bool
	// OrArray means that the document may also be the array of records itself,
	// see Envelope.IsArray.
	OrArray bool
}

// An Envelope is the document of a response without its records.
type Envelope struct {
	// Records is the number of records so far.
	Records int
	// Header has the headers of the response; nil in a RecordFunc.
	Header   http.Header
	members  map[string]jsontext.Value
	array    bool
	received time.Time // when the head of the response was received
}

// IsArray reports whether the document is the array of records itself.
func (e *Envelope) IsArray() bool { return e.array }

// headerPath begins the path of a header.
const headerPath = "header:"

// HeaderPath returns the path by which Envelope.Value returns a header of the
// response, such as a total in X-Total-Count or a cursor in X-Next-Page.
func HeaderPath(name string) string { return headerPath + name }

func isHeaderPath(path string) bool { return strings.HasPrefix(path, headerPath) }

// Value returns the raw member at the dotted path; nil if it is absent. A path
// from HeaderPath is that of a header, whose value is a number if it looks like
// one, and text otherwise.
func (e *Envelope) Value(path string) jsontext.Value {
	if name, found := strings.CutPrefix(path, headerPath); found {
		return e.headerValue(name)
	}
	// The members of the objects that contain the records are stored under their
	// whole path.
	for end := len(path); end > 0; end = strings.LastIndexByte(path[:end], '.') {
		if v := e.members[path[:end]]; v != nil {
			return Member(v, strings.TrimPrefix(path[end:], "."))
		}
	}
	return nil
}

// headerValue returns the header as a raw JSON value; nil if it is absent.
func (e *Envelope) headerValue(name string) jsontext.Value {
	text := strings.TrimSpace(e.Header.Get(name))
	if text == "" {
		return nil
	}
	if v := jsontext.Value(text); v.Kind() == '0' && v.IsValid() {
		return v
	}
	return quoteText(text)
}

// quoteText returns text as a JSON string.
func quoteText(text string) jsontext.Value {
	quoted, _ := jsontext.AppendQuote(nil, strings.ToValidUTF8(text, "\ufffd"))
	return quoted
}

// Text returns the member at the dotted path as text: the content of a string
// or the digits of a number; "" if it is absent or of another kind.
func (e *Envelope) Text(path string) string { return TextOf(e.Value(path)) }

// Count returns the member at the dotted path as a count, and whether it is one:
// a number that is not negative and is less than 2^53.
func (e *Envelope) Count(path string) (int64, bool) {
	v := e.Value(path)
	if v == nil || v.Kind() != '0' {
		return 0, false
	}
	n, err := strconv.ParseFloat(string(v), 64)
	return int64(n), err == nil && n >= 0 && n < 1<<53
}

// Member returns the raw member at the dotted path in the object v; nil if it is
// absent.
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

// TextOf returns a raw value as text: the content of a string or the digits of a
// number; "" for anything else.
func TextOf(v jsontext.Value) string {
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

// lenient accepts what vendors send in practice. A duplicate name or a lone
// surrogate in one record is no reason to lose the others.
var lenient = []jsontext.Options{
	jsontext.AllowDuplicateNames(true),
	jsontext.AllowInvalidUTF8(true),
}

// decoders have buffers of splitBuffer bytes. The buffer of a new decoder has
// 4 KiB, which halves its speed, and grows only for a longer value, so each
// decoder reads such a value first.
var decoders = sync.Pool{New: func() any {
	d := jsontext.NewDecoder(strings.NewReader(`"` + strings.Repeat(" ", splitBuffer-2) + `"`))
	if _, err := d.ReadValue(); err != nil { // it is constant
		panic(err)
	}
	return d
}}

const splitBuffer = 64 << 10

// Split reads one JSON document from r and calls record with each record while
// the document is still arriving. The bytes are valid until record returns. The
// memory that Split needs is bounded by the longest record. The Envelope has
// the members that came before the record. An error of the document or of r is
// returned as a *BodyError, an error of record as it is. A nil record drops the
// records. If Split returns nil, the document was complete and nothing followed
// it.
func Split(r io.Reader, shape Shape, record func(e *Envelope, raw []byte) error) (*Envelope, error) {
	if record == nil {
		record = func(*Envelope, []byte) error { return nil }
	}
	s := &splitter{shape: shape, record: record, envelope: Envelope{members: map[string]jsontext.Value{}}}
	buffered := bufio.NewReaderSize(r, 4<<10)
	if err := looksLikeJSON(buffered); err != nil {
		return nil, &BodyError{Err: err, page: errors.Is(err, errPage)}
	}
	s.in = &markedReader{r: buffered}
	s.d = decoders.Get().(*jsontext.Decoder)
	s.d.Reset(s.in, lenient...)
	err := s.readDocument()
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

// errPage begins the error of a body that is an HTML page.
var errPage = errors.New("body is ")

// looksLikeJSON returns an error that describes a body which is obviously not
// JSON. It skips a byte order mark, which some servers send.
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
		page, _ := r.Peek(1 << 10) // a page may be shorter
		if looksLikeHTML(page) {
			return fmt.Errorf("%w%s, want JSON", errPage, describePage(page))
		}
		return fmt.Errorf("body is XML, want JSON: %s", excerpt(string(page), 80))
	}
	return nil
}

// markedReader returns an error when more than bound bytes are read after the
// mark, which the splitter moves to the start of each value.
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
	kept     int // bytes of the envelope's members
	longest  int // bytes of the longest value
	found    bool
}

// recordError is an error of the record function, as opposed to the decoder.
type recordError struct{ err error }

func (e *recordError) Error() string { return e.err.Error() }

func (s *splitter) readDocument() error {
	s.in.bound = maxMember
	if s.shape.Records == "" || s.shape.OrArray && s.d.PeekKind() == '[' {
		s.envelope.array = true
		if err := s.readRecords("the document"); err != nil {
			return err
		}
	} else {
		if s.d.PeekKind() != '{' {
			if s.shape.Records == noRecords {
				return s.unexpectedValue("an object")
			}
			return s.unexpectedValue("an object with the member " + s.shape.Records)
		}
		if err := s.readObject(""); err != nil {
			return err
		}
	}
	if _, err := s.d.ReadToken(); err != io.EOF {
		if err == nil {
			return errors.New("there is more data after the JSON document")
		}
		return err
	}
	if err := s.checkErrors(); err != nil {
		return err
	}
	if err := s.checkRequired(); err != nil {
		return err
	}
	if !s.found && !s.shape.Optional {
		return fmt.Errorf("the member %s is missing", s.shape.Records)
	}
	return nil
}

// readObject reads the object at prefix, which contains the records.
func (s *splitter) readObject(prefix string) error {
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
				return fmt.Errorf("the member %s appears twice", path)
			}
			err = s.readRecords("the member " + path)
		case s.d.PeekKind() == '{' && strings.HasPrefix(s.shape.Records, path+"."):
			err = s.readObject(path + ".")
		default:
			err = s.readMember(path)
		}
		if err != nil {
			return err
		}
	}
	_, err := s.d.ReadToken()
	return err
}

// readMember keeps a member of the envelope.
func (s *splitter) readMember(path string) error {
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

// readRecords reads the array of records.
func (s *splitter) readRecords(what string) error {
	s.found = true
	switch s.d.PeekKind() {
	case '[':
	case 'n': // null: no records
		_, err := s.d.ReadToken()
		return err
	default:
		return s.unexpectedValue(what + " to be an array")
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
		if s.shape.Element != "" {
			if raw = Member(raw, s.shape.Element); raw == nil {
				return fmt.Errorf("record %d: the member %s is missing", s.envelope.Records+1, s.shape.Element)
			}
		}
		if err := s.record(&s.envelope, raw); err != nil {
			return &recordError{err}
		}
		s.envelope.Records++
	}
	s.in.bound = maxMember
	_, err := s.d.ReadToken()
	return err
}

func (s *splitter) unexpectedValue(want string) error {
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

// failure returns the error of a response that says that it is a failure.
func (s *splitter) failure(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if text := s.envelope.Text(s.shape.Message); text != "" {
		err = fmt.Errorf("%w: %s", err, excerpt(text, 200))
	}
	return err
}

// checkRequired returns an error if a member does not have the value that
// Shape.Require says.
func (s *splitter) checkRequired() error {
	for _, path := range slices.Sorted(maps.Keys(s.shape.Require)) {
		want := s.shape.Require[path]
		switch v := strings.TrimSpace(string(s.envelope.Value(path))); v {
		case want:
		case "":
			return s.failure("the member %s is missing, want %s", path, want)
		default:
			return s.failure("the member %s is %s, want %s", path, excerpt(v, 80), want)
		}
	}
	return nil
}

// checkErrors returns an error if a member of Shape.Errors has a value.
func (s *splitter) checkErrors() error {
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
			return s.failure("the member %s is not empty: %s", path, excerpt(string(v), 200))
		}
	}
	return nil
}
