package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// A book is what the state keeps of notifications: the problems, the colours of controls,
// what was reported of both, and the messages that were not delivered yet.
type book struct {
	Problems map[string]*record `json:"problems,omitempty"` // by their keys
	Messages []*message         `json:"messages,omitempty"` // the oldest first
	// Colours are those of the controls that have had a score, by their ids.
	Colours map[string]*colourRecord `json:"colours,omitempty"`
}

// A record is the state of a problem.
type record struct {
	problem
	// Open reports whether the problem is there, and Told whether the last message
	// about it said so.
	Open bool `json:"open,omitempty"`
	Told bool `json:"told,omitempty"`
	// Changed is when Open last changed. End says how it ended.
	Changed time.Time `json:"changed"`
	End     string    `json:"end,omitempty"`
	mentions
	// Began is when the problem began that Told is about.
	Began time.Time `json:"began,omitzero"`
	// Unreported counts how often the problem has begun since the last message without
	// a message.
	Unreported int `json:"unreported,omitempty"`
}

// The mentions are the messages about something that changes.
type mentions struct {
	// Mentioned is when the last message was, and Messages when those about changes were,
	// within flapWindow.
	Mentioned time.Time   `json:"mentioned,omitzero"`
	Messages  []time.Time `json:"messages,omitempty"`
}

// A problem that begins and ends again and again has flapLimit messages within
// flapWindow. Then it has one message within flapPause.
const (
	flapLimit  = 4
	flapWindow = 72 * time.Hour
	flapPause  = 24 * time.Hour
)

// bookKey is the key of the book in the notes.
const bookKey = "notifications"

// maxSwaps bounds the attempts to store the book while other processes change it.
const maxSwaps = 20

// readBook returns the book and its text in the notes.
func (n *Notifier) readBook(ctx context.Context) (*book, string, error) {
	b := &book{}
	text, err := n.notes.Note(ctx, bookKey)
	if err == nil && text != "" {
		if err = json.Unmarshal([]byte(text), b); err != nil {
			err = fmt.Errorf("note %q: %w", bookKey, err)
		}
	}
	if b.Problems == nil {
		b.Problems = map[string]*record{}
	}
	return b, text, err
}

// updateBook changes the book in the notes. When another process has changed it
// meanwhile, change is called again, with that book.
func (n *Notifier) updateBook(ctx context.Context, change func(*book)) error {
	for range maxSwaps {
		b, old, err := n.readBook(ctx)
		if err != nil {
			return err
		}
		change(b)
		text, err := json.Marshal(b)
		if err != nil {
			return err
		}
		if string(text) == old || old == "" && len(b.Problems)+len(b.Messages)+len(b.Colours) == 0 {
			return nil
		}
		if swapped, err := n.notes.SwapNote(context.WithoutCancel(ctx), bookKey, old, string(text)); err != nil || swapped {
			return err
		}
	}
	return errors.New("other processes are changing the notes all the time")
}

// apply records verdicts.
func (b *book) apply(verdicts map[string]verdict) {
	for key, v := range verdicts {
		r := b.Problems[key]
		switch {
		case v.state == forgotten:
			delete(b.Problems, key)
		case v.state == present:
			if r == nil {
				r = &record{}
				b.Problems[key] = r
			}
			r.begin(v.problem)
		case r != nil && r.Open:
			r.Open, r.Changed, r.End = false, v.Seen, v.end
		}
	}
}

// begin records that the problem is there.
func (r *record) begin(p problem) {
	if r.Open {
		p.Since = r.Since
	} else {
		r.Open, r.Changed = true, p.Seen
		r.Unreported++
	}
	r.problem = p
}

// A news is a problem that the next message has.
type news struct {
	key string
	record
	kind newsKind
	// began is when the problem began that has ended, and times how often it has begun
	// since the message before.
	began time.Time
	times int
	// paused reports that the next message about it comes after flapPause.
	paused bool
}

type newsKind int

const (
	begun newsKind = iota
	reminder
	over
)

// isReady reports whether there is to be a message about what changed: a change less than
// gather ago waits, unless it is in a message with others.
func (b *book) isReady(now time.Time, gather time.Duration) bool {
	for _, r := range b.Problems {
		if r.hasNews(now) && now.Sub(r.Changed) >= gather {
			return true
		}
	}
	for _, r := range b.Colours {
		if r.hasNews(now) && now.Sub(r.Changed) >= gather {
			return true
		}
	}
	return false
}

// takeNews returns the problems that are to be reported now, and records that they were.
// Those that began or ended are among them if the book is ready.
func (b *book) takeNews(now time.Time, ready bool, remindAfter time.Duration) (all []news) {
	keys := slices.Sorted(maps.Keys(b.Problems))
	for _, key := range keys {
		if r := b.Problems[key]; ready && r.hasNews(now) {
			all = append(all, r.takeChange(key, now))
		}
	}
	isDue := func(key string) bool { return b.Problems[key].needsReminder(now, remindAfter) }
	if slices.ContainsFunc(keys, isDue) {
		// All that lasts is in one message a day, however the times differ.
		for _, key := range keys {
			if r := b.Problems[key]; r.needsReminder(now, time.Hour) {
				r.Mentioned = now
				all = append(all, news{key: key, record: *r, kind: reminder})
			}
		}
	}
	maps.DeleteFunc(b.Problems, func(_ string, r *record) bool { return r.isDone(now) })
	return all
}

// hasNews reports whether there is something to report about the begin or the end of the
// problem.
func (r *record) hasNews(now time.Time) bool {
	changed := r.Open != r.Told || r.isFlapping(now) && r.Unreported > 0
	return changed && !r.isPaused(now)
}

// isPaused reports whether the next message waits because there were many.
func (m *mentions) isPaused(now time.Time) bool {
	return m.isFlapping(now) && now.Sub(m.Mentioned) < flapPause
}

// isFlapping reports whether there are changes again and again.
func (m *mentions) isFlapping(now time.Time) bool {
	n := 0
	for _, at := range m.Messages {
		if now.Sub(at) < flapWindow {
			n++
		}
	}
	return n >= flapLimit
}

// mention records a message about a change.
func (m *mentions) mention(now time.Time) {
	m.Messages = slices.DeleteFunc(m.Messages, func(at time.Time) bool { return now.Sub(at) >= flapWindow })
	m.Messages, m.Mentioned = append(m.Messages, now), now
}

// needsReminder reports whether the problem lasts and had no message for the time.
func (r *record) needsReminder(now time.Time, after time.Duration) bool {
	return r.Open && r.Told && now.Sub(r.Mentioned) >= after
}

// isDone reports whether nothing has to be remembered of the problem.
func (r *record) isDone(now time.Time) bool {
	if r.Open || r.Told {
		return false
	}
	return len(r.Messages) == 0 || now.Sub(r.Mentioned) >= flapWindow
}

// takeChange returns the news about the begin or the end of the problem, and records that
// it is reported.
func (r *record) takeChange(key string, now time.Time) news {
	one := news{key: key, kind: begun, began: r.Began, times: r.Unreported}
	if r.Open {
		r.Began = r.Since
	} else {
		one.kind = over
	}
	if one.times > 0 { // it has begun again without a message
		one.began = r.Since
	}
	r.mention(now)
	r.Told, r.Unreported = r.Open, 0
	one.record, one.paused = *r, r.isFlapping(now)
	return one
}
