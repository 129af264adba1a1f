package database

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
	return r.listWhere(ctx, "$1 = '' OR stream = $1", newestFirst, stream, limit)
}

// ListTenancy implements [state.Runs].
func (r *Runs) ListTenancy(ctx context.Context, stream, tenancy string, limit int) ([]state.Run, error) {
	return r.ListPage(ctx, state.RunPage{Tenancy: tenancy, Stream: stream, Limit: limit})
}

// ListPage implements [state.Runs].
func (r *Runs) ListPage(ctx context.Context, p state.RunPage) ([]state.Run, error) {
	where, args, order := "tenancy = $1", []any{p.Tenancy}, newestFirst
	and := func(condition string, value any) {
		args = append(args, value)
		where += fmt.Sprintf(" AND %s $%d", condition, len(args))
	}
	if p.Stream != "" {
		and("stream =", p.Stream)
	}
	if len(p.Outcomes) > 0 {
		marks := make([]string, len(p.Outcomes))
		for i, o := range p.Outcomes {
			args = append(args, o)
			marks[i] = fmt.Sprintf("$%d", len(args))
		}
		where += " AND outcome IN (" + strings.Join(marks, ", ") + ")"
	}
	if p.Before > 0 {
		and("id <", p.Before)
	}
	if p.After > 0 {
		and("id >", p.After)
		order = oldestFirst
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
		FROM runs WHERE `+where+` ORDER BY `+order+fmt.Sprintf(" LIMIT $%d", len(args)), args...)
	if err != nil {
		return nil, fmt.Errorf("read the history: %w", err)
	}
	return runs, nil
}

// LastEnded implements [state.Runs].
func (r *Runs) LastEnded(ctx context.Context, collector, stream, tenancy string) (state.Run, error) {
	runs, err := r.listWhere(ctx, "collector = $1 AND stream = $2 AND tenancy = $3 AND outcome NOT IN ('', 'skipped')",
		newestFirst, collector, stream, tenancy, 1)
	if err != nil || len(runs) == 0 {
		return state.Run{}, err
	}
	return runs[0], nil
}

// LastDuration implements [state.Runs].
func (r *Runs) LastDuration(ctx context.Context, stream, tenancy string) (took time.Duration, collected bool, err error) {
	var longest, successes int64
	err = r.db.QueryRowContext(ctx, `SELECT coalesce(max(ended - started), 0), count(CASE WHEN outcome IN ('success', 'unchanged', 'empty', 'held') THEN 1 END) FROM runs
		WHERE stream = $1 AND tenancy = $2 AND outcome NOT IN ('', 'skipped', 'interrupted') AND id >= coalesce((
			SELECT id FROM runs WHERE stream = $1 AND tenancy = $2 AND outcome IN ('success', 'unchanged', 'empty', 'held')
			ORDER BY id DESC LIMIT 1), 0)`, stream, tenancy).Scan(&longest, &successes)
	if err != nil {
		return 0, false, fmt.Errorf("read the history: %w", r.engine.Explain(err))
	}
	return max(0, time.Duration(longest)*time.Millisecond), successes > 0, nil
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
	for _, stream := range streams {
		points, err := r.recentPoints(ctx, stream, tenancy, n)
		if err != nil {
			return nil, fmt.Errorf("read the history: %w", err)
		}
		all[stream] = points
	}
	return all, nil
}

func (r *Runs) recentPoints(ctx context.Context, stream, tenancy string, n int) ([]state.Point, error) {
	points, err := queryAll(ctx, r.db, func(rows *sql.Rows) (p state.Point, err error) {
		var took int64
		err = rows.Scan(&p.Outcome, &p.Records, &took)
		p.Took = time.Duration(took) * time.Millisecond
		return p, err
	}, `SELECT outcome, records, ended - started FROM runs WHERE stream = $1 AND tenancy = $2 AND outcome <> '' ORDER BY id DESC LIMIT $3`,
		stream, tenancy, n)
	slices.Reverse(points)
	return points, err
}
