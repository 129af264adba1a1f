package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dustin/go-humanize/english"
	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/delivery"
	"github.com/collectord/collectord/pkg/notify"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/state"
)

// notifyTimeout bounds the wait for notifications at the end of a run.
const notifyTimeout = 10 * time.Second

// runOnce runs the collectors that the names choose in the tenancies that the command is for,
// all of them together, delivers, and prints a summary of each, as text or as JSON.
func runOnce(ctx context.Context, p *program, names []string, asJSON bool) (err error) {
	s, err := p.choose()
	if err != nil {
		return err
	}
	runs, err := s.newOnceRuns(names)
	if err != nil {
		return err
	}
	if err := s.base.becomeStateOwner(); err != nil {
		return err
	}
	s.logWarnings()
	defer s.base.startTracing(ctx)()
	if err := s.base.openState(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.base.state.Close()) }()
	runs.openAll(ctx, s.base)
	defer func() { err = errors.Join(err, runs.closeAll()) }()
	if s.several {
		s.base.warnOfOtherTenancies(ctx)
	} else if err := runs.list[0].err; err != nil {
		return err
	}
	runs.work(ctx, s.base.terminal)
	err = s.reportOnce(ctx, runs, asJSON)
	if err := s.base.state.Sweep(context.WithoutCancel(ctx), s.base.settings.StateKeep); err != nil {
		s.base.log.Warn("cleaning up the state directory", zap.Error(err))
	}
	return err
}

// logWarnings logs the warnings about the settings that tenancies share, and about those of
// each.
func (s *selection) logWarnings() {
	s.base.logWarnings()
	for _, a := range s.chosen {
		if a != s.base && a.problem == nil {
			a.logWarnings()
		}
	}
}

// reportOnce writes the metrics and prints the summaries.
func (s *selection) reportOnce(ctx context.Context, runs *onceRuns, asJSON bool) error {
	var shared common
	err := runs.textfile.write()
	if s.several && err != nil {
		shared.err = &exitError{exitPartial, err}
	} else if !s.several {
		runs.list[0].failure = errors.Join(runs.list[0].failure, err)
	}
	all := map[*assembly]*runOfTenancy{}
	for _, r := range runs.list {
		all[r.assembly] = r
	}
	err = s.report(asJSON, shared, func(a *assembly) (any, error) { return all[a].summarize(ctx, asJSON) })
	if cause := context.Cause(ctx); cause != nil && s.several {
		return &exitError{exitFailed, cause} // in place of the same for each tenancy
	}
	return err
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
// have changed something. It returns what is still queued then.
func (a *assembly) deliverDuring(ctx context.Context, d *delivery.Deliverer, work func()) ([]state.Delivery, error) {
	if err := a.state.Queue.RetryAllNow(ctx, a.settings.Tenancy); err != nil {
		a.log.Error("what is queued is attempted when its wait is over", zap.Error(err))
	}
	background, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var wg sync.WaitGroup
	wg.Go(func() { d.Run(background) })
	work()
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
