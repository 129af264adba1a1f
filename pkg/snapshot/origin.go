package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// ErrForeign means that a record does not say, or not in the way of its
// snapshot, whose it is.
var ErrForeign = errors.New("record of another origin")

// timestampLayouts are the forms of _upload_timestamp that are read, UTC where
// they do not say.
var timestampLayouts = []string{TimestampLayout, time.RFC3339Nano, "2006-01-02T15:04:05.999999999"}

// Origin reads from a stored record the tenancy, upload id and upload
// timestamp that its three members name. The error wraps ErrForeign when one
// of them is missing.
func Origin(record []byte) (Header, error) {
	d := jsontext.NewDecoder(bytes.NewReader(record), lenient...)
	if _, err := d.ReadToken(); err != nil {
		return Header{}, fmt.Errorf("record: %w", err)
	}
	found := map[string]string{}
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return Header{}, fmt.Errorf("record: %w", err)
		}
		if key := name.String(); isOurs(key) && d.PeekKind() == '"' {
			value, err := d.ReadToken()
			if err != nil {
				return Header{}, fmt.Errorf("record: %w", err)
			}
			found[key] = value.String()
		} else if err := d.SkipValue(); err != nil {
			return Header{}, fmt.Errorf("record: %w", err)
		}
	}
	for _, name := range []string{memberTenancy, memberTimestamp, memberID} {
		if _, ok := found[name]; !ok {
			return Header{}, fmt.Errorf("%w: it has no %s", ErrForeign, name)
		}
	}
	h := Header{Tenancy: found[memberTenancy], UploadID: found[memberID]}
	for _, layout := range timestampLayouts {
		if t, err := time.Parse(layout, found[memberTimestamp]); err == nil {
			h.UploadTimestamp = t.UTC().Truncate(time.Second)
			return h, nil
		}
	}
	return Header{}, fmt.Errorf("%w: %s is %.40q, want the form %s", ErrForeign, memberTimestamp, found[memberTimestamp], TimestampLayout)
}

// A copier takes records that have the three members already, as they are.
type copier struct {
	header Header
	tail   []byte // what the members look like when a Splicer has made them
}

// append appends record and a newline to dst when it is of the header's
// origin.
func (c copier) append(dst, record []byte) ([]byte, Spliced, error) {
	record = bytes.TrimSpace(record)
	if !bytes.HasSuffix(record, c.tail) {
		got, err := Origin(record)
		if err != nil {
			return dst, Spliced{}, err
		}
		if got.Tenancy != c.header.Tenancy || got.UploadID != c.header.UploadID || !got.UploadTimestamp.Equal(c.header.UploadTimestamp) {
			return dst, Spliced{}, fmt.Errorf("%w: tenancy %q, upload id %q of %s; the others have %q, %q of %s", ErrForeign,
				got.Tenancy, got.UploadID, got.UploadTimestamp.Format(TimestampLayout),
				c.header.Tenancy, c.header.UploadID, c.header.UploadTimestamp.Format(TimestampLayout))
		}
	}
	var done Spliced
	record, done.Repaired = repaired(record)
	start := len(dst)
	dst = append(dst, record...)
	oneLine(dst[start:])
	return append(dst, '\n'), done, nil
}
