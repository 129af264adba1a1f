package backup

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/store"
)

// A Restorer brings back what is missing on this machine.
type Restorer struct {
	State *state.State
	// Backup is where the backups are; nil when there are none.
	Backup *Sink
	// File puts back the files of last-known snapshots; nil when they are off.
	File    *store.File
	Tenancy string
	Log     *zap.Logger
	// Ended, when set, is called with each result, from several goroutines.
	Ended func(Result)
}

// A Stream is one to restore.
type Stream struct{ Collector, Name string }

// An Outcome is what became of a stream's restore.
type Outcome string

// The outcomes.
const (
	Restored Outcome = "restored"  // the backup is the last-known snapshot now
	Current  Outcome = "current"   // what is here is as new
	NoBackup Outcome = "no backup" // there is none
	Bad      Outcome = "refused"   // there is one that cannot be used
	Failed   Outcome = "failed"    // it may come back when it is tried again
)

// Outcomes are all of them.
var Outcomes = []Outcome{Restored, Current, NoBackup, Bad, Failed}

// A Result is how the restore of one stream ended.
type Result struct {
	Stream
	Outcome Outcome
	// Err says why the outcome is Bad or Failed, or why the file was not put
	// back.
	Err error
	// FilePut tells that the file was missing and is there again.
	FilePut bool
	// Info is that of the last-known snapshot; zero when there is none.
	Info snapshot.Info
}

// parallel bounds the restores that go on at once.
const parallel = 4

// Run restores the streams, several at once, and returns their results in
// order. It returns when ctx ends at the latest.
func (r *Restorer) Run(ctx context.Context, streams []Stream) []Result {
	results := make([]Result, len(streams))
	places := make(chan struct{}, parallel)
	var all sync.WaitGroup
	for i, s := range streams {
		all.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			results[i] = r.one(ctx, s)
			r.report(results[i])
			if r.Ended != nil {
				r.Ended(results[i])
			}
		})
	}
	all.Wait()
	return results
}

// Within is Run that takes no longer than limit. It returns the streams that
// are worth another try.
func (r *Restorer) Within(ctx context.Context, limit time.Duration, streams []Stream) (again []Stream) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not restored within RESTORE_TIMEOUT, %v", limit))
	defer cancel()
	return pending(r.Run(ctx, streams))
}

func pending(results []Result) (again []Stream) {
	for _, result := range results {
		if result.Outcome == Failed {
			again = append(again, result.Stream)
		}
	}
	return again
}

// Waits between the tries of Retry.
const (
	firstRetry = 30 * time.Second
	lastRetry  = 15 * time.Minute
)

// Retry restores the streams until each is or ctx ends, with growing waits.
// Beside it collectors may run: what they collect is newer and stays.
func (r *Restorer) Retry(ctx context.Context, streams []Stream) {
	for wait := firstRetry; len(streams) > 0; wait = min(2*wait, lastRetry) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		streams = pending(r.Run(ctx, streams))
	}
}

// one restores one stream and its file.
func (r *Restorer) one(ctx context.Context, s Stream) Result {
	result := Result{Stream: s, Outcome: Current}
	h := snapshot.Header{Collector: s.Collector, Stream: s.Name, Tenancy: r.Tenancy}
	if r.Backup != nil {
		result.Outcome, result.Err = OutcomeOf(r.Backup.restore(ctx, h))
	}
	if r.File != nil {
		put, err := putFile(context.WithoutCancel(ctx), r.State, r.File, h, result.Outcome == Restored)
		if errors.Is(err, state.ErrLocked) {
			err = nil // it is being delivered
		}
		result.FilePut, result.Err = put && err == nil, errors.Join(result.Err, err)
	}
	last, _, err := r.State.LastKnown(context.WithoutCancel(ctx), s.Name, r.Tenancy)
	switch {
	case err == nil:
		result.Info = last.Info
	case !errors.Is(err, state.ErrNone):
		result.Err = errors.Join(result.Err, err)
	}
	return result
}

// OutcomeOf sorts the end of a restore.
func OutcomeOf(taken bool, err error) (Outcome, error) {
	switch {
	case err == nil && taken:
		return Restored, nil
	case err == nil:
		return Current, nil
	case errors.Is(err, errNoBackup):
		return NoBackup, nil
	case errors.Is(err, ErrBad):
		return Bad, err
	}
	return Failed, err
}

func (r *Restorer) report(result Result) {
	log := r.Log.With(zap.String("stream", result.Name))
	switch result.Outcome {
	case Restored:
		log.Info("restored from the backup", zap.Int64("records", result.Info.Records),
			zap.String("upload_id", result.Info.UploadID), zap.Time("taken", result.Info.UploadTimestamp))
	case Bad:
		log.Error("the backup is refused; what is here stays", zap.Error(result.Err))
		return
	case Failed:
		log.Warn("not restored; what is here stays", zap.Error(result.Err))
		return
	}
	if result.Err != nil {
		log.Error("restore", zap.Error(result.Err))
	}
	if result.FilePut {
		log.Info("the file was missing and is put back", zap.Time("taken", result.Info.UploadTimestamp))
	}
}
