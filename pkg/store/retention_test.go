package store

import (
	"slices"
	"testing"
	"time"
)

const day = 24 * time.Hour

func TestRetentionPlan(t *testing.T) {
	// date returns midnight of a day counted from January 1 of 2026. The present
	// is day 20.
	date := func(day int) time.Time { return time.Date(2026, 1, day, 0, 0, 0, 0, time.UTC) }
	stored := func(day int, id string, storedAt int64) StoredSnapshot {
		return StoredSnapshot{Taken: date(day), UploadID: id, StoredAt: time.Unix(storedAt, 0)}
	}
	tests := []struct {
		name      string
		retention Retention
		existing  []StoredSnapshot
		fresh     StoredSnapshot
		want      retentionPlan
	}{
		{
			name:     "all",
			existing: []StoredSnapshot{stored(1, "a", 1)},
			fresh:    stored(2, "b", 2),
			want:     retentionPlan{place: Current},
		},
		{
			name:      "first",
			retention: Retention{Newest: 1},
			fresh:     stored(2, "b", 2),
			want:      retentionPlan{place: Current},
		},
		{
			name:      "one",
			retention: Retention{Newest: 1},
			existing:  []StoredSnapshot{stored(1, "a", 1)},
			fresh:     stored(2, "b", 2),
			want:      retentionPlan{place: Current, remove: Removal{Before: date(2)}},
		},
		{
			name:      "one, from before the ledger",
			retention: Retention{Newest: 1},
			existing:  []StoredSnapshot{stored(1, "", 0)},
			fresh:     stored(2, "b", 2),
			want:      retentionPlan{place: Current, remove: Removal{Before: date(2)}},
		},
		{
			name:      "one, late",
			retention: Retention{Newest: 1},
			existing:  []StoredSnapshot{stored(3, "a", 1)},
			fresh:     stored(2, "b", 2),
			want:      retentionPlan{place: Late, remove: Removal{Before: date(3)}},
		},
		{
			name:      "one, same second",
			retention: Retention{Newest: 1},
			existing:  []StoredSnapshot{stored(2, "a", 1)},
			fresh:     stored(2, "b", 2),
			want:      retentionPlan{place: Current, remove: Removal{Before: date(2), At: date(2)}},
		},
		{
			name:      "two of a second",
			retention: Retention{Newest: 2},
			existing:  []StoredSnapshot{stored(2, "a", 1), stored(2, "b", 2)},
			fresh:     stored(2, "c", 3),
			want:      retentionPlan{place: Current, remove: Removal{Before: date(2), At: date(2), KeepIDs: []string{"b"}}},
		},
		{
			name:      "two",
			retention: Retention{Newest: 2},
			existing:  []StoredSnapshot{stored(1, "a", 1), stored(2, "b", 2)},
			fresh:     stored(3, "c", 3),
			want:      retentionPlan{place: Current, remove: Removal{Before: date(2)}},
		},
		{
			name:      "two, late",
			retention: Retention{Newest: 2},
			existing:  []StoredSnapshot{stored(2, "a", 1), stored(3, "b", 2)},
			fresh:     stored(1, "c", 3),
			want:      retentionPlan{place: Late, remove: Removal{Before: date(2)}},
		},
		{
			name:      "two, between",
			retention: Retention{Newest: 2},
			existing:  []StoredSnapshot{stored(1, "a", 1), stored(3, "b", 2)},
			fresh:     stored(2, "c", 3),
			want:      retentionPlan{place: Current, remove: Removal{Before: date(2)}},
		},
		{
			name:      "days",
			retention: Retention{Age: 2 * day},
			existing:  []StoredSnapshot{stored(1, "a", 1), stored(2, "b", 2)},
			fresh:     stored(4, "c", 3),
			want:      retentionPlan{place: Current, remove: Removal{Before: date(2)}},
		},
		{
			name:      "days, all are old",
			retention: Retention{Age: 1 * day},
			existing:  []StoredSnapshot{stored(1, "a", 1), stored(2, "b", 2)},
			fresh:     stored(9, "c", 3),
			want:      retentionPlan{place: Current},
		},
		{
			name:      "days, the time without runs is over",
			retention: Retention{Age: 1 * day},
			existing:  []StoredSnapshot{stored(1, "a", 1), stored(2, "b", 2), stored(9, "c", 3)},
			fresh:     stored(10, "d", 4),
			want:      retentionPlan{place: Current, remove: Removal{Before: date(2)}},
		},
		{
			name:      "days, fewer runs than days",
			retention: Retention{Age: 1 * day},
			existing:  []StoredSnapshot{stored(1, "a", 1), stored(4, "b", 2)},
			fresh:     stored(7, "c", 3),
			want:      retentionPlan{place: Current, remove: Removal{Before: date(4)}},
		},
		{
			name:      "days, late",
			retention: Retention{Age: 1 * day},
			existing:  []StoredSnapshot{stored(8, "a", 1), stored(9, "b", 2)},
			fresh:     stored(1, "c", 3),
			want:      retentionPlan{place: Current},
		},
		{
			name:      "days, too late",
			retention: Retention{Age: 1 * day},
			existing:  []StoredSnapshot{stored(8, "a", 1), stored(9, "b", 2), stored(10, "c", 3)},
			fresh:     stored(1, "d", 4),
			want:      retentionPlan{place: Late, remove: Removal{Before: date(9)}},
		},
		{
			name:      "days, nothing else",
			retention: Retention{Age: 1 * day},
			fresh:     stored(1, "c", 3),
			want:      retentionPlan{place: Current},
		},
		{
			name:     "all, from the future",
			existing: []StoredSnapshot{stored(1, "a", 1)},
			fresh:    stored(300, "f", 2),
			want:     retentionPlan{place: StoredFromFuture},
		},
		{
			name:      "one, from the future",
			retention: Retention{Newest: 1},
			existing:  []StoredSnapshot{stored(1, "a", 1)},
			fresh:     stored(300, "f", 2),
			want:      retentionPlan{place: FromFuture},
		},
		{
			name:      "one, from the future and nothing else",
			retention: Retention{Newest: 1},
			fresh:     stored(300, "f", 2),
			want:      retentionPlan{place: StoredFromFuture},
		},
		{
			name:      "one, after one from the future",
			retention: Retention{Newest: 1},
			existing:  []StoredSnapshot{stored(300, "f", 1)},
			fresh:     stored(2, "a", 2),
			want:      retentionPlan{place: Current, remove: Removal{FromFuture: []time.Time{date(300)}}},
		},
		{
			name:      "one, the second from the future",
			retention: Retention{Newest: 1},
			existing:  []StoredSnapshot{stored(300, "f", 1)},
			fresh:     stored(200, "g", 2),
			want:      retentionPlan{place: StoredFromFuture, remove: Removal{FromFuture: []time.Time{date(300)}}},
		},
		{
			name:      "two, from the future",
			retention: Retention{Newest: 2},
			existing:  []StoredSnapshot{stored(1, "a", 1)},
			fresh:     stored(300, "f", 2),
			want:      retentionPlan{place: StoredFromFuture},
		},
		{
			name:      "two, those from the future go first",
			retention: Retention{Newest: 2},
			existing:  []StoredSnapshot{stored(300, "f", 1), stored(1, "a", 2)},
			fresh:     stored(2, "b", 3),
			want:      retentionPlan{place: Current, remove: Removal{FromFuture: []time.Time{date(300)}}},
		},
		{
			name:      "two, then the oldest",
			retention: Retention{Newest: 2},
			existing:  []StoredSnapshot{stored(300, "f", 1), stored(1, "a", 2), stored(2, "b", 3)},
			fresh:     stored(3, "c", 4),
			want:      retentionPlan{place: Current, remove: Removal{Before: date(2), FromFuture: []time.Time{date(300)}}},
		},
		{
			name:      "days, from the future",
			retention: Retention{Age: 2 * day},
			existing:  []StoredSnapshot{stored(1, "a", 1), stored(2, "b", 2)},
			fresh:     stored(300, "f", 3),
			want:      retentionPlan{place: StoredFromFuture},
		},
		{
			name:      "days, after one from the future",
			retention: Retention{Age: 1 * day},
			existing:  []StoredSnapshot{stored(1, "a", 1), stored(2, "b", 2), stored(300, "f", 3)},
			fresh:     stored(3, "c", 4),
			want:      retentionPlan{place: Current, remove: Removal{Before: date(2)}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.retention.plan(tt.existing, tt.fresh, date(20))
			if got.place != tt.want.place || !got.remove.Before.Equal(tt.want.remove.Before) ||
				!got.remove.At.Equal(tt.want.remove.At) || !slices.Equal(got.remove.KeepIDs, tt.want.remove.KeepIDs) ||
				!slices.Equal(got.remove.FromFuture, tt.want.remove.FromFuture) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestRetentionOf(t *testing.T) {
	keep := Retention{Age: 3 * day}
	if got := RetentionOf("replace", keep); got != (Retention{Newest: 1}) {
		t.Errorf("replace: %+v", got)
	}
	if got := RetentionOf("append", keep); got != keep {
		t.Errorf("append: %+v", got)
	}
}
