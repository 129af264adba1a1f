// Package schedule decides when collectors run, and carries out a run: from
// the vendor to a sealed snapshot, and from there to every destination.
package schedule

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// A Runner runs collectors.
type Runner struct {
	State   *state.State
	Tenancy string
	// Policy says what becomes of a sealed snapshot.
	Policy state.Policy
	// SpoolMax bounds the disk that undelivered snapshots may take, in bytes.
	SpoolMax int64
	// Timeout bounds a run, IdleTimeout the time in which nothing arrives.
	Timeout, IdleTimeout time.Duration
	// Now is the clock that gives runs their time; time.Now when nil.
	Now func() time.Time
	// Parallel bounds the collectors that run at once.
	Parallel int
	Log      *zap.Logger
	// Sealed is called after each commit, so that deliveries start at once.
	Sealed func()
	// Ended is called when a stream's run has ended, from several goroutines;
	// the reading is zero when no extraction began.
	Ended func(Result, collector.Reading)

	// Began is told the span of each stream's run; nil for nobody. It may be
	// called from several goroutines.
	Began func(uploadID, stream string, span trace.SpanContext)

	// Lives lists the extractions under way; runners may share one.
	Lives *Lives
}

// Lives is a list of extractions under way. Its zero value is empty.
type Lives struct {
	mu   sync.Mutex
	list []*Live
}

// Running returns them in the order of their start.
func (l *Lives) Running() []*Live {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*Live(nil), l.list...)
}

// Live is a stream's extraction while it runs.
type Live struct {
	Collector, Stream string
	Started           time.Time
	Stats             *collector.Stats
}

// A Result is how the run of one stream ended.
type Result struct {
	Collector, Stream string
	// Outcome is the one that the history has.
	Outcome state.Outcome
	// Err says why a run has no new snapshot; nil for a success.
	Err           error
	UploadID      string
	Records       int64
	Bytes         int64
	Took          time.Duration
	Requests      int64
	Retries       int64
	LimitedFor    time.Duration
	RenamedRecs   int64
	RepairedRecs  int64
	LastRecords   int64
	DeliveryCount int
}

// OK tells whether the run's data is complete and on its way to every
// destination, or rightly empty.
func (r Result) OK() bool { return r.Err == nil && r.Outcome != state.Held }

// A Job is a collector with the streams of it that are to run.
type Job struct {
	Collector *collector.Collector
	// Streams are names; all of the collector's when empty.
	Streams []string
}

func (j Job) streams() []collector.Stream {
	if len(j.Streams) == 0 {
		return j.Collector.Streams
	}
	var chosen []collector.Stream
	for _, s := range j.Collector.Streams {
		for _, name := range j.Streams {
			if s.Name == name {
				chosen = append(chosen, s)
			}
		}
	}
	return chosen
}

// StreamNames are the names of the streams that are to run.
func (j Job) StreamNames() (names []string) {
	for _, s := range j.streams() {
		names = append(names, s.Name)
	}
	return names
}

func (r *Runner) now() time.Time {
	if r.Now != nil {
		return r.Now()
	}
	return time.Now()
}

// RunAll runs jobs side by side and returns the result of every stream, in
// the jobs' order.
func (r *Runner) RunAll(ctx context.Context, jobs []Job, trigger string) []Result {
	results := make([][]Result, len(jobs))
	places := make(chan struct{}, max(1, r.Parallel))
	var all sync.WaitGroup
	for i, job := range jobs {
		all.Go(func() {
			select {
			case places <- struct{}{}:
				defer func() { <-places }()
				results[i] = r.Run(ctx, job, trigger)
			case <-ctx.Done():
				results[i] = r.failAll(job, state.Cancelled, context.Cause(ctx))
			}
		})
	}
	all.Wait()
	var flat []Result
	for _, rs := range results {
		flat = append(flat, rs...)
	}
	return flat
}

func (r *Runner) failAll(job Job, outcome state.Outcome, err error) []Result {
	var results []Result
	for _, s := range job.streams() {
		result := Result{Collector: job.Collector.Name, Stream: s.Name, Outcome: outcome, Err: err}
		results = append(results, result)
		r.tell(result, collector.Reading{})
	}
	return results
}

