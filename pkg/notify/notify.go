// Package notify tells people, by Slack and other services, when a stream has
// failed and when it works again: once each.
package notify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/state"
)

// Options are what a Notifier works with.
type Options struct {
	// State has the age of the data, and keeps what was told.
	State   *state.State
	Tenancy string
	// Host is the name of this machine.
	Host string
	// Redact takes secrets out of a text.
	Redact func(string) string
	// Now is the clock; time.Now when nil.
	Now func() time.Time
	// Waits are those before each try of a target; some seconds when nil.
	Waits []time.Duration
	Log   *zap.Logger
}

// A Notifier tells of ended runs. Its methods may be called side by side.
type Notifier struct {
	Options
	notes *state.Notes
	ctx   context.Context
	stop  context.CancelCauseFunc

	mu      sync.Mutex
	targets []*Target
	pending map[string]schedule.Result // the newest of each stream
	working bool
	closed  bool
	work    sync.WaitGroup
}

// New makes a Notifier for targets; without any it does nothing.
func New(o Options, targets []*Target) *Notifier {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Waits == nil {
		o.Waits = usualWaits
	}
	n := &Notifier{Options: o, notes: o.State.Notes(o.Tenancy), targets: targets, pending: map[string]schedule.Result{}}
	n.ctx, n.stop = context.WithCancelCause(context.Background())
	return n
}

// Use replaces the targets.
func (n *Notifier) Use(targets []*Target) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.targets = targets
}

// Concluded takes results that no retry follows. It returns at once; what is
// to be told of them is told beside it.
func (n *Notifier) Concluded(results []schedule.Result) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed || len(n.targets) == 0 {
		return
	}
	for _, r := range results {
		if r.OK() || failed(r) {
			n.pending[r.Collector+"/"+r.Stream] = r
		}
	}
	if len(n.pending) > 0 && !n.working {
		n.working = true
		n.work.Go(n.drain)
	}
}

// failed tells results that somebody must know of from those of a program
// that was ended, or of a second one.
func failed(r schedule.Result) bool {
	return r.Outcome == state.Failed || r.Outcome == state.Timeout || r.Outcome == state.Held
}

// Close gives what is under way the time patience, ends it then, and waits for
// its end. Nothing is told afterwards.
func (n *Notifier) Close(patience time.Duration) {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	timer := time.AfterFunc(patience, func() { n.stop(errors.New("the program ends")) })
	defer timer.Stop()
	n.work.Wait()
	n.stop(nil)
}

// drain tells what is pending until nothing is.
func (n *Notifier) drain() {
	for {
		n.mu.Lock()
		batch, targets := n.pending, n.targets
		n.pending = map[string]schedule.Result{}
		if len(batch) == 0 {
			n.working = false
		}
		n.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		if err := n.tell(batch, targets); err != nil {
			n.Log.Error("nothing was told", zap.Error(err))
		}
	}
}

// news is what is to be told of a stream.
type news struct {
	schedule.Result
	key string
	// since is when the failure was told; zero for a failure that is news.
	since time.Time
	taken time.Time
}

// tell sends one message with all that is news in batch.
func (n *Notifier) tell(batch map[string]schedule.Result, targets []*Target) error {
	all, err := n.news(batch)
	if err != nil || len(all) == 0 {
		return err
	}
	if !n.send(targets, n.Redact(n.message(all))) {
		return nil // each target's failure is logged; the next run tells it
	}
	var errs []error
	for _, one := range all {
		note := ""
		if one.since.IsZero() {
			note = n.Now().UTC().Format(time.RFC3339)
		}
		errs = append(errs, n.notes.SetNote(context.WithoutCancel(n.ctx), one.key, note))
	}
	return errors.Join(errs...)
}

// news finds the failures that nobody was told of, and the ends of those that
// somebody was.
func (n *Notifier) news(batch map[string]schedule.Result) (all []news, err error) {
	streams, err := n.State.Streams(n.ctx)
	if err != nil {
		return nil, err
	}
	taken := map[string]time.Time{}
	for _, s := range streams {
		if s.Tenancy == n.Tenancy {
			taken[s.Collector+"/"+s.Stream] = s.Taken
		}
	}
	for name, r := range batch {
		one := news{Result: r, key: "notify/" + name, taken: taken[name]}
		note, err := n.notes.Note(n.ctx, one.key)
		if err != nil {
			return nil, err
		}
		if failed(r) != (note == "") {
			continue
		}
		if note != "" {
			if one.since, err = time.Parse(time.RFC3339, note); err != nil {
				return nil, fmt.Errorf("note %q: %w", one.key, err)
			}
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b news) int { return strings.Compare(a.key, b.key) })
	return all, nil
}

// send sends to all targets side by side and tells whether any took it.
func (n *Notifier) send(targets []*Target, text string) (taken bool) {
	var took atomic.Bool
	var sending sync.WaitGroup
	for _, t := range targets {
		sending.Go(func() {
			if err := t.deliver(n.ctx, text, n.Waits); err != nil {
				n.Log.Error("a notification was not delivered", zap.String("target", t.name), zap.Error(err))
				return
			}
			took.Store(true)
		})
	}
	sending.Wait()
	return took.Load()
}
