package rest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/internal/backoff"
	"github.com/collectord/collectord/pkg/collector"
)

// An Export reads records by a job at the vendor: it starts the job, polls its
// state, and fetches its chunks while it is still running. The functions make
// the vendor's requests; Run controls when they are called.
type Export struct {
	// Start starts the job, or finds the one that is already running, and
	// returns its id. attempt counts from 0 and increases when a job has
	// failed, so that a vendor can request less at once.
	Start func(ctx context.Context, attempt int) (id string, err error)
	// Status returns the job's state.
	Status func(ctx context.Context, id string) (JobStatus, error)
	// Fetch writes the records of one chunk to out. It may be called again for
	// the same chunk after an error that wraps ErrNotReady or ErrJobLost.
	Fetch func(ctx context.Context, id, chunk string, out collector.Output) error
	// Cancel cancels a job that is no longer needed; nil for none.
	Cancel func(ctx context.Context, id string) error
	// Selection is everything that the job's content depends on, such as its
	// filters and the account. If it is set and the output is a
	// collector.ResumableOutput, the job of a run that did not end it is
	// continued. Fetch must then commit one batch for each chunk.
	Selection string
	// Parallel is how many chunks are fetched at once; 1 when zero.
	Parallel int

	// The following are for tests; the constants when zero.
	firstPoll, maxPoll, deadline time.Duration
	restarts                     int
}

const (
	// firstPollWait is the first wait between two requests for a job's state.
	// The waits grow up to maxPollWait.
	firstPollWait = 2 * time.Second
	maxPollWait   = 30 * time.Second
	// jobDeadline bounds the time of one job.
	jobDeadline = 6 * time.Hour
	// maxJobRestarts bounds how often a failed job is replaced by a new one. A
	// job that brought more chunks than those before it does not count, up to
	// maxAllRestarts.
	maxJobRestarts = 2
	maxAllRestarts = 5
	// lostJobWait is the shortest time between the first and the last response
	// by which a job counts as lost. A job that is younger than startGrace is not
	// lost: a server of the vendor may not know it yet.
	lostJobWait = 30 * time.Second
	startGrace  = time.Minute
	// firstRestartWait is the wait before the first new job; each wait is four
	// times the one before. With a short retry time the waits are shorter.
	firstRestartWait = 30 * time.Second
	maxRestartWait   = 10 * time.Minute
)

// A JobStatus is an export job's state.
type JobStatus struct {
	// Done means that the job has ended and Ready will not grow.
	Done bool
	// Ready are the ids of chunks that can be fetched. Ids of earlier states
	// may be left out.
	Ready []string
	// Failed says why the job's result cannot be used, such as "2 chunks
	// failed"; "" if it can.
	Failed string
	// Missing says what is missing in the result of a job that is Done; "" if
	// nothing is.
	Missing string
	// Doubt is the text of a collector.Doubt about the result of a job that is
	// Done; "" for none.
	Doubt string
}

// ErrNotReady means that a chunk was announced but cannot be read yet.
var ErrNotReady = errors.New("chunk is not ready yet")

// ErrJobLost means that the vendor does not know the job.
var ErrJobLost = errors.New("the vendor no longer knows the export job")

// errJobFailed means that a new job must be started.
var errJobFailed = errors.New("export job")

// isUseless reports whether err means that the result of a job cannot be used,
// and that a new job may have one.
func isUseless(err error) bool { return errors.Is(err, errJobFailed) || errors.Is(err, ErrJobLost) }

// Run writes the records of all chunks to out. When the result of a job cannot
// be used, Run drops its records with out.Reset and starts another, so out must
// contain nothing else. Run cancels such a job. After any other failure, a
// collector.ResumableOutput keeps the job and its chunks, so that the next run
// continues it.
func (e Export) Run(ctx context.Context, out collector.Output) error {
	restarts, most := 0, 0 // most is the largest number of chunks that a job brought
	for attempt := 0; ; attempt++ {
		fetched, err := e.runJob(ctx, attempt, out)
		if err == nil || ctx.Err() != nil || !isUseless(err) {
			return err
		}
		if attempt > 0 && fetched <= most {
			restarts++
		}
		most = max(most, fetched)
		if restarts >= orInt(e.restarts, maxJobRestarts) || attempt >= maxAllRestarts {
			return fmt.Errorf("%w: %w: gave up after %d jobs", collector.ErrIncomplete, err, attempt+1)
		}
		if err := out.Reset(); err != nil {
			return err
		}
		collector.LogFrom(ctx).Warn("an export job was useless; starting another", zap.Error(err), zap.Int("jobs", attempt+1))
		if waitErr := Sleep(ctx, restartWait(ctx, attempt+1), "a new export job"); waitErr != nil {
			return fmt.Errorf("%w after %w", waitErr, err)
		}
	}
}

// restartWait returns the wait before the nth new job.
func restartWait(ctx context.Context, n int) time.Duration {
	retryTime := collector.RetryTime(ctx)
	waits := backoff.Policy{First: min(firstRestartWait, retryTime/30), Longest: min(maxRestartWait, retryTime), Growth: 4}
	return waits.Wait(n)
}

