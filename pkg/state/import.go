package state

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
)

// A History is what is known of a stream's runs, in the form in which it
// leaves the machine.
type History struct {
	// Ends are the ways in which runs ended, over all time.
	Ends []End `json:"ends"`
	// Runs are the newest ones, newest first.
	Runs []PastRun `json:"runs"`
}

// An End is how often runs ended in one way, and the last that did.
type End struct {
	Outcome Outcome   `json:"outcome"`
	Runs    int64     `json:"runs"`
	Last    time.Time `json:"last"`
	Err     string    `json:"error,omitempty"`
}

// A PastRun is a run that has ended.
type PastRun struct {
	UploadID string        `json:"upload_id"`
	Trigger  string        `json:"trigger"`
	Started  time.Time     `json:"started"`
	Ended    time.Time     `json:"ended"`
	Outcome  Outcome       `json:"outcome"`
	Err      string        `json:"error,omitempty"`
	Records  int64         `json:"records"`
	Bytes    int64         `json:"bytes"`
	Pages    int64         `json:"pages"`
	Requests int64         `json:"requests"`
	Retries  int64         `json:"retries"`
	Waited   time.Duration `json:"rate_limit_wait_ns"`
}

// History returns a stream's history with at most limit runs.
func (s *State) History(ctx context.Context, stream, tenancy string, limit int) (h History, err error) {
	h.Ends, err = queryAll(ctx, s.db, func(rows *sql.Rows) (e End, err error) {
		var last int64
		err = rows.Scan(&e.Outcome, &e.Runs, &last, &e.Err)
		e.Last = fromMillis(last)
		return e, err
	}, `SELECT outcome, runs, ended, error FROM counters WHERE stream = ? AND tenancy = ? ORDER BY last_run`, stream, tenancy)
	if err != nil {
		return History{}, fmt.Errorf("read the history: %w", err)
	}
	h.Runs, err = queryAll(ctx, s.db, func(rows *sql.Rows) (r PastRun, err error) {
		var started, ended, limited int64
		err = rows.Scan(&r.UploadID, &r.Trigger, &started, &ended, &r.Outcome, &r.Err,
			&r.Records, &r.Bytes, &r.Pages, &r.Requests, &r.Retries, &limited)
		r.Started, r.Ended, r.Waited = fromMillis(started), fromMillis(ended), time.Duration(limited)*time.Millisecond
		return r, err
	}, `SELECT upload_id, cause, started, ended, outcome, error, records, bytes, pages, requests, retries, limited
		FROM runs WHERE stream = ? AND tenancy = ? AND outcome <> '' ORDER BY id DESC LIMIT ?`, stream, tenancy, limit)
	if err != nil {
		return History{}, fmt.Errorf("read the history: %w", err)
	}
	return h, nil
}

// ImportHistory takes in the history of the stream of h from another machine.
// It changes nothing when a run of the stream is known here.
func (s *State) ImportHistory(ctx context.Context, h snapshot.Header, past History) error {
	err := s.transact(ctx, func(tx *sql.Tx) error {
		var known bool
		if err := tx.QueryRowContext(ctx,
			`SELECT EXISTS (SELECT 1 FROM counters WHERE stream = ?1 AND tenancy = ?2)
			 OR EXISTS (SELECT 1 FROM runs WHERE stream = ?1 AND tenancy = ?2)`, h.Stream, h.Tenancy).Scan(&known); err != nil || known {
			return err
		}
		for i := len(past.Runs) - 1; i >= 0; i-- {
			if err := importRun(ctx, tx, h, past.Runs[i]); err != nil {
				return err
			}
		}
		for _, e := range past.Ends { // the one that ended last has the greatest last_run
			if _, err := tx.ExecContext(ctx,
				`INSERT INTO counters (collector, stream, tenancy, outcome, runs, last_run, ended, error)
				 VALUES (?1, ?2, ?3, ?4, ?5, coalesce((SELECT max(id) FROM runs WHERE stream = ?2 AND tenancy = ?3 AND outcome = ?4), 0), ?6, ?7)
				 ON CONFLICT DO NOTHING`,
				h.Collector, h.Stream, h.Tenancy, e.Outcome, e.Runs, toMillis(e.Last), clip(e.Err)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("take in the history: %w", err)
	}
	return nil
}

func importRun(ctx context.Context, tx *sql.Tx, h snapshot.Header, r PastRun) error {
	_, err := tx.ExecContext(ctx,
		`INSERT INTO runs (collector, stream, tenancy, upload_id, cause, started, ended, outcome, error, records, bytes, pages, requests, retries, limited)
		 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		h.Collector, h.Stream, h.Tenancy, r.UploadID, r.Trigger, toMillis(r.Started), toMillis(r.Ended), r.Outcome, clip(r.Err),
		r.Records, r.Bytes, r.Pages, r.Requests, r.Retries, r.Waited.Milliseconds())
	return err
}
