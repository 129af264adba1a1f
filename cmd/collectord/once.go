package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/store"
)

// once runs collectors, delivers, and says what it did.
func (a *app) once(ctx context.Context, names []string) (err error) {
	if err := a.load(); err != nil {
		return err
	}
	for _, w := range a.warnings {
		a.log.Warn(w)
	}
	defer a.startTraces(ctx)()
	st, err := a.openState(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	a.notes = st.Notes(a.settings.Tenancy)
	jobs, err := a.jobs(names)
	if err != nil {
		return err
	}
	targets, err := a.targets()
	if err != nil {
		return err
	}
	sinks, err := a.sinks()
	if err != nil {
		return err
	}
	defer closeSinks(sinks, a.log)
	deliverer := a.deliverer(st, sinks)
	runner := a.runner(st, sinks, deliverer)
	restored, textfile := a.textfile(st, runner, jobs)
	a.restoreAtStart(ctx, st, sinks, jobs, restored)
	releaseProgram(a.log)
	results, left, err := a.collect(ctx, runner, deliverer, jobs)
	if err != nil {
		return err
	}
	notifier := a.notifier(st, targets)
	defer notifier.Close(notifyPatience)
	notifier.Concluded(results)
	if err := textfile(); err != nil {
		a.log.Error("writing the metrics", zap.Error(err))
	}
	summarize(a.stdout, results, sinkNames(sinks), deliverer.Outcome)
	if err := st.Sweep(context.WithoutCancel(ctx), a.settings.StateKeep); err != nil {
		a.log.Warn("clearing the state folder", zap.Error(err))
	}
	return conclude(ctx, results, left)
}

// openState opens the state folder.
func (a *app) openState(ctx context.Context) (*state.State, error) {
	st, err := state.Open(ctx, a.settings.StateDir, state.Options{Log: a.log})
	if err != nil {
		return nil, &exitError{exitSettings, err}
	}
	a.state = st
	return st, nil
}

func (a *app) policy(sinks []store.Sink) state.Policy {
	drop := a.settings.Guard.Drop
	if drop.Off {
		drop.Value = 0
	}
	return state.Policy{Sinks: sinkNames(sinks), StoreEmpty: a.settings.Store.Empty, GuardDropPercent: drop.Value}
}

func (a *app) deliverer(st *state.State, sinks []store.Sink) *schedule.Deliverer {
	return schedule.NewDeliverer(st, sinks, a.settings.Store.RetryMaxWait, a.settings.Store.WriteTimeout, a.log)
}

func (a *app) runner(st *state.State, sinks []store.Sink, d *schedule.Deliverer) *schedule.Runner {
	return &schedule.Runner{
		State: st, Tenancy: a.settings.Tenancy, Policy: a.policy(sinks),
		SpoolMax: int64(a.settings.Store.SpoolMax),
		Timeout:  a.settings.Run.Timeout, IdleTimeout: a.settings.Run.IdleTimeout,
		Parallel: a.settings.Run.MaxParallel, Log: a.log, Sealed: d.Wake, Began: d.Follow, Lives: &schedule.Lives{},
	}
}

// collect runs jobs and delivers at the same time. It returns what is still
// queued in the end.
func (a *app) collect(ctx context.Context, r *schedule.Runner, d *schedule.Deliverer, jobs []schedule.Job) (results []schedule.Result, left []state.Delivery, err error) {
	left, err = a.deliver(ctx, d, func(delivering context.Context, background *sync.WaitGroup) {
		if a.terminal != nil {
			background.Go(func() { showProgress(delivering, a.terminal, r.Lives.Running) })
		}
		results = r.RunAll(ctx, jobs, "once")
	})
	return results, left, err
}

// deliver delivers what is queued, and what the work beside it queues; nil is
// none. What work adds to background must end with the context delivering.
func (a *app) deliver(ctx context.Context, d *schedule.Deliverer, work func(delivering context.Context, background *sync.WaitGroup)) ([]state.Delivery, error) {
	delivering, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var background sync.WaitGroup
	background.Go(func() { d.Run(delivering) })
	if work != nil {
		work(delivering, &background)
	}
	left, err := a.settle(ctx, d)
	stop(a.impatience())
	background.Wait()
	return left, err
}

// impatience is why deliveries under way are ended.
func (a *app) impatience() error {
	return fmt.Errorf("STORE_ONCE_TIMEOUT, %s, is over", a.settings.Store.OnceTimeout)
}

// settle goes on delivering for STORE_ONCE_TIMEOUT.
func (a *app) settle(ctx context.Context, d *schedule.Deliverer) ([]state.Delivery, error) {
	patience, cancel := context.WithTimeout(ctx, a.settings.Store.OnceTimeout)
	defer cancel()
	return d.Settle(patience)
}

func sinkNames(sinks []store.Sink) []string {
	var names []string
	for _, s := range sinks {
		names = append(names, s.Name())
	}
	return names
}

// conclude chooses the exit code.
func conclude(ctx context.Context, results []schedule.Result, left []state.Delivery) error {
	if err := context.Cause(ctx); err != nil {
		return &exitError{exitFailed, err} // main knows the signal's own code
	}
	failed, locked := 0, 0
	for _, r := range results {
		if !r.OK() {
			failed++
		}
		if errors.Is(r.Err, state.ErrLocked) {
			locked++
		}
	}
	switch {
	case locked > 0 && locked == failed:
		return &exitError{exitLocked, errors.New("another process is collecting; try again when it has ended")}
	case failed > 0 && len(left) > 0:
		return &exitError{exitPartial, fmt.Errorf("%d of %d streams have no new snapshot; %s", failed, len(results), undelivered(left))}
	case failed > 0:
		return &exitError{exitPartial, fmt.Errorf("%d of %d streams have no new snapshot", failed, len(results))}
	case len(left) > 0:
		return &exitError{exitPartial, errors.New(undelivered(left))}
	}
	return nil
}

// undelivered says what is still queued, in words.
func undelivered(left []state.Delivery) string {
	if len(left) == 1 {
		return "1 delivery stays queued, the next run takes it up"
	}
	return fmt.Sprintf("%d deliveries stay queued, the next run takes them up", len(left))
}

// sinks opens the configured destinations. It does no I/O.
func (a *app) sinks() ([]store.Sink, error) {
	sinks, err := openSinks(a.settings.Store, a.state, a.log)
	if err != nil {
		return nil, &exitError{exitSettings, err}
	}
	if len(sinks) == 0 {
		a.log.Warn("no destination is configured: snapshots stay in the state folder only", zap.String("state", a.settings.StateDir))
	}
	return sinks, nil
}
