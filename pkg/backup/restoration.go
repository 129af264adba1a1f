package backup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// A Restoration is the restore of streams in the background.
type Restoration struct {
	restorer *Restorer
	streams  []*streamRestore
}

// A streamRestore is the restore of one stream.
type streamRestore struct {
	Stream
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when result is set
	result Result
}

// errSuperseded is the cause of a restore that is cancelled because newer data was
// collected.
var errSuperseded = errors.New("newer data was collected")

// maxParallel bounds the restores that run at the same time.
const maxParallel = 4

// Begin begins to restore the streams, several at the same time. It goes on until
// all have ended or ctx ends; a transfer without data has a limit of its own.
func (r *Restorer) Begin(ctx context.Context, streams []Stream) *Restoration {
	all := &Restoration{restorer: r}
	running := make(chan struct{}, maxParallel)
	for _, s := range streams {
		ctx, cancel := context.WithCancelCause(ctx)
		one := &streamRestore{Stream: s, cancel: cancel, done: make(chan struct{})}
		all.streams = append(all.streams, one)
		go func() {
			defer cancel(nil)
			defer close(one.done)
			running <- struct{}{}
			defer func() { <-running }()
			one.result = r.restoreStream(ctx, s)
			r.logResult(one.result)
			if r.Ended != nil {
				r.Ended(one.result)
			}
		}()
	}
	return all
}

// Wait waits until all restores have ended, and returns their results in order.
func (r *Restoration) Wait() []Result {
	var results []Result
	for _, s := range r.streams {
		<-s.done
		results = append(results, s.result)
	}
	return results
}

// WaitWithin waits until all restores have ended, or until limit is over. It logs
// those that continue in the background.
func (r *Restoration) WaitWithin(limit time.Duration) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for i := 0; i < len(r.streams); {
		select {
		case <-r.streams[i].done:
			i++
			continue
		case <-timer.C:
		}
		break
	}
	for _, s := range r.streams {
		select {
		case <-s.done:
		default:
			r.restorer.Log.Warn(fmt.Sprintf("not restored within RESTORE_TIMEOUT, %v; the restore continues", limit), zap.String("stream", s.Name))
		}
	}
}

// Supersede ends the restore of a stream of which newer data was collected.
func (r *Restoration) Supersede(stream string) {
	for _, s := range r.streams {
		if s.Name == stream {
			s.cancel(errSuperseded)
		}
	}
}

// Failed waits until all restores have ended, and returns the streams for which
// another attempt may succeed.
func (r *Restoration) Failed() []Stream { return failedStreams(r.Wait()) }
