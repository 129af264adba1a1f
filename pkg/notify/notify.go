// Package notify sends messages, by Slack and other services, about problems: streams and
// controls that fail, data that is late, destinations that do not receive snapshots,
// restores and reloads that failed. There is one message when a problem begins, one a day
// while it lasts, and one when it ends. New doubts, and controls whose colour changed, are
// reported once.
//
// What was reported, and the messages that were not delivered yet, are in the state, so
// that a restart neither repeats nor loses one.
package notify

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/freshness"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/state"
)

// Options are the dependencies of a Notifier.
type Options struct {
	// State has the data, the queue, and what was reported.
	State *state.State
	// Tenancy is "" in the notifier of what several tenancies have in common.
	Tenancy string
	// Host is the name of this machine.
	Host string
	// Sinks returns the names of the destinations in force; nil means none.
	Sinks func() []string
	// Streams returns the status of all streams, and LastReload the error of the last
	// reload of the settings. Both are nil in a program that runs once.
	Streams    func(context.Context) ([]freshness.Stream, error)
	LastReload func() (at time.Time, err error)
	// Unusable returns why tenancies cannot be used, by their names; nil in the notifier of a
	// tenancy.
	Unusable func() map[string]error
	// Controls returns what is known about the controls; nil means that there are none.
	Controls func(context.Context) (Controls, error)
	// Gather is how long a problem waits for others, to be in one message with them.
	Gather time.Duration
	// RemindAfter is the time between two messages about a problem that lasts; 24 hours
	// when 0.
	RemindAfter time.Duration
	// Redact returns a text without secrets.
	Redact func(string) string
	// Now is the clock; time.Now when nil.
	Now func() time.Time
	// Waits are the waits before the attempts to send to a target, one for each
	// attempt; some seconds when nil.
	Waits []time.Duration
	Log   *zap.Logger
}

// Settings are the settings that a reload replaces together.
type Settings struct {
	Targets []*Target
	// Events are the kinds of events that are reported; all when empty.
	Events []string
	// Page is the address of the status page; "" when it is not known.
	Page string
}

// A Notifier reports problems. Its methods are safe for concurrent use.
type Notifier struct {
	Options
	notes state.Notes
	wake  chan struct{}

	checking sync.Mutex // held during a check

	mu        sync.Mutex
	settings  Settings
	pending   map[string]run.Result    // the newest result of each stream, by its name
	restores  map[string]restoreResult // by the stream's name
	firstLate map[string]time.Time     // when each late stream was first found late
	counts    Counts
}

// Counts are numbers of notifications, each counted once for each target.
type Counts struct {
	// Sent and Dropped count since the start of the program: those that a target
	// accepted, and those that were given up. Failed counts attempts.
	Sent, Failed, Dropped int64
	// Waiting is the number that wait for another attempt.
	Waiting int64
}

// New returns a Notifier. Without targets it does nothing.
func New(o Options, s Settings) *Notifier {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Waits == nil {
		o.Waits = defaultWaits
	}
	if o.RemindAfter == 0 {
		o.RemindAfter = 24 * time.Hour
	}
	return &Notifier{
		Options: o, notes: o.State.Notes(o.Tenancy), wake: make(chan struct{}, 1), settings: s,
		pending: map[string]run.Result{}, restores: map[string]restoreResult{}, firstLate: map[string]time.Time{},
	}
}

// ReplaceSettings replaces the settings.
func (n *Notifier) ReplaceSettings(s Settings) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.settings = s
}

// Counts returns the numbers of notifications.
func (n *Notifier) Counts() Counts {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.counts
}

// RunFinished takes the results of a run that no retry follows. It returns at once.
func (n *Notifier) RunFinished(results []run.Result) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.settings.Targets) == 0 {
		return
	}
	for _, r := range results {
		if r.OK() || isFailure(r) {
			n.pending[r.Stream] = r
		}
	}
	n.wakeLoop()
}

