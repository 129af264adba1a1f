package store

import (
	"slices"
	"testing"
	"time"
)

const day = 24 * time.Hour

func TestKeepPlan(t *testing.T) {
	at := func(day int) time.Time { return time.Date(2026, 1, day, 0, 0, 0, 0, time.UTC) }
	one := func(day int, id string, noted int64) stored {
		return stored{taken: at(day), id: id, noted: time.Unix(noted, 0)}
	}
	for name, c := range map[string]struct {
		keep  Keep
		there []stored
		fresh stored
		want  retention
	}{
		"all":                {Keep{}, []stored{one(1, "a", 1)}, one(2, "b", 2), retention{load: true}},
		"first":              {Keep{Newest: 1}, nil, one(2, "b", 2), retention{load: true}},
		"one":                {Keep{Newest: 1}, []stored{one(1, "a", 1)}, one(2, "b", 2), retention{load: true, before: at(2)}},
		"one, from before":   {Keep{Newest: 1}, []stored{one(1, "", 0)}, one(2, "b", 2), retention{load: true, before: at(2)}},
		"one, late":          {Keep{Newest: 1}, []stored{one(3, "a", 1)}, one(2, "b", 2), retention{before: at(3)}},
		"one, same second":   {Keep{Newest: 1}, []stored{one(2, "a", 1)}, one(2, "b", 2), retention{load: true, before: at(2), at: at(2)}},
		"two of a second":    {Keep{Newest: 2}, []stored{one(2, "a", 1), one(2, "b", 2)}, one(2, "c", 3), retention{load: true, before: at(2), at: at(2), keepIDs: []string{"b"}}},
		"two":                {Keep{Newest: 2}, []stored{one(1, "a", 1), one(2, "b", 2)}, one(3, "c", 3), retention{load: true, before: at(2)}},
		"two, late":          {Keep{Newest: 2}, []stored{one(2, "a", 1), one(3, "b", 2)}, one(1, "c", 3), retention{before: at(2)}},
		"two, between":       {Keep{Newest: 2}, []stored{one(1, "a", 1), one(3, "b", 2)}, one(2, "c", 3), retention{load: true, before: at(2)}},
		"days":               {Keep{Age: 2 * day}, []stored{one(1, "a", 1), one(2, "b", 2)}, one(4, "c", 3), retention{load: true, before: at(2)}},
		"days, all are old":  {Keep{Age: 1 * day}, []stored{one(1, "a", 1)}, one(9, "c", 3), retention{load: true, before: at(9)}},
		"days, late":         {Keep{Age: 1 * day}, []stored{one(9, "a", 1)}, one(1, "c", 3), retention{before: at(9)}},
		"days, nothing else": {Keep{Age: 1 * day}, nil, one(1, "c", 3), retention{load: true}},
	} {
		got := c.keep.plan(c.there, c.fresh)
		if got.load != c.want.load || !got.before.Equal(c.want.before) || !got.at.Equal(c.want.at) || !slices.Equal(got.keepIDs, c.want.keepIDs) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
