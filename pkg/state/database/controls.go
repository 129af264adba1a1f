package database

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/collectord/collectord/pkg/state"
)

// Controls has the results of the controls of one tenancy, the last one of each and
// one for each day.
type Controls struct {
	core    *core
	tenancy string
}

// Controls implements [state.Backend].
func (s *State) Controls(tenancy string) state.Controls { return &Controls{s.core, tenancy} }

// ReplaceDefinitions implements [state.Controls].
func (c *Controls) ReplaceDefinitions(ctx context.Context, all []state.ControlDefinition) error {
	err := c.core.inTransaction(ctx, func(tx DB) error {
		ids, args := make([]string, 0, len(all)), []any{c.tenancy}
		for _, d := range all {
			if err := c.storeDefinition(ctx, tx, d); err != nil {
				return err
			}
			args = append(args, d.ID)
			ids = append(ids, fmt.Sprintf("$%d", len(args)))
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM controls WHERE tenancy = $1 AND id NOT IN (`+strings.Join(ids, ", ")+`)`, args...)
		return err
	})
	if err != nil {
		return fmt.Errorf("record the controls: %w", err)
	}
	return nil
}

// storeDefinition stores one definition. That of a file with a problem replaces only
// the problem of a control whose file could be used before.
func (c *Controls) storeDefinition(ctx context.Context, tx DB, d state.ControlDefinition) error {
	if d.Problem != "" {
		result, err := tx.ExecContext(ctx, `UPDATE controls SET problem = $1 WHERE tenancy = $2 AND id = $3 AND hash <> ''`, c.core.withoutSecrets(d.Problem), c.tenancy, d.ID)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n > 0 {
			return err
		}
	}
	_, err := tx.ExecContext(ctx,
		`INSERT INTO controls (tenancy, id, file, title, category, type, description, how, target, minimum, weight, indicator, reference, off, hash, problem)
		 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
		 ON CONFLICT (tenancy, id) DO UPDATE SET file = excluded.file, title = excluded.title, category = excluded.category, type = excluded.type,
			description = excluded.description, how = excluded.how, target = excluded.target, minimum = excluded.minimum,
			weight = excluded.weight, indicator = excluded.indicator, reference = excluded.reference, off = excluded.off,
			hash = excluded.hash, problem = excluded.problem`,
		c.tenancy, d.ID, d.File, d.Title, d.Category, d.Type, d.Description, d.How, d.Target, d.Minimum, d.Weight, d.Indicator,
		d.References, d.Off, d.Hash, c.core.withoutSecrets(d.Problem))
	return err
}

// ListControls implements [state.Controls].
func (c *Controls) ListControls(ctx context.Context) ([]state.ControlStatus, error) {
	all, err := queryAll(ctx, c.core.db, func(rows *sql.Rows) (s state.ControlStatus, err error) {
		var measured, data, tried, triedData, failedSince int64
		d, r, a := &s.ControlDefinition, &s.ControlResult, &s.Attempt
		err = rows.Scan(&d.ID, &d.File, &d.Title, &d.Category, &d.Type, &d.Description, &d.How, &d.Target, &d.Minimum, &d.Weight,
			&d.Indicator, &d.References, &d.Off, &d.Hash, &d.Problem,
			&measured, &data, &r.OK, &r.Total, &r.Rows, &r.NotFull, &r.Note, &tried, &triedData, &a.Hash, &a.Err, &failedSince)
		r.Measured, r.Data = fromMillis(measured), fromMillis(data)
		a.Tried, a.Data, a.FailedSince = fromMillis(tried), fromMillis(triedData), fromMillis(failedSince)
		return s, err
	}, `SELECT id, file, title, category, type, description, how, target, minimum, weight, indicator, reference, off, hash, problem,
			measured, data, ok, total, rows, not_full, note, tried, tried_data, tried_hash, error, failed_since
		FROM controls WHERE tenancy = $1 ORDER BY category, id`, c.tenancy)
	if err != nil {
		return nil, fmt.Errorf("read the controls: %w", c.core.engine.Explain(err))
	}
	return all, nil
}

// Record implements [state.Controls].
func (c *Controls) Record(ctx context.Context, outcomes []state.ControlOutcome) error {
	err := c.core.inTransaction(ctx, func(tx DB) error {
		for _, o := range outcomes {
			if err := c.recordOutcome(ctx, tx, o); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("record the results of the controls: %w", err)
	}
	return nil
}

func (c *Controls) recordOutcome(ctx context.Context, tx DB, o state.ControlOutcome) error {
	a := o.Attempt
	_, err := tx.ExecContext(ctx,
		`UPDATE controls SET tried = $1, tried_data = $2, tried_hash = $3, error = $4,
			failed_since = CASE WHEN $4 = '' THEN 0 WHEN failed_since = 0 THEN $1 ELSE failed_since END
		 WHERE tenancy = $5 AND id = $6`,
		toMillis(a.Tried), toMillis(a.Data), a.Hash, c.core.withoutSecrets(a.Err), c.tenancy, o.ID)
	if err != nil {
		return err
	}
	if o.Result == nil {
		return c.copyDays(ctx, tx, o)
	}
	r := o.Result
	_, err = tx.ExecContext(ctx,
		`UPDATE controls SET measured = $1, data = $2, ok = $3, total = $4, rows = $5, not_full = $6, note = $7 WHERE tenancy = $8 AND id = $9`,
		toMillis(r.Measured), toMillis(r.Data), r.OK, r.Total, r.Rows, r.NotFull, TruncateText(r.Note), c.tenancy, o.ID)
	if err != nil {
		return err
	}
	return c.replaceDays(ctx, tx, o.Days)
}

// copyDays adds the last days of a control that failed to the day of the attempt, as
// failed ones. The day keeps a result that it has.
func (c *Controls) copyDays(ctx context.Context, tx DB, o state.ControlOutcome) error {
	for _, d := range o.Days {
		result, err := tx.ExecContext(ctx,
			`INSERT INTO control_days (tenancy, day, id, business_unit, team, location, title, category, target, minimum, weight, indicator, ok, total, state)
			 SELECT tenancy, $1, id, business_unit, team, location, $2, $3, $4, $5, $6, $7, ok, total, $8 FROM control_days
			 WHERE tenancy = $9 AND id = $10 AND day = (SELECT max(day) FROM control_days WHERE tenancy = $9 AND id = $10 AND day <= $1)
			 ON CONFLICT (tenancy, day, id, business_unit, team, location) DO UPDATE SET title = excluded.title, category = excluded.category,
				target = excluded.target, minimum = excluded.minimum, weight = excluded.weight, indicator = excluded.indicator,
				ok = excluded.ok, total = excluded.total, state = excluded.state`,
			d.Day, d.Title, d.Category, d.Target, d.Minimum, d.Weight, d.Indicator, d.State, c.tenancy, o.ID)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n > 0 {
			return err
		}
		if err := c.replaceDays(ctx, tx, []state.ControlDay{d}); err != nil {
			return err
		}
	}
	return nil
}

// replaceDays replaces the days of controls by others of the same days.
func (c *Controls) replaceDays(ctx context.Context, tx DB, days []state.ControlDay) error {
	removed := map[[2]string]bool{}
	for _, d := range days {
		if key := [2]string{d.Day, d.ID}; !removed[key] {
			removed[key] = true
			if _, err := tx.ExecContext(ctx, `DELETE FROM control_days WHERE tenancy = $1 AND day = $2 AND id = $3`, c.tenancy, d.Day, d.ID); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx,
			`INSERT INTO control_days (tenancy, day, id, business_unit, team, location, title, category, target, minimum, weight, indicator, ok, total, state)
			 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`,
			c.tenancy, d.Day, d.ID, d.BusinessUnit, d.Team, d.Location, d.Title, d.Category, d.Target, d.Minimum, d.Weight, d.Indicator,
			d.OK, d.Total, d.State)
		if err != nil {
			return err
		}
	}
	return nil
}

// Days implements [state.Controls].
func (c *Controls) Days(ctx context.Context, from string) (days []state.ControlDay, err error) {
	err = c.EachDay(ctx, from, func(d state.ControlDay) error {
		days = append(days, d)
		return nil
	})
	return days, err
}

// EachDay implements [state.Controls].
func (c *Controls) EachDay(ctx context.Context, from string, visit func(state.ControlDay) error) error {
	rows, err := c.core.db.QueryContext(ctx,
		`SELECT day, id, business_unit, team, location, title, category, target, minimum, weight, indicator, ok, total, state
		 FROM control_days WHERE tenancy = $1 AND day >= $2 ORDER BY day, id, business_unit, team, location`, c.tenancy, from)
	if err != nil {
		return fmt.Errorf("read the days of the controls: %w", c.core.engine.Explain(err))
	}
	defer rows.Close()
	for rows.Next() {
		var d state.ControlDay
		if err := rows.Scan(&d.Day, &d.ID, &d.BusinessUnit, &d.Team, &d.Location, &d.Title, &d.Category, &d.Target, &d.Minimum, &d.Weight,
			&d.Indicator, &d.OK, &d.Total, &d.State); err != nil {
			return fmt.Errorf("read the days of the controls: %w", c.core.engine.Explain(err))
		}
		if err := visit(d); err != nil {
			return err
		}
	}
	return c.core.engine.Explain(rows.Err())
}

// HasDays implements [state.Controls].
func (c *Controls) HasDays(ctx context.Context) (has bool, err error) {
	err = c.core.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM control_days WHERE tenancy = $1)`, c.tenancy).Scan(&has)
	if err != nil {
		return false, fmt.Errorf("read the days of the controls: %w", c.core.engine.Explain(err))
	}
	return has, nil
}

// AddDays implements [state.Controls].
func (c *Controls) AddDays(ctx context.Context, days []state.ControlDay) error {
	if err := c.core.inTransaction(ctx, func(tx DB) error { return c.replaceDays(ctx, tx, days) }); err != nil {
		return fmt.Errorf("record the days of the controls: %w", err)
	}
	return nil
}

// RemoveDaysBefore implements [state.Controls].
func (c *Controls) RemoveDaysBefore(ctx context.Context, day string) error {
	if _, err := c.core.db.ExecContext(ctx, `DELETE FROM control_days WHERE tenancy = $1 AND day < $2`, c.tenancy, day); err != nil {
		return fmt.Errorf("remove old days of the controls: %w", c.core.engine.Explain(err))
	}
	return nil
}
