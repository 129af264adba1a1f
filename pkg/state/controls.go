package state

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"
)

// Controls has the results of the controls of one tenancy, the last one of each and
// one for each day.
type Controls struct {
	core    *core
	tenancy string
}

// Controls returns the controls of a tenancy.
func (s *State) Controls(tenancy string) *Controls { return &Controls{s.core, tenancy} }

// A ControlDefinition is what the file of a control says about it.
type ControlDefinition struct {
	ID, Title, Category, Type, Description, How string
	// File is the name of the file in the directory of the controls.
	File            string
	Target, Minimum float64
	Weight          float64
	Indicator       bool
	// References is a JSON array of frameworks and their sections.
	References string
	// Off says why the control is not measured; "" when it is.
	Off string
	// Hash changes with the text of the file; "" when that could never be used.
	Hash string
	// Problem says why the file cannot be used; "" when it can. The definition is then
	// that of the last file that could be used, if there was one.
	Problem string
}

// A ControlResult is the result of a control that was measured.
type ControlResult struct {
	// Measured is when; zero for never.
	Measured time.Time
	// Data is the time of the oldest snapshot that was read.
	Data time.Time
	// OK is the sum of the compliance of all rows that have one, and Total their number.
	OK    float64
	Total int64
	// Rows is the number of all rows.
	Rows int64
	// NotFull is the number of rows whose compliance is below 1.
	NotFull int64
	// Note says what was left out, such as a query over a stream without data.
	Note string
}

// A ControlAttempt is the last attempt to measure a control.
type ControlAttempt struct {
	// Tried is when; zero for never.
	Tried time.Time
	// Data is the time of the newest snapshot that there was to read.
	Data time.Time
	// Hash is that of the definition.
	Hash string
	// Err is why it failed; "" when it did not.
	Err string
	// FailedSince is when the first of the failed attempts was that no success
	// separates from the last; zero when that succeeded.
	FailedSince time.Time
}

// A ControlStatus is what is known about a control.
type ControlStatus struct {
	ControlDefinition
	// ControlResult is the last result, also when the last attempt failed.
	ControlResult
	Attempt ControlAttempt
}

// A ControlDay is the result of a control on one day for one unit of the organisation.
// Of a control without a score on that day there is one with a Total of 0.
type ControlDay struct {
	ID string
	// Day is a date in UTC, such as "2026-03-01".
	Day                          string
	Title, Category              string
	Target, Minimum, Weight      float64
	Indicator                    bool
	BusinessUnit, Team, Location string
	OK                           float64
	Total                        int64
	// State is "measured", "empty" or "failed"; a failed one has the last result.
	State string
}

// controlsSchema is the migration that adds the tables.
const controlsSchema = `
CREATE TABLE controls (
	tenancy      TEXT NOT NULL,
	id           TEXT NOT NULL,
	file         TEXT NOT NULL,
	title        TEXT NOT NULL,
	category     TEXT NOT NULL,
	type         TEXT NOT NULL,
	description  TEXT NOT NULL,
	how          TEXT NOT NULL,
	target       REAL NOT NULL,
	minimum      REAL NOT NULL,
	weight       REAL NOT NULL,
	indicator    INTEGER NOT NULL,
	reference    TEXT NOT NULL,
	off          TEXT NOT NULL,
	hash         TEXT NOT NULL,
	problem      TEXT NOT NULL,
	measured     INTEGER NOT NULL DEFAULT 0,
	data         INTEGER NOT NULL DEFAULT 0,
	ok           REAL NOT NULL DEFAULT 0,
	total        INTEGER NOT NULL DEFAULT 0,
	rows         INTEGER NOT NULL DEFAULT 0,
	not_full     INTEGER NOT NULL DEFAULT 0,
	note         TEXT NOT NULL DEFAULT '',
	tried        INTEGER NOT NULL DEFAULT 0,
	tried_data   INTEGER NOT NULL DEFAULT 0,
	tried_hash   TEXT NOT NULL DEFAULT '',
	error        TEXT NOT NULL DEFAULT '',
	failed_since INTEGER NOT NULL DEFAULT 0,
	PRIMARY KEY (tenancy, id)
) WITHOUT ROWID;
CREATE TABLE control_days (
	tenancy       TEXT NOT NULL,
	day           TEXT NOT NULL,
	id            TEXT NOT NULL,
	business_unit TEXT NOT NULL,
	team          TEXT NOT NULL,
	location      TEXT NOT NULL,
	title         TEXT NOT NULL,
	category      TEXT NOT NULL,
	target        REAL NOT NULL,
	minimum       REAL NOT NULL,
	weight        REAL NOT NULL,
	indicator     INTEGER NOT NULL,
	ok            REAL NOT NULL,
	total         INTEGER NOT NULL,
	state         TEXT NOT NULL,
	PRIMARY KEY (tenancy, day, id, business_unit, team, location)
) WITHOUT ROWID;
`

