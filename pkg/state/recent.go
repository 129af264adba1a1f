package state

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"
)

// A Point is an ended run, as a chart needs it.
type Point struct {
	Outcome Outcome
	Records int64
	Took    time.Duration
}

// Recent returns the last n ended runs of each of the streams, oldest first.
func (s *State) Recent(ctx context.Context, tenancy string, streams []string, n int) (map[string][]Point, error) {
	all := map[string][]Point{}
	statement, err := s.db.PrepareContext(ctx, `SELECT outcome, records, ended - started FROM runs
		WHERE stream = ? AND tenancy = ? AND outcome <> '' ORDER BY id DESC LIMIT ?`)
	if err != nil {
		return nil, fmt.Errorf("read the history: %w", err)
	}
	defer statement.Close()
	for _, stream := range streams {
		points, err := recent(ctx, statement, stream, tenancy, n)
		if err != nil {
			return nil, fmt.Errorf("read the history: %w", err)
		}
		all[stream] = points
	}
	return all, nil
}

func recent(ctx context.Context, statement *sql.Stmt, stream, tenancy string, n int) (points []Point, err error) {
	rows, err := statement.QueryContext(ctx, stream, tenancy, n)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var p Point
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
