package state

import (
	"context"
	"database/sql"
	"fmt"
)

// A ControlScore is the result of a control on one day, of all units together.
type ControlScore struct {
	ID, Day, Category       string
	Target, Minimum, Weight float64
	Indicator               bool
	OK                      float64
	Total                   int64
	// State is that of ControlDay.
	State string
}

// DailyScores returns the result of each day from the given one on, such as
// "2026-03-01", in order: of one control, or of all for "".
func (c *Controls) DailyScores(ctx context.Context, id, from string) ([]ControlScore, error) {
	all, err := queryAll(ctx, c.core.db, func(rows *sql.Rows) (s ControlScore, err error) {
		err = rows.Scan(&s.ID, &s.Day, &s.Category, &s.Target, &s.Minimum, &s.Weight, &s.Indicator, &s.OK, &s.Total, &s.State)
		return s, err
	}, `SELECT id, day, max(category), max(target), max(minimum), max(weight), max(indicator), sum(ok), sum(total), max(state)
		FROM control_days WHERE tenancy = ?1 AND day >= ?2 AND (?3 = '' OR id = ?3) GROUP BY day, id ORDER BY day, id`, c.tenancy, from, id)
	if err != nil {
		return nil, fmt.Errorf("read the daily scores of the controls: %w", explainSQLiteError(err))
	}
	return all, nil
}

// LastParts returns the results of a control on its last day, one for each unit of the
// organisation.
func (c *Controls) LastParts(ctx context.Context, id string) ([]ControlDay, error) {
	all, err := queryAll(ctx, c.core.db, func(rows *sql.Rows) (d ControlDay, err error) {
		err = rows.Scan(&d.ID, &d.Day, &d.BusinessUnit, &d.Team, &d.Location, &d.OK, &d.Total, &d.State)
		return d, err
	}, `SELECT id, day, business_unit, team, location, ok, total, state FROM control_days
		WHERE tenancy = ?1 AND id = ?2 AND day = (SELECT max(day) FROM control_days WHERE tenancy = ?1 AND id = ?2)
		ORDER BY business_unit, team, location`, c.tenancy, id)
	if err != nil {
		return nil, fmt.Errorf("read the parts of the control %s: %w", id, explainSQLiteError(err))
	}
	return all, nil
}
