package control

import "testing"

func TestScores(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		ok    float64
		total int64
		want  float64
		known bool
	}{
		{name: "whole", ok: 3, total: 4, want: 0.75, known: true},
		{name: "fractional compliance", ok: 2.5, total: 4, want: 0.625, known: true},
		{name: "nothing complies", ok: 0, total: 4, want: 0, known: true},
		{name: "no rows", ok: 0, total: 0},
	} {
		if got, known := Score(tc.ok, tc.total); got != tc.want || known != tc.known {
			t.Errorf("%s: %v, %v", tc.name, got, known)
		}
	}
	for score, want := range map[float64]Colour{1: Green, 0.95: Green, 0.949: Amber, 0.8: Amber, 0.799: Red, 0: Red} {
		if got := ColourOf(score, 0.95, 0.8); got != want {
			t.Errorf("%v is %s, want %s", score, got, want)
		}
	}
	if got := ColourOf(0.9, 0.9, 0.9); got != Green {
		t.Errorf("one target for both: %s", got)
	}
}

func TestAggregateScores(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		parts []Part
		want  Aggregate
		known bool
	}{
		{name: "none"},
		{
			name:  "weights count for the score, not for the targets",
			parts: []Part{{Score: 1, Weight: 3, Target: 0.75, Minimum: 0.5}, {Score: 0.5, Weight: 1, Target: 0.25, Minimum: 0}},
			want:  Aggregate{Score: 0.875, Target: 0.5, Minimum: 0.25, Colour: Green, Controls: 2}, known: true,
		},
		{
			name:  "a control without weight changes the targets only",
			parts: []Part{{Score: 0.5, Weight: 1, Target: 1, Minimum: 0.5}, {Score: 0, Weight: 0, Target: 0.5, Minimum: 0.25}},
			want:  Aggregate{Score: 0.5, Target: 0.75, Minimum: 0.375, Colour: Amber, Controls: 2}, known: true,
		},
		{
			name:  "no weight at all",
			parts: []Part{{Score: 1, Weight: 0, Target: 0.5, Minimum: 0.5}},
			want:  Aggregate{Score: 0, Target: 0.5, Minimum: 0.5, Colour: Red, Controls: 1}, known: true,
		},
	} {
		if got, known := AggregateScores(tc.parts); got != tc.want || known != tc.known {
			t.Errorf("%s: %+v, %v", tc.name, got, known)
		}
	}
}
