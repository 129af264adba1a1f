// Package run executes collectors. A run reads the streams of one collector
// from the vendor, spools their records and seals a snapshot of each stream.
package run

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// A Runner runs collectors. Its methods may be called concurrently.
type Runner struct {
	State   *state.State
	Tenancy string
	// Policy decides whether a sealed snapshot is queued, held or dropped.
	Policy state.Policy
	// Timeout bounds the duration of a run. IdleTimeout bounds the time in which
	// a stream receives nothing from the vendor.
	Timeout, IdleTimeout time.Duration
	// RetryTime is how long a request is repeated that fails because of the
	// network or the vendor's servers; collector.DefaultRetryTime when zero.
	RetryTime time.Duration
	// Now returns the time that runs record; nil means time.Now.
	Now func() time.Time
	// Parallel is the maximum number of runs at once of a scheduler that shares no slots with
	// others.
	Parallel int
	Log      *zap.Logger
	// OnSealed, if not nil, is called after a snapshot was queued, so that deliveries
	// start at once. It may be called from several goroutines.
	OnSealed func()
	// FindLost, if not nil, returns the names of the destinations that have lost what
	// they store for the stream of a snapshot. It is called when a run has found the
	// vendor's data unchanged: these destinations get the last-known snapshot again. It
	// may be called from several goroutines.
	FindLost func(h snapshot.Header) []string
	// OnEnded, if not nil, is called when the run of a stream has ended. It may be
	// called from several goroutines.
	OnEnded func(Result)
	// OnTraced, if not nil, is called with the span of each stream's run when
	// tracing is on. It may be called from several goroutines.
	OnTraced func(uploadID, stream string, span trace.SpanContext)

	// Active lists the running extractions. Several runners may share one list.
	Active *ActiveRuns
}

// timeNow returns the current time of r's clock.
func (r *Runner) timeNow() time.Time {
	if r.Now != nil {
		return r.Now()
	}
	return time.Now()
}

// RunAll runs jobs concurrently and returns the result of every stream, in the order of the
// jobs. Before each it waits for acquire, which returns the function to call at the end of the
// run. When acquire returns an error, the streams of the job are cancelled because of it.
func (r *Runner) RunAll(ctx context.Context, jobs []Job, trigger string, acquire Acquire) []Result {
	results := make([][]Result, len(jobs))
	var all sync.WaitGroup
	for i, job := range jobs {
		all.Go(func() {
			release, err := acquire(ctx, job.Collector.Name)
			if err != nil {
				results[i] = r.failAll(job, state.Cancelled, err)
				return
			}
			defer release()
			results[i] = r.Run(ctx, job, trigger)
		})
	}
	all.Wait()
	var flat []Result
	for _, rs := range results {
		flat = append(flat, rs...)
	}
	return flat
}

// Acquire waits until a collector may run, and returns the function that ends this. The error is
// the cause of the end of ctx.
type Acquire func(ctx context.Context, collector string) (release func(), err error)

// failAll returns a result with outcome and err for every stream of job.
func (r *Runner) failAll(job Job, outcome state.Outcome, err error) []Result {
	var results []Result
	for _, s := range job.streams() {
		results = append(results, r.failStream(job, s, outcome, err))
	}
	return results
}

// failStream returns the result of a stream of job that is not run.
func (r *Runner) failStream(job Job, s collector.Stream, outcome state.Outcome, err error) Result {
	result := Result{Collector: job.Collector.Name, Stream: s.Name, Outcome: outcome, Err: err}
	r.ReportEnd(result)
	return result
}

// ReportEnd calls OnEnded.
func (r *Runner) ReportEnd(result Result) {
	if r.OnEnded != nil {
		r.OnEnded(result)
	}
}

// Run runs the streams of one collector concurrently. All of them have the same
// upload id and timestamp. Run does not wait for locks: a stream that another
// process is collecting is skipped, and the error of its result wraps
// state.ErrLocked.
func (r *Runner) Run(ctx context.Context, job Job, trigger string) []Result {
	log := r.Log.With(zap.String("collector", job.Collector.Name))
	streams := job.streams()
	results := make([]Result, len(streams))
	var free []int // the streams that are locked for this run
	for i, s := range streams {
		lock, err := r.State.Locks.LockStream(s.Name, r.Tenancy)
		if err != nil {
			outcome := state.Skipped
			if !errors.Is(err, state.ErrLocked) { // such as a database that does not respond
				outcome = state.Failed
			}
			results[i] = r.failStream(job, s, outcome, err)
			continue
		}
		free = append(free, i)
		var release context.CancelFunc
		ctx, release = state.WithLock(ctx, lock, s.Name)
		defer release()
		defer func() {
			if err := lock.Unlock(); err != nil {
				log.Error("unlocking", zap.String("stream", s.Name), zap.Error(err))
			}
		}()
	}
	if len(free) == 0 {
		return results
	}
	var locked []collector.Stream
	for _, i := range free {
		locked = append(locked, streams[i])
	}
	for n, result := range r.runLocked(ctx, job, locked, trigger, log) {
		results[free[n]] = result
	}
	return results
}

// runLocked runs streams whose locks are held and returns their results in order.
func (r *Runner) runLocked(ctx context.Context, job Job, streams []collector.Stream, trigger string, log *zap.Logger) []Result {
	results := make([]Result, len(streams))
	if err := r.recoverSpool(ctx, job.Collector.Name, streams, log); err != nil {
		for i, s := range streams {
			results[i] = r.failStream(job, s, state.Failed, err)
		}
		return results
	}
	tooLong := fmt.Errorf("%w: the run took longer than RUN_TIMEOUT, %v", errTimeout, r.Timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, r.Timeout, tooLong)
	defer cancel()
	e := &execution{
		Runner: r, collector: job.Collector.Name, trigger: trigger,
		uploadID: uuid.NewString(), started: r.timeNow().UTC().Truncate(time.Second),
	}
	log.Info("run starts", zap.String("upload_id", e.uploadID), zap.Int("streams", len(streams)), zap.String("trigger", trigger))
	ctx, span := startRunSpan(ctx, e, len(streams))
	group := collector.NewGroup(namesOfStreams(streams)...)
	ctx = collector.WithGroup(ctx, group)
	var all sync.WaitGroup
	for i, s := range streams {
		all.Go(func() {
			defer group.EndStream(s.Name)
			results[i] = e.runStream(ctx, s, log.With(zap.String("stream", s.Name)))
		})
	}
	all.Wait()
	endRunSpan(span, results)
	return results
}

func namesOfStreams(streams []collector.Stream) (names []string) {
	for _, s := range streams {
		names = append(names, s.Name)
	}
	return names
}

// recoverSpool commits or removes the snapshots of the streams that a killed
// process left in the spool.
func (r *Runner) recoverSpool(ctx context.Context, name string, streams []collector.Stream, log *zap.Logger) error {
	found, err := r.State.Recover(ctx, name, r.Tenancy, r.Policy, namesOfStreams(streams)...)
	if err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	found.Log(log)
	return nil
}

// errTimeout marks the cause of a run that exceeded its timeout.
var errTimeout = errors.New("timeout")

// An execution is one run of one collector.
type execution struct {
	*Runner
	collector string
	trigger   string
	uploadID  string
	started   time.Time
}
