// Package delivery delivers queued snapshots to the destinations.
package delivery

import (
	"context"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/store"
)

const (
	// firstDeliveryWait is the wait after the first failed attempt of a delivery.
	firstDeliveryWait = 5 * time.Second
	// maxPerSink bounds the concurrent deliveries to one destination.
	maxPerSink = 2
	// lockedWait is the wait while another process makes the same delivery.
	lockedWait = time.Second
	// queueWait is the longest wait until the queue is read again, since other processes
	// queue deliveries as well.
	queueWait = time.Minute
	// maxRecordWait is the longest wait between two attempts to record a delivery that was
	// made, or to lock or read one, while the state cannot do it.
	maxRecordWait = time.Minute
)

// A Deliverer delivers queued snapshots to the destinations until each delivery has
// succeeded. The snapshots of a stream are delivered to a destination in order, and no
// destination waits for another. Run does the work; the other methods may be called
// while it runs.
type Deliverer struct {
	State *state.State
	// Tenancy is the tenancy whose snapshots are delivered.
	Tenancy string
	// Streams are the streams whose snapshots are delivered; empty means all.
	Streams []string
	// Now returns the time by which attempts are due; nil means time.Now.
	Now func() time.Time
	Log *zap.Logger

	mu       sync.Mutex
	current  *destinations
	statuses map[statusKey]uploadStatus
	memos    map[deliveryKey]memo
	running  map[deliveryKey]bool  // deliveries in progress
	perSink  map[string]int        // the number of deliveries in progress, by destination
	wake     chan struct{}         // holds a token when there may be work
	ended    chan struct{}         // closed and replaced when an attempt has ended
	spans    map[string]streamSpan // the span of the last run of each stream

	readFailures int // times in succession that the queue could not be read; used by Run alone
}

// destinations are the destinations of one configuration.
type destinations struct {
	sinks   []store.Sink
	maxWait time.Duration
	timeout time.Duration
	running sync.WaitGroup // deliveries in progress to these destinations
}

// New returns a Deliverer of a tenancy's snapshots to sinks. The waits between two attempts
// grow up to maxWait. timeout bounds one attempt; 0 means no bound.
func New(s *state.State, tenancy string, sinks []store.Sink, maxWait, timeout time.Duration, log *zap.Logger) *Deliverer {
	return &Deliverer{
		State: s, Tenancy: tenancy, Log: log, current: &destinations{sinks: sinks, maxWait: maxWait, timeout: timeout},
		statuses: map[statusKey]uploadStatus{}, memos: map[deliveryKey]memo{}, running: map[deliveryKey]bool{}, perSink: map[string]int{},
		wake: make(chan struct{}, 1), ended: make(chan struct{}), spans: map[string]streamSpan{},
	}
}

// timeNow returns the current time of d's clock.
func (d *Deliverer) timeNow() time.Time {
	if d.Now != nil {
		return d.Now()
	}
	return time.Now()
}

// Wake makes Run look at the queue at once. It is called after a snapshot was queued.
func (d *Deliverer) Wake() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// ReplaceSinks replaces the destinations. Deliveries in progress finish with the old
// destinations; then unused is called, from another goroutine.
func (d *Deliverer) ReplaceSinks(sinks []store.Sink, maxWait, timeout time.Duration, unused func()) {
	d.mu.Lock()
	replaced := d.current
	d.current = &destinations{sinks: sinks, maxWait: maxWait, timeout: timeout}
	d.mu.Unlock()
	d.Wake()
	go func() {
		replaced.running.Wait()
		unused()
	}()
}

// Run delivers until ctx is cancelled, which also cancels the deliveries in progress.
// When it returns, no delivery is in progress.
func (d *Deliverer) Run(ctx context.Context) { d.RunGracefully(ctx, ctx) }

