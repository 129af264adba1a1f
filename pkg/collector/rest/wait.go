package rest

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
)

// WaitOn waits until done is closed by one of the extractions that are counted
// in others. Meanwhile the extraction of ctx is idle only if they are. It
// returns the context's cause if the context ends first.
func WaitOn(ctx context.Context, done <-chan struct{}, what string, others ...*collector.Stats) error {
	endWait := collector.StatsFrom(ctx).BeginWaitOn(what, others...)
	defer endWait()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-done:
		return nil
	}
}

// Sleep waits for d. Meanwhile the run's progress shows that it waits for what.
// It returns the context's cause if the context ends first.
func Sleep(ctx context.Context, d time.Duration, what string) error {
	return waiting{what: what}.sleep(ctx, d)
}

// waiting describes a wait.
type waiting struct {
	what string
	// requested means that the vendor asks for the wait, and limited that its
	// rate limit causes it.
	requested, limited bool
}

// waitTooLongError means that the vendor asks for a wait that ends after the run.
// It matches context.DeadlineExceeded: the run would reach its time limit.
type waitTooLongError struct{ until time.Time }

func (e *waitTooLongError) Error() string {
	return "the vendor asks to wait until " + formatUntil(e.until) + ", which is after the time limit of the run (RUN_TIMEOUT)"
}

// PostponedUntil implements collector.PostponedError.
func (e *waitTooLongError) PostponedUntil() time.Time { return e.until }

func (e *waitTooLongError) Is(target error) bool { return target == context.DeadlineExceeded }

func formatUntil(t time.Time) string { return t.UTC().Format(time.DateTime + " UTC") }

// longWait is the duration from which a wait is logged when it begins.
const longWait = time.Minute

// sleep waits for d. It returns a *waitTooLongError at once if the vendor asks
// for a wait that ends after the deadline of ctx.
func (w waiting) sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	until := time.Now().Add(d)
	if w.requested && isAfterDeadline(ctx, until) {
		return &waitTooLongError{until}
	}
	w.report(ctx, d, until)
	endWait := collector.StatsFrom(ctx).BeginWait(collector.Wait{Until: until, For: w.what, Requested: w.requested, RateLimit: w.limited})
	defer endWait()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// report logs a long wait when it begins. Of the requests that wait at the same
// time, only one does.
func (w waiting) report(ctx context.Context, d time.Duration, until time.Time) {
	if d <= longWait || !collector.StatsFrom(ctx).FirstLongWait(until) {
		return
	}
	message := "waiting for more than a minute"
	if w.requested {
		message = "waiting as long as the vendor asks"
	}
	collector.LogFrom(ctx).Info(message, zap.String("until", formatUntil(until)),
		zap.Duration("wait", d.Round(time.Second)), zap.String("for", w.what))
}

// isAfterDeadline reports whether t is after the deadline of ctx.
func isAfterDeadline(ctx context.Context, t time.Time) bool {
	deadline, ok := ctx.Deadline()
	return ok && t.After(deadline)
}
