// Package operation has what people do with snapshots and deliveries: accept a held
// snapshot, drop what is queued, deliver last-known data again. The command line and the
// API share it.
package operation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// An Operator executes operations on the state of one tenancy.
type Operator struct {
	State   *state.State
	Tenancy string
	// Streams are the names of all streams, and Destinations those of all destinations,
	// on or off.
	Streams, Destinations []string
	// Policy has the configured destinations.
	Policy state.Policy
	// Queued, if not nil, is called after deliveries were queued or ended.
	Queued func()
	Log    *zap.Logger
}

// A Reason classifies the operations that cannot be executed.
type Reason int

// The reasons.
const (
	// Unknown means that there is no such stream or destination.
	Unknown Reason = iota
	// Conflict means that the operation does not fit what is queued, known or configured
	// now.
	Conflict
)

// A RefusedError is the error of an operation that cannot be executed as requested.
type RefusedError struct {
	Reason Reason
	err    error
}

func (e *RefusedError) Error() string { return e.err.Error() }

func (e *RefusedError) Unwrap() error { return e.err }

// refuse returns a RefusedError.
func refuse(reason Reason, format string, args ...any) error {
	return &RefusedError{reason, fmt.Errorf(format, args...)}
}

// UnknownStreamError returns the error, of the reason Unknown, for a name that no stream has.
func UnknownStreamError(name string) error {
	return refuse(Unknown, "%q is not a stream; `collectord list` shows them", name)
}

// Accept makes the held snapshot of a stream the last-known one and queues its
// deliveries. The error is a RefusedError for an unknown stream, and wraps
// state.ErrLocked while the stream is collected and state.ErrNoSnapshot when none is
// held.
func (o *Operator) Accept(ctx context.Context, stream string) (info snapshot.Info, err error) {
	if !slices.Contains(o.Streams, stream) {
		return info, UnknownStreamError(stream)
	}
	lock, err := o.State.Locks.LockStream(stream, o.Tenancy)
	if err != nil {
		return info, err
	}
	info, err = o.State.Snapshots.Accept(ctx, stream, o.Tenancy, o.Policy)
	if err := errors.Join(err, lock.Unlock()); err != nil {
		return info, err
	}
	o.Log.Info("accepted", zap.String("stream", stream), zap.Int64("records", info.Records), zap.String("upload_id", info.UploadID))
	o.notifyQueued()
	return info, nil
}

func (o *Operator) notifyQueued() {
	if o.Queued != nil {
		o.Queued()
	}
}

// CheckDestination returns a RefusedError unless a destination has that name.
func (o *Operator) CheckDestination(name string) error {
	if !slices.Contains(o.Destinations, name) {
		return refuse(Unknown, "%q is not a destination: want one of %s", name, strings.Join(o.Destinations, ", "))
	}
	return nil
}

// DropAll drops what is queued for a destination and returns the number of deliveries.
// The error is a RefusedError for a configured destination, whose deliveries are still
// attempted, and for an unknown one.
func (o *Operator) DropAll(ctx context.Context, destination string) (n int64, err error) {
	if err := o.CheckDestination(destination); err != nil {
		return 0, err
	}
	if slices.Contains(o.Policy.Sinks, destination) {
		return 0, refuse(Conflict, "%s is configured, and its queued deliveries are still attempted: remove it from the settings first, "+
			"or name the stream whose first snapshot is to be given up", destination)
	}
	n, err = o.State.Queue.DropSink(ctx, destination, o.Tenancy)
	if err == nil && n > 0 {
		o.Log.Warn("what was queued for a destination was given up", zap.String("sink", destination), zap.Int64("deliveries", n))
	}
	return n, err
}

// A Dropped is a delivery that was dropped, and the number of later ones that are still
// queued for the same stream and destination.
type Dropped struct {
	state.Delivery
	Left int
}

// DropFirst drops the first queued delivery of a stream to a destination. With an upload
// id other than "", it drops only that one. The error is a RefusedError when it is not the
// first one or none is queued, and wraps state.ErrLocked while it is being made.
func (o *Operator) DropFirst(ctx context.Context, destination, stream, uploadID string) (d Dropped, err error) {
	if err := o.CheckDestination(destination); err != nil {
		return d, err
	}
	if err := o.requireQueued(ctx, destination, stream); err != nil {
		return d, err
	}
	lock, err := o.State.Locks.LockDelivery(destination, stream, o.Tenancy)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	d.Delivery, d.Left, err = o.State.Queue.DropFirst(ctx, destination, stream, o.Tenancy, uploadID)
	if errors.Is(err, state.ErrNoDelivery) || errors.Is(err, state.ErrNotFirst) {
		return d, &RefusedError{Conflict, fmt.Errorf("%w; `collectord status` shows what is queued", err)}
	}
	if err != nil {
		return d, err
	}
	o.Log.Warn("a queued snapshot was given up", zap.String("stream", stream), zap.String("sink", destination),
		zap.String("upload_id", d.UploadID), zap.Int64("records", d.Records), zap.String("last_error", d.Err))
	o.notifyQueued()
	return d, nil
}

