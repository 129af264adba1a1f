package collector

import (
	"context"
	"errors"
)

// ErrUnchanged is returned by Extract when the vendor's data is the same as in the
// last-known snapshot of the stream, whose note PreviousOutput.PreviousNote has
// returned. The run is a success without a new snapshot, and the last-known data is
// as new as the run. Records that were written are dropped.
var ErrUnchanged = errors.New("the vendor's data has not changed")

// MaxNote is the size of the longest note that SetNote keeps, in bytes.
const MaxNote = 64 << 10

// A PreviousOutput is an Output of a stream that may have a last-known snapshot. Its
// methods serve extractions that ask the vendor only for what has changed since.
//
// A selection is a text that names everything besides the time that decides which
// records a snapshot has, and their form: addresses, filters, the version of a
// transformation. It has no secrets.
type PreviousOutput interface {
	Output
	// PreviousNote returns the note that SetNote has sealed with the last-known
	// snapshot, such as an ETag or the end of a time window. It is "" when there is
	// none, when it was made with another selection, and when the snapshot is
	// damaged: the vendor is then to be asked without conditions.
	PreviousNote(ctx context.Context, selection string) string
	// SetNote sets the note to seal with the new snapshot, from which it cannot be
	// separated: it is restored from a backup and lost with the snapshot. A note that
	// is longer than MaxNote is not kept. Reset drops it.
	SetNote(selection, text string)
	// EachPrevious passes each record of the last-known snapshot to read, in the
	// order and the bytes in which it was stored, without collectord's members. The
	// record is valid until read returns. EachPrevious may be called only after
	// PreviousNote has returned a note. After an error the records that were passed on
	// must not be used.
	EachPrevious(ctx context.Context, read func(record []byte) error) error
}

// PreviousOf returns out as a PreviousOutput. One that is none has no last-known
// snapshot and keeps no note.
func PreviousOf(out Output) PreviousOutput {
	if previous, ok := out.(PreviousOutput); ok {
		return previous
	}
	return withoutPrevious{out}
}

// withoutPrevious is the PreviousOutput of an Output that knows no last-known snapshot.
type withoutPrevious struct{ Output }

func (withoutPrevious) PreviousNote(context.Context, string) string { return "" }

func (withoutPrevious) SetNote(string, string) {}

func (withoutPrevious) EachPrevious(context.Context, func([]byte) error) error {
	return errors.New("there is no last-known snapshot")
}