// RunGracefully starts deliveries until ctx is cancelled. Each delivery runs with the
// context deliveryCtx, which may outlive ctx so that deliveries in progress can finish.
// When RunGracefully returns, no delivery is in progress.
func (d *Deliverer) RunGracefully(ctx, deliveryCtx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		timer := time.NewTimer(d.startDue(ctx, deliveryCtx, &all))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-d.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// startDue starts the deliveries that are due, with the context deliveryCtx, and
// returns the time until the next one is due.
func (d *Deliverer) startDue(ctx, deliveryCtx context.Context, all *sync.WaitGroup) time.Duration {
	queue, err := d.State.Queue.Next(ctx, d.Tenancy)
	if err != nil {
		if d.readFailures++; ctx.Err() == nil && isLoggedAttempt(d.readFailures) {
			d.Log.Error("reading the queue", zap.Error(err), zap.Int("attempts", d.readFailures))
		}
		return queueWait
	}
	d.readFailures = 0
	d.forgetEnded(queue)
	next := queueWait
	for _, q := range queue {
		if !d.handles(q) {
			continue // such as to a destination that is not configured; it stays queued
		}
		if wait := d.dueAt(q).Sub(d.timeNow()); wait > 0 {
			next = min(next, wait)
			continue
		}
		if to := d.reserve(q); to != nil {
			all.Go(func() {
				d.attempt(deliveryCtx, to, q)
				to.running.Done()
				d.release(q)
			})
		}
	}
	return next
}

// isReplaced reports whether other destinations are in force than an attempt was made to.
func (d *Deliverer) isReplaced(to *destinations) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.current != to
}

// handles reports whether d makes a delivery: its destination is configured, and its
// stream is one of Streams.
func (d *Deliverer) handles(q state.Delivery) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.current.sinkNamed(q.Sink) != nil && (len(d.Streams) == 0 || slices.Contains(d.Streams, q.Stream))
}

func (d *destinations) sinkNamed(name string) store.Sink {
	for _, s := range d.sinks {
		if s.Name() == name {
			return s
		}
	}
	return nil
}

// reserve marks a delivery as in progress and returns the destinations to use. It
// returns nil when the delivery must not start now.
func (d *Deliverer) reserve(q state.Delivery) *destinations {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running[keyOf(q)] || d.perSink[q.Sink] >= maxPerSink || d.current.sinkNamed(q.Sink) == nil {
		return nil
	}
	d.running[keyOf(q)] = true
	d.perSink[q.Sink]++
	d.current.running.Add(1)
	return d.current
}

// release undoes reserve and wakes those who wait for the end of an attempt.
func (d *Deliverer) release(q state.Delivery) {
	d.mu.Lock()
	delete(d.running, keyOf(q))
	d.perSink[q.Sink]--
	close(d.ended)
	d.ended = make(chan struct{})
	d.mu.Unlock()
	d.Wake()
}

// WaitUntilDelivered waits until every delivery to the configured destinations is
// stored or refused, or until ctx is cancelled. It returns the deliveries that are still
// queued.
func (d *Deliverer) WaitUntilDelivered(ctx context.Context) ([]state.Delivery, error) {
	recordCtx := context.WithoutCancel(ctx)
	for {
		d.mu.Lock()
		ended := d.ended
		d.mu.Unlock()
		retryable, err := d.hasRetryable(recordCtx)
		if err != nil || !retryable {
			return d.listQueued(recordCtx, err)
		}
		select {
		case <-ctx.Done():
			return d.listQueued(recordCtx, nil)
		case <-ended:
		}
	}
}

// hasRetryable reports whether any of the next deliveries to the configured destinations
// may succeed without a change by the operator.
func (d *Deliverer) hasRetryable(ctx context.Context) (bool, error) {
	next, err := d.State.Queue.Next(ctx, d.Tenancy)
	return slices.ContainsFunc(next, func(q state.Delivery) bool {
		return d.handles(q) && q.Class != state.Refused && d.memoOf(q).class != state.Refused
	}), err
}

// listQueued returns the queued deliveries to the configured destinations, unless err is an
// error.
func (d *Deliverer) listQueued(ctx context.Context, err error) ([]state.Delivery, error) {
	if err != nil {
		return nil, err
	}
	queue, err := d.State.Queue.List(ctx)
	return slices.DeleteFunc(queue, func(q state.Delivery) bool { return q.Tenancy != d.Tenancy || !d.handles(q) }), err
}
