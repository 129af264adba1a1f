package calendar

import (
	"math/bits"
	"time"

	"github.com/robfig/cron/v3"
)

// A Calendar is an expression in a time zone. When the clocks change:
//
//   - A tick at a local time that does not exist is delayed by the length of the
//     change: on that day, 02:30 becomes 03:30.
//   - A tick at a local time that occurs twice takes place at the first of the two.
//   - An hourly schedule ("0 * * * *", "*/15 * * * *") ticks in every elapsed hour,
//     also in the repeated one.
//   - "@every" counts from the Unix epoch and ignores the zone.
type Calendar struct {
	Expression
	zone *time.Location
}

// In returns the calendar of an expression in a zone.
func (e Expression) In(zone *time.Location) Calendar { return Calendar{e, zone} }

// maxYearsAhead is how many years ahead Next searches for a tick: from one 29 February to
// the next can be eight years.
const maxYearsAhead = 12

// Next returns the first tick after t; the zero time when there is none.
func (c Calendar) Next(t time.Time) time.Time {
	switch {
	case c.IsOff():
		return time.Time{}
	case c.every > 0:
		seconds := int64(c.every / time.Second)
		n := t.Unix() / seconds
		if t.Unix()%seconds < 0 {
			n--
		}
		return time.Unix((n+1)*seconds, 0).In(c.zone)
	}
	limit := t.AddDate(maxYearsAhead, 0, 0)
	for from := t; from.Before(limit); {
		start, end := from.In(c.zone).ZoneBounds()
		if tick := c.firstTickWithin(start, end, t, limit); !tick.IsZero() {
			return tick
		}
		if end.IsZero() {
			break
		}
		from = end
	}
	return time.Time{}
}

// firstTickWithin returns the first tick after t between start and end, in which the
// offset of the zone does not change. A zero start or end means no bound.
func (c Calendar) firstTickWithin(start, end, t, limit time.Time) time.Time {
	after := t
	first := after
	if !start.IsZero() && after.Before(start) {
		after = start.Add(-time.Nanosecond)
		first = after
	}
	offset := zoneOffsetFrom(start, t, c.zone)
	var moved time.Time
	if !start.IsZero() {
		before := zoneOffset(start.Add(-time.Second), c.zone)
		switch change := offset - before; {
		case change > 0: // by the old offset, the local times until start+change do not exist
			moved = c.firstLocalTick(asLocal(laterOf(first, start.Add(-time.Nanosecond)), before), asLocal(start.Add(change), before))
			if !moved.IsZero() {
				moved = moved.Add(-before)
			}
		case change < 0 && !c.isHourly(): // the local times until start-change have already occurred
			after = laterOf(after, start.Add(-change-time.Nanosecond))
		}
	}
	until := limit
	if !end.IsZero() && end.Before(limit) {
		until = end
	}
	tick := c.firstLocalTick(asLocal(after, offset), asLocal(until, offset))
	if !tick.IsZero() {
		tick = tick.Add(-offset)
	}
	if tick.IsZero() || !moved.IsZero() && moved.Before(tick) {
		tick = moved
	}
	if tick.IsZero() {
		return tick
	}
	return tick.In(c.zone)
}

func laterOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func zoneOffset(t time.Time, zone *time.Location) time.Duration {
	_, seconds := t.In(zone).Zone()
	return time.Duration(seconds) * time.Second
}

// zoneOffsetFrom returns the offset at start, or at t when start is zero.
func zoneOffsetFrom(start, t time.Time, zone *time.Location) time.Duration {
	if start.IsZero() {
		return zoneOffset(t, zone)
	}
	return zoneOffset(start, zone)
}

// asLocal returns the local time of an instant as a time in UTC.
func asLocal(t time.Time, offset time.Duration) time.Time { return t.UTC().Add(offset) }

// isHourly reports whether the schedule ticks in every hour, so that it follows elapsed hours
// and not the clock.
func (c Calendar) isHourly() bool { return c.spec.Hour&allHours == allHours }

const allHours = 1<<24 - 1

