package rest

import "testing"

func TestTotalRange(t *testing.T) {
	for _, tc := range []struct {
		name        string
		totals      []int64
		least, most int64
		received    int64
		difference  int64
	}{
		{name: "none", received: 7, difference: 7},
		{name: "equal", totals: []int64{10, 10}, least: 10, most: 10, received: 10},
		{name: "grows, inside", totals: []int64{10, 30, 20}, least: 10, most: 20, received: 15},
		{name: "grows, above", totals: []int64{10, 20}, least: 10, most: 20, received: 23, difference: 3},
		{name: "shrinks, below", totals: []int64{20, 10}, least: 10, most: 20, received: 4, difference: -6},
		{name: "zero at last", totals: []int64{20, 0}, least: 0, most: 20, received: 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var r TotalRange
			for _, total := range tc.totals {
				r.AddTotal(total)
			}
			if r.Known() != (len(tc.totals) > 0) || r.Least() != tc.least || r.Most() != tc.most {
				t.Errorf("known %v, %d to %d, want %d to %d", r.Known(), r.Least(), r.Most(), tc.least, tc.most)
			}
			if got := r.Difference(tc.received); got != tc.difference {
				t.Errorf("difference %d, want %d", got, tc.difference)
			}
		})
	}
}
