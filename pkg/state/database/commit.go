package database

import (
	"context"
	"errors"
	"fmt"

	"github.com/dustin/go-humanize/english"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// Commit implements [state.Runs].
func (r *Runs) Commit(ctx context.Context, id state.RunID, w *snapshot.Writer, stats state.RunStats, p state.Policy) (state.CommitResult, error) {
	w.SetDoubts(stats.Doubts)
	sealed, place, err := r.files.Seal(ctx, w)
	if err != nil {
		return state.CommitResult{}, err
	}
	Reached("sealed")
	done, err := r.recordSnapshot(ctx, id, sealed, place, stats, p)
	if err != nil {
		// A transaction whose commit returns an error may still have happened. If
		// it has not, the files must not look like those of an interrupted run.
		// When that cannot be found out, they stay, and Recover deals with them.
		recorded, e := r.snapshots.hasPlace(context.WithoutCancel(ctx), place)
		if e == nil && !recorded {
			e = r.files.Discard(place)
		}
		if !recorded {
			return state.CommitResult{}, errors.Join(err, e)
		}
	}
	r.forgetBegun(id)
	Reached("recorded")
	done.Skipped = r.snapshots.queue().trimQueues(ctx, sealed.Stream, sealed.Tenancy, p)
	r.snapshots.sweepStream(ctx, sealed.Stream, sealed.Tenancy)
	return done, nil
}

// recordSnapshot ends the run and adds its sealed snapshot at a place to the
// database, or discards the snapshot when it is a redundant empty one.
func (r *Runs) recordSnapshot(
	ctx context.Context, id state.RunID, sealed *snapshot.Snapshot, place string, stats state.RunStats, p state.Policy,
) (state.CommitResult, error) {
	done := state.CommitResult{Info: sealed.Info}
	err := r.inTransaction(ctx, func(tx DB) (err error) {
		if err := r.fence(ctx, tx, sealed.Header); err != nil {
			return err
		}
		if err := r.requireBegun(ctx, tx, id); err != nil {
			return err
		}
		if done.LastRecords, err = lastKnownRecords(ctx, tx, sealed.Stream, sealed.Tenancy); err != nil {
			return err
		}
		var reason string
		done.Outcome, reason = decideOutcome(sealed.Records, done.LastRecords, p)
		if isRedundantEmpty(sealed.Records, done.LastRecords, p) {
			err = r.files.Discard(place)
		} else {
			done.Queued, err = r.snapshots.addCollected(ctx, tx, sealed, place, done.Outcome == state.Held, p)
		}
		if err != nil {
			return err
		}
		Reached("recording")
		return r.endRun(ctx, tx, id, done.Outcome, reason, stats)
	})
	if err != nil {
		return done, fmt.Errorf("record the snapshot: %w", err)
	}
	return done, nil
}

// decideOutcome returns the outcome of a run whose snapshot has records while
// the last-known one has last, and the reason when the snapshot is held.
func decideOutcome(records, last int64, p state.Policy) (state.Outcome, string) {
	switch {
	case records == 0:
		return state.Empty, ""
	case isSuddenLoss(records, last, p):
		return state.Held, fmt.Sprintf("%s, the last-known snapshot has %d, and GUARD_DROP holds what has less than %d%% of it",
			english.Plural(int(records), "record", ""), last, p.GuardDropPercent)
	}
	return state.Success, ""
}

// isSuddenLoss reports whether the policy holds a snapshot with records while
// the last-known one has last.
func isSuddenLoss(records, last int64, p state.Policy) bool {
	return records > 0 && records*100 < last*int64(p.GuardDropPercent)
}

// isRedundantEmpty reports whether a snapshot is empty and changes nothing: it
// would neither become the last-known one nor be delivered.
func isRedundantEmpty(records, last int64, p state.Policy) bool {
	return records == 0 && last > 0 && !p.StoreEmpty
}
