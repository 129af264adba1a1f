package state

import (
	"context"
	"errors"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
)

// Queue has the deliveries that are still to be made.
type Queue interface {
	// Open opens the snapshot of a delivery. The error wraps snapshot.ErrDamaged when the
	// snapshot is missing or damaged.
	Open(ctx context.Context, d Delivery) (*snapshot.Snapshot, error)
	// Next returns the first queued delivery of each stream of a tenancy and sink,
	// in the order in which they were queued. Later ones must wait for it.
	Next(ctx context.Context, tenancy string) ([]Delivery, error)
	// List returns all queued deliveries, in the order in which they were queued.
	List(ctx context.Context) ([]Delivery, error)
	// Contains reports whether a delivery is still queued.
	Contains(ctx context.Context, d Delivery) (queued bool, err error)
	// MarkDelivered removes a delivery from the queue: the sink has the snapshot.
	// The snapshot is removed when nothing else needs it. A delivery that is not
	// queued any more is no error: another process has delivered the same.
	MarkDelivered(ctx context.Context, d Delivery) error
	// ScheduleRetry records a failed attempt and the time of the next one. A
	// delivery that is not queued any more is no error.
	ScheduleRetry(ctx context.Context, d Delivery, cause error, class Class, next time.Time) error
	// RetryAllNow makes every queued delivery of a tenancy due at once.
	RetryAllNow(ctx context.Context, tenancy string) error
	// RetryRefusedNow makes every refused delivery of a tenancy due at once.
	RetryRefusedNow(ctx context.Context, tenancy string) error
	// DropDamaged reads the snapshot of a delivery. When it is missing or damaged,
	// it can never be delivered and would block later ones: DropDamaged removes it
	// from the queues of all sinks and from the last-known ones, counts a failed
	// delivery for each of the sinks, and returns true. It returns false when the
	// snapshot is intact or the delivery is not queued any more.
	DropDamaged(ctx context.Context, d Delivery) (bool, error)
	// SinkStatuses returns the delivery counts of every stream and sink.
	SinkStatuses(ctx context.Context) ([]SinkStatus, error)
	// RegisterSinks records the destinations of a tenancy, which are those of the
	// policy, with their targets: texts that differ when the place differs that
	// snapshots are stored in. It queues the last-known snapshots for each
	// destination that is new or has another target, and returns these.
	RegisterSinks(ctx context.Context, tenancy string, targets map[string]string, p Policy) (changes []SinkChange, err error)
	// Refill queues the last-known snapshot of a stream for each sink of the policy
	// with Refill set, and makes what is queued for them due at once. It returns
	// the snapshot's upload id, or "" when it is empty and the policy delivers no
	// empty ones. The error wraps ErrNoSnapshot when no snapshot is known.
	Refill(ctx context.Context, stream, tenancy string, p Policy) (uploadID string, err error)
	// RefillLost queues the last-known snapshot of a stream for sinks that have lost it, as
	// Refill does, and returns the names of those for which it did. A sink for which a
	// snapshot of the stream is queued does not have it yet, and one for which its delivery
	// ended without being made, such as by a person, does not get it.
	RefillLost(ctx context.Context, stream, tenancy string, sinks []string) (refilled []string, err error)
	// SupersedeAll ends the older deliveries of every stream of a tenancy to sinks in
	// which a newer snapshot replaces them.
	SupersedeAll(ctx context.Context, tenancy string, p Policy) error
	// SupersedeOlder ends the queued deliveries of a stream to a sink before the
	// newest as superseded. One that is from the future, see snapshot.IsFromFuture,
	// is the newest only if all are. The newest one takes over the failed attempts and the
	// waiting time of the first, so that a sink that fails is not attempted more
	// often. SupersedeOlder returns the newest one, which may be the only one, and
	// the number of deliveries that it ended. The caller holds the lock from
	// Locks.LockDelivery, so that no delivery in progress is ended.
	SupersedeOlder(ctx context.Context, sink, stream, tenancy string) (newest Delivery, ended int, err error)
	// ListUndelivered returns the newest deliveries of a tenancy that ended without
	// being made, at most limit, newest first.
	ListUndelivered(ctx context.Context, tenancy string, limit int) ([]Undelivered, error)
	// FindEnd returns how a delivery ended that is not queued any more; "" when it
	// was made.
	FindEnd(ctx context.Context, d Delivery) (end DeliveryEnd, err error)
	// MarkKeptOut removes a delivery from the queue: the sink has a snapshot that must
	// stay in place of this one. A delivery that is not queued any more is no error.
	MarkKeptOut(ctx context.Context, d Delivery) error
	// DropFirst gives up the first queued delivery of a stream to a sink, which the
	// later ones wait for, and returns it and the number of those. With an upload id
	// other than "", only that one is given up. The error wraps ErrNoDelivery when none
	// is queued, and ErrNotFirst when the first is another one. The caller holds the
	// lock from Locks.LockDelivery.
	DropFirst(ctx context.Context, sink, stream, tenancy, uploadID string) (first Delivery, left int, err error)
	// DropSink gives up everything of a tenancy that is queued for a sink and
	// returns the number of deliveries. Snapshots that nothing else needs are
	// removed. A delivery that is in progress continues.
	DropSink(ctx context.Context, sink, tenancy string) (n int64, err error)
}

