package snapshot

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// The reserved members, which collectord adds to each record.
const (
	MemberTenancy         = "_tenancy"
	MemberUploadTimestamp = "_upload_timestamp"
	MemberUploadID        = "_upload_id"
)

// vendorPrefix is the prefix for a vendor's member that has the name of a reserved
// one.
const vendorPrefix = "_vendor"

// ErrNotObject means that a record is not a JSON object.
var ErrNotObject = errors.New("record is not a JSON object")

// A Splicer adds the reserved members to records without re-encoding them: the
// order of members, the spelling of numbers and escapes stay byte for byte.
//
// Four cases need a rule:
//   - A line break between tokens becomes a space, since a record is one line.
//   - A vendor's member with the name of a reserved one is renamed to
//     _vendor<name>, so that _tenancy, _upload_timestamp and _upload_id are always
//     collectord's.
//   - Bytes that are not UTF-8 become U+FFFD: JSON is UTF-8 by definition, and one
//     such byte makes a whole file unreadable for most programs.
//   - Other duplicate names stay: JSON readers differ in which of them they use,
//     and removing one would lose a value.
//
// The manifest counts the second and third.
type Splicer struct {
	tail []byte
}

// A SpliceResult reports what Append had to change.
type SpliceResult struct{ Renamed, Repaired bool }

// NewSplicer returns a Splicer for the records of h.
func NewSplicer(h Header) *Splicer {
	var tail []byte
	for _, m := range [...][2]string{
		{MemberTenancy, h.Tenancy},
		{MemberUploadTimestamp, h.UploadTimestamp.UTC().Format(TimestampLayout)},
		{MemberUploadID, h.UploadID},
	} {
		value, err := json.Marshal(m[1])
		if err != nil { // cannot happen for a string
			panic(err)
		}
		tail = append(tail, `,"`+m[0]+`":`...)
		tail = append(tail, value...)
	}
	return &Splicer{tail: append(tail, '}', '\n')}
}

// Append appends record, a single valid JSON value, with the reserved members and a
// newline to dst.
func (s *Splicer) Append(dst, record []byte) ([]byte, SpliceResult, error) {
	var done SpliceResult
	record = bytes.Trim(record, " \t\r\n")
	if len(record) < 2 || record[0] != '{' || record[len(record)-1] != '}' {
		return dst, done, fmt.Errorf("%w: it starts with %.20q", ErrNotObject, record)
	}
	record, done.Repaired = repairUTF8(record)
	start := len(dst)
	if mayHaveReservedMember(record) {
		var err error
		if dst, done.Renamed, err = appendRenamed(dst, record); err != nil {
			return dst[:start], done, err
		}
	} else {
		dst = append(dst, record...)
	}
	replaceLineBreaks(dst[start:])
	end := len(bytes.TrimRight(dst[start:len(dst)-1], " \t")) + start
	dst = dst[:end]
	if end-start == 1 { // "{": the object is empty, so no comma
		return append(dst, s.tail[1:]...), done, nil
	}
	return append(dst, s.tail...), done, nil
}

// repairUTF8 returns record as valid UTF-8 and reports whether it differs.
func repairUTF8(record []byte) ([]byte, bool) {
	if utf8.Valid(record) {
		return record, false
	}
	return bytes.ToValidUTF8(record, []byte("\ufffd")), true
}

// replaceLineBreaks turns line breaks into spaces. In strings JSON allows them only
// escaped, so that all others are between tokens.
func replaceLineBreaks(b []byte) {
	if bytes.IndexByte(b, '\n') < 0 && bytes.IndexByte(b, '\r') < 0 {
		return
	}
	for i, c := range b {
		if c == '\n' || c == '\r' {
			b[i] = ' '
		}
	}
}

// mayHaveReservedMember is a fast test for records that need appendRenamed. It never
// returns false for a record that has a reserved member, escaped or not.
func mayHaveReservedMember(record []byte) bool {
	return bytes.Contains(record, []byte(`"_`)) &&
		(bytes.Contains(record, []byte(`"_tenancy"`)) || bytes.Contains(record, []byte(`"_upload_`))) ||
		bytes.IndexByte(record, '\\') >= 0 && bytes.Contains(record, []byte(`\u00`))
}

// appendRenamed appends record to dst, with reserved members at the top level
// renamed.
func appendRenamed(dst, record []byte) (_ []byte, renamed bool, _ error) {
	d := jsontext.NewDecoder(bytes.NewReader(record), lenientJSON...)
	if _, err := d.ReadToken(); err != nil {
		return dst, false, fmt.Errorf("record: %w", err)
	}
	copied := 0
	for d.PeekKind() == '"' {
		raw, err := d.ReadValue()
		if err != nil {
			return dst, false, fmt.Errorf("record: %w", err)
		}
		end := int(d.InputOffset())
		if name, err := jsontext.AppendUnquote(nil, raw); err == nil && IsReservedMember(string(name)) {
			dst = append(dst, record[copied:end-len(raw)]...)
			dst = append(dst, `"`+vendorPrefix+string(name)+`"`...)
			copied, renamed = end, true
		}
		if err := d.SkipValue(); err != nil {
			return dst, false, fmt.Errorf("record: %w", err)
		}
	}
	return append(dst, record[copied:]...), renamed, nil
}

// IsReservedMember reports whether name is that of a reserved member.
func IsReservedMember(name string) bool {
	return name == MemberTenancy || name == MemberUploadTimestamp || name == MemberUploadID
}

// lenientJSON are the decoder options for vendors' records, which may contain
// duplicate names and lone surrogates.
var lenientJSON = []jsontext.Options{
	jsontext.AllowDuplicateNames(true),
	jsontext.AllowInvalidUTF8(true),
}
