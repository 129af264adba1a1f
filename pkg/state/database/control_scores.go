package database

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/collectord/collectord/pkg/state"
)

// DailyScores implements [state.Controls].
func (c *Controls) DailyScores(ctx context.Context, id, from string) ([]state.ControlScore, error) {
	all, err := queryAll(ctx, c.core.db, func(rows *sql.Rows) (s state.ControlScore, err error) {
		err = rows.Scan(&s.ID, &s.Day, &s.Category, &s.Target, &s.Minimum, &s.Weight, &s.Indicator, &s.OK, &s.Total, &s.State)
		return s, err
	}, `SELECT id, day, max(category), max(target), max(minimum), max(weight), max(CASE WHEN indicator THEN 1 ELSE 0 END), sum(ok), sum(total), max(state)
		FROM control_days WHERE tenancy = $1 AND day >= $2 AND ($3 = '' OR id = $3) GROUP BY day, id ORDER BY day, id`, c.tenancy, from, id)
	if err != nil {
		return nil, fmt.Errorf("read the daily scores of the controls: %w", c.core.engine.Explain(err))
	}
	return all, nil
}

// LastParts implements [state.Controls].
func (c *Controls) LastParts(ctx context.Context, id string) ([]state.ControlDay, error) {
	all, err := queryAll(ctx, c.core.db, func(rows *sql.Rows) (d state.ControlDay, err error) {
		err = rows.Scan(&d.ID, &d.Day, &d.BusinessUnit, &d.Team, &d.Location, &d.OK, &d.Total, &d.State)
		return d, err
	}, `SELECT id, day, business_unit, team, location, ok, total, state FROM control_days
		WHERE tenancy = $1 AND id = $2 AND day = (SELECT max(day) FROM control_days WHERE tenancy = $1 AND id = $2)
		ORDER BY business_unit, team, location`, c.tenancy, id)
	if err != nil {
		return nil, fmt.Errorf("read the parts of the control %s: %w", id, c.core.engine.Explain(err))
	}
	return all, nil
}