// ReplaceDefinitions makes the definitions those of the tenancy. The results of the
// controls stay. A control that is not among them is removed, without its days.
func (c *Controls) ReplaceDefinitions(ctx context.Context, all []ControlDefinition) error {
	err := c.core.inTransaction(ctx, func(tx *sql.Tx) error {
		ids, args := make([]string, 0, len(all)), []any{c.tenancy}
		for _, d := range all {
			if err := c.storeDefinition(ctx, tx, d); err != nil {
				return err
			}
			ids, args = append(ids, "?"), append(args, d.ID)
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM controls WHERE tenancy = ? AND id NOT IN (`+strings.Join(ids, ", ")+`)`, args...)
		return err
	})
	if err != nil {
		return fmt.Errorf("record the controls: %w", err)
	}
	return nil
}

// storeDefinition stores one definition. That of a file with a problem replaces only
// the problem of a control whose file could be used before.
func (c *Controls) storeDefinition(ctx context.Context, tx *sql.Tx, d ControlDefinition) error {
	if d.Problem != "" {
		result, err := tx.ExecContext(ctx, `UPDATE controls SET problem = ? WHERE tenancy = ? AND id = ? AND hash <> ''`, truncateText(d.Problem), c.tenancy, d.ID)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n > 0 {
			return err
		}
	}
	_, err := tx.ExecContext(ctx,
		`INSERT INTO controls (tenancy, id, file, title, category, type, description, how, target, minimum, weight, indicator, reference, off, hash, problem)
		 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		 ON CONFLICT DO UPDATE SET file = excluded.file, title = excluded.title, category = excluded.category, type = excluded.type,
			description = excluded.description, how = excluded.how, target = excluded.target, minimum = excluded.minimum,
			weight = excluded.weight, indicator = excluded.indicator, reference = excluded.reference, off = excluded.off,
			hash = excluded.hash, problem = excluded.problem`,
		c.tenancy, d.ID, d.File, d.Title, d.Category, d.Type, d.Description, d.How, d.Target, d.Minimum, d.Weight, d.Indicator,
		d.References, d.Off, d.Hash, truncateText(d.Problem))
	return err
}

// ListControls returns the status of each control, ordered by category and id.
func (c *Controls) ListControls(ctx context.Context) ([]ControlStatus, error) {
	all, err := queryAll(ctx, c.core.db, func(rows *sql.Rows) (s ControlStatus, err error) {
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
		FROM controls WHERE tenancy = ? ORDER BY category, id`, c.tenancy)
	if err != nil {
		return nil, fmt.Errorf("read the controls: %w", explainSQLiteError(err))
	}
	return all, nil
}

// A ControlOutcome is the end of one attempt to measure a control.
type ControlOutcome struct {
	ID      string
	Attempt ControlAttempt
	// Result is nil when the attempt failed.
	Result *ControlResult
	// Days are the parts of the result, those of the day of the attempt. After a
	// failure there is one, without a result, which counts when the control has none.
	Days []ControlDay
}

// Record records the outcomes of one evaluation, all or none. The days of a control
// replace those of the same day; after a failure they are copies of its last ones.
func (c *Controls) Record(ctx context.Context, outcomes []ControlOutcome) error {
	err := c.core.inTransaction(ctx, func(tx *sql.Tx) error {
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

func (c *Controls) recordOutcome(ctx context.Context, tx *sql.Tx, o ControlOutcome) error {
	a := o.Attempt
	_, err := tx.ExecContext(ctx,
		`UPDATE controls SET tried = ?1, tried_data = ?2, tried_hash = ?3, error = ?4,
			failed_since = CASE WHEN ?4 = '' THEN 0 WHEN failed_since = 0 THEN ?1 ELSE failed_since END
		 WHERE tenancy = ?5 AND id = ?6`,
		toMillis(a.Tried), toMillis(a.Data), a.Hash, truncateText(a.Err), c.tenancy, o.ID)
	if err != nil {
		return err
	}
	if o.Result == nil {
		return c.copyDays(ctx, tx, o)
	}
	r := o.Result
	_, err = tx.ExecContext(ctx,
		`UPDATE controls SET measured = ?, data = ?, ok = ?, total = ?, rows = ?, not_full = ?, note = ? WHERE tenancy = ? AND id = ?`,
		toMillis(r.Measured), toMillis(r.Data), r.OK, r.Total, r.Rows, r.NotFull, truncateText(r.Note), c.tenancy, o.ID)
	if err != nil {
		return err
	}
	return c.replaceDays(ctx, tx, o.Days)
}

// copyDays adds the last days of a control that failed to the day of the attempt, as
// failed ones. The day keeps a result that it has.
func (c *Controls) copyDays(ctx context.Context, tx *sql.Tx, o ControlOutcome) error {
	for _, d := range o.Days {
		result, err := tx.ExecContext(ctx,
			`INSERT OR REPLACE INTO control_days (tenancy, day, id, business_unit, team, location, title, category, target, minimum, weight, indicator, ok, total, state)
			 SELECT tenancy, ?1, id, business_unit, team, location, ?2, ?3, ?4, ?5, ?6, ?7, ok, total, ?8 FROM control_days
			 WHERE tenancy = ?9 AND id = ?10 AND day = (SELECT max(day) FROM control_days WHERE tenancy = ?9 AND id = ?10 AND day <= ?1)`,
			d.Day, d.Title, d.Category, d.Target, d.Minimum, d.Weight, d.Indicator, d.State, c.tenancy, o.ID)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n > 0 {
			return err
		}
		if err := c.replaceDays(ctx, tx, []ControlDay{d}); err != nil {
			return err
		}
	}
	return nil
}

// replaceDays replaces the days of controls by others of the same days.
func (c *Controls) replaceDays(ctx context.Context, tx *sql.Tx, days []ControlDay) error {
	removed := map[[2]string]bool{}
	for _, d := range days {
		if key := [2]string{d.Day, d.ID}; !removed[key] {
			removed[key] = true
			if _, err := tx.ExecContext(ctx, `DELETE FROM control_days WHERE tenancy = ? AND day = ? AND id = ?`, c.tenancy, d.Day, d.ID); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx,
			`INSERT INTO control_days (tenancy, day, id, business_unit, team, location, title, category, target, minimum, weight, indicator, ok, total, state)
			 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			c.tenancy, d.Day, d.ID, d.BusinessUnit, d.Team, d.Location, d.Title, d.Category, d.Target, d.Minimum, d.Weight, d.Indicator,
			d.OK, d.Total, d.State)
		if err != nil {
			return err
		}
	}
	return nil
}

// Days returns the days from the given one on, such as "2026-03-01", in order; all of
// them for "".
func (c *Controls) Days(ctx context.Context, from string) (days []ControlDay, err error) {
	err = c.EachDay(ctx, from, func(d ControlDay) error {
		days = append(days, d)
		return nil
	})
	return days, err
}

// EachDay calls visit for each of the days that Days returns.
func (c *Controls) EachDay(ctx context.Context, from string, visit func(ControlDay) error) error {
	rows, err := c.core.db.QueryContext(ctx,
		`SELECT day, id, business_unit, team, location, title, category, target, minimum, weight, indicator, ok, total, state
		 FROM control_days WHERE tenancy = ? AND day >= ? ORDER BY day, id, business_unit, team, location`, c.tenancy, from)
	if err != nil {
		return fmt.Errorf("read the days of the controls: %w", explainSQLiteError(err))
	}
	defer rows.Close()
	for rows.Next() {
		var d ControlDay
		if err := rows.Scan(&d.Day, &d.ID, &d.BusinessUnit, &d.Team, &d.Location, &d.Title, &d.Category, &d.Target, &d.Minimum, &d.Weight,
			&d.Indicator, &d.OK, &d.Total, &d.State); err != nil {
			return fmt.Errorf("read the days of the controls: %w", explainSQLiteError(err))
		}
		if err := visit(d); err != nil {
			return err
		}
	}
	return explainSQLiteError(rows.Err())
}

// HasDays reports whether there are days.
func (c *Controls) HasDays(ctx context.Context) (has bool, err error) {
	err = c.core.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM control_days WHERE tenancy = ?)`, c.tenancy).Scan(&has)
	if err != nil {
		return false, fmt.Errorf("read the days of the controls: %w", explainSQLiteError(err))
	}
	return has, nil
}

// AddDays adds days, all or none. They replace those of the same controls and days.
func (c *Controls) AddDays(ctx context.Context, days []ControlDay) error {
	if err := c.core.inTransaction(ctx, func(tx *sql.Tx) error { return c.replaceDays(ctx, tx, days) }); err != nil {
		return fmt.Errorf("record the days of the controls: %w", err)
	}
	return nil
}

// RemoveDaysBefore removes the days before a day.
func (c *Controls) RemoveDaysBefore(ctx context.Context, day string) error {
	if _, err := c.core.db.ExecContext(ctx, `DELETE FROM control_days WHERE tenancy = ? AND day < ?`, c.tenancy, day); err != nil {
		return fmt.Errorf("remove old days of the controls: %w", explainSQLiteError(err))
	}
	return nil
}
