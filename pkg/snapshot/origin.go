package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// ErrForeign means that a record lacks the reserved members, or that they differ
// from those of its snapshot.
var ErrForeign = errors.New("record of another origin")

// timestampLayouts are the accepted layouts of _upload_timestamp, in UTC unless the
// value has a zone.
var timestampLayouts = []string{TimestampLayout, time.RFC3339Nano, "2006-01-02T15:04:05.999999999"}

// Origin returns the tenancy, upload id and upload timestamp in the reserved members
// of a stored record. The error wraps ErrForeign when one of them is missing.
func Origin(record []byte) (Header, error) {
	d := jsontext.NewDecoder(bytes.NewReader(record), lenientJSON...)
	if _, err := d.ReadToken(); err != nil {
		return Header{}, fmt.Errorf("record: %w", err)
	}
	found := map[string]string{}
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return Header{}, fmt.Errorf("record: %w", err)
		}
		if key := name.String(); IsReservedMember(key) && d.PeekKind() == '"' {
			value, err := d.ReadToken()
			if err != nil {
				return Header{}, fmt.Errorf("record: %w", err)
			}
			found[key] = value.String()
		} else if err := d.SkipValue(); err != nil {
			return Header{}, fmt.Errorf("record: %w", err)
		}
	}
	for _, name := range []string{MemberTenancy, MemberUploadTimestamp, MemberUploadID} {
		if _, ok := found[name]; !ok {
			return Header{}, fmt.Errorf("%w: it has no %s", ErrForeign, name)
		}
	}
	h := Header{Tenancy: found[MemberTenancy], UploadID: found[MemberUploadID]}
	for _, layout := range timestampLayouts {
		if t, err := time.Parse(layout, found[MemberUploadTimestamp]); err == nil {
			h.UploadTimestamp = t.UTC().Truncate(time.Second)
			return h, nil
		}
	}
	return Header{}, fmt.Errorf("%w: %s is %.40q, want the form %s", ErrForeign,
		MemberUploadTimestamp, found[MemberUploadTimestamp], TimestampLayout)
}

// storedRecords accepts records that have the reserved members of header already.
type storedRecords struct {
	header Header
	tail   []byte // the members as a Splicer writes them
}

// appendRecord appends record and a newline to dst. It returns ErrForeign when the
// reserved members differ from the header.
func (s storedRecords) appendRecord(dst, record []byte) ([]byte, SpliceResult, error) {
	record = bytes.TrimSpace(record)
	if !bytes.HasSuffix(record, s.tail) {
		got, err := Origin(record)
		if err != nil {
			return dst, SpliceResult{}, err
		}
		if got.Tenancy != s.header.Tenancy || got.UploadID != s.header.UploadID || !got.UploadTimestamp.Equal(s.header.UploadTimestamp) {
			return dst, SpliceResult{}, fmt.Errorf("%w: tenancy %q, upload id %q of %s; the others have %q, %q of %s", ErrForeign,
				got.Tenancy, got.UploadID, got.UploadTimestamp.Format(TimestampLayout),
				s.header.Tenancy, s.header.UploadID, s.header.UploadTimestamp.Format(TimestampLayout))
		}
	}
	var done SpliceResult
	record, done.Repaired = repairUTF8(record)
	start := len(dst)
	dst = append(dst, record...)
	replaceLineBreaks(dst[start:])
	return append(dst, '\n'), done, nil
}