// Run runs one collector: its streams side by side, all under one upload id
// and timestamp. It waits for nobody: when another process runs the same
// collector, every result wraps state.ErrLocked.
func (r *Runner) Run(ctx context.Context, job Job, trigger string) []Result {
	log := r.Log.With(zap.String("collector", job.Collector.Name))
	lock, err := r.State.Lock(job.Collector.Name)
	if err != nil {
		return r.failAll(job, state.Skipped, err)
	}
	defer func() {
		if err := lock.Unlock(); err != nil {
			log.Error("unlocking", zap.Error(err))
		}
	}()
	if err := r.recover(ctx, job.Collector.Name, log); err != nil {
		return r.failAll(job, state.Failed, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, r.Timeout, fmt.Errorf("%w: the run took longer than RUN_TIMEOUT, %v", errTimeout, r.Timeout))
	defer cancel()
	run := &run{
		Runner: r, collector: job.Collector.Name, trigger: trigger,
		id: uuid.NewString(), started: r.now().UTC().Truncate(time.Second),
	}
	streams := job.streams()
	log.Info("run starts", zap.String("upload_id", run.id), zap.Int("streams", len(streams)), zap.String("trigger", trigger))
	ctx, span := traceRun(ctx, run, len(streams))
	results := make([]Result, len(streams))
	var all sync.WaitGroup
	for i, s := range streams {
		all.Go(func() { results[i] = run.stream(ctx, s, log.With(zap.String("stream", s.Name))) })
	}
	all.Wait()
	endRun(span, results)
	return results
}

// tell hands an end on to Ended.
func (r *Runner) tell(result Result, n collector.Reading) {
	if r.Ended != nil {
		r.Ended(result, n)
	}
}

// recover completes or clears away what a process that died has left.
func (r *Runner) recover(ctx context.Context, name string, log *zap.Logger) error {
	found, err := r.State.Recover(ctx, name, r.Policy)
	if err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	found.Log(log)
	return nil
}

var errTimeout = errors.New("timeout")

// run is one run of one collector.
type run struct {
	*Runner
	collector string
	trigger   string
	id        string
	started   time.Time
}

// stream runs one stream to its end, whatever happens.
func (r *run) stream(ctx context.Context, s collector.Stream, log *zap.Logger) (result Result) {
	began := r.now()
	stats := &collector.Stats{}
	result = Result{Collector: r.collector, Stream: s.Name, UploadID: r.id}
	ctx, span := r.traceStream(ctx, s.Name)
	defer func() { endStream(span, result) }()
	live := r.Lives.enter(&Live{Collector: r.collector, Stream: s.Name, Started: began, Stats: stats})
	defer r.Lives.leave(live)
	header := snapshot.Header{
		Collector: r.collector, Stream: s.Name, Tenancy: r.Tenancy,
		UploadID: r.id, UploadTimestamp: r.started,
	}
	id, err := r.State.Begin(ctx, state.Start{Header: header, Trigger: r.trigger, Started: began})
	if err != nil {
		result.Outcome, result.Err = state.Failed, err
		r.report(log, &result, stats, began)
		return result
	}
	done, err := r.extract(ctx, s, id, header, stats, log)
	result.Outcome, result.Err = done.Outcome, err
	if err != nil {
		result.Outcome = outcomeOf(ctx, err)
		// The history must have it even when ctx is what ended the run.
		if err := r.State.Fail(context.WithoutCancel(ctx), id, result.Outcome, result.Err, figures(stats)); err != nil {
			result.Err = errors.Join(result.Err, err)
		}
	}
	result.Records, result.Bytes = done.Info.Records, done.Info.Bytes
	result.RenamedRecs, result.RepairedRecs = done.Info.RenamedMembers, done.Info.RepairedUTF8
	result.LastRecords, result.DeliveryCount = done.LastRecords, done.Queued
	r.report(log, &result, stats, began)
	return result
}

func (l *Lives) enter(live *Live) *Live {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, live)
	return live
}

