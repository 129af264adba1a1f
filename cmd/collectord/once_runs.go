package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/collectord/collectord/pkg/backup"
	"github.com/collectord/collectord/pkg/delivery"
	"github.com/collectord/collectord/pkg/metrics"
	"github.com/collectord/collectord/pkg/notify"
	"github.com/collectord/collectord/pkg/query"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/state"
)

// onceRuns are the runs of --once.
type onceRuns struct {
	list     []*runOfTenancy
	several  bool
	textfile *textfile
}

// A runOfTenancy is the run of --once for one tenancy.
type runOfTenancy struct {
	*assembly
	several bool
	names   []string // what to run; all that is on if empty
	isIdle  bool     // nothing that the command names is on in this tenancy
	err     error    // why it cannot run or has no result

	parts     *parts
	deliverer *delivery.Deliverer
	runner    *run.Runner
	acquire   run.Acquire
	notifier  *notify.Notifier
	metrics   *metrics.Tenancy // nil without METRICS_TEXTFILE

	results     []run.Result
	undelivered []state.Delivery
	failure     error // besides that of the results and deliveries
}

// newOnceRuns returns the runs of the collectors that the names choose. It returns an error for
// a name that chooses nothing in any of the tenancies.
func (s *selection) newOnceRuns(names []string) (*onceRuns, error) {
	runs := &onceRuns{several: s.several}
	for _, a := range s.chosen {
		r := &runOfTenancy{assembly: a, several: s.several, err: a.problem, names: names}
		if r.err == nil && s.several && len(names) > 0 {
			r.names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return a.checkNames([]string{name}) != nil })
			r.isIdle = len(r.names) == 0
		}
		if r.err == nil && !r.isIdle {
			r.err = errors.Join(a.checkSelection(r.names), a.checkControls())
		}
		runs.list = append(runs.list, r)
	}
	if !s.several {
		return runs, runs.list[0].err
	}
	return runs, s.requireOn(names)
}

// requireOn returns an error for a name that chooses nothing that is on in any of several
// tenancies. Those whose settings cannot be used do not count.
func (s *selection) requireOn(names []string) error {
	for _, name := range names {
		var err error
		isOn := slices.ContainsFunc(s.chosen, func(a *assembly) bool {
			if a.problem != nil {
				return false
			}
			err = a.checkNames([]string{name})
			return err == nil
		})
		switch {
		case isOn || err == nil:
		case exitCode(err) == exitUsage:
			return err
		default:
			return &exitError{exitSettings, fmt.Errorf("%s: it is on in none of the tenancies; `collectord list` shows why", name)}
		}
	}
	return nil
}

// canWork reports whether a run is to be done.
func (r *runOfTenancy) canWork() bool { return r.err == nil && !r.isIdle }

// openAll opens what the runs need. Their slots and the bounds of the work on Parquet files are
// those of all.
func (o *onceRuns) openAll(ctx context.Context, base *assembly) {
	slots := schedule.NewSlots(base.settings.Run.MaxParallel)
	o.textfile = base.newTextfile(o.unusable)
	var bounds *query.Engine
	for _, r := range o.list {
		if !r.canWork() {
			continue
		}
		r.state = base.state
		r.engine = r.newSharedEngine(bounds)
		bounds = r.engine
		r.err = r.openRun(ctx, slots, o.textfile)
	}
}

// unusable returns the names of the tenancies that cannot be used, ordered.
func (o *onceRuns) unusable() (names []string) {
	for _, r := range o.list {
		if r.err != nil && r.metrics == nil {
			names = append(names, r.settings.Tenancy)
		}
	}
	return slices.Compact(names)
}

// openRun opens what the run needs.
func (r *runOfTenancy) openRun(ctx context.Context, slots *schedule.Slots, t *textfile) (err error) {
	if err := r.holdTenancy(); err != nil {
		return err
	}
	if r.parts, err = r.openParts(r.names); err != nil {
		return err
	}
	r.registerDestinations(ctx, r.parts.sinks)
	r.deliverer = r.newDeliverer(r.parts.sinks)
	r.runner = r.newRunner(r.parts.sinks, r.deliverer)
	r.acquire = slots.AcquireFor(r.settings.Tenancy)
	r.metrics = t.addTenancy(r.assembly, r.runner)
	r.notifier = r.newOnceNotifier(r.parts)
	return nil
}

// closeAll sends the notifications that wait, and closes what openAll has opened.
func (o *onceRuns) closeAll() error {
	var all sync.WaitGroup
	for _, r := range o.list {
		if r.notifier != nil {
			all.Go(func() { r.notifier.Close(notifyTimeout) })
		}
	}
	all.Wait()
	var errs []error
	for _, r := range o.list {
		if r.parts != nil {
			r.closeDestinations(r.parts.sinks)
		}
		r.closeEngine()
		errs = append(errs, r.releaseTenancy())
	}
	return errors.Join(errs...)
}

// work does the runs, all together, until their snapshots are delivered or STORE_ONCE_TIMEOUT
// is over.
func (o *onceRuns) work(ctx context.Context, t *terminal) {
	background, stop := context.WithCancel(ctx)
	var progress, all sync.WaitGroup
	if t != nil {
		progress.Go(func() { showProgress(background, t, o.progressLines) })
	}
	for _, r := range o.list {
		if r.canWork() {
			all.Go(func() { r.work(ctx) })
		}
	}
	all.Wait()
	stop()
	progress.Wait()
}

// progressLines returns a line for each running extraction.
func (o *onceRuns) progressLines(now time.Time) (lines []string) {
	for _, r := range o.list {
		if r.runner == nil {
			continue
		}
		for _, active := range r.runner.Active.List() {
			line := progressLine(active, now)
			if o.several {
				line = r.settings.Tenancy + "  " + line
			}
			lines = append(lines, line)
		}
	}
	return lines
}

// work restores what is missing, runs the collectors, delivers, and measures the controls that
// are due.
func (r *runOfTenancy) work(ctx context.Context) {
	restoration := r.restoreAtStart(ctx, r.parts, func(result backup.Result) {
		if r.metrics != nil {
			r.metrics.RestoreEnded(result)
		}
		notifyRestore(r.notifier, result)
	})
	releaseProgramMemory(r.log)
	r.undelivered, r.err = r.deliverDuring(ctx, r.deliverer, func() {
		r.results = r.runner.RunAll(ctx, r.parts.jobs, "once", r.acquire)
		finishRestore(restoration, r.results)
		var more []run.Result
		more, r.failure = r.measureControls(ctx, r.runner, r.parts.sinks)
		r.results = append(r.results, more...)
	})
	if r.err == nil {
		r.notifier.RunFinished(r.results)
	}
}

// summarize prints the results, or returns the document about them, and the error that gives
// the exit code.
func (r *runOfTenancy) summarize(ctx context.Context, asJSON bool) (view any, err error) {
	if r.err == nil && !r.isIdle {
		err = errors.Join(runError(ctx, r.results, r.undelivered), r.failure)
	} else {
		err = r.err
	}
	if err != nil && r.err == nil && exitCode(err) == exitFailed && ctx.Err() == nil {
		err = &exitError{exitPartial, err} // of the metrics alone
	}
	switch {
	case r.err != nil && !r.several:
		return nil, err
	case asJSON:
		return r.newView(err), err
	case r.isIdle:
		fmt.Fprintln(r.stdout, "nothing to run: what the command names is off")
	case r.err != nil:
		fmt.Fprintln(r.stdout, "no result: the error is below")
	default:
		printSummary(r.stdout, r.results, sinkNames(r.parts.sinks), r.deliverer.DeliveryStatus)
	}
	return nil, err
}
