package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/state"
)

// A noLock is the lock of a service that no other process could run.
type noLock struct{}

func (noLock) Unlock() error { return nil }

func (noLock) Lost() <-chan struct{} { return nil }

// becomeActive waits until no other process runs the service on a shared state, and returns a
// context that ends when another one may do so. Until then this process only serves HTTP. The
// lock is nil when ctx ends before.
func (d *daemon) becomeActive(ctx context.Context, started func()) (context.Context, state.Lock, error) {
	if !d.base.hasSharedState() {
		return ctx, noLock{}, nil
	}
	lock, waited, err := d.waitForService(ctx, started)
	if err != nil || lock == nil {
		return ctx, nil, err
	}
	if waited {
		d.log.Info("this process runs the service now")
		for _, t := range d.listTenants() {
			t.scheduler.EndStandby()
		}
	}
	d.setNotReady(errStarting)
	active, _ := state.WithLock(ctx, lock, "the service") // ends with ctx
	return active, lock, nil
}

// waitForService waits for the lock of the service, and reports whether another process had it.
// The lock is nil when ctx ends before.
func (d *daemon) waitForService(ctx context.Context, started func()) (lock state.Lock, waited bool, err error) {
	for {
		lock, err := d.state.Locks.LockService()
		if err == nil {
			return lock, waited, nil
		}
		if !waited {
			d.log.Info("standing by", zap.Error(err))
			started()
			d.systemd.Ready("standing by")
		}
		waited = true
		d.standBy(err)
		select {
		case <-ctx.Done():
			return nil, waited, nil
		case <-time.After(d.sharedSettings().Cluster.Lease / 4):
		}
	}
}

// standBy records why this process does not run the service: the error of LockService.
func (d *daemon) standBy(err error) {
	if !errors.Is(err, state.ErrLocked) {
		err = fmt.Errorf("the shared state does not respond: %w", err)
	}
	err = fmt.Errorf("%w: %w", state.ErrStandby, err)
	for _, t := range d.listTenants() {
		t.scheduler.StandBy(err)
	}
	d.setNotReady(err)
	d.systemd.Heartbeat(err.Error())
}
