package main

import (
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"

	"github.com/collectord/collectord/pkg/schedule"
)

// statusLine returns the one line that systemctl status shows, with times in a zone.
func statusLine(statuses []schedule.CollectorStatus, now time.Time, zone *time.Location) string {
	parts := []string{english.Plural(len(statuses), "collector", "")}
	var running, queued []string
	var next schedule.CollectorStatus
	for _, s := range statuses {
		if isRunning, _ := s.Running(); isRunning {
			running = append(running, s.Collector)
		} else if s.Queued() {
			queued = append(queued, s.Collector)
		}
		if at := s.Next(); !at.IsZero() && (next.Next().IsZero() || at.Before(next.Next())) {
			next = s
		}
	}
	if len(running) > 0 {
		parts = append(parts, "running "+strings.Join(running, " "))
	}
	if len(queued) > 0 {
		parts = append(parts, "queued "+strings.Join(queued, " "))
	}
	switch at := next.Next(); {
	case at.IsZero():
		parts = append(parts, "none scheduled")
	case at.Sub(now) < 24*time.Hour:
		parts = append(parts, "next "+next.Collector+" "+at.In(zone).Format("15:04 MST"))
	default:
		parts = append(parts, "next "+next.Collector+" "+at.In(zone).Format("Jan 2 15:04 MST"))
	}
	return strings.Join(parts, ", ")
}
