// Package collector is the contract between a vendor and the rest of
// collectord: what a vendor offers (Definition, Collector, Stream), where its
// records are written (Output, Batch), and how its progress is observed
// (Stats).
package collector

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"
)

// The classes of errors that callers act on. Every error that an extraction
// returns wraps at most one of them.
var (
	// ErrRefused means that the vendor rejected the credentials. A retry cannot
	// succeed before a person renews them.
	ErrRefused = errors.New("credentials refused")
	// ErrForbidden means that the credentials are valid but lack a permission.
	ErrForbidden = errors.New("permission missing")
	// ErrIncomplete means that it is doubtful whether all records were
	// received. The result of the extraction must not be used.
	ErrIncomplete = errors.New("incomplete")
	// ErrIdle means that nothing arrived for longer than the idle limit of the
	// run.
	ErrIdle = errors.New("no progress")
)

// A PostponedError is an error of a vendor that asks to send no request before a time.
type PostponedError interface {
	error
	// PostponedUntil returns that time.
	PostponedUntil() time.Time
}

// PostponedUntil returns the time until which the vendor asks to wait, if err wraps a
// PostponedError.
func PostponedUntil(err error) (at time.Time, asked bool) {
	var postponed PostponedError
	if !errors.As(err, &postponed) {
		return time.Time{}, false
	}
	return postponed.PostponedUntil(), true
}

// ControlsName is the name of the collector whose streams are the results of controls. No
// vendor has it.
const ControlsName = "control"

// A Stream is one table of a vendor.
type Stream struct {
	// Name is the table's name and tag, such as "okta_users".
	Name string
	// Extract writes every record of the vendor to out, in the vendor's order
	// if there is one. If it returns nil, the vendor has said that there are no
	// more records. If that is doubtful, it returns an error, and the caller
	// drops the records. It stops soon after ctx ends. It may be called again.
	Extract func(ctx context.Context, out Output) error
	// Check makes the smallest request that shows whether the credentials may
	// read this stream. It starts no job at the vendor and writes no records.
	Check func(ctx context.Context) error
}

// A Collector reads one account at a vendor.
type Collector struct {
	// Name is the name of the vendor's Definition, such as "okta".
	Name    string
	Streams []Stream
	// Credentials identify the rate limits that the collector has in common with all that have
	// one of them. They do not show what they stand for.
	Credentials []string
	// Check makes the cheapest request that shows whether the vendor accepts
	// the credentials. It writes no records. An error that wraps ErrForbidden
	// means that they were accepted; what they may read, the streams' own checks
	// show.
	Check func(ctx context.Context) error
}

// An Output receives the records of one stream in batches. Its methods may be
// called from several goroutines.
type Output interface {
	// NewBatch opens a batch. Several batches may be open at the same time.
	// The records of a batch become part of the output when it is committed.
	NewBatch() Batch
	// Reset drops all committed batches, for an extraction that starts over,
	// for example after a cursor has expired. No batch may be open.
	Reset() error
}

// A ResumableOutput is an Output that keeps a vendor's export job and its chunks
// when the run does not end it, because it failed or was stopped or the process
// died, so that the next run can continue the job. When a run succeeds, the
// chunks are removed.
type ResumableOutput interface {
	Output
	// FindJob returns the id of the job that an earlier run has kept; "" if there
	// is none, if it is too old, or if it was started with another selection.
	FindJob(selection string) (job string, err error)
	// OtherJobs returns the ids of the kept jobs that were started with another
	// selection, which cannot be continued.
	OtherJobs(selection string) (jobs []string, err error)
	// BeginJob sets the job to which the following chunks belong. Saved chunks
	// of other jobs are removed.
	BeginJob(selection, job string) error
	// DropJob removes the job and its chunks, whose result cannot be used.
	DropJob() error
	// ReuseChunk adds the chunk that is saved under key. It returns false if
	// there is none or it is damaged, so that it must be fetched.
	ReuseChunk(ctx context.Context, key string) (bool, error)
	// SaveChunk returns the output for the one batch to save under key.
	SaveChunk(key string) Output
}

// A Batch is a set of records that is kept whole or not at all. It must be
// used from one goroutine and ended with Commit or Discard.
type Batch interface {
	// Append adds one record, a JSON object in the vendor's own bytes. It does
	// not retain record. It blocks while the disk is too slow.
	Append(record []byte) error
	// Commit adds the records of the batch to the output.
	Commit() error
	// Discard drops the batch. After Commit it does nothing.
	Discard()
}

// Options are passed to every collector that is enabled.
type Options struct {
	// Version is collectord's own version, for the User-Agent header.
	Version string
	Log     *zap.Logger
	// Notes stores the collector's notes across restarts.
	Notes Notes
	// Shared holds what the collectors of the process share; nil for nothing.
	Shared *Shared
}

// Notes stores short texts across runs and restarts, such as the id of an
// export job that is still running at the vendor. Keys are unique within one
// tenancy.
type Notes interface {
	// Note returns the text under key; "" if there is none.
	Note(ctx context.Context, key string) (string, error)
	// SetNote stores text under key durably. An empty text removes the note.
	SetNote(ctx context.Context, key, text string) error
}