// requireQueued returns a RefusedError, which lists what is queued, if no delivery of a
// stream to a destination is.
func (o *Operator) requireQueued(ctx context.Context, destination, stream string) error {
	queue, err := o.State.Queue.List(ctx)
	if err != nil {
		return err
	}
	var queued []string
	for _, d := range queue {
		if d.Tenancy != o.Tenancy {
			continue
		}
		if d.Sink == destination && d.Stream == stream {
			return nil
		}
		if text := d.Stream + " to " + d.Sink; !slices.Contains(queued, text) {
			queued = append(queued, text)
		}
	}
	reason := Conflict
	if !slices.Contains(o.Streams, stream) {
		reason = Unknown
	}
	if len(queued) == 0 {
		return refuse(reason, "%w of %s to %s: nothing is queued", state.ErrNoDelivery, stream, destination)
	}
	return refuse(reason, "%w of %s to %s; these are queued: %s", state.ErrNoDelivery, stream, destination, strings.Join(queued, ", "))
}

// A Redelivery is a last-known snapshot that was queued again.
type Redelivery struct {
	Stream  string
	Taken   time.Time
	Records int64
	// UploadID is "" for an empty snapshot that the policy does not deliver.
	UploadID string
}

// Redeliver queues the last-known snapshots of streams for destinations, also where they
// were stored before; without names those of all streams, and for all configured
// destinations. It returns what it queued and the names of the destinations. Nothing is
// queued when the error is a RefusedError.
func (o *Operator) Redeliver(ctx context.Context, destinations, streams []string) (queued []Redelivery, to []string, err error) {
	if to, err = o.chooseDestinations(destinations); err != nil {
		return nil, nil, err
	}
	known, err := o.chooseKnown(ctx, streams)
	if err != nil {
		return nil, nil, err
	}
	policy := o.Policy
	policy.Sinks = to
	for _, s := range known {
		id, err := o.State.Queue.Refill(ctx, s.Stream, s.Tenancy, policy)
		if err != nil {
			return nil, nil, err
		}
		queued = append(queued, Redelivery{Stream: s.Stream, Taken: s.Taken, Records: s.Records, UploadID: id})
	}
	o.notifyQueued()
	return queued, to, nil
}

// chooseDestinations returns the configured destinations that the names choose, without
// names all.
func (o *Operator) chooseDestinations(names []string) ([]string, error) {
	configured := o.Policy.Sinks
	if len(configured) == 0 {
		return nil, refuse(Conflict, "no destination is configured")
	}
	if len(names) == 0 {
		return configured, nil
	}
	for _, name := range names {
		if !slices.Contains(configured, name) {
			return nil, refuse(Unknown, "%q is not configured; these destinations are: %s", name, strings.Join(configured, ", "))
		}
	}
	return names, nil
}

// chooseKnown returns the streams with a last-known snapshot that the names choose,
// without names all.
func (o *Operator) chooseKnown(ctx context.Context, names []string) (known []state.StreamStatus, err error) {
	all, err := o.State.TenancyStreams(ctx, o.Tenancy)
	if err != nil {
		return nil, err
	}
	byName := map[string]state.StreamStatus{}
	for _, s := range all {
		if !s.Taken.IsZero() {
			byName[s.Stream] = s
			known = append(known, s)
		}
	}
	if len(names) == 0 {
		if len(known) == 0 {
			return nil, refuse(Conflict, "there is nothing to deliver: no snapshot is known yet")
		}
		return known, nil
	}
	known = nil
	for _, name := range names {
		s, ok := byName[name]
		if !ok {
			reason := Conflict
			if !slices.Contains(o.Streams, name) {
				reason = Unknown
			}
			return nil, refuse(reason, "%q has no last-known snapshot; `collectord status` shows the streams that have one", name)
		}
		known = append(known, s)
	}
	return known, nil
}
