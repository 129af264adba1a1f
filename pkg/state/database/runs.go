package database

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/collectord/collectord/pkg/state"
)

// Runs begins and ends runs, and has their history.
type Runs struct {
	*core
	snapshots *Snapshots

	mu sync.Mutex
	// begun are the runs of this process that have not ended.
	begun map[state.RunID]state.RunStart
}

// Begin implements [state.Runs].
func (r *Runs) Begin(ctx context.Context, start state.RunStart) (state.RunID, error) {
	var id state.RunID
	err := r.inUrgentTransaction(ctx, func(tx DB) (err error) {
		id, err = insertRun(ctx, tx, start)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("record the run: %w", r.engine.Explain(err))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun[id] = start
	return id, nil
}

// findBegun returns how a run of this process began.
func (r *Runs) findBegun(id state.RunID) (start state.RunStart, isOwn bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	start, isOwn = r.begun[id]
	return start, isOwn
}

// forgetBegun forgets a run of this process that has ended.
func (r *Runs) forgetBegun(id state.RunID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.begun, id)
}

// requireBegun returns an error when the history does not have a run that this process has
// begun: a database that fails over to a standby which was behind loses rows, and gives their
// numbers to other runs.
func (r *Runs) requireBegun(ctx context.Context, tx DB, id state.RunID) error {
	start, isOwn := r.findBegun(id)
	if !isOwn {
		return nil
	}
	var exists bool
	err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM runs WHERE id = $1 AND stream = $2 AND tenancy = $3 AND upload_id = $4)`,
		id, start.Stream, start.Tenancy, start.UploadID).Scan(&exists)
	if err == nil && !exists {
		err = fmt.Errorf("%w: the database does not have the run any more: it was restored, or failed over to a standby that was behind", state.ErrLost)
	}
	return err
}

// Fail implements [state.Runs].
func (r *Runs) Fail(ctx context.Context, id state.RunID, outcome state.Outcome, cause error, stats state.RunStats) error {
	err := r.inUrgentTransaction(ctx, func(tx DB) error {
		ended := id
		err := r.requireBegun(ctx, tx, id)
		if errors.Is(err, state.ErrLost) {
			start, _ := r.findBegun(id)
			ended, err = insertRun(ctx, tx, start)
		}
		if err != nil {
			return err
		}
		return r.endRun(ctx, tx, ended, outcome, cause.Error(), stats)
	})
	if err != nil {
		return fmt.Errorf("record the end of the run: %w", err)
	}
	r.forgetBegun(id)
	return nil
}

// Skip implements [state.Runs].
func (r *Runs) Skip(ctx context.Context, start state.RunStart, reason error) error {
	err := r.inTransaction(ctx, func(tx DB) error {
		id, err := insertRun(ctx, tx, start)
		if err != nil {
			return err
		}
		return r.endRun(ctx, tx, id, state.Skipped, reason.Error(), state.RunStats{})
	})
	if err != nil {
		return fmt.Errorf("record the skipped run: %w", err)
	}
	return nil
}

func insertRun(ctx context.Context, tx DB, start state.RunStart) (id state.RunID, err error) {
	err = tx.QueryRowContext(ctx,
		`INSERT INTO runs (collector, stream, tenancy, upload_id, cause, started) VALUES ($1, $2, $3, $4, $5, $6) RETURNING id`,
		start.Collector, start.Stream, start.Tenancy, start.UploadID, start.Trigger, toMillis(start.Started)).Scan(&id)
	return id, err
}

// endRun completes a run's row and counts the run, unless it has ended before.
func (r *Runs) endRun(ctx context.Context, tx DB, id state.RunID, outcome state.Outcome, text string, stats state.RunStats) error {
	result, err := tx.ExecContext(ctx,
		`UPDATE runs SET ended = $1, outcome = $2, error = $3, records = $4, bytes = $5, pages = $6, requests = $7, retries = $8, limited = $9,
			doubts = $10
		 WHERE id = $11 AND outcome = ''`,
		toMillis(r.now()), outcome, r.withoutSecrets(text), stats.Records, stats.Bytes, stats.Pages, stats.Requests, stats.Retries,
		stats.RateLimitWait.Milliseconds(), encodeDoubts(stats.Doubts), id)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return err
	}
	_, err = tx.ExecContext(ctx,
		`INSERT INTO counters (collector, stream, tenancy, outcome, runs, last_run, ended, error)
		 SELECT collector, stream, tenancy, outcome, 1, id, ended, error FROM runs WHERE id = $1
		 ON CONFLICT (collector, stream, tenancy, outcome) DO UPDATE SET runs = counters.runs + 1, last_run = excluded.last_run, ended = excluded.ended, error = excluded.error`, id)
	return err
}

// deleteBefore deletes the runs that ended before t from the history.
func (r *Runs) deleteBefore(ctx context.Context, t time.Time) error {
	if _, err := r.db.ExecContext(ctx, `DELETE FROM runs WHERE outcome <> '' AND ended < $1`, toMillis(t)); err != nil {
		return fmt.Errorf("sweep history: %w", r.engine.Explain(err))
	}
	return nil
}
