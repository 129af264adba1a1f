package rest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/collectord/collectord/internal/backoff"
	"github.com/collectord/collectord/pkg/collector"
)

// jobState is the state of one export job.
type jobState struct {
	Export
	id         string
	out        collector.Output
	started    time.Time
	statusSlot chan struct{} // holds a value while the state is requested
	lastStatus time.Time     // guarded by statusSlot
	doubt      string        // of the last state; written by pollStatus
	resumed    bool          // an earlier run has started the job

	mu        sync.Mutex
	cond      *sync.Cond
	queue     []string        // chunks to fetch
	announced map[string]bool // all chunks that were ready
	fetched   int             // number of chunks that were read
	reused    int             // number of those that an earlier run had kept
	ended     bool            // no more chunks will be announced
	err       error           // the first error
}

// fetchAll polls the job and fetches its chunks until it has ended.
func (j *jobState) fetchAll(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The workers wait on the condition variable, which ignores the context.
	stop := context.AfterFunc(ctx, j.wakeWorkers)
	defer stop()
	var workers sync.WaitGroup
	for range max(1, j.Parallel) {
		workers.Go(func() {
			if err := j.fetchQueued(ctx); err != nil {
				j.setError(err)
				cancel()
			}
		})
	}
	if err := j.pollStatus(ctx); err != nil {
		j.setError(err)
		cancel()
	}
	workers.Wait()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err == nil && ctx.Err() != nil {
		// Workers that saw the end of the context have left their chunks, even
		// if the last request for the state succeeded.
		return context.Cause(ctx)
	}
	return j.err
}

// wakeWorkers lets the workers check the context. Without the lock, a worker
// that is about to wait could miss the signal.
func (j *jobState) wakeWorkers() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.cond.Broadcast()
}

// setError records the first error.
func (j *jobState) setError(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err == nil {
		j.err = err
	}
	j.cond.Broadcast()
}

// pollStatus polls the job's state until it has ended.
func (j *jobState) pollStatus(ctx context.Context) error {
	waits := backoff.Policy{First: orDuration(j.firstPoll, firstPollWait), Longest: orDuration(j.maxPoll, maxPollWait), Growth: 1.5}
	for polls := 1; ; polls++ {
		status, err := j.fetchStatus(ctx)
		if err != nil {
			return err
		}
		if status.Failed != "" {
			return fmt.Errorf("%w %s: %s", errJobFailed, j.id, status.Failed)
		}
		if status.Done && status.Missing != "" {
			return fmt.Errorf("%w %s: %s", errJobFailed, j.id, status.Missing)
		}
		j.enqueueChunks(status)
		if status.Done {
			j.doubt = status.Doubt
			return nil
		}
		if err := Sleep(ctx, waits.Wait(polls), "export job "+j.id); err != nil {
			return err
		}
	}
}

// fetchStatus returns the job's state. Only one request for it is made at a
// time, with a wait between two. An ErrJobLost is certain.
func (j *jobState) fetchStatus(ctx context.Context) (JobStatus, error) {
	select {
	case j.statusSlot <- struct{}{}:
	case <-ctx.Done():
		return JobStatus{}, context.Cause(ctx)
	}
	defer func() { <-j.statusSlot }()
	return confirmLost(ctx, j.started, func() (JobStatus, error) {
		wait := time.Until(j.lastStatus.Add(orDuration(j.firstPoll, firstPollWait)))
		if err := Sleep(ctx, wait, "export job "+j.id); err != nil {
			return JobStatus{}, err
		}
		defer func() { j.lastStatus = time.Now() }()
		return j.Status(ctx, j.id)
	})
}

// enqueueChunks queues the chunks that are new.
func (j *jobState) enqueueChunks(status JobStatus) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, chunk := range status.Ready {
		if !j.announced[chunk] {
			j.announced[chunk] = true
			j.queue = append(j.queue, chunk)
		}
	}
	j.ended = status.Done
	j.cond.Broadcast()
}

// nextChunk waits for a chunk to fetch. It returns false when there will be
// none.
func (j *jobState) nextChunk(ctx context.Context) (string, bool) {
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

// fetchQueued fetches chunks until there are no more.
func (j *jobState) fetchQueued(ctx context.Context) error {
	for {
		chunk, ok := j.nextChunk(ctx)
		if !ok {
			return nil
		}
		reused, err := j.fetchChunk(ctx, chunk)
		if err != nil {
			return err
		}
		j.countFetched(reused)
	}
}

// countFetched counts a chunk that was read.
func (j *jobState) countFetched(reused bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.fetched++
	if reused {
		j.reused++
	}
}

// fetchChunk reads one chunk, and reports whether an earlier run has kept it.
func (j *jobState) fetchChunk(ctx context.Context, chunk string) (reused bool, err error) {
	out := j.out
	if resumable := j.resumableOutput(out); resumable != nil {
		if reused, err := resumable.ReuseChunk(ctx, chunk); reused || err != nil {
			return reused, err
		}
		out = resumable.SaveChunk(chunk)
	}
	return false, j.requestChunk(ctx, chunk, out)
}

// requestChunk requests one chunk. It repeats the request for the run's retry
// time if the chunk is not ready.
func (j *jobState) requestChunk(ctx context.Context, chunk string, out collector.Output) error {
	longest := orDuration(j.maxPoll, maxPollWait)
	notReady := RetryPeriod{First: longest / 10, Longest: longest}
	for {
		err := j.Fetch(ctx, j.id, chunk, out)
		if errors.Is(err, ErrJobLost) {
			err = j.settleLostChunk(ctx, err)
		}
		if errors.Is(err, ErrNotReady) {
			if wait, again := notReady.NextWait(ctx, err); again {
				if err := Sleep(ctx, wait+rand.N(time.Second), "chunk "+chunk); err != nil {
					return err
				}
				continue
			}
		}
		switch {
		case err == nil:
			return nil
		case isCut(err) && !j.isStuck():
			return err
		case errors.Is(err, collector.ErrIncomplete), errors.Is(err, ErrNotReady):
			// A chunk that stays broken makes the job useless, but another job
			// may succeed.
			return fmt.Errorf("%w %s: chunk %s: %w", errJobFailed, j.id, chunk, err)
		default:
			return err
		}
	}
}

// isCut reports whether err means that the connection failed before the end of a
// body.
func isCut(err error) bool {
	var b *BodyError
	return errors.As(err, &b) && b.cut
}

// isStuck reports whether the job is that of an earlier run and this run has not
// brought any chunk.
func (j *jobState) isStuck() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.resumed && j.fetched == j.reused
}

// settleLostChunk returns the error of a chunk that the vendor does not know:
// ErrJobLost if it does not know the job either, and otherwise ErrNotReady.
func (j *jobState) settleLostChunk(ctx context.Context, lost error) error {
	if _, err := j.fetchStatus(ctx); err != nil {
		return err
	}
	return fmt.Errorf("%w: %v", ErrNotReady, lost)
}