// A Class classifies a failed delivery.
type Class string

// The classes. A delivery that was not attempted yet has none.
const (
	Transient Class = "transient" // a later attempt may succeed
	Refused   Class = "refused"   // an attempt cannot succeed before something is changed
)

// A Delivery is a snapshot that is queued for one sink.
type Delivery struct {
	ID                int64
	Sink              string
	Collector, Stream string
	Tenancy, UploadID string
	Taken             time.Time // upload timestamp of the snapshot
	Records           int64
	SpoolBytes        int64  // size of the snapshot on disk
	Place             string // where the backend has the snapshot
	Queued, NextTry   time.Time
	Attempts          int
	Class             Class
	Err               string // error of the last attempt
	// Refill reports whether the snapshot is to be stored even if the sink has
	// recorded that it stored it before.
	Refill bool
}

// SinkStatus has the delivery counts of a stream and sink over all time.
type SinkStatus struct {
	Stream, Tenancy, Sink    string
	LastSuccess, LastFailure time.Time // zero for never
	Successes, Failures      int64
	// Superseded, Skipped, Dropped and KeptOut count the deliveries that ended
	// so.
	Superseded, Skipped, Dropped, KeptOut int64
}

// A SinkChange is a destination that is new in the settings, or whose target
// has changed.
type SinkChange struct {
	Sink string
	// Before is the earlier target; "" when the destination is new.
	Before string
	// Queued is the number of last-known snapshots that were queued for it.
	Queued int
}

// A DeliveryEnd is how a delivery ended without being made.
type DeliveryEnd string

// The ends. A delivery that was made has none.
const (
	DeliverySuperseded DeliveryEnd = "superseded" // a newer snapshot replaces it in the destination
	DeliverySkipped    DeliveryEnd = "skipped"    // the queue of the destination was full
	DeliveryDropped    DeliveryEnd = "dropped"    // a person gave it up
	DeliveryKeptOut    DeliveryEnd = "kept_out"   // the destination has one that must stay
	DeliveryDamaged    DeliveryEnd = "damaged"    // the snapshot could not be read
)

// An Undelivered is a snapshot that a destination did not receive.
type Undelivered struct {
	Stream, Tenancy, Sink, UploadID string
	Taken, Ended                    time.Time
	Outcome                         DeliveryEnd
}

// Errors of DropFirst.
var (
	// ErrNoDelivery means that no such delivery is queued.
	ErrNoDelivery = errors.New("no queued delivery")
	// ErrNotFirst means that another delivery is queued before this one, or that this
	// one is not queued any more.
	ErrNotFirst = errors.New("is not the first in the queue")
)
