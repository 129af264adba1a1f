package config

import (
	"slices"
	"strings"
	"time"

	"github.com/collectord/collectord/pkg/calendar"
)

// CalendarOf returns the schedule of a stream: its own, or that of its collector, or
// that of all collectors. Public data is a public good: it follows the last one only if it
// is off, and is read once a day otherwise.
func (s *Settings) CalendarOf(section *Section, stream *Stream) calendar.Calendar {
	expression := s.Schedule.All
	switch {
	case stream.Schedule.IsSet():
		expression = stream.Schedule
	case section.Schedule.IsSet():
		expression = section.Schedule
	case section.IsPublic && !s.Schedule.All.IsOff():
		expression = calendar.Daily
	}
	return expression.In(s.Schedule.Zone.Location())
}

// HasSchedule reports whether the collector or one of its streams has a schedule of its
// own.
func (s *Section) HasSchedule() bool {
	return s.Schedule.IsSet() || slices.ContainsFunc(s.Streams, func(stream Stream) bool { return stream.Schedule.IsSet() })
}

// MaxAgeOf returns the age at which the data of a stream is late, and the variable that
// says it: the stream's own, or that of its collector, or DATA_MAX_AGE; 0 when none is
// set.
func (s *Settings) MaxAgeOf(section *Section, stream *Stream) (name string, maxAge time.Duration) {
	switch {
	case stream.MaxAge > 0:
		return "DATA_MAX_AGE_" + strings.ToUpper(stream.Name), stream.MaxAge
	case section.MaxAge > 0:
		return "DATA_MAX_AGE_" + strings.ToUpper(section.Name), section.MaxAge
	}
	return "DATA_MAX_AGE", s.Data.MaxAge
}
