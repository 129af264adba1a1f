// Package store is the contract between collectord and its destinations: what
// a destination promises ([Sink]), how it is described and opened
// ([Definition]), and what several destinations share: path templates
// ([Path]), the retention of snapshots ([Retention]) and the ledger of stored
// snapshots ([AddSnapshot]).
//
// The destinations are packages of their own below this one. A destination
// and a sink are the same thing: code and metrics say sink, documents and
// messages say destination. Package storetest has the tests that every
// destination passes.
package store

import (
	"context"
	"errors"

	"github.com/collectord/collectord/pkg/snapshot"
)

// A Sink is one destination.
type Sink interface {
	// Name returns the destination's name in settings, metrics and messages,
	// such as "file" or "postgres".
	Name() string
	// Write stores all of s or none of it: readers see the previous snapshot
	// until Write returns nil. Writing the same snapshot again changes
	// nothing, so a caller that does not know whether a Write succeeded
	// repeats it. An error wraps ErrRefused when repeating cannot help before
	// a person changes something.
	Write(ctx context.Context, s *snapshot.Snapshot) error
	// Check reports whether the destination can be reached and written to,
	// without changing what it holds.
	Check(ctx context.Context) error
	// Close releases what the sink holds open. No other method is called
	// afterwards.
	Close() error
}

// A Describer is a Sink that can say what its last Check found out.
type Describer interface {
	// Description describes the server and how it is used, such as "MinIO: path
	// style, no ACL, no checksums". It is "" if nothing is known.
	Description() string
}

// A TableChecker is a Sink that stores each stream in a table.
type TableChecker interface {
	// CheckTables returns an error for each stream whose table exists and does not
	// accept its snapshots. It changes nothing. A header has the stream, its collector
	// and the tenancy.
	CheckTables(ctx context.Context, streams []snapshot.Header) error
}

// ErrRefused means that a destination does not accept a snapshot until a
// person changes something there or in the settings: a missing permission, a
// missing database, a table of another shape.
var ErrRefused = errors.New("destination refused")

// A NoteFunc receives what is worth knowing about a delivery and is not a
// failure, one sentence each: records that were stored in another form, a
// view that could not be created. s is nil when the note is not about one
// snapshot.
type NoteFunc func(s *snapshot.Snapshot, text string)

// A Replacer is a Sink that knows whether each snapshot of a stream and tenancy
// replaces the one before.
type Replacer interface{ ReplacesPrevious() bool }

// ReplacesPrevious reports whether each snapshot of a stream and tenancy
// replaces the one before in s, so that only the newest has to be stored. It is
// false for a Sink that is no [Replacer].
func ReplacesPrevious(s Sink) bool {
	r, ok := s.(Replacer)
	return ok && r.ReplacesPrevious()
}

// A Targeter is a Sink that can name the place in which it stores snapshots.
type Targeter interface {
	// Target returns a text that differs when the place does, such as the host,
	// database and schema. It contains no secret.
	Target() string
}

// TargetOf returns the target of s; "" when s is no [Targeter].
func TargetOf(s Sink) string {
	if t, ok := s.(Targeter); ok {
		return t.Target()
	}
	return ""
}

// A Keeper is a Sink that can say at little cost, such as by one look at a file,
// whether it still has what it stores for a stream.
type Keeper interface {
	// HasLost reports whether what the sink stores for the stream and tenancy of h is
	// gone. It is false where that is not known.
	HasLost(h snapshot.Header) bool
}

// FindLost returns the names of the sinks that have lost what they store for the stream
// and tenancy of h, as far as they are [Keeper]s.
func FindLost(sinks []Sink, h snapshot.Header) (names []string) {
	for _, s := range sinks {
		if k, ok := s.(Keeper); ok && k.HasLost(h) {
			names = append(names, s.Name())
		}
	}
	return names
}

// refillKey marks the context of a refill.
type refillKey struct{}

// WithRefill returns a context in which Write stores the snapshot even if the
// destination has recorded that it stored it before: its rows may have been
// deleted since. They are replaced, not added a second time.
func WithRefill(ctx context.Context) context.Context {
	return context.WithValue(ctx, refillKey{}, true)
}

// isRefill reports whether ctx is from WithRefill.
func isRefill(ctx context.Context) bool { return ctx.Value(refillKey{}) != nil }
