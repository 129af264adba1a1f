package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/dustin/go-humanize/english"

	"github.com/collectord/collectord/internal/durable"
	"github.com/collectord/collectord/pkg/snapshot"
)

// A Policy decides what happens to a sealed snapshot.
type Policy struct {
	// Sinks are the names of the destinations that receive it.
	Sinks []string
	// NewestOnly are those of them in which a newer snapshot replaces the older
	// one: only the newest waits.
	NewestOnly []string
	// SpoolMax is the size in bytes of what is queued for one destination,
	// beyond which a snapshot that is not the newest is not delivered to it; 0
	// means no bound.
	SpoolMax int64
	// StoreEmpty lets a snapshot without records replace one that has records.
	StoreEmpty bool
	// GuardDropPercent holds a snapshot that has fewer than this percentage of
	// the last-known one's records; 0 holds none.
	GuardDropPercent int
}

// A CommitResult is the outcome of Commit.
type CommitResult struct {
	Outcome Outcome
	// Info describes the snapshot.
	Info snapshot.Info
	// LastRecords is the number of records of the last-known snapshot before.
	LastRecords int64
	// Queued is the number of deliveries that were queued.
	Queued int
	// Skipped are the destinations whose queue was too large, so that the
	// snapshot before this one is not delivered to them.
	Skipped []string
}

// Commit seals w and, in one transaction, ends the run, makes the snapshot the
// last-known one, and queues a delivery for each sink; or records it as empty
// or held when the policy says so. The caller holds the stream's lock. After
// an error nothing has changed, and the caller calls Fail and aborts w.
func (r *Runs) Commit(ctx context.Context, id RunID, w *snapshot.Writer, stats RunStats, p Policy) (CommitResult, error) {
	dir := snapshotDir(w.Info().Header)
	if err := durable.MkdirBelow(r.dir, filepath.Dir(dir), 0o700); err != nil {
		return CommitResult{}, fmt.Errorf("seal snapshot: %w", err)
	}
	w.SetDoubts(stats.Doubts)
	sealed, err := w.Seal(filepath.Join(r.dir, dir))
	if err != nil {
		// The directory may be in place, if only the last sync failed.
		return CommitResult{}, errors.Join(err, r.discardDir(dir))
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
			return CommitResult{}, errors.Join(err, e)
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
	ctx context.Context, id RunID, sealed *snapshot.Snapshot, dir string, stats RunStats, p Policy,
) (CommitResult, error) {
	done := CommitResult{Info: sealed.Info}
	err := r.inTransaction(ctx, func(tx *sql.Tx) (err error) {
		if done.LastRecords, err = lastKnownRecords(ctx, tx, sealed.Stream, sealed.Tenancy); err != nil {
			return err
		}
		var reason string
		done.Outcome, reason = decideOutcome(sealed.Records, done.LastRecords, p)
		if isRedundantEmpty(sealed.Records, done.LastRecords, p) {
			err = r.discardDir(dir)
		} else {
			done.Queued, err = r.snapshots.addCollected(ctx, tx, sealed, dir, done.Outcome == Held, p)
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
func decideOutcome(records, last int64, p Policy) (Outcome, string) {
	switch {
	case records == 0:
		return Empty, ""
	case isSuddenLoss(records, last, p):
		return Held, fmt.Sprintf("%s, the last-known snapshot has %d, and GUARD_DROP holds what has less than %d%% of it",
			english.Plural(int(records), "record", ""), last, p.GuardDropPercent)
	}
	return Success, ""
}

// isSuddenLoss reports whether the policy holds a snapshot with records while
// the last-known one has last.
func isSuddenLoss(records, last int64, p Policy) bool {
	return records > 0 && records*100 < last*int64(p.GuardDropPercent)
}

// isRedundantEmpty reports whether a snapshot is empty and changes nothing: it
// would neither become the last-known one nor be delivered.
func isRedundantEmpty(records, last int64, p Policy) bool {
	return records == 0 && last > 0 && !p.StoreEmpty
}
