package calendar

import (
	"math/bits"
	"time"

	"github.com/robfig/cron/v3"
)

// A Calendar is an expression read in a time zone. What it does when clocks
// change:
//
//   - A tick at a local time that is left out comes later by as much as the
//     clock is put forward: 02:30 becomes 03:30, on that day.
//   - A tick at a local time that comes twice is at the first of the two.
//   - A schedule for every hour ("0 * * * *", "*/15 * * * *") goes on every
//     hour that passes, the repeated one too.
//   - "@every" counts from the Unix epoch and knows no zone.
type Calendar struct {
	Expression
	zone *time.Location
}

// In reads an expression in a zone.
func (e Expression) In(zone *time.Location) Calendar { return Calendar{e, zone} }

// farthest is how far ahead a tick is looked for: 29 February can be eight
// years away.
const farthest = 12

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
	limit := t.AddDate(farthest, 0, 0)
	for from := t; from.Before(limit); {
		start, end := from.In(c.zone).ZoneBounds()
		if tick := c.within(start, end, t, limit); !tick.IsZero() {
			return tick
		}
		if end.IsZero() {
			break
		}
		from = end
	}
	return time.Time{}
}

// within returns the first tick after t in the time from start to end, in
// which the zone's offset does not change. Zero bounds are open.
func (c Calendar) within(start, end, t, limit time.Time) time.Time {
	after := t
	first := after
	if !start.IsZero() && after.Before(start) {
		after = start.Add(-time.Nanosecond)
		first = after
	}
	offset := offsetAt(start, t, c.zone)
	var moved time.Time
	if !start.IsZero() {
		before := offsetOf(start.Add(-time.Second), c.zone)
		switch change := offset - before; {
		case change > 0: // local times from start with the old offset, to that much later, are left out
			moved = c.civil(local(later(first, start.Add(-time.Nanosecond)), before), local(start.Add(change), before))
			if !moved.IsZero() {
				moved = moved.Add(-before)
			}
		case change < 0 && !c.hourly(): // local times up to that much later were there before
			after = later(after, start.Add(-change-time.Nanosecond))
		}
	}
	until := limit
	if !end.IsZero() && end.Before(limit) {
		until = end
	}
	tick := c.civil(local(after, offset), local(until, offset))
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

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func offsetOf(t time.Time, zone *time.Location) time.Duration {
	_, seconds := t.In(zone).Zone()
	return time.Duration(seconds) * time.Second
}

// offsetAt is the offset from start on, which may be open.
func offsetAt(start, t time.Time, zone *time.Location) time.Duration {
	if start.IsZero() {
		return offsetOf(t, zone)
	}
	return offsetOf(start, zone)
}

// local writes the local time of an instant as if it were UTC.
func local(t time.Time, offset time.Duration) time.Time { return t.UTC().Add(offset) }

// hourly tells a schedule that goes by hours that pass, not by the clock.
func (c Calendar) hourly() bool { return c.spec.Hour&allHours == allHours }

const allHours = 1<<24 - 1

// civil returns the first minute after t and before limit that the fields
// name, or the zero time. All of them are local times written as UTC.
func (c Calendar) civil(t, limit time.Time) time.Time {
	t = t.Truncate(time.Minute).Add(time.Minute)
	for t.Before(limit) {
		year, month, day := t.Date()
		switch {
		case c.spec.Month&(1<<uint(month)) == 0:
			t = time.Date(year, month+1, 1, 0, 0, 0, 0, time.UTC)
		case !c.onDay(t):
			t = time.Date(year, month, day+1, 0, 0, 0, 0, time.UTC)
		default:
			minute, found := c.inDay(t.Hour()*60 + t.Minute())
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

// inDay returns the first minute of a day, from the given one on, that hour
// and minute name.
func (c Calendar) inDay(from int) (minute int, found bool) {
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

// star marks a field that was written as *.
const star = 1 << 63

// onDay tells whether the fields for the day name that of t. When both are
// restricted, one that fits is enough.
func (c Calendar) onDay(t time.Time) bool {
	inMonth := c.spec.Dom&(1<<uint(t.Day())) != 0
	inWeek := c.spec.Dow&(1<<uint(t.Weekday())) != 0
	if c.spec.Dom&star != 0 || c.spec.Dow&star != 0 {
		return inMonth && inWeek
	}
	return inMonth || inWeek
}

var _ cron.Schedule = Calendar{}

// Last returns the last tick that is not after t; the zero time when there was
// none for long.
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

// Interval returns the longest time between two ticks that follow each other,
// by the calendar: a change of clocks makes one of them an hour longer. It is
// 0 for a schedule that is off.
func (c Calendar) Interval() time.Duration {
	switch {
	case c.IsOff():
		return 0
	case c.every > 0:
		return c.every
	}
	first, last, longest := c.dayBounds()
	const day = 24 * 60
	previous := -1
	for n, date := 0, reference; n < 9*366; n, date = n+1, date.AddDate(0, 0, 1) {
		if c.spec.Month&(1<<uint(date.Month())) == 0 || !c.onDay(date) {
			continue
		}
		if previous >= 0 {
			longest = max(longest, (n-previous)*day-last+first)
		}
		previous = n
	}
	return time.Duration(longest) * time.Minute
}

// dayBounds returns the first and last tick of a day and the longest time
// between two within it, in minutes.
func (c Calendar) dayBounds() (first, last, longest int) {
	first, found := c.inDay(0)
	for last = first; found; {
		var next int
		if next, found = c.inDay(last + 1); found {
			longest, last = max(longest, next-last), next
		}
	}
	return first, last, longest
}
