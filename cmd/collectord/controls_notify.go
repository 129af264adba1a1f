package main

import (
	"context"

	"github.com/collectord/collectord/pkg/control"
	"github.com/collectord/collectord/pkg/notify"
	"github.com/collectord/collectord/pkg/state"
)

// readControls returns what notifications say about the controls of a tenancy. Those that
// are off or were not measured yet are not among them.
func readControls(ctx context.Context, st *state.State, tenancy string) (all notify.Controls, err error) {
	list, err := st.Controls(tenancy).ListControls(ctx)
	if err != nil {
		return all, err
	}
	statuses := control.StatusesOf(list)
	if overall, known := control.OverallScore(statuses); known {
		all.Overall = notify.ControlScore{Colour: string(overall.Colour), Score: overall.Score}
	}
	for _, s := range statuses {
		if s.State == control.Off || s.State == control.Pending {
			continue
		}
		all.All = append(all.All, notify.Control{
			ID: s.ID, Title: s.Title, Score: notify.ControlScore{Colour: string(s.Colour), Score: s.Score}, Measured: s.Measured,
			Target: s.Target, Minimum: s.Minimum, Rows: s.Rows, NotCompliant: s.NotFull, Err: s.Err, FailedSince: s.Attempt.FailedSince,
		})
	}
	return all, nil
}
