package snapshot

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// The three members that every stored record has besides the vendor's own.
const (
	memberTenancy   = "_tenancy"
	memberTimestamp = "_upload_timestamp"
	memberID        = "_upload_id"
)

// vendorPrefix is put before a member of the vendor's that has the name of
// one of ours.
const vendorPrefix = "_vendor"

// ErrNotObject means that a record is no JSON object.
var ErrNotObject = errors.New("record is not a JSON object")

// A Splicer adds the three members to records without re-encoding them: key
// order, number spelling, escapes and unknown members survive byte for byte.
//
// Four things about a vendor's bytes are settled here:
//   - A line break between tokens becomes a space, since a record is a line.
//   - A member that has the name of one of ours is kept as _vendor<name>, so
//     that _tenancy, _upload_timestamp and _upload_id are always collectord's.
//   - Bytes that are not UTF-8 become U+FFFD: JSON is UTF-8 by definition and
//     one such byte would make the whole file unreadable to most consumers.
//   - Duplicate names of other kinds stay as they are: JSON readers differ in
//     which they take, and choosing for them would lose a value.
//
// The second and third are counted in the snapshot's manifest.
type Splicer struct {
	tail []byte
}

// A Spliced says what Append had to change.
type Spliced struct{ Renamed, Repaired bool }

// NewSplicer makes a Splicer for the records of h.
func NewSplicer(h Header) *Splicer {
	var tail []byte
	for _, m := range [...][2]string{
		{memberTenancy, h.Tenancy},
		{memberTimestamp, h.UploadTimestamp.UTC().Format(TimestampLayout)},
		{memberID, h.UploadID},
	} {
		value, err := json.Marshal(m[1])
		if err != nil { // a string always marshals
			panic(err)
		}
		tail = append(tail, `,"`+m[0]+`":`...)
		tail = append(tail, value...)
	}
	return &Splicer{tail: append(tail, '}', '\n')}
}

// Append appends to dst record, a single valid JSON value, with the three
// members and a newline.
func (s *Splicer) Append(dst, record []byte) ([]byte, Spliced, error) {
	var done Spliced
	record = bytes.Trim(record, " \t\r\n")
	if len(record) < 2 || record[0] != '{' || record[len(record)-1] != '}' {
		return dst, done, fmt.Errorf("%w: it starts with %.20q", ErrNotObject, record)
	}
	record, done.Repaired = repaired(record)
	start := len(dst)
	if mayHoldOurs(record) {
		var err error
		if dst, done.Renamed, err = appendRenamed(dst, record); err != nil {
			return dst[:start], done, err
		}
	} else {
		dst = append(dst, record...)
	}
	oneLine(dst[start:])
	end := len(bytes.TrimRight(dst[start:len(dst)-1], " \t")) + start
	dst = dst[:end]
	if end-start == 1 { // "{": the object is empty, so no comma
		return append(dst, s.tail[1:]...), done, nil
	}
	return append(dst, s.tail...), done, nil
}

// repaired returns record as UTF-8, and whether something had to be replaced.
func repaired(record []byte) ([]byte, bool) {
	if utf8.Valid(record) {
		return record, false
	}
	return bytes.ToValidUTF8(record, []byte("\ufffd")), true
}

// oneLine turns line breaks into spaces. Within strings JSON has them only
// escaped, so they can only stand between tokens.
func oneLine(b []byte) {
	if bytes.IndexByte(b, '\n') < 0 && bytes.IndexByte(b, '\r') < 0 {
		return
	}
	for i, c := range b {
		if c == '\n' || c == '\r' {
			b[i] = ' '
		}
	}
}

// mayHoldOurs tells cheaply whether record could have a member with the name
// of one of ours, spelt plainly or with escapes.
func mayHoldOurs(record []byte) bool {
	return bytes.Contains(record, []byte(`"_`)) &&
		(bytes.Contains(record, []byte(`"_tenancy"`)) || bytes.Contains(record, []byte(`"_upload_`))) ||
		bytes.IndexByte(record, '\\') >= 0 && bytes.Contains(record, []byte(`\u00`))
}

// appendRenamed appends record with our names renamed on its top level.
func appendRenamed(dst, record []byte) (_ []byte, renamed bool, _ error) {
	d := jsontext.NewDecoder(bytes.NewReader(record), lenient...)
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
		if name, err := jsontext.AppendUnquote(nil, raw); err == nil && isOurs(string(name)) {
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

func isOurs(name string) bool {
	return name == memberTenancy || name == memberTimestamp || name == memberID
}

// lenient reads what vendors really send: duplicate names and lone surrogates
// stay in a record, and are no reason to lose the others.
var lenient = []jsontext.Options{
	jsontext.AllowDuplicateNames(true),
	jsontext.AllowInvalidUTF8(true),
}
