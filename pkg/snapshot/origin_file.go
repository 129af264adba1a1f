package snapshot

import (
	"context"
	"errors"
	"io"
)

// errFirst ends a Decode after its first record.
var errFirst = errors.New("the first record is known")

// ReadOrigin returns what the first record of a file in the format f, JSON or
// NDJSON, says of its snapshot, see Origin. The error wraps ErrForeign when the
// file has no record.
func ReadOrigin(ctx context.Context, r io.Reader, f Format) (h Header, err error) {
	found := ErrForeign
	err = Decode(ctx, r, f, func(record []byte) error {
		h, found = Origin(record)
		return errFirst
	})
	if err != nil && !errors.Is(err, errFirst) {
		return Header{}, err
	}
	return h, found
}
