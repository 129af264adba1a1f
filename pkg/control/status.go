package control

import (
	"cmp"
	"slices"

	"github.com/collectord/collectord/pkg/state"
)

// A Status is what is known about a control, for people and metrics.
type Status struct {
	state.ControlStatus
	State State
	// Score is the last one, also when the last attempt failed. Known reports whether
	// there is one.
	Score  float64
	Known  bool
	Colour Colour
	// Err is why the control failed; "" when it did not.
	Err string
}

// StatusOf returns the status of a control from the state.
func StatusOf(s state.ControlStatus) Status {
	status := Status{ControlStatus: s, Err: cmp.Or(s.Problem, s.Attempt.Err)}
	if s.Off == "" {
		status.Score, status.Known = Score(s.OK, s.Total)
	}
	if status.Known {
		status.Colour = ColourOf(status.Score, s.Target, s.Minimum)
	}
	switch {
	case s.Problem != "":
		status.State = Failed
	case s.Off != "":
		status.State, status.Err = Off, ""
	case s.Attempt.Err != "":
		status.State = Failed
	case s.Measured.IsZero():
		status.State = Pending
	case !status.Known:
		status.State = Empty
	default:
		status.State = Measured
	}
	return status
}

// StatusesOf returns the status of each control.
func StatusesOf(list []state.ControlStatus) []Status {
	all := make([]Status, 0, len(list))
	for _, s := range list {
		all = append(all, StatusOf(s))
	}
	return all
}

// OverallScore returns the score of all controls, and false when none has one.
// Indicators do not count.
func OverallScore(all []Status) (Aggregate, bool) {
	var parts []Part
	for _, s := range all {
		if s.Known && !s.Indicator {
			parts = append(parts, Part{Score: s.Score, Weight: s.Weight, Target: s.Target, Minimum: s.Minimum})
		}
	}
	return AggregateScores(parts)
}

// A Category is the controls of one category and their score.
type Category struct {
	Name     string
	Score    Aggregate
	Known    bool
	Controls []Status
}

// ByCategory returns the controls by category, ordered by its name.
func ByCategory(all []Status) (categories []Category) {
	for _, s := range all {
		at := slices.IndexFunc(categories, func(c Category) bool { return c.Name == s.Category })
		if at < 0 {
			at = len(categories)
			categories = append(categories, Category{Name: s.Category})
		}
		categories[at].Controls = append(categories[at].Controls, s)
	}
	for i, c := range categories {
		categories[i].Score, categories[i].Known = OverallScore(c.Controls)
	}
	slices.SortFunc(categories, func(a, b Category) int { return cmp.Compare(a.Name, b.Name) })
	return categories
}
