package main

import (
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/schedule"
)

// planned returns the status of a collector whose streams run next at these times.
func planned(collector string, next ...time.Time) schedule.CollectorStatus {
	status := schedule.CollectorStatus{Collector: collector}
	for _, at := range next {
		status.Streams = append(status.Streams, schedule.StreamStatus{Next: at})
	}
	return status
}

func TestStatusLine(t *testing.T) {
	now := time.Date(2026, 11, 24, 1, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name     string
		statuses []schedule.CollectorStatus
		zone     *time.Location // UTC if nil
		want     string
	}{
		{
			name: "no collector",
			want: "0 collectors, none scheduled",
		},
		{
			name:     "no schedule",
			statuses: []schedule.CollectorStatus{{Collector: "okta"}},
			want:     "1 collector, none scheduled",
		},
		{
			name: "the next of two",
			statuses: []schedule.CollectorStatus{
				planned("okta", now.Add(5*time.Hour)),
				planned("snyk", now.Add(9*time.Hour), now.Add(8*time.Hour)),
			},
			want: "2 collectors, next okta 06:00 UTC",
		},
		{
			name:     "more than a day ahead",
			statuses: []schedule.CollectorStatus{planned("okta", now.Add(50*time.Hour))},
			want:     "1 collector, next okta Nov 26 03:00 UTC",
		},
		{
			name:     "a time in another zone than that of the schedules",
			statuses: []schedule.CollectorStatus{planned("okta", now.Add(time.Hour).In(time.FixedZone("X", -3600)))},
			zone:     time.FixedZone("CET", 3600),
			want:     "1 collector, next okta 03:00 CET",
		},
		{
			name:     "running",
			statuses: []schedule.CollectorStatus{{Collector: "okta", Streams: []schedule.StreamStatus{{Next: now.Add(time.Hour), Running: true}}}},
			want:     "1 collector, running okta, next okta 02:00 UTC",
		},
		{
			name: "queued",
			statuses: []schedule.CollectorStatus{
				{Collector: "okta", Streams: []schedule.StreamStatus{{Next: now.Add(time.Hour), Running: true}, {Queued: true}}},
				{Collector: "snyk", Streams: []schedule.StreamStatus{{Next: now.Add(2 * time.Hour), Queued: true}}},
			},
			want: "2 collectors, running okta, queued snyk, next okta 02:00 UTC",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			zone := time.UTC
			if tc.zone != nil {
				zone = tc.zone
			}
			if got := statusLine(tc.statuses, now, zone); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
