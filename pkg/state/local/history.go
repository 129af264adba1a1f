package local

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/collectord/collectord/pkg/state"
)

// List implements [state.Runs].
func (r *Runs) List(ctx context.Context, stream string, limit int) ([]state.Run, error) {
	return r.listWhere(ctx, "?1 = '' OR stream = ?1", newestFirst, stream, limit)
}

// ListTenancy implements [state.Runs].
func (r *Runs) ListTenancy(ctx context.Context, stream, tenancy string, limit int) ([]state.Run, error) {
	return r.ListPage(ctx, state.RunPage{Tenancy: tenancy, Stream: stream, Limit: limit})
}

// ListPage implements [state.Runs].
func (r *Runs) ListPage(ctx context.Context, p state.RunPage) ([]state.Run, error) {
	where, args, order := "tenancy = ?", []any{p.Tenancy}, newestFirst
	if p.Stream != "" {
		where, args = where+" AND stream = ?", append(args, p.Stream)
	}
	if len(p.Outcomes) > 0 {
		where += " AND outcome IN (?" + strings.Repeat(", ?", len(p.Outcomes)-1) + ")"
		for _, o := range p.Outcomes {
			args = append(args, o)
		}
	}
	if p.Before > 0 {
		where, args = where+" AND id < ?", append(args, p.Before)
	}
	if p.After > 0 {
		where, args, order = where+" AND id > ?", append(args, p.After), oldestFirst
	}
	runs, err := r.listWhere(ctx, where, order, append(args, p.Limit)...)
	if order == oldestFirst {
		slices.Reverse(runs)
	}
	return runs, err
}

// The orders of listWhere.
const (
	newestFirst = "id DESC"
	oldestFirst = "id"
)

// listWhere returns the first runs, in an order, for which the SQL condition where holds.
// The last of args is the maximum number of runs.
func (r *Runs) listWhere(ctx context.Context, where, order string, args ...any) ([]state.Run, error) {
	runs, err := queryAll(ctx, r.db, func(rows *sql.Rows) (run state.Run, err error) {
		var started, ended, limited int64
		err = rows.Scan(&run.ID, &run.Collector, &run.Stream, &run.Tenancy, &run.UploadID, &run.Trigger, &started, &ended, &run.Outcome, &run.Err,
			&run.Records, &run.Bytes, &run.Pages, &run.Requests, &run.Retries, &limited, doubtsColumn{&run.Doubts})
		run.Started, run.Ended, run.RateLimitWait = fromMillis(started), fromMillis(ended), time.Duration(limited)*time.Millisecond
		return run, err
	}, `SELECT id, collector, stream, tenancy, upload_id, cause, started, ended, outcome, error,
		records, bytes, pages, requests, retries, limited, doubts
		FROM runs WHERE `+where+` ORDER BY `+order+` LIMIT ?`, args...)
	if err != nil {
		return nil, fmt.Errorf("read the history: %w", err)
	}
	return runs, nil
}

// LastEnded implements [state.Runs].
func (r *Runs) LastEnded(ctx context.Context, collector, stream, tenancy string) (state.Run, error) {
	runs, err := r.listWhere(ctx, "collector = ? AND stream = ? AND tenancy = ? AND outcome NOT IN ('', 'skipped')",
		newestFirst, collector, stream, tenancy, 1)
	if err != nil || len(runs) == 0 {
		return state.Run{}, err
	}
	return runs[0], nil
}

// LastDuration implements [state.Runs].
func (r *Runs) LastDuration(ctx context.Context, stream, tenancy string) (time.Duration, error) {
	var longest int64
	err := r.db.QueryRowContext(ctx, `SELECT coalesce(max(ended - started), 0) FROM runs
		WHERE stream = ?1 AND tenancy = ?2 AND outcome NOT IN ('', 'skipped', 'interrupted') AND id >= coalesce((
			SELECT id FROM runs WHERE stream = ?1 AND tenancy = ?2 AND outcome IN ('success', 'unchanged', 'empty', 'held')
			ORDER BY id DESC LIMIT 1), 0)`, stream, tenancy).Scan(&longest)
	if err != nil {
		return 0, fmt.Errorf("read the history: %w", explainSQLiteError(err))
	}
	return max(0, time.Duration(longest)*time.Millisecond), nil
}

// OutcomeCounts implements [state.Runs].
func (r *Runs) OutcomeCounts(ctx context.Context) ([]state.Count, error) {
	all, err := queryAll(ctx, r.db, func(rows *sql.Rows) (c state.Count, err error) {
		var ended int64
		err = rows.Scan(&c.Collector, &c.Stream, &c.Tenancy, &c.Outcome, &c.Runs, &ended)
		c.LastEnded = fromMillis(ended)
		return c, err
	}, `SELECT collector, stream, tenancy, outcome, runs, ended FROM counters ORDER BY collector, stream, tenancy, outcome`)
	if err != nil {
		return nil, fmt.Errorf("read the counts: %w", err)
	}
	return all, nil
}

// Recent implements [state.Runs].
func (r *Runs) Recent(ctx context.Context, tenancy string, streams []string, n int) (map[string][]state.Point, error) {
	all := map[string][]state.Point{}
	statement, err := r.db.PrepareContext(ctx, `SELECT outcome, records, ended - started FROM runs
		WHERE stream = ? AND tenancy = ? AND outcome <> '' ORDER BY id DESC LIMIT ?`)
	if err != nil {
		return nil, fmt.Errorf("read the history: %w", err)
	}
	defer statement.Close()
	for _, stream := range streams {
		points, err := recentPoints(ctx, statement, stream, tenancy, n)
		if err != nil {
			return nil, fmt.Errorf("read the history: %w", err)
		}
		all[stream] = points
	}
	return all, nil
}

func recentPoints(ctx context.Context, statement *sql.Stmt, stream, tenancy string, n int) (points []state.Point, err error) {
	rows, err := statement.QueryContext(ctx, stream, tenancy, n)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var p state.Point
		var took int64
		if err := rows.Scan(&p.Outcome, &p.Records, &took); err != nil {
			return nil, err
		}
		p.Took = time.Duration(took) * time.Millisecond
		points = append(points, p)
	}
	slices.Reverse(points)
	return points, rows.Err()
}
