package main

import (
	"slices"
	"sync"
	"time"
)

// Kinds of events that are not kinds of faults, see tally.
const (
	downEvent      = "the daemon was not running"
	slowEvent      = "the daemon responded slowly"
	scrapeEvent    = "Prometheus had not scraped it yet"
	badReload      = "the settings were invalid"
	withdrawnEvent = "the key was withdrawn"
	offEvent       = "it was switched off"
)

// An event is something that the soak did, or saw, and that may explain an alert.
type event struct {
	kind     string
	about    string // a vendor, a stream or a destination; "" for the daemon
	from, to time.Time
}

// events are the events of a soak.
type events struct {
	mu   sync.Mutex
	list []event
}

// record adds an event.
func (e *events) record(kind, about string, from, to time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, event{kind, about, from, to})
}

// during returns the kinds of the events that overlap with a time, sorted, for which
// matches returns true.
func (e *events) during(from, to time.Time, matches func(event) bool) (kinds []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, one := range e.list {
		if !one.to.Before(from) && !one.from.After(to) && matches(one) {
			kinds = append(kinds, one.kind)
		}
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

// isKind returns a condition for events.during.
func isKind(kinds ...string) func(event) bool {
	return func(e event) bool { return slices.Contains(kinds, e.kind) }
}

// isAbout returns a condition for events.during: the event is about one of the names.
func isAbout(names ...string) func(event) bool {
	return func(e event) bool { return slices.Contains(names, e.about) }
}
