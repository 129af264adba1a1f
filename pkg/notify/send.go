package notify

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/collectord/collectord/internal/backoff"
)

// A message is a notification that not every target has accepted yet.
type message struct {
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
	Text    string    `json:"text"`
	// Waiting are the targets that have not accepted it, by their names.
	Waiting map[string]*waiting `json:"waiting"`
}

// A waiting is what is known of the delivery of a message to a target.
type waiting struct {
	Attempts int       `json:"attempts,omitempty"`
	Next     time.Time `json:"next,omitzero"`
}

const (
	// maxMessages bounds the messages that wait. The oldest are given up first.
	maxMessages = 50
	// maxMessageAge is the age at which a message is given up.
	maxMessageAge = 7 * 24 * time.Hour
	// longestText is the length of a text in bytes that most services accept; Telegram
	// refuses more than 4,096.
	longestText = 4000
	// shortText is the length after longAttempts claims of a message: a service that
	// refuses long texts would otherwise receive none of those that follow either.
	shortText    = 1000
	longAttempts = 3
	// delayed is the age from which a message says of when it is.
	delayed = 10 * time.Minute
)

// resend has the waits between the attempts to deliver a message.
var resend = backoff.Policy{First: time.Minute, Longest: 15 * time.Minute}

// addMessage adds a message for the targets.
func (b *book) addMessage(now time.Time, text string, targets []*Target) {
	m := &message{ID: uuid.NewString(), Created: now.UTC().Truncate(time.Second), Text: text, Waiting: map[string]*waiting{}}
	for _, t := range targets {
		m.Waiting[t.name] = &waiting{}
	}
	b.Messages = append(b.Messages, m)
}

// sendWaiting sends the messages that are due to each target, in order, and records the
// results. The targets do not wait for each other.
func (n *Notifier) sendWaiting(ctx context.Context, targets []*Target) error {
	due, err := n.claimMessages(ctx, targets)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	accepted := map[string][]string{} // the names of the targets, by the message's id
	var sending sync.WaitGroup
	for _, t := range targets {
		sending.Go(func() {
			for _, m := range due[t.name] {
				if err := t.sendWithRetries(ctx, n.textOf(m, t.name), n.Waits); err != nil {
					n.countFailure(t, err)
					return
				}
				mu.Lock()
				accepted[m.ID] = append(accepted[m.ID], t.name)
				mu.Unlock()
			}
		})
	}
	sending.Wait()
	return n.recordSent(context.WithoutCancel(ctx), accepted)
}

// textOf returns the text of a message to send to a target.
func (n *Notifier) textOf(m *message, target string) string {
	text := m.Text
	if n.Now().Sub(m.Created) >= delayed {
		text = fmt.Sprintf("Delayed, this is of %s:\n%s", n.formatAge(m.Created), text)
	}
	longest := longestText
	if m.Waiting[target].Attempts > longAttempts {
		longest = shortText
	}
	return shorten(text, longest)
}

// claimMessages returns the messages that are due for each target, and plans their next
// attempts, so that no other process sends them at the same time. It removes what cannot
// be sent any more.
func (n *Notifier) claimMessages(ctx context.Context, targets []*Target) (due map[string][]*message, err error) {
	dropped := 0
	err = n.updateBook(ctx, func(b *book) {
		due = map[string][]*message{}
		dropped = b.dropMessages(n.Now(), targets)
		for _, t := range targets {
			due[t.name] = b.claim(t.name, n.Now())
		}
	})
	if err == nil && dropped > 0 {
		n.Log.Error("notifications were given up: no target accepted them in time, or too many wait", zap.Int("notifications", dropped))
		n.mu.Lock()
		n.counts.Dropped += int64(dropped)
		n.mu.Unlock()
	}
	return due, err
}

// claim returns the messages that wait for a target, the oldest first, if that one is due.
func (b *book) claim(target string, now time.Time) (due []*message) {
	for _, m := range b.Messages {
		w := m.Waiting[target]
		if w == nil {
			continue
		}
		if len(due) == 0 && w.Next.After(now) && w.Next.Sub(now) <= resend.Longest {
			return nil
		}
		w.Attempts++
		w.Next = now.Add(resend.Wait(w.Attempts)).UTC().Truncate(time.Second)
		due = append(due, m)
	}
	return due
}

// dropMessages removes targets that are not in the settings any more, and returns the
// number of deliveries that are given up.
func (b *book) dropMessages(now time.Time, targets []*Target) (dropped int) {
	excess := len(b.Messages) - maxMessages
	b.Messages = slices.DeleteFunc(b.Messages, func(m *message) bool {
		for name := range m.Waiting {
			if !slices.ContainsFunc(targets, func(t *Target) bool { return t.name == name }) {
				delete(m.Waiting, name)
			}
		}
		giveUp := excess > 0 || now.Sub(m.Created) > maxMessageAge
		excess--
		if giveUp {
			dropped += len(m.Waiting)
		}
		return giveUp || len(m.Waiting) == 0
	})
	return dropped
}

// recordSent removes from the book what targets have accepted.
func (n *Notifier) recordSent(ctx context.Context, accepted map[string][]string) error {
	waiting := 0
	err := n.updateBook(ctx, func(b *book) {
		waiting = 0
		b.Messages = slices.DeleteFunc(b.Messages, func(m *message) bool {
			for _, target := range accepted[m.ID] {
				delete(m.Waiting, target)
			}
			waiting += len(m.Waiting)
			return len(m.Waiting) == 0
		})
	})
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, targets := range accepted {
		n.counts.Sent += int64(len(targets))
	}
	n.counts.Waiting = int64(waiting)
	return err
}

// countFailure logs and counts an attempt that failed.
func (n *Notifier) countFailure(t *Target, err error) {
	n.Log.Error("a notification was not delivered; it is sent again", zap.String("target", t.name), zap.Error(err))
	n.mu.Lock()
	defer n.mu.Unlock()
	n.counts.Failed++
}