// RestoreEnded takes the result of the restore of a stream. It returns at once.
func (n *Notifier) RestoreEnded(stream string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := restoreResult{n.Now(), err}
	if before := n.restores[stream]; before.err != nil && err != nil {
		r.at = before.at // further attempts do not matter when a run has succeeded since
	}
	n.restores[stream] = r
	n.wakeLoop()
}

// ControlsEvaluated makes Run check soon: controls were measured. What changed since the
// last message follows from Options.Controls, so that nothing is lost between the two.
func (n *Notifier) ControlsEvaluated() { n.wakeLoop() }

// SettingsLoaded makes Run check soon: settings were loaded. What changed follows from
// Options.LastReload and Options.Unusable.
func (n *Notifier) SettingsLoaded() { n.wakeLoop() }

// wakeLoop makes Run check soon.
func (n *Notifier) wakeLoop() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// checkInterval is the longest time between two checks of Run.
const checkInterval = time.Minute

// Run checks for problems every minute, and soon after each run, until ctx ends.
func (n *Notifier) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			n.Check(ctx)
			timer.Reset(checkInterval)
		case <-n.wake:
			n.Check(ctx)
			timer.Reset(n.Gather + time.Second/10) // then the message has all that followed
		}
	}
}

// Check finds what is to be reported, and sends the messages that are due. A failure is
// logged.
func (n *Notifier) Check(ctx context.Context) { n.check(ctx, n.Gather) }

// Close makes a last check, which reports at once what waits for other problems, and
// cancels it after timeout. What was not sent is sent after the next start.
func (n *Notifier) Close(timeout time.Duration) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), timeout, errors.New("the program ends"))
	defer cancel()
	n.check(ctx, 0)
}

func (n *Notifier) check(ctx context.Context, gather time.Duration) {
	n.checking.Lock()
	defer n.checking.Unlock()
	n.mu.Lock()
	settings := n.settings
	n.mu.Unlock()
	if len(settings.Targets) == 0 {
		return
	}
	// The end of the program cancels requests, and not what is to be sent after it.
	if err := n.report(context.WithoutCancel(ctx), settings, gather); err != nil {
		n.Log.Error("notifications cannot be prepared; the next check tries again", zap.Error(err))
	}
	if ctx.Err() != nil {
		return
	}
	if err := n.sendWaiting(ctx, settings.Targets); err != nil && ctx.Err() == nil {
		n.Log.Error("notifications cannot be sent; the next check tries again", zap.Error(err))
	}
}

// report adds a message to the book if there are news.
func (n *Notifier) report(ctx context.Context, settings Settings, gather time.Duration) error {
	n.mu.Lock()
	results := n.pending
	n.pending = map[string]run.Result{}
	n.mu.Unlock()
	err := n.reportResults(ctx, settings, gather, results)
	if err == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for stream, r := range results { // the next check reports them
		if _, newer := n.pending[stream]; !newer {
			n.pending[stream] = r
		}
	}
	return err
}

func (n *Notifier) reportResults(ctx context.Context, settings Settings, gather time.Duration, results map[string]run.Result) error {
	seen, err := n.observe(ctx)
	if err != nil {
		return err
	}
	events, err := n.findEvents(ctx, settings, results)
	if err != nil {
		return err
	}
	err = n.updateBook(ctx, func(b *book) {
		now := n.Now()
		b.apply(n.findVerdicts(b, settings, seen, results))
		if settings.reports(eventControl) {
			b.applyColours(now, seen.controls.All)
		} else {
			b.Colours = nil
		}
		ready := b.isReady(now, gather)
		paragraphs := eventTexts(events)
		for _, news := range b.takeNews(now, ready, n.RemindAfter) {
			paragraphs = append(paragraphs, n.formatNews(news, seen))
		}
		if ready {
			paragraphs = append(paragraphs, formatColours(b.takeColours(now, seen.controls.All), seen.controls.Overall)...)
		}
		if len(paragraphs) > 0 {
			b.addMessage(now, n.Redact(n.formatMessage(settings, paragraphs)), settings.Targets)
		}
	})
	if err != nil {
		return err
	}
	return n.recordEvents(ctx, events)
}
