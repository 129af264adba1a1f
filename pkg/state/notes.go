package state

import "context"

// Notes are short texts of one tenancy that are kept between runs, each under a key.
type Notes interface {
	// Note returns the text under key, "" when there is none.
	Note(ctx context.Context, key string) (text string, err error)
	// SwapNote stores text under key if the text there is old, "" when there is none,
	// and reports whether it was. An empty text removes the note.
	SwapNote(ctx context.Context, key, old, text string) (swapped bool, err error)
	// SetNote stores text under key; "" removes the note.
	SetNote(ctx context.Context, key, text string) error
}
