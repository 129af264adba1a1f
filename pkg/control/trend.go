package control

import "github.com/collectord/collectord/pkg/state"

// A DayScore is the score of one day.
type DayScore struct {
	// Day is a date in UTC, such as "2026-03-01".
	Day   string
	Score float64
	// Known reports whether there is a score. Of a day on which the control failed it is
	// that of an earlier one.
	Known           bool
	Target, Minimum float64
	Colour          Colour
	State           State
	OK              float64
	Total           int64
}

// TrendOf returns the scores of a control by day from the state, in order.
func TrendOf(scores []state.ControlScore) (days []DayScore) {
	for _, s := range scores {
		d := DayScore{Day: s.Day, Target: s.Target, Minimum: s.Minimum, State: State(s.State), OK: s.OK, Total: s.Total}
		if d.Score, d.Known = Score(s.OK, s.Total); d.Known {
			d.Colour = ColourOf(d.Score, d.Target, d.Minimum)
		}
		days = append(days, d)
	}
	return days
}

// TrendOfAll returns the score of several controls together by day, in order. Indicators
// do not count.
func TrendOfAll(scores []state.ControlScore) (days []DayScore) {
	for first, last := 0, 0; first < len(scores); first = last {
		var parts []Part
		for last < len(scores) && scores[last].Day == scores[first].Day {
			s := scores[last]
			last++
			if score, known := Score(s.OK, s.Total); known && !s.Indicator {
				parts = append(parts, Part{Score: score, Weight: s.Weight, Target: s.Target, Minimum: s.Minimum})
			}
		}
		if a, known := AggregateScores(parts); known {
			days = append(days, DayScore{
				Day: scores[first].Day, Score: a.Score, Known: true, Target: a.Target, Minimum: a.Minimum, Colour: a.Colour, State: Measured,
			})
		}
	}
	return days
}
