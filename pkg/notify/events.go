package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/snapshot"
)

// An event is something that is reported once and does not last.
type event struct {
	text string // "" when it is known already
	key  string // of the note that records what was reported
	note string // its text after the report; "" removes it
}

// findEvents returns the new doubts of successful runs, and the destinations that do not
// receive a snapshot.
func (n *Notifier) findEvents(ctx context.Context, settings Settings, results map[string]run.Result) (all []event, err error) {
	for _, stream := range slices.Sorted(maps.Keys(results)) {
		r := results[stream]
		if !r.OK() {
			continue
		}
		if settings.reports(eventDoubt) {
			if all, err = n.addEvent(ctx, all, "notify-doubts/"+r.Collector+"/"+stream, r, n.findDoubts); err != nil {
				return nil, err
			}
		}
		if settings.reports(eventDestination) {
			if all, err = n.addEvent(ctx, all, "notify-skipped/"+r.Collector+"/"+stream, r, findSkipped); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// addEvent adds the event that find finds in a result, if its note changes. find gets the
// note and returns the text to report and the new note.
func (n *Notifier) addEvent(
	ctx context.Context, all []event, key string, r run.Result, find func(run.Result, string) (text, note string, err error),
) ([]event, error) {
	before, err := n.notes.Note(ctx, key)
	if err != nil {
		return nil, err
	}
	text, note, err := find(r, before)
	if err != nil {
		return nil, fmt.Errorf("note %q: %w", key, err)
	}
	if note == before {
		return all, nil
	}
	return append(all, event{text: text, key: key, note: note}), nil
}

// eventTexts returns the texts of the events that are to be reported.
func eventTexts(events []event) (texts []string) {
	for _, e := range events {
		if e.text != "" {
			texts = append(texts, e.text)
		}
	}
	return texts
}

// recordEvents records that events are in a message.
func (n *Notifier) recordEvents(ctx context.Context, events []event) error {
	var errs []error
	for _, e := range events {
		errs = append(errs, n.notes.SetNote(context.WithoutCancel(ctx), e.key, e.note))
	}
	return errors.Join(errs...)
}

// doubtMemory is how long a doubt that was reported counts as known after it last
// occurred. A doubt that comes and goes is so reported once.
const doubtMemory = 30 * 24 * time.Hour

// findDoubts returns the text about the doubts that the note does not have, and the note
// with all of them: when each last occurred, by its text.
func (n *Notifier) findDoubts(r run.Result, before string) (text, note string, err error) {
	if len(r.Doubts) == 0 {
		return "", before, nil
	}
	known := map[string]time.Time{}
	if before != "" {
		if err := json.Unmarshal([]byte(before), &known); err != nil {
			return "", "", err
		}
	}
	if unknown := n.updateDoubts(known, r.Doubts); len(unknown) > 0 {
		text = fmt.Sprintf("%s succeeded with %s records. Accepted: %s.\n"+
			"The same doubt is not reported again while it recurs; the status page shows it.",
			r.Stream, humanize.Comma(r.Records), truncate(unknown.String()))
	}
	marshaled, err := json.Marshal(known)
	return text, string(marshaled), err
}

// updateDoubts adds doubts to known, removes those that did not occur for a long
// time, and returns the doubts that known did not have.
func (n *Notifier) updateDoubts(known map[string]time.Time, doubts snapshot.Doubts) (unknown snapshot.Doubts) {
	now := n.Now().UTC().Truncate(time.Second)
	maps.DeleteFunc(known, func(_ string, last time.Time) bool { return now.Sub(last) > doubtMemory })
	for _, d := range doubts {
		if _, ok := known[d.Text]; !ok {
			unknown = append(unknown, d)
		}
		known[d.Text] = now
	}
	return unknown
}

// findSkipped returns the text about the destinations that do not receive a snapshot
// because their queue is too large, and that the note does not have. The note names those
// of the last run.
func findSkipped(r run.Result, before string) (text, note string, err error) {
	reported := strings.Fields(before)
	unknown := slices.DeleteFunc(slices.Clone(r.Skipped), func(sink string) bool { return slices.Contains(reported, sink) })
	if len(unknown) > 0 {
		text = fmt.Sprintf("%s succeeded with %s records, but snapshots of it are not delivered to %s: "+
			"the queue is larger than STORE_SPOOL_MAX. The newest one is delivered when the destination works again. "+
			"See its error with: collectord status",
			r.Stream, humanize.Comma(r.Records), strings.Join(unknown, ", "))
	}
	return text, strings.Join(r.Skipped, " "), nil
}
