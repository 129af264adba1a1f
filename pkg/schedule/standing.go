package schedule

import "time"

// A Standing is how the schedule of one collector stands.
type Standing struct {
	Collector string
	// Streams are those of the collector, in its own order.
	Streams []string
	// Schedule is the expression as it was set, such as "15 */6 * * *" or "off".
	Schedule string
	// Zone is the time zone in which it is read, such as "UTC".
	Zone string
	// Interval is the longest time between two ticks that follow each other;
	// 0 when the schedule is off.
	Interval time.Duration
	// Next is when the next run begins, waits and retries included; zero when
	// none will.
	Next time.Time
	// Running tells that a run is under way, since Started.
	Running bool
	Started time.Time
	// Missed counts the ticks for which no run began, because the last one was
	// still going or the machine was asleep.
	Missed int64
}
