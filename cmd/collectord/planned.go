package main

import (
	"time"

	"github.com/collectord/collectord/pkg/freshness"
	"github.com/collectord/collectord/pkg/schedule"
)

// planned returns what the freshness of data follows from when no service runs in this
// process. firstDue is when streams without data were due; zero when that is unknown.
func (a *assembly) planned(firstDue time.Time) freshness.Sources {
	return freshness.Sources{Collectors: a.plannedStatuses(firstDue), Disabled: a.disabledStreams(), MaxAge: a.maxAgeOf}
}

// plannedStatuses returns the schedule status of each collector that is on.
func (a *assembly) plannedStatuses(firstDue time.Time) (statuses []schedule.CollectorStatus) {
	for _, section := range a.sections {
		if !section.Active {
			continue
		}
		status := schedule.CollectorStatus{Collector: section.Name}
		for _, stream := range section.Streams {
			if stream.Off != "" {
				continue
			}
			c := a.calendarOf(stream.Name)
			status.Streams = append(status.Streams, schedule.StreamStatus{
				Stream: stream.Name, Schedule: c.String(), Zone: a.settings.Schedule.Zone.String(), Interval: c.Interval(),
				Calendar: c, Jitter: a.jitterOf(section.Name), FirstDue: firstDue,
			})
		}
		statuses = append(statuses, status)
	}
	return statuses
}
