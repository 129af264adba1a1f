// Package state is what collectord remembers between runs and restarts: the last-known
// snapshot of each stream, the queue of deliveries, the history of runs, and locks that keep
// two processes from doing the same work. This package has the types and the errors; the
// packages below it keep a state: package local in a directory.
package state

import (
	"context"
	"errors"
	"time"
)

// Errors of opening a state.
var (
	// ErrUnusable means that a person must fix something: the directory is a file, or the
	// database is damaged, another program's or that of a newer collectord. Other errors,
	// such as those of a full disk, may pass.
	ErrUnusable = errors.New("cannot be used")
	// ErrOlder means that the schema of the database is older than this program's. Opening
	// the state migrates it; until then it cannot be inspected.
	ErrOlder = errors.New("an earlier collectord wrote it")
)

// A State is what collectord remembers. Its methods may be called from several goroutines, and
// several processes may have the same one open.
type State struct {
	// Runs begins and ends runs, and has their history.
	Runs Runs
	// Snapshots has the last-known snapshots and writes new ones.
	Snapshots Snapshots
	// Queue has the deliveries that are still to be made.
	Queue Queue
	// Locks keep two processes from doing the same work at once.
	Locks Locks
	Backend
}

// A Backend is where a State is kept. Its methods concern more than one part of the state.
type Backend interface {
	// Controls returns the controls of a tenancy.
	Controls(tenancy string) Controls
	// Tenancies returns what the state has of each tenancy, ordered by name. Tenancies of
	// which the database has nothing are left out.
	Tenancies(ctx context.Context) (all []TenancyUsage, err error)
	// TenancyUsage returns what the state has of a tenancy.
	TenancyUsage(ctx context.Context, tenancy string) (TenancyUsage, error)
	// ForgetTenancy deletes everything that the state has of a tenancy, except for one empty
	// lock file. What a call that was interrupted has left, the next one deletes. The error
	// wraps ErrLocked when something works for the tenancy.
	ForgetTenancy(ctx context.Context, tenancy string) (err error)
	// Notes returns the notes of a tenancy.
	Notes(tenancy string) Notes
	// Recover completes or removes what processes that died have left of a
	// collector's runs for a tenancy: of the named streams, or of all without names. A
	// snapshot that was sealed but not recorded is recorded as its run would have done; that
	// of a failed run is removed. A snapshot that cannot be used is removed from the queues,
	// so that it does not block later ones, and the newest usable one of the stream replaces
	// it as the last-known one. The caller holds the locks of these streams.
	Recover(ctx context.Context, collector, tenancy string, p Policy, streams ...string) (RecoverResult, error)
	// Dir returns the directory of this machine in which snapshots are written, with other
	// files that only this machine needs.
	Dir() string
	// Interrupt lets every call that waits for a database on another machine fail, and all
	// later ones: the process must end. It does nothing where the state is on this machine.
	Interrupt()
	// Close closes the state.
	Close() error
	// Sweep removes runs and deliveries that ended more than keep ago from the
	// history, and the snapshots, interrupted restores and export chunks that are not needed any
	// more. Run counts, last-known snapshots and those that wait for Accept stay,
	// however old they are.
	Sweep(ctx context.Context, keep time.Duration) error
	// Streams returns the status of every stream that was ever run or restored.
	Streams(ctx context.Context) ([]StreamStatus, error)
	// TenancyStreams is Streams for the streams of one tenancy.
	TenancyStreams(ctx context.Context, tenancy string) ([]StreamStatus, error)
	// TakeOver adds what another state, which the backend opened for this, has of a tenancy: the last-known snapshots and those that
	// wait for Accept as they are, each after its sum was verified, the history and the counts
	// of streams that have none here, the export chunks of streams that have none here, notes,
	// controls, and the counts and targets of destinations. What is here stays where both have
	// something, except for an older last-known snapshot. Deliveries are not taken over: a
	// destination for which a delivery is queued there is not recorded as known here.
	//
	// Each stream is added in one transaction. Calling TakeOver again continues what was
	// interrupted, and changes nothing when all is there. The error wraps ErrLocked when a
	// stream is being collected or restored here.
	TakeOver(ctx context.Context, from *State, tenancy string) (result TakeOverResult, err error)
}
