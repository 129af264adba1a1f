package rest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/collectord/collectord/pkg/collector"
)

// An Export is an extraction by a job at the vendor: start it, ask for its
// state, and fetch its chunks while it still works. The functions are the
// vendor's facts, the life cycle is the toolkit's.
type Export struct {
	// Start begins the job, or finds the one that is already under way, and
	// returns its id. attempt counts from 0 and rises when a job has died, so
	// that a vendor's file can ask for less at once.
	Start func(ctx context.Context, attempt int) (id string, err error)
	// Status asks for the job's state.
	Status func(ctx context.Context, id string) (JobStatus, error)
	// Fetch reads one chunk into page. It may be called again for the same
	// chunk after an error that wraps ErrNotReady.
	Fetch func(ctx context.Context, id, chunk string, out collector.Output) error
	// Cancel tells the vendor that nobody waits for the job any more.
	Cancel func(ctx context.Context, id string) error
	// Asked says all that the job's content depends on, such as its filters and
	// the account. When it is set and the output is a collector.Keeper, a job
	// that a run which was cut off has left is continued. Fetch must then commit
	// one page for a chunk.
	Asked string
	// Parallel is how many chunks are fetched at once; 1 when zero.
	Parallel int
	// FirstPoll is the first wait between two questions for the state, 2 s
	// when zero; the waits grow to LongestPoll, 30 s when zero.
	FirstPoll, LongestPoll time.Duration
	// Deadline bounds one job; 6 h when zero.
	Deadline time.Duration
	// Restarts bounds how often a dead job is started anew; 2 when zero.
	Restarts int
}

// A JobStatus is an export job's state.
type JobStatus struct {
	// Done means that the job has ended and Ready will not grow.
	Done bool
	// Ready are the ids of chunks that can be fetched; ids once seen need not
	// be repeated.
	Ready []string
	// Dead says why the job's result is worth nothing, such as "2 chunks
	// failed"; "" while it is good.
	Dead string
	// Missing says why the job's result, though Done, is not all; "" when it is.
	Missing string
}

// ErrNotReady marks a chunk that was announced and cannot be read yet.
var ErrNotReady = errors.New("chunk is not ready yet")

// ErrJobLost marks an answer that says the vendor does not know the job.
var ErrJobLost = errors.New("the vendor does not know the export job any more")

// errJobDead marks a job that must be started anew.
var errJobDead = errors.New("export job")

// Run extracts all chunks into out. A job that dies is started anew with what
// it brought dropped, so out must hold nothing but this export. A job that is
// not needed any more is cancelled.
func (e Export) Run(ctx context.Context, out collector.Output) error {
	for attempt := 0; ; attempt++ {
		err := e.job(ctx, attempt, out)
		if err == nil || ctx.Err() != nil || !errors.Is(err, errJobDead) && !errors.Is(err, ErrJobLost) {
			return err
		}
		if attempt >= orInt(e.Restarts, 2) {
			return fmt.Errorf("%w: %w: gave up after %d jobs", collector.ErrIncomplete, err, attempt+1)
		}
		if err := out.Reset(); err != nil {
			return err
		}
	}
}

// job runs one job to its end.
func (e Export) job(ctx context.Context, attempt int, out collector.Output) error {
	id, err := e.begin(ctx, attempt, out)
	if err != nil {
		return err
	}
	within, cancel := context.WithTimeoutCause(ctx, orDuration(e.Deadline, 6*time.Hour),
		fmt.Errorf("%w %s: not finished within %v", errJobDead, id, orDuration(e.Deadline, 6*time.Hour)))
	defer cancel()
	j := &job{Export: e, id: id, out: out, seen: map[string]bool{}}
	j.cond = sync.NewCond(&j.mu)
	err = j.run(within)
	switch {
	case err == nil, errors.Is(err, collector.ErrRefused):
		// A vendor that refuses the credentials would refuse the courtesy, too.
	case ctx.Err() != nil && e.keeper(out) != nil:
		// The run was stopped; the next one continues the job.
	default:
		e.abandon(ctx, id)
	}
	return err
}

// begin finds the job to fetch: the one that was cut off, or a new one.
func (e Export) begin(ctx context.Context, attempt int, out collector.Output) (id string, err error) {
	keeper := e.keeper(out)
	if keeper == nil {
		return e.Start(ctx, attempt)
	}
	if attempt == 0 {
		if id, err = e.left(ctx, keeper); err != nil {
			return "", err
		}
	}
	if id == "" {
		if id, err = e.Start(ctx, attempt); err != nil {
			return "", err
		}
	}
	if err := keeper.Begin(e.Asked, id); err != nil {
		e.abandon(ctx, id)
		return "", err
	}
	return id, nil
}

