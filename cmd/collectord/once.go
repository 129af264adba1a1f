package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dustin/go-humanize/english"
	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/backup"
	"github.com/collectord/collectord/pkg/delivery"
	"github.com/collectord/collectord/pkg/notify"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/state"
)

// notifyTimeout bounds the wait for notifications at the end of a run.
const notifyTimeout = 10 * time.Second

// runOnce runs the collectors that the names choose, delivers, and prints a
// summary, as text or as JSON.
func runOnce(ctx context.Context, p *program, names []string, asJSON bool) (err error) {
	a, err := p.load()
	if err != nil {
		return err
	}
	if err := errors.Join(a.checkSelection(names), a.checkControls()); err != nil {
		return err
	}
	if err := a.becomeStateOwner(); err != nil {
		return err
	}
	a.logWarnings()
	defer a.startTracing(ctx)()
	if err := a.openTenancyState(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.closeState()) }()
	defer a.closeEngine()
	parts, err := a.openParts(names)
	if err != nil {
		return err
	}
	defer a.closeDestinations(parts.sinks)

	a.registerDestinations(ctx, parts.sinks)
	deliverer := a.newDeliverer(parts.sinks)
	runner := a.newRunner(parts.sinks, deliverer)
	textfile := a.newTextfile(runner)
	notifier := a.newOnceNotifier(parts)
	restoration := a.restoreAtStart(ctx, parts, func(r backup.Result) {
		textfile.onRestored(r)
		notifyRestore(notifier, r)
	})
	releaseProgramMemory(a.log)

	var results []run.Result
	var controlsErr error
	undelivered, err := a.deliverDuring(ctx, deliverer, func(background context.Context, wg *sync.WaitGroup) {
		if a.terminal != nil {
			wg.Go(func() { showProgress(background, a.terminal, runner.Active.List) })
		}
		results = runner.RunAll(ctx, parts.jobs, "once")
		finishRestore(restoration, results)
		var more []run.Result
		more, controlsErr = a.measureControls(ctx, runner, parts.sinks)
		results = append(results, more...)
	})
	if err != nil {
		return err
	}
	defer notifier.Close(notifyTimeout)
	notifier.RunFinished(results)
	metricsErr := textfile.write()
	failure := errors.Join(runError(ctx, results, undelivered), controlsErr, metricsErr)
	if failure != nil && exitCode(failure) == exitFailed && ctx.Err() == nil {
		failure = &exitError{exitPartial, failure} // of the metrics alone
	}
	if asJSON {
		view := a.newOnceView(results, sinkNames(parts.sinks), deliverer.DeliveryStatus, len(undelivered), failure)
		failure = errors.Join(failure, writeJSON(a.stdout, view))
	} else {
		printSummary(a.stdout, results, sinkNames(parts.sinks), deliverer.DeliveryStatus)
	}
	if err := a.state.Sweep(context.WithoutCancel(ctx), a.settings.StateKeep); err != nil {
		a.log.Warn("cleaning up the state directory", zap.Error(err))
	}
	return failure
}

// newOnceNotifier returns the notifier of a run. The timer that starts a run every day
// may do so a little earlier than the day before, which must not cost a reminder.
func (a *assembly) newOnceNotifier(p *parts) *notify.Notifier {
	o := a.notifyOptions(func() []string { return sinkNames(p.sinks) })
	o.RemindAfter = 20 * time.Hour
	return notify.New(o, a.notifySettings(p.targets))
}

// deliverDuring delivers what is queued, also what was refused before, while work
// runs, and afterwards for up to STORE_ONCE_TIMEOUT: a person who runs a command may
// have changed something. It returns what is still queued then. The context background
// is cancelled at the end; deliverDuring waits for all goroutines that work adds to
// wg.
func (a *assembly) deliverDuring(
	ctx context.Context, d *delivery.Deliverer, work func(background context.Context, wg *sync.WaitGroup),
) ([]state.Delivery, error) {
	if err := a.state.Queue.RetryAllNow(ctx, a.settings.Tenancy); err != nil {
		a.log.Error("what is queued is attempted when its wait is over", zap.Error(err))
	}
	background, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var wg sync.WaitGroup
	wg.Go(func() { d.Run(background) })
	work(background, &wg)
	undelivered, err := a.waitUntilDelivered(ctx, d)
	stop(fmt.Errorf("STORE_ONCE_TIMEOUT, %s, is over", a.settings.Store.OnceTimeout))
	wg.Wait()
	return undelivered, err
}

// waitUntilDelivered waits up to STORE_ONCE_TIMEOUT and returns what is still
// queued.
func (a *assembly) waitUntilDelivered(ctx context.Context, d *delivery.Deliverer) ([]state.Delivery, error) {
	ctx, cancel := context.WithTimeout(ctx, a.settings.Store.OnceTimeout)
	defer cancel()
	return d.WaitUntilDelivered(ctx)
}

// runError returns the error that gives the exit code of a run.
func runError(ctx context.Context, results []run.Result, undelivered []state.Delivery) error {
	if err := context.Cause(ctx); err != nil {
		return &exitError{exitFailed, err} // runProgram knows the signal's own code
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
	case failed > 0 && len(undelivered) > 0:
		return &exitError{exitPartial, fmt.Errorf("%s; %s", describeFailed(failed, len(results)), describeUndelivered(undelivered))}
	case failed > 0:
		return &exitError{exitPartial, errors.New(describeFailed(failed, len(results)))}
	case len(undelivered) > 0:
		return &exitError{exitPartial, errors.New(describeUndelivered(undelivered))}
	}
	return nil
}

// describeFailed returns how many of the streams failed.
func describeFailed(failed, all int) string {
	verb := "have"
	if failed == 1 {
		verb = "has"
	}
	return fmt.Sprintf("%d of %s %s no new snapshot", failed, english.Plural(all, "stream", ""), verb)
}

func describeUndelivered(deliveries []state.Delivery) string {
	if len(deliveries) == 1 {
		return "1 delivery stays queued, the next run retries it"
	}
	return fmt.Sprintf("%d deliveries stay queued, the next run retries them", len(deliveries))
}