// runJob runs one job to its end and returns the number of chunks that it
// brought.
func (e Export) runJob(ctx context.Context, attempt int, out collector.Output) (fetched int, err error) {
	id, resumed, err := e.findOrStart(ctx, attempt, out)
	if err != nil {
		return 0, err
	}
	// The job has no deadline of the context: that is the run's.
	jobCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	deadline := orDuration(e.deadline, jobDeadline)
	timer := time.AfterFunc(deadline, func() { cancel(fmt.Errorf("%w %s: not finished within %v", errJobFailed, id, deadline)) })
	defer timer.Stop()
	j := &jobState{
		Export: e, id: id, resumed: resumed, out: out, started: time.Now(), announced: map[string]bool{}, statusSlot: make(chan struct{}, 1),
	}
	j.cond = sync.NewCond(&j.mu)
	if err = j.fetchAll(jobCtx); err != nil {
		return j.fetched, e.endFailedJob(ctx, id, out, err)
	}
	if j.doubt != "" {
		collector.StatsFrom(ctx).AddDoubt(j.doubt, 1)
	}
	return j.fetched, nil
}

// endFailedJob keeps the job for the next run, or cancels it and drops its chunks
// if its result cannot be used. It returns err.
func (e Export) endFailedJob(ctx context.Context, id string, out collector.Output, err error) error {
	resumable := e.resumableOutput(out)
	useless := ctx.Err() == nil && isUseless(err)
	switch {
	case resumable != nil && !useless:
		collector.LogFrom(ctx).Info("the export job is kept for the next run", zap.String("job", id))
		return err
	case !errors.Is(err, collector.ErrRefused): // a vendor that refuses the credentials would also refuse to cancel
		e.cancelJob(ctx, id)
	}
	if resumable != nil {
		err = errors.Join(err, resumable.DropJob())
	}
	return err
}

// findOrStart returns the id of the job to fetch, and whether an earlier run has
// started it.
func (e Export) findOrStart(ctx context.Context, attempt int, out collector.Output) (id string, resumed bool, err error) {
	resumable := e.resumableOutput(out)
	if resumable == nil {
		id, err = e.Start(ctx, attempt)
		return id, false, err
	}
	if attempt == 0 {
		if id, err = e.findInterrupted(ctx, resumable); err != nil {
			return "", false, err
		}
	}
	resumed = id != ""
	if !resumed {
		if err := e.cancelOthers(ctx, resumable); err != nil {
			return "", false, err
		}
		if id, err = e.Start(ctx, attempt); err != nil {
			return "", false, err
		}
	}
	if err := resumable.BeginJob(e.Selection, id); err != nil {
		e.cancelJob(ctx, id)
		return "", false, err
	}
	return id, resumed, nil
}

// cancelOthers cancels the jobs with other selections that earlier runs did not
// end.
func (e Export) cancelOthers(ctx context.Context, resumable collector.ResumableOutput) error {
	others, err := resumable.OtherJobs(e.Selection)
	for _, id := range others {
		e.cancelJob(ctx, id)
	}
	return err
}

// findInterrupted returns the id of the job that an earlier run did not end; ""
// when there is none or its result cannot be used.
func (e Export) findInterrupted(ctx context.Context, resumable collector.ResumableOutput) (string, error) {
	id, err := resumable.FindJob(e.Selection)
	if err != nil || id == "" {
		return "", err
	}
	status, err := confirmLost(ctx, time.Time{}, func() (JobStatus, error) { return e.Status(ctx, id) })
	var refusal *StatusError
	switch {
	case errors.Is(err, ErrJobLost):
		return "", nil
	case errors.As(err, &refusal) && refusal.verdict == Fatal:
		collector.LogFrom(ctx).Warn("the export job of an earlier run cannot be continued", zap.String("job", id), zap.Error(err))
		return "", nil
	case err != nil:
		return "", err
	case status.Failed != "", status.Done && status.Missing != "":
		return "", nil
	}
	return id, nil
}

// confirmLost returns the result of status, which it calls again until an
// ErrJobLost is certain. started is when the job was started, or zero if that
// was long ago.
func confirmLost(ctx context.Context, started time.Time, status func() (JobStatus, error)) (JobStatus, error) {
	for first := time.Now(); ; {
		s, err := status()
		if !errors.Is(err, ErrJobLost) || time.Since(first) >= lostJobWait && time.Since(started) >= startGrace {
			return s, err
		}
		if sleepErr := Sleep(ctx, lostJobWait/3, "export job that is not known"); sleepErr != nil {
			return s, sleepErr
		}
	}
}

// resumableOutput returns out if an interrupted job can be continued in it,
// and nil otherwise.
func (e Export) resumableOutput(out collector.Output) collector.ResumableOutput {
	resumable, ok := out.(collector.ResumableOutput)
	if !ok || e.Selection == "" {
		return nil
	}
	return resumable
}

// cancelJob cancels a job that is no longer needed, so that it does not occupy
// one of the few slots that the vendor has for jobs. An error is ignored: the
// caller has a more important one.
func (e Export) cancelJob(ctx context.Context, id string) {
	if e.Cancel == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = e.Cancel(ctx, id)
}
