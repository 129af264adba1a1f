package web

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/collectord/collectord/pkg/freshness"
)

// action is a button that sends a request to the API.
type action struct {
	Label, Path string
	// Confirm is the question before the request; "" for none.
	Confirm string
	// Done is the message after the request.
	Done  string
	Title string
}

// neverStored is the state of a configured destination that has received nothing.
const neverStored = "none"

// withConfigured returns the destinations of a stream and those that are configured and have
// received nothing of it, ordered by name.
func withConfigured(destinations []destinationStatus, configured []string, s freshness.Stream) []destinationStatus {
	if s.Taken.IsZero() {
		return destinations
	}
	for _, name := range configured {
		if !slices.ContainsFunc(destinations, func(d destinationStatus) bool { return d.Sink == name }) {
			destinations = append(destinations, destinationStatus{Sink: name, State: neverStored, Text: "nothing stored yet"})
		}
	}
	slices.SortFunc(destinations, func(a, b destinationStatus) int { return strings.Compare(a.Sink, b.Sink) })
	return destinations
}

// addActions adds the actions that are possible: accepting a held snapshot, delivering to a
// configured destination again, and dropping the first queued snapshot of each destination.
func (s *streamData) addActions(configured []string) {
	name := s.Stream.Stream
	for i := range s.Notices {
		if s.Held && s.Notices[i].Text == describeHeld(s.Stream) {
			s.Notices[i].Action = &action{
				Label: "Accept", Path: s.Prefix + "/api/v1/streams/" + name + "/accept",
				Confirm: fmt.Sprintf("Accept the held snapshot of %s?\n\nIt becomes the last-known data and is delivered to every destination. "+
					"Where a new snapshot replaces the old one, the %s records of before are gone.", name, humanize.Comma(s.Records)),
				Done: "The held snapshot of " + name + " is accepted",
			}
		}
	}
	for i, d := range s.Destinations {
		if !slices.Contains(configured, d.Sink) || s.Taken.IsZero() {
			continue
		}
		label := "Deliver again"
		if d.State == neverStored {
			label = "Deliver"
		}
		s.Destinations[i].Action = &action{
			Label: label, Path: s.Prefix + "/api/v1/deliveries?" + url.Values{"destination": {d.Sink}, "stream": {name}}.Encode(),
			Confirm: fmt.Sprintf("Deliver the last-known data of %s to %s again?\n\n%s records of %s are stored also if they were stored before; no record is stored twice.",
				name, d.Sink, humanize.Comma(s.Records), formatTime(s.Taken)),
			Done: name + " is queued for " + d.Sink,
		}
	}
	seen := map[string]bool{}
	for i, q := range s.Queue {
		if seen[q.Sink] {
			continue
		}
		seen[q.Sink] = true
		s.Queue[i].Action = &action{
			Label: "Drop",
			Path: s.Prefix + "/api/v1/deliveries/drop?" +
				url.Values{"destination": {q.Sink}, "stream": {name}, "upload_id": {q.UploadID}}.Encode(),
			Confirm: fmt.Sprintf("Drop the snapshot of %s of %s that is queued for %s?\n\n%s never receives its %s records.",
				name, formatTime(q.Taken), q.Sink, q.Sink, humanize.Comma(q.Records)),
			Done:  "The snapshot of " + formatTime(q.Taken) + " is dropped for " + q.Sink,
			Title: "Give up the first snapshot, which the later ones wait for",
		}
	}
}
