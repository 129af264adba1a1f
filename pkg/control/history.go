package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/collectord/collectord/pkg/state"
)

// restoreHistory fills the days from the last-known snapshot of SummaryStream when the
// state has none, such as in a new container. The snapshot is restored from the backup
// first: the next one replaces it there, so that nothing is measured while the backup
// cannot be read. A backup that has none is not asked again.
func (e *Evaluator) restoreHistory(ctx context.Context, s *Settings) error {
	if e.restored == s {
		return nil
	}
	if err := e.restoreDays(ctx, s); err != nil {
		return err
	}
	e.restored = s
	return nil
}

func (e *Evaluator) restoreDays(ctx context.Context, s *Settings) error {
	repository := e.State.Controls(e.Tenancy)
	has, err := repository.HasDays(ctx)
	if has || err != nil {
		return err
	}
	if s.Restore != nil {
		if err := s.Restore(ctx); err != nil {
			return fmt.Errorf("restore the history of the controls, before which they are not measured: %w", err)
		}
	}
	days, err := e.readSummary(ctx)
	if err != nil {
		return fmt.Errorf("read the history of the controls: %w", err)
	}
	return repository.AddDays(ctx, days)
}

// readSummary returns the days in the last-known snapshot of SummaryStream; none when
// there is no snapshot.
func (e *Evaluator) readSummary(ctx context.Context) (days []state.ControlDay, err error) {
	_, err = e.State.Snapshots.EachRecord(ctx, SummaryStream, e.Tenancy, func(text []byte) error {
		var record summaryRecord
		if err := json.Unmarshal(text, &record); err != nil {
			return err
		}
		days = append(days, record.controlDay())
		return nil
	})
	if errors.Is(err, state.ErrNoSnapshot) {
		return nil, nil
	}
	return days, err
}

// controlDay returns what newSummaryRecord made the record of, without the weight of a
// control that has no score.
func (s summaryRecord) controlDay() state.ControlDay {
	d := state.ControlDay{
		ID: s.MetricID, Day: s.Day, Title: s.Title, Category: s.Category, Target: s.Target, Minimum: s.Minimum, Indicator: s.Indicator,
		BusinessUnit: s.BusinessUnit, Team: s.Team, Location: s.Location, State: s.State,
	}
	if s.Weight != nil && s.OK != nil && s.Total != nil {
		d.Weight, d.OK, d.Total = *s.Weight, *s.OK, *s.Total
	}
	return d
}
