package database

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// History implements [state.Runs].
func (r *Runs) History(ctx context.Context, stream, tenancy string, limit int) (h state.History, err error) {
	h.Ends, err = queryAll(ctx, r.db, func(rows *sql.Rows) (e state.OutcomeSummary, err error) {
		var last int64
		err = rows.Scan(&e.Outcome, &e.Runs, &last, &e.Err)
		e.Last = fromMillis(last)
		return e, err
	}, `SELECT outcome, runs, ended, error FROM counters WHERE stream = $1 AND tenancy = $2 ORDER BY last_run`, stream, tenancy)
	if err != nil {
		return state.History{}, fmt.Errorf("read the history: %w", err)
	}
	h.Runs, err = queryAll(ctx, r.db, func(rows *sql.Rows) (run state.PastRun, err error) {
		var started, ended, limited int64
		err = rows.Scan(&run.UploadID, &run.Trigger, &started, &ended, &run.Outcome, &run.Err,
			&run.Records, &run.Bytes, &run.Pages, &run.Requests, &run.Retries, &limited, doubtsColumn{&run.Doubts})
		run.Started, run.Ended, run.Waited = fromMillis(started), fromMillis(ended), time.Duration(limited)*time.Millisecond
		return run, err
	}, `SELECT upload_id, cause, started, ended, outcome, error, records, bytes, pages, requests, retries, limited, doubts
		FROM runs WHERE stream = $1 AND tenancy = $2 AND outcome <> '' ORDER BY id DESC LIMIT $3`, stream, tenancy, limit)
	if err != nil {
		return state.History{}, fmt.Errorf("read the history: %w", err)
	}
	return h, nil
}

// ImportHistory implements [state.Runs].
func (r *Runs) ImportHistory(ctx context.Context, h snapshot.Header, past state.History) error {
	err := r.inTransaction(ctx, func(tx DB) error {
		_, err := r.importHistory(ctx, tx, h, past)
		return err
	})
	if err != nil {
		return fmt.Errorf("import the history: %w", err)
	}
	return nil
}

// importHistory is ImportHistory in a transaction. It reports whether the history was added.
// Its errors are from another state, which may have known fewer secrets.
func (c *core) importHistory(ctx context.Context, tx DB, h snapshot.Header, past state.History) (added bool, err error) {
	var exists bool
	if err := tx.QueryRowContext(ctx,
		`SELECT EXISTS (SELECT 1 FROM counters WHERE stream = $1 AND tenancy = $2)
		 OR EXISTS (SELECT 1 FROM runs WHERE stream = $1 AND tenancy = $2)`, h.Stream, h.Tenancy).Scan(&exists); err != nil || exists {
		return false, err
	}
	for i := len(past.Runs) - 1; i >= 0; i-- {
		if err := c.importRun(ctx, tx, h, past.Runs[i]); err != nil {
			return false, err
		}
	}
	for _, e := range past.Ends { // last_run orders outcomes by their last run
		if _, err := tx.ExecContext(ctx,
			`INSERT INTO counters (collector, stream, tenancy, outcome, runs, last_run, ended, error)
			 VALUES ($1, $2, $3, $4, $5, coalesce((SELECT max(id) FROM runs WHERE stream = $2 AND tenancy = $3 AND outcome = $4), 0), $6, $7)
			 ON CONFLICT DO NOTHING`,
			h.Collector, h.Stream, h.Tenancy, e.Outcome, e.Runs, toMillis(e.Last), c.withoutSecrets(e.Err)); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (c *core) importRun(ctx context.Context, tx DB, h snapshot.Header, run state.PastRun) error {
	_, err := tx.ExecContext(ctx,
		`INSERT INTO runs (collector, stream, tenancy, upload_id, cause, started, ended, outcome, error,
			records, bytes, pages, requests, retries, limited, doubts)
		 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)`,
		h.Collector, h.Stream, h.Tenancy, run.UploadID, run.Trigger,
		toMillis(run.Started), toMillis(run.Ended), run.Outcome, c.withoutSecrets(run.Err),
		run.Records, run.Bytes, run.Pages, run.Requests, run.Retries, run.Waited.Milliseconds(), encodeDoubts(run.Doubts))
	return err
}
