package main

import (
	"testing"
	"time"
)

// TestLongestJitter checks the longest delay of the ticks of a tenancy, with and without
// SCHEDULE_JITTER.
func TestLongestJitter(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		shared []string
		own    string
		want   time.Duration
	}{
		"unset":               {want: 30 * time.Minute},
		"off for all":         {shared: []string{"SCHEDULE_JITTER=0s"}},
		"off for one":         {shared: []string{"SCHEDULE_JITTER=1h"}, own: "SCHEDULE_JITTER=0s"},
		"that of all":         {shared: []string{"SCHEDULE_JITTER=1h"}, want: time.Hour},
		"hidden for one":      {shared: []string{"SCHEDULE_JITTER=1h"}, own: "SCHEDULE_JITTER=", want: 30 * time.Minute},
		"its own of a minute": {own: "SCHEDULE_JITTER=1m", want: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := readTenancyFiles(t, t.TempDir(), tc.shared, map[string]string{"acme.env": tc.own})
			if err != nil || c.tenancies[0].err != nil {
				t.Fatal(err, c.tenancies)
			}
			if got := c.tenancies[0].longestJitterOf("okta"); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}
