package backup

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/internal/backoff"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/store/file"
)

// A Restorer restores what is missing on this machine.
type Restorer struct {
	State *state.State
	// Backup is where the backups are; nil when there are none.
	Backup *Sink
	// File writes the files of last-known snapshots; nil when the destination
	// is off.
	File    *file.Sink
	Tenancy string
	// Policy holds backups as it holds collected snapshots. Its Sinks are not
	// used: what is restored is delivered to File alone.
	Policy state.Policy
	Log    *zap.Logger
	// Ended, when set, is called with each result, from several goroutines.
	Ended func(Result)
}

// A Stream is a stream to restore.
type Stream struct{ Collector, Name string }

// An Outcome is the outcome of a stream's restore.
type Outcome string

// The outcomes.
const (
	Restored Outcome = "restored"  // the backup is the last-known snapshot now
	Current  Outcome = "current"   // the present data is as new
	NoBackup Outcome = "no backup" // there is none
	Held     Outcome = "held"      // the backup has far fewer records and waits for Accept
	Bad      Outcome = "refused"   // the backup cannot be used
	Failed   Outcome = "failed"    // another attempt may succeed
)

// Outcomes are all of them.
var Outcomes = []Outcome{Restored, Current, NoBackup, Held, Bad, Failed}

// A Result is the result of one stream's restore.
type Result struct {
	Stream
	Outcome Outcome
	// Err says why the outcome is Bad or Failed, or why the file was not
	// written.
	Err error
	// FilePut reports whether the file of the restored snapshot was missing or
	// old and was written.
	FilePut bool
	// Info is that of the last-known snapshot; zero when there is none.
	Info snapshot.Info
}

// Run restores the streams, several at the same time, and returns their results in
// order. It returns when ctx ends, or earlier.
func (r *Restorer) Run(ctx context.Context, streams []Stream) []Result {
	return r.Begin(ctx, streams).Wait()
}

// failedStreams returns the streams whose outcome is Failed.
func failedStreams(results []Result) (again []Stream) {
	for _, result := range results {
		if result.Outcome == Failed {
			again = append(again, result.Stream)
		}
	}
	return again
}

// retryBackoff has the waits between the attempts of Retry.
var retryBackoff = backoff.Policy{First: 30 * time.Second, Longest: 15 * time.Minute}

// Retry repeats the restore of the streams, with growing waits, until each is
// restored or ctx ends. Collectors may run at the same time: what they collect is
// newer and is not replaced.
func (r *Restorer) Retry(ctx context.Context, streams []Stream) {
	for failures := 1; len(streams) > 0; failures++ {
		select {
		case <-ctx.Done():
			return
		case <-time.After(retryBackoff.Wait(failures)):
		}
		streams = failedStreams(r.Run(ctx, streams))
	}
}

// restoreStream restores one stream and its file.
func (r *Restorer) restoreStream(ctx context.Context, s Stream) Result {
	result := Result{Stream: s, Outcome: Current}
	h := snapshot.Header{Collector: s.Collector, Stream: s.Name, Tenancy: r.Tenancy}
	if r.Backup != nil {
		p := r.Policy
		if p.Sinks = nil; r.File != nil {
			p.Sinks = []string{r.File.Name()}
		}
		result.Outcome, result.Err = OutcomeOf(r.Backup.restore(ctx, h, p))
		if errors.Is(result.Err, errSuperseded) {
			result.Outcome, result.Err = Current, nil
		}
	}
	last, how, err := r.State.Snapshots.LastKnown(context.WithoutCancel(ctx), s.Name, r.Tenancy)
	switch {
	case err == nil:
		result.Info = last.Info
	case !errors.Is(err, state.ErrNoSnapshot):
		result.Err = errors.Join(result.Err, err)
	}
	if how.Source == state.Restored && r.File != nil && !errors.Is(context.Cause(ctx), errSuperseded) {
		put, err := putFile(context.WithoutCancel(ctx), r.State, r.File, h)
		if errors.Is(err, state.ErrLocked) {
			err = nil // the file is being delivered
		}
		result.FilePut, result.Err = put && err == nil, errors.Join(result.Err, err)
	}
	return result
}

// OutcomeOf returns the outcome of a restore that returned taken and err, and the
// error if the outcome is Bad or Failed.
func OutcomeOf(taken bool, err error) (Outcome, error) {
	switch {
	case err == nil && taken:
		return Restored, nil
	case err == nil:
		return Current, nil
	case errors.Is(err, errNoBackup):
		return NoBackup, nil
	case errors.Is(err, errHeld):
		return Held, nil
	case errors.Is(err, ErrBad):
		return Bad, err
	}
	return Failed, err
}

// logResult logs a result.
func (r *Restorer) logResult(result Result) {
	log := r.Log.With(zap.String("stream", result.Name))
	switch result.Outcome {
	case Restored:
		log.Info("restored from the backup", zap.Int64("records", result.Info.Records),
			zap.String("upload_id", result.Info.UploadID), zap.Time("taken", result.Info.UploadTimestamp))
	case Held:
		log.Warn("the backup has far fewer records than the present data (GUARD_DROP): it is held, the present data is kept; `collectord accept` releases it")
	case Bad:
		log.Error("the backup is refused; the present data is kept", zap.Error(result.Err))
		return
	case Failed:
		log.Warn("not restored; the present data is kept", zap.Error(result.Err))
		return
	}
	if result.Err != nil {
		log.Error("restore", zap.Error(result.Err))
	}
	if result.FilePut {
		log.Info("the file of the restored snapshot was written", zap.Time("taken", result.Info.UploadTimestamp))
	}
}
