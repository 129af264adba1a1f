// Package collector is the contract between a vendor and the rest of
// collectord: what a vendor offers (Source, Collector, Stream), where its
// records go (Output, Page), and what can be seen of it while it runs (Stats).
package collector

import (
	"context"
	"errors"

	"go.uber.org/zap"
)

// The classes of failure that callers act on. Every error that an extraction
// returns wraps at most one of them.
var (
	// ErrRefused means that the vendor rejected the credentials. Trying again
	// cannot help.
	ErrRefused = errors.New("credentials refused")
	// ErrForbidden means that the credentials are good but lack a permission.
	ErrForbidden = errors.New("permission missing")
	// ErrIncomplete means that the vendor's answer leaves a doubt whether all
	// records were received; the extraction is worth nothing.
	ErrIncomplete = errors.New("incomplete")
	// ErrIdle means that nothing arrived for longer than the run may idle.
	ErrIdle = errors.New("no progress")
)

// A Stream is one table of a vendor.
type Stream struct {
	// Name is the table's name and tag, such as "okta_users".
	Name string
	// Extract passes every record that the vendor has to out, in the vendor's
	// order as far as it has one. Returning nil promises that the vendor said
	// there is no more; any doubt is an error, and what was passed on is
	// dropped. It stops soon after ctx ends. It may be called again.
	Extract func(ctx context.Context, out Output) error
}

// A Collector is one vendor account, ready to be read.
type Collector struct {
	// Name is the source's name, such as "okta".
	Name    string
	Streams []Stream
	// Check asks the vendor, by the cheapest request there is, whether the
	// credentials are accepted. It reads no records.
	Check func(ctx context.Context) error
}

// An Output takes the records of one stream, a page at a time. Its methods
// may be called from several goroutines.
type Output interface {
	// Page opens a page. Pages that are open at the same time do not disturb
	// each other, and none is visible before its Commit.
	Page() Page
	// Reset drops all pages committed so far, for an extraction that must
	// start over, such as after an expired cursor. No page may be open.
	Reset() error
}

// A Keeper is an Output that keeps the pages of a vendor's export job beyond
// the process's death, so that the job can be continued. A run that ends by
// itself, well or not, leaves nothing kept; one that is stopped does.
type Keeper interface {
	Output
	// Kept returns the id of the job whose pages a run that was cut off has
	// kept; "" when there is none, or when it is too old, or when it was asked
	// for something else.
	Kept(asked string) (job string, err error)
	// Begin says whose pages follow. What is kept of other jobs is dropped.
	Begin(asked, job string) error
	// Carry adds the page that is kept under key; false when none is, or when
	// it is damaged, so that it must be fetched.
	Carry(ctx context.Context, key string) (bool, error)
	// Keep returns the output for the one page that is to be kept under key.
	Keep(key string) Output
}

// A Page is a set of records that is kept whole or not at all. It belongs to
// one goroutine and ends with Commit or Discard.
type Page interface {
	// Append adds one record, a JSON object in the vendor's own bytes. The
	// bytes are not kept after Append returns. It blocks while the disk is
	// behind.
	Append(record []byte) error
	// Commit keeps the page.
	Commit() error
	// Discard drops the page. After Commit it does nothing.
	Discard()
}

// Options are what collectord hands to every source that is switched on.
type Options struct {
	// Version is collectord's own, for the User-Agent header.
	Version string
	Log     *zap.Logger
	// Notes keeps a source's small notes across restarts.
	Notes Notes
}

// Notes keeps small texts across runs and restarts, such as the id of an
// export job that the vendor is still working on. Keys are unique within one
// tenancy.
type Notes interface {
	// Note returns the text under key, or "" when there is none.
	Note(ctx context.Context, key string) (string, error)
	// SetNote stores text under key durably; "" removes it.
	SetNote(ctx context.Context, key, text string) error
}
