package local

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/dustin/go-humanize/english"

	"github.com/collectord/collectord/internal/durable"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// Commit implements [state.Runs].
func (r *Runs) Commit(ctx context.Context, id state.RunID, w *snapshot.Writer, stats state.RunStats, p state.Policy) (state.CommitResult, error) {
	dir := snapshotDir(w.Info().Header)
	if err := durable.MkdirBelow(r.dir, filepath.Dir(dir), 0o700); err != nil {
		return state.CommitResult{}, fmt.Errorf("seal snapshot: %w", err)
	}
	w.SetDoubts(stats.Doubts)
	sealed, err := w.Seal(filepath.Join(r.dir, dir))
	if err != nil {
		// The directory may be in place, if only the last sync failed.
		return state.CommitResult{}, errors.Join(err, r.discardDir(dir))
	}
	crashPoint("sealed")
	done, err := r.recordSnapshot(ctx, id, sealed, dir, stats, p)
	if err != nil {
		// A transaction whose commit returns an error may still have happened. If
		// it has not, the directory must not look like that of an interrupted run.
		// When that cannot be found out, it stays, and Recover deals with it.
		recorded, e := r.snapshots.hasDir(context.WithoutCancel(ctx), dir)
		if e == nil && !recorded {
			e = r.discardDir(dir)
		}
		if !recorded {
			return state.CommitResult{}, errors.Join(err, e)
		}
	}
	crashPoint("recorded")
	done.Skipped = r.snapshots.queue().trimQueues(ctx, sealed.Stream, sealed.Tenancy, p)
	r.snapshots.sweepStream(ctx, sealed.Stream, sealed.Tenancy)
	return done, nil
}

// recordSnapshot ends the run and adds its sealed snapshot in dir to the
// database, or discards the snapshot when it is a redundant empty one.
func (r *Runs) recordSnapshot(
	ctx context.Context, id state.RunID, sealed *snapshot.Snapshot, dir string, stats state.RunStats, p state.Policy,
) (state.CommitResult, error) {
	done := state.CommitResult{Info: sealed.Info}
	err := r.inTransaction(ctx, func(tx *sql.Tx) (err error) {
		if done.LastRecords, err = lastKnownRecords(ctx, tx, sealed.Stream, sealed.Tenancy); err != nil {
			return err
		}
		var reason string
		done.Outcome, reason = decideOutcome(sealed.Records, done.LastRecords, p)
		if isRedundantEmpty(sealed.Records, done.LastRecords, p) {
			err = r.discardDir(dir)
		} else {
			done.Queued, err = r.snapshots.addCollected(ctx, tx, sealed, dir, done.Outcome == state.Held, p)
		}
		if err != nil {
			return err
		}
		crashPoint("recording")
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
