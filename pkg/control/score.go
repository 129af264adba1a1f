package control

// A State says what is known about a control.
type State string

// The states of controls.
const (
	// Measured means that the last attempt returned a score.
	Measured State = "measured"
	// Empty means that the last attempt returned no row with a compliance.
	Empty State = "empty"
	// Failed means that the last attempt failed; the result is that of an earlier one.
	Failed State = "failed"
	// Pending means that the control was not measured yet.
	Pending State = "pending"
	// Off means that the file switches the control off or has no query.
	Off State = "off"
)

// A Colour is a score compared with the target and the minimum of its control.
type Colour string

// The colours.
const (
	Green Colour = "green" // at the target or above it
	Amber Colour = "amber" // below the target, at the minimum or above it
	Red   Colour = "red"   // below the minimum
	None  Colour = ""      // there is no score
)

// Score returns ok/total and true, or false when total is 0.
func Score(ok float64, total int64) (score float64, known bool) {
	if total == 0 {
		return 0, false
	}
	return ok / float64(total), true
}

// ColourOf returns the colour of a score.
func ColourOf(score, target, minimum float64) Colour {
	switch {
	case score >= target:
		return Green
	case score >= minimum:
		return Amber
	}
	return Red
}

// A Part is a control in a score of several controls.
type Part struct {
	Score, Weight   float64
	Target, Minimum float64
}

// An Aggregate is the score of several controls.
type Aggregate struct {
	// Score is the mean of the scores by their weights; 0 when no control has a weight.
	Score float64
	// Target and Minimum are plain means.
	Target, Minimum float64
	Colour          Colour
	// Controls is the number of controls.
	Controls int
}

// AggregateScores returns the score of several controls, and false when there is none.
func AggregateScores(parts []Part) (a Aggregate, known bool) {
	if len(parts) == 0 {
		return Aggregate{}, false
	}
	var weighted, weights float64
	for _, p := range parts {
		weighted += p.Score * p.Weight
		weights += p.Weight
		a.Target += p.Target
		a.Minimum += p.Minimum
	}
	a.Controls = len(parts)
	a.Target /= float64(len(parts))
	a.Minimum /= float64(len(parts))
	if weights > 0 {
		a.Score = weighted / weights
	}
	a.Colour = ColourOf(a.Score, a.Target, a.Minimum)
	return a, true
}
