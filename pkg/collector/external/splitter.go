package external

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/collectord/collectord/internal/redact"
	"github.com/collectord/collectord/pkg/collector"
)

// A protocol reads the lines of the output of a program.
type protocol interface {
	// readLine reads a line that is not empty.
	readLine(line []byte, number int64) error
	// finish returns an error unless the output was complete. The program has succeeded.
	finish() error
}

// A splitter passes the records of a program to the outputs of their streams.
type splitter struct {
	session  *session
	protocol protocol
	streams  map[string]*splitStream // by the name that the program uses
}

// A splitStream is a stream of the output.
type splitStream struct {
	stream
	participant       // without an output when the stream does not take part
	requested   bool  // takes part
	records     int64 // that the program has printed
	batch       collector.Batch
	size        struct{ records, bytes int }
}

// newSplitter returns the splitter for the streams that take part.
func (s *session) newSplitter(names []string) *splitter {
	p := &splitter{session: s, streams: map[string]*splitStream{}}
	for _, stream := range s.streams {
		p.streams[stream.tapName] = &splitStream{
			stream: stream, participant: s.taking[stream.name], requested: slices.Contains(names, stream.name),
		}
	}
	if s.singer != nil {
		p.protocol = newSingerProtocol(p, s.singer)
	} else {
		p.protocol = &lineProtocol{splitter: p, single: len(s.streams) == 1}
	}
	return p
}

// requested returns the streams that take part, in the order of the file.
func (sp *splitter) requested() (all []*splitStream) {
	for _, stream := range sp.session.streams {
		if s := sp.streams[stream.tapName]; s.requested {
			all = append(all, s)
		}
	}
	return all
}

// The size at which a batch is committed.
const (
	batchRecords = 1000
	batchBytes   = 1 << 20
)

// passRecord adds a record to a stream. Records of streams that do not take part are only
// counted.
func (s *splitStream) passRecord(record []byte) error {
	s.records++
	if !s.requested {
		return nil
	}
	s.stats.CountReceived(len(record))
	if s.batch == nil {
		s.batch = s.out.NewBatch()
	}
	if err := s.batch.Append(record); err != nil {
		return err
	}
	s.size.records++
	s.size.bytes += len(record)
	if s.size.records < batchRecords && s.size.bytes < batchBytes {
		return nil
	}
	return s.commit()
}

// commit commits the open batch.
func (s *splitStream) commit() error {
	if s.batch == nil {
		return nil
	}
	err := s.batch.Commit()
	s.batch.Discard()
	s.batch, s.size.records, s.size.bytes = nil, 0, 0
	return err
}

// commit commits the open batches of all streams.
func (sp *splitter) commit() error {
	for _, s := range sp.requested() {
		if err := s.commit(); err != nil {
			return err
		}
	}
	return nil
}

// discard discards the open batches.
func (sp *splitter) discard() {
	for _, s := range sp.streams {
		if s.batch != nil {
			s.batch.Discard()
			s.batch = nil
		}
	}
}

// A member is one member of a JSON object; value is part of the line.
type member struct {
	name  string
	value []byte
}

// maxQuoted is how much of a long text is searched for secrets before it is shortened.
const maxQuoted = 4 << 10

// quote returns the beginning of a text of the output for an error, at most so many
// characters. Secrets are removed before it is shortened: half a secret would not be
// recognized.
func (a *account) quote(text []byte, most int) string {
	start := string(text)
	if len(text) > maxQuoted {
		start = string(text[:maxQuoted]) + redact.CutMark
	}
	return fmt.Sprintf("%q", shortenLine(strings.ToValidUTF8(a.redact.Redact(start), "\ufffd"), most))
}

// describeSyntax returns what is wrong with JSON. The error's own text has the names of
// members, which may be anything.
func describeSyntax(err error) string {
	var syntax *jsontext.SyntacticError
	if errors.As(err, &syntax) {
		return fmt.Sprintf("%v at byte %d", syntax.Err, syntax.ByteOffset+1)
	}
	return err.Error()
}

// readLineObject returns the members of a line that is a JSON object.
func (a *account) readLineObject(line []byte, number int64) ([]member, error) {
	if !utf8.Valid(line) {
		return nil, lineError(number, "is not UTF-8: let the program print UTF-8")
	}
	if line[0] != '{' {
		return nil, lineError(number, "is not a JSON object: it begins with %s; let the program print anything else to standard error", a.quote(line, 20))
	}
	// A record may have names twice, and half surrogates.
	d := jsontext.NewDecoder(bytes.NewBuffer(line), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	var members []member
	invalid := func(err error) error {
		return lineError(number, "is not valid JSON: %s: want one object in a line", describeSyntax(err))
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, invalid(err)
	}
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return nil, invalid(err)
		}
		m := member{name: name.String()}
		value, err := d.ReadValue()
		if err != nil {
			return nil, invalid(err)
		}
		end := d.InputOffset()
		m.value = line[end-int64(len(value)) : end]
		members = append(members, m)
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, invalid(err)
	}
	if rest := bytes.TrimSpace(line[d.InputOffset():]); len(rest) > 0 {
		return nil, lineError(number, "has more than one JSON object: it continues with %s", a.quote(rest, 20))
	}
	return members, nil
}

// findMember returns the value of a member that an object must have at most once.
func findMember(members []member, name string, number int64) (value []byte, err error) {
	for _, m := range members {
		if m.name != name {
			continue
		}
		if value != nil {
			return nil, lineError(number, "has the member %q twice", name)
		}
		value = m.value
	}
	return value, nil
}

// textOf returns a JSON string.
func textOf(value []byte) (text string, ok bool) {
	if len(value) == 0 || value[0] != '"' {
		return "", false
	}
	unquoted, err := jsontext.AppendUnquote(nil, value)
	return string(unquoted), err == nil
}

// unknownStream returns the error of a record of a stream that the file does not have.
func (sp *splitter) unknownStream(name string, number int64) error {
	return lineError(number, "names the stream %s, which %s does not have: it has %s", sp.session.quote([]byte(name), 100), sp.session.Name, describeStreams(sp.tapNames()))
}

// tapNames returns the names of the streams that the program uses, in the order of the file.
func (sp *splitter) tapNames() (names []string) {
	for _, s := range sp.session.streams {
		names = append(names, s.tapName)
	}
	return names
}

// incomplete returns an error that wraps collector.ErrIncomplete.
func incomplete(format string, args ...any) error {
	return fmt.Errorf("%w: %s", collector.ErrIncomplete, fmt.Sprintf(format, args...))
}