// firstLocalTick returns the first minute after t and before limit that matches the fields,
// or the zero time. All times are local times as UTC.
func (c Calendar) firstLocalTick(t, limit time.Time) time.Time {
	t = t.Truncate(time.Minute).Add(time.Minute)
	for t.Before(limit) {
		year, month, day := t.Date()
		switch {
		case c.spec.Month&(1<<uint(month)) == 0:
			t = time.Date(year, month+1, 1, 0, 0, 0, 0, time.UTC)
		case !c.matchesDay(t):
			t = time.Date(year, month, day+1, 0, 0, 0, 0, time.UTC)
		default:
			minute, found := c.minuteFrom(t.Hour()*60 + t.Minute())
			if !found {
				t = time.Date(year, month, day+1, 0, 0, 0, 0, time.UTC)
				continue
			}
			if t = time.Date(year, month, day, 0, minute, 0, 0, time.UTC); t.Before(limit) {
				return t
			}
		}
	}
	return time.Time{}
}

// minuteFrom returns the first minute of a day that is not before from and matches the hour
// and minute fields.
func (c Calendar) minuteFrom(from int) (minute int, found bool) {
	for hour := from / 60; hour < 24; hour++ {
		if c.spec.Hour&(1<<uint(hour)) == 0 {
			continue
		}
		first := 0
		if hour == from/60 {
			first = from % 60
		}
		if left := c.spec.Minute >> uint(first) << uint(first) & (1<<60 - 1); left != 0 {
			return hour*60 + bits.TrailingZeros64(left), true
		}
	}
	return 0, false
}

// wildcard marks a field that was written as *.
const wildcard = 1 << 63

// matchesDay reports whether t matches the day fields. When day of month and day of week are
// both restricted, one match is enough.
func (c Calendar) matchesDay(t time.Time) bool {
	inMonth := c.spec.Dom&(1<<uint(t.Day())) != 0
	inWeek := c.spec.Dow&(1<<uint(t.Weekday())) != 0
	if c.spec.Dom&wildcard != 0 || c.spec.Dow&wildcard != 0 {
		return inMonth && inWeek
	}
	return inMonth || inWeek
}

var _ cron.Schedule = Calendar{}

// Last returns the last tick that is not after t; the zero time when there was none in the
// last nine years.
func (c Calendar) Last(t time.Time) time.Time {
	const day = 24 * time.Hour
	for _, back := range []time.Duration{time.Minute, time.Hour, day, 32 * day, 367 * day, 9 * 366 * day} {
		tick := c.Next(t.Add(-back))
		if tick.IsZero() || tick.After(t) {
			continue
		}
		for {
			next := c.Next(tick)
			if next.IsZero() || next.After(t) {
				return tick
			}
			tick = next
		}
	}
	return time.Time{}
}

// Interval returns the longest time between two consecutive ticks by the calendar, ignoring
// clock changes, which make one of them an hour longer. It returns 0 for a schedule that is
// off.
func (c Calendar) Interval() time.Duration { return c.interval }

// longestInterval is Interval for an expression with fields. It searches nine years, which
// takes long for a schedule with few days.
func (c Calendar) longestInterval() time.Duration {
	first, last, longest := c.dayBounds()
	const day = 24 * 60
	previous := -1
	for n, date := 0, reference; n < 9*366; n, date = n+1, date.AddDate(0, 0, 1) {
		if c.spec.Month&(1<<uint(date.Month())) == 0 || !c.matchesDay(date) {
			continue
		}
		if previous >= 0 {
			longest = max(longest, (n-previous)*day-last+first)
		}
		previous = n
	}
	return time.Duration(longest) * time.Minute
}

// dayBounds returns the first and last tick of a day and the longest time between two
// consecutive ticks of a day, in minutes.
func (c Calendar) dayBounds() (first, last, longest int) {
	first, found := c.minuteFrom(0)
	for last = first; found; {
		var next int
		if next, found = c.minuteFrom(last + 1); found {
			longest, last = max(longest, next-last), next
		}
	}
	return first, last, longest
}
