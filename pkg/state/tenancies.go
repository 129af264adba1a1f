package state

import (
	"errors"

	"github.com/collectord/collectord/pkg/snapshot"
)

// A TenancyUsage is what the state has of a tenancy.
type TenancyUsage struct {
	Tenancy string
	// Streams is the number of streams with a last-known snapshot.
	Streams int64
	// Queued is the number of queued deliveries, Runs that of runs in the history.
	Queued, Runs int64
	// Controls is the number of controls, ControlDays that of their daily results.
	Controls, ControlDays int64
	// Notes is the number of notes.
	Notes int64
	// Bytes is the size of the snapshots, of the kept export chunks and of what is being
	// written, on disk.
	Bytes int64
}

// IsEmpty reports whether the state has nothing of the tenancy. Counters of runs and
// deliveries are something.
func (t TenancyUsage) IsEmpty() bool { return t == TenancyUsage{Tenancy: t.Tenancy} }

// ErrInUse means that a process has the database of another state directory open.
var ErrInUse = errors.New("in use")

// A TakeOverResult is what TakeOver has done.
type TakeOverResult struct {
	// Streams are those of the other state, ordered by name.
	Streams []TakenStream
	// Notes, Controls and ControlDays are the numbers of those that were added.
	Notes, Controls, ControlDays int64
}

// A TakenStream is what TakeOver has done with a stream.
type TakenStream struct {
	Stream string
	// Snapshot says what happened to the last-known snapshot, Held to one that waits
	// for Accept.
	Snapshot, Held TakenSnapshot
	Info           snapshot.Info // of the last-known snapshot; zero when there is none
	// Runs is the number of runs that were added to the history, Jobs that of
	// export jobs whose chunks were added.
	Runs, Jobs int
}

// A TakenSnapshot says what TakeOver has done with a snapshot.
type TakenSnapshot string

// What TakeOver may do with a snapshot.
const (
	TakenNone    TakenSnapshot = "none"    // the other state has none
	TakenAdded   TakenSnapshot = "added"   // it was added
	TakenThere   TakenSnapshot = "there"   // it had been added before
	TakenOlder   TakenSnapshot = "older"   // the present one is newer, and stays
	TakenDamaged TakenSnapshot = "damaged" // it cannot be used
)