func (l *Lives) leave(live *Live) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, other := range l.list {
		if other == live {
			l.list = append(l.list[:i], l.list[i+1:]...)
			return
		}
	}
}

// extract spools and seals one snapshot. Whatever goes wrong, the spool's
// space is given back.
func (r *run) extract(ctx context.Context, s collector.Stream, id state.RunID, h snapshot.Header, stats *collector.Stats, log *zap.Logger) (_ state.Commitment, err error) {
	w, err := r.State.Spool(ctx, h, r.SpoolMax)
	if err != nil {
		return state.Commitment{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Abort())
		}
	}()
	within, stop := watch(collector.WithLog(collector.WithStats(ctx, stats), log), stats, r.IdleTimeout)
	kept := r.State.Kept(h)
	err = guarded(within, s, &output{w: w, stats: stats, kept: kept, log: log})
	stop()
	// A run that was stopped leaves its chunks to the next one. Else they go
	// before the snapshot exists: what is kept after it would be taken for the
	// beginning of the next one.
	if err == nil || ctx.Err() == nil {
		err = errors.Join(err, kept.Drop())
	}
	if err != nil {
		return state.Commitment{}, err
	}
	if err := within.Err(); err != nil && context.Cause(within) != errDone {
		return state.Commitment{}, context.Cause(within)
	}
	done, err := r.State.Commit(context.WithoutCancel(ctx), id, w, figures(stats), r.Policy)
	if err != nil {
		return state.Commitment{}, err
	}
	if r.Sealed != nil {
		r.Sealed()
	}
	return done, nil
}

// guarded extracts and turns a panic into an error: one vendor's bug must not
// end the others' runs.
func guarded(ctx context.Context, s collector.Stream, out collector.Output) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: panic: %v\n%s", s.Name, p, debug.Stack())
		}
	}()
	return s.Extract(ctx, out)
}

// outcomeOf names how a run failed.
func outcomeOf(ctx context.Context, err error) state.Outcome {
	switch {
	case errors.Is(err, errTimeout), errors.Is(err, collector.ErrIdle):
		return state.Timeout
	case ctx.Err() != nil:
		return state.Cancelled
	}
	return state.Failed
}

func figures(stats *collector.Stats) state.Figures {
	n := stats.Read()
	return state.Figures{
		Records: n.Records, Bytes: n.Bytes, Pages: n.Pages,
		Requests: n.Requests, Retries: n.Retries, RateLimitWait: n.Waited,
	}
}

// report writes the one line that a stream's end has in the log.
func (r *run) report(log *zap.Logger, result *Result, stats *collector.Stats, began time.Time) {
	n := stats.Read()
	result.Took, result.Requests, result.Retries, result.LimitedFor = r.now().Sub(began), n.Requests, n.Retries, n.Waited
	r.tell(*result, n)
	fields := []zap.Field{
		zap.String("outcome", string(result.Outcome)), zap.String("upload_id", r.id),
		zap.Int64("records", result.Records), zap.Int64("bytes", result.Bytes),
		zap.Duration("took", result.Took.Round(time.Millisecond)),
		zap.Int64("requests", n.Requests), zap.Int64("retries", n.Retries), zap.Duration("rate_limit_wait", n.Waited.Round(time.Millisecond)),
	}
	switch {
	case result.Err != nil && result.Outcome == state.Cancelled:
		log.Warn("stream cancelled", append(fields, zap.Error(result.Err))...)
	case result.Err != nil:
		log.Error("stream failed; the last snapshot stays", append(fields, zap.Error(result.Err))...)
	case result.Outcome == state.Held:
		log.Error("stream held: far fewer records than before; the last snapshot stays", append(fields, zap.Int64("last_records", result.LastRecords))...)
	case result.Outcome == state.Empty:
		log.Warn("stream is empty; a snapshot with records stays the last one", fields...)
	default:
		log.Info("stream done", fields...)
	}
	if result.RenamedRecs > 0 || result.RepairedRecs > 0 {
		log.Warn("records were changed", zap.Int64("members_renamed", result.RenamedRecs), zap.Int64("utf8_repaired", result.RepairedRecs))
	}
}