// left returns the job that a run which was cut off has left, if it is still
// good; "" when there is none.
func (e Export) left(ctx context.Context, keeper collector.Keeper) (string, error) {
	id, err := keeper.Kept(e.Asked)
	if err != nil || id == "" {
		return "", err
	}
	status, err := e.Status(ctx, id)
	switch {
	case errors.Is(err, ErrJobLost):
		return "", nil
	case err != nil:
		return "", err
	case status.Dead != "", status.Done && status.Missing != "":
		return "", nil
	}
	return id, nil
}

func (e Export) keeper(out collector.Output) collector.Keeper {
	keeper, ok := out.(collector.Keeper)
	if !ok || e.Asked == "" {
		return nil
	}
	return keeper
}

// abandon cancels a job that nobody waits for: it would hold one of the few
// places that the vendor has for jobs. It is a courtesy, so its failure is
// not worth more than the failure that led here.
func (e Export) abandon(ctx context.Context, id string) {
	if e.Cancel == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = e.Cancel(ctx, id)
}

// job is the state of one export job.
type job struct {
	Export
	id  string
	out collector.Output

	mu    sync.Mutex
	cond  *sync.Cond
	queue []string        // chunks to fetch
	seen  map[string]bool // chunks announced
	ended bool            // no more chunks will be announced
	err   error           // the first failure
}

func (j *job) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Workers wait on the condition, which knows no context.
	stop := context.AfterFunc(ctx, j.wake)
	defer stop()
	var workers sync.WaitGroup
	for range max(1, j.Parallel) {
		workers.Go(func() {
			if err := j.work(ctx); err != nil {
				j.fail(err)
				cancel()
			}
		})
	}
	if err := j.poll(ctx); err != nil {
		j.fail(err)
		cancel()
	}
	workers.Wait()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err == nil && ctx.Err() != nil {
		// Workers that saw the end left their chunks, though the last question
		// for the state was still answered.
		return context.Cause(ctx)
	}
	return j.err
}

// wake lets the workers look again. Without the lock, one that is about to
// wait could miss it.
func (j *job) wake() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.cond.Broadcast()
}

func (j *job) fail(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err == nil {
		j.err = err
	}
	j.cond.Broadcast()
}

// poll asks for the job's state until it has ended.
func (j *job) poll(ctx context.Context) error {
	wait := orDuration(j.FirstPoll, 2*time.Second)
	for {
		status, err := j.Status(ctx, j.id)
		if err != nil {
			return err
		}
		if status.Dead != "" {
			return fmt.Errorf("%w %s: %s", errJobDead, j.id, status.Dead)
		}
		if status.Done && status.Missing != "" {
			return fmt.Errorf("%w %s: %s", errJobDead, j.id, status.Missing)
		}
		j.announce(status)
		if status.Done {
			return nil
		}
		if err := Sleep(ctx, wait, "export job "+j.id, false); err != nil {
			return err
		}
		wait = min(wait+wait/2, orDuration(j.LongestPoll, 30*time.Second))
	}
}

// announce queues the chunks that are new.
func (j *job) announce(s JobStatus) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, chunk := range s.Ready {
		if !j.seen[chunk] {
			j.seen[chunk] = true
			j.queue = append(j.queue, chunk)
		}
	}
	j.ended = s.Done
	j.cond.Broadcast()
}

// take waits for a chunk to fetch; false when there will be none.
func (j *job) take(ctx context.Context) (string, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for len(j.queue) == 0 && !j.ended && j.err == nil && ctx.Err() == nil {
		j.cond.Wait()
	}
	if len(j.queue) == 0 || j.err != nil {
		return "", false
	}
	chunk := j.queue[0]
	j.queue = j.queue[1:]
	return chunk, true
}

// work fetches chunks until there are no more.
func (j *job) work(ctx context.Context) error {
	for {
		chunk, ok := j.take(ctx)
		if !ok {
			return nil
		}
		if err := j.fetch(ctx, chunk); err != nil {
			return err
		}
	}
}

// fetch reads one chunk; one that is announced but not ready is asked for
// again a few times.
func (j *job) fetch(ctx context.Context, chunk string) error {
	out := j.out
	if keeper := j.keeper(out); keeper != nil {
		if done, err := keeper.Carry(ctx, chunk); done || err != nil {
			return err
		}
		out = keeper.Keep(chunk)
	}
	for n := 1; ; n++ {
		err := j.Fetch(ctx, j.id, chunk, out)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, ErrNotReady) && n < 10:
			wait := orDuration(j.LongestPoll, 30*time.Second)/10 + rand.N(time.Second)
			if err := Sleep(ctx, wait, "chunk "+chunk, false); err != nil {
				return err
			}
		case errors.Is(err, collector.ErrIncomplete), errors.Is(err, ErrNotReady):
			// A chunk that stays broken spoils the job, not the run.
			return fmt.Errorf("%w %s: chunk %s: %w", errJobDead, j.id, chunk, err)
		default:
			return err
		}
	}
}
