package snapshot

import (
	"testing"
	"time"
)

func TestIsNewer(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	minutes := func(n int) time.Time { return now.Add(time.Duration(n) * time.Minute) }
	tests := []struct {
		name string
		a, b time.Time
		want bool
	}{
		{name: "newer", a: minutes(-60), b: minutes(-61), want: true},
		{name: "older", a: minutes(-61), b: minutes(-60), want: false},
		{name: "the same time", a: minutes(-60), b: minutes(-60), want: false},
		{name: "an hour ahead is the present", a: minutes(60), b: minutes(0), want: true},
		{name: "from the future", a: minutes(61), b: minutes(-9000), want: false},
		{name: "than one from the future", a: minutes(-9000), b: minutes(61), want: true},
		{name: "both from the future", a: minutes(9000), b: minutes(61), want: false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := IsNewer(tt.a, tt.b, now); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
