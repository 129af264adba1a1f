package state

import (
	"context"
	"errors"
	"fmt"
)

// Locks keep two processes, and two goroutines of one, from doing the same work at once.
type Locks interface {
	// LockStream acquires the lock for collecting a stream of a tenancy. It does not wait:
	// the error wraps ErrLocked and names the owner.
	LockStream(stream, tenancy string) (Lock, error)
	// LockDelivery acquires the lock for delivering a stream of a tenancy to a sink. It
	// does not wait: the error wraps ErrLocked and names the owner. With the lock held
	// the caller calls Queue.Contains before it delivers, since the previous owner may
	// have delivered the same.
	LockDelivery(sink, stream, tenancy string) (Lock, error)
	// LockRestore acquires the lock for restoring a stream of a tenancy from a
	// backup. It does not wait: the error wraps ErrLocked and names the owner.
	LockRestore(stream, tenancy string) (Lock, error)
	// LockService acquires the lock of the service, where one of the processes that share a
	// state runs it. It does not wait: the error wraps ErrLocked and names the owner.
	LockService() (Lock, error)
	// HoldTenancy says that the caller works for a tenancy, so that ForgetTenancy refuses to
	// delete its data. Any number may hold it. The error wraps ErrLocked while the data is
	// being deleted, or taken over by another state.
	HoldTenancy(tenancy string) (Lock, error)
}

// A Lock is held until Unlock is called or its owner dies.
type Lock interface {
	// Unlock releases the lock.
	Unlock() error
	// Lost returns a channel that is closed when another process may have the lock although
	// this one has not released it; nil where that cannot happen.
	Lost() <-chan struct{}
}

// ErrLocked means that another process, or another part of this one, holds the
// lock.
var ErrLocked = errors.New("locked")

// ErrLost means that a lock was lost: this process did not say in time that it is alive, and
// another one may do its work.
var ErrLost = errors.New("the lock was lost")

// ErrStandby means that another process that shares the state runs the service.
var ErrStandby = errors.New("standing by")

// WithLock returns a context that ends when a lock is lost, with a cause that names the work and
// wraps ErrLost, and the function that releases it.
func WithLock(ctx context.Context, lock Lock, work string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	if lost := lock.Lost(); lost != nil {
		go func() {
			select {
			case <-lost:
				cancel(fmt.Errorf("%s: %w", work, ErrLost))
			case <-ctx.Done():
			}
		}()
	}
	return ctx, func() { cancel(nil) }
}
