package state

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
)

// Runs begins and ends runs, and has their history.
type Runs struct {
	*core
	snapshots *Snapshots
}

// An Outcome is how a run of a stream ended.
type Outcome string

// The outcomes.
const (
	Success     Outcome = "success"     // a new snapshot is the last-known one
	Unchanged   Outcome = "unchanged"   // the vendor's data is that of the last-known snapshot
	Empty       Outcome = "empty"       // the vendor has no records
	Held        Outcome = "held"        // far fewer records than before: waits for Accept
	Failed      Outcome = "failed"      // an error
	Timeout     Outcome = "timeout"     // the run reached a time limit
	Cancelled   Outcome = "cancelled"   // collectord was stopped
	Skipped     Outcome = "skipped"     // another run of the collector was in progress
	Interrupted Outcome = "interrupted" // the process died
)

// Outcomes are all outcomes.
var Outcomes = []Outcome{Success, Unchanged, Empty, Held, Failed, Timeout, Cancelled, Skipped, Interrupted}

// IsSuccess reports whether a run with the outcome ended with the vendor's complete data.
func (o Outcome) IsSuccess() bool { return o == Success || o == Unchanged || o == Empty }

// A RunID identifies a run in the history.
type RunID int64

// A RunStart describes a run that begins.
type RunStart struct {
	snapshot.Header
	// Trigger is what started the run, such as "once".
	Trigger string
	Started time.Time
}

// RunStats are the statistics of a run.
type RunStats struct {
	Records, Bytes, Pages, Requests, Retries int64
	// RateLimitWait is the time spent waiting for the vendor's rate limit.
	RateLimitWait time.Duration
	// Doubts are the differences that the extraction accepted, also before it
	// failed.
	Doubts snapshot.Doubts
}

// Begin adds a run that has started to the history.
func (r *Runs) Begin(ctx context.Context, start RunStart) (RunID, error) {
	var id RunID
	err := r.inReservedTransaction(ctx, func(tx *sql.Tx) (err error) {
		id, err = insertRun(ctx, tx, start)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("record the run: %w", explainSQLiteError(err))
	}
	return id, nil
}

// Fail records the end of a run that has no new snapshot.
func (r *Runs) Fail(ctx context.Context, id RunID, outcome Outcome, cause error, stats RunStats) error {
	err := r.inReservedTransaction(ctx, func(tx *sql.Tx) error {
		return r.endRun(ctx, tx, id, outcome, cause.Error(), stats)
	})
	if err != nil {
		return fmt.Errorf("record the end of the run: %w", err)
	}
	return nil
}

// Skip adds a run that did not begin to the history, with the reason.
func (r *Runs) Skip(ctx context.Context, start RunStart, reason error) error {
	err := r.inTransaction(ctx, func(tx *sql.Tx) error {
		id, err := insertRun(ctx, tx, start)
		if err != nil {
			return err
		}
		return r.endRun(ctx, tx, id, Skipped, reason.Error(), RunStats{})
	})
	if err != nil {
		return fmt.Errorf("record the skipped run: %w", err)
	}
	return nil
}

func insertRun(ctx context.Context, db execer, start RunStart) (RunID, error) {
	result, err := db.ExecContext(ctx,
		`INSERT INTO runs (collector, stream, tenancy, upload_id, cause, started) VALUES (?, ?, ?, ?, ?, ?)`,
		start.Collector, start.Stream, start.Tenancy, start.UploadID, start.Trigger, toMillis(start.Started))
	if err != nil {
		return 0, err
	}
	id, err := result.LastInsertId()
	return RunID(id), err
}

// endRun completes a run's row and counts the run, unless it has ended before.
func (r *Runs) endRun(ctx context.Context, tx *sql.Tx, id RunID, outcome Outcome, text string, stats RunStats) error {
	result, err := tx.ExecContext(ctx,
		`UPDATE runs SET ended = ?, outcome = ?, error = ?, records = ?, bytes = ?, pages = ?, requests = ?, retries = ?, limited = ?,
			doubts = ?
		 WHERE id = ? AND outcome = ''`,
		toMillis(r.now()), outcome, truncateText(text), stats.Records, stats.Bytes, stats.Pages, stats.Requests, stats.Retries,
		stats.RateLimitWait.Milliseconds(), encodeDoubts(stats.Doubts), id)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return err
	}
	_, err = tx.ExecContext(ctx,
		`INSERT INTO counters (collector, stream, tenancy, outcome, runs, last_run, ended, error)
		 SELECT collector, stream, tenancy, outcome, 1, id, ended, error FROM runs WHERE id = ?
		 ON CONFLICT DO UPDATE SET runs = runs + 1, last_run = excluded.last_run, ended = excluded.ended, error = excluded.error`, id)
	return err
}

// deleteBefore deletes the runs that ended before t from the history.
func (r *Runs) deleteBefore(ctx context.Context, t time.Time) error {
	if _, err := r.db.ExecContext(ctx, `DELETE FROM runs WHERE outcome <> '' AND ended < ?`, toMillis(t)); err != nil {
		return fmt.Errorf("sweep history: %w", explainSQLiteError(err))
	}
	return nil
}
