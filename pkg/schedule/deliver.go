package schedule

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/store"
)

const (
	// firstWait is the wait after a delivery's first failure.
	firstWait = 5 * time.Second
	// perSink bounds the deliveries to one destination that go on at once.
	perSink = 2
	// lockedWait is the wait while another process delivers the same.
	lockedWait = time.Second
)

// A Delivery is how one snapshot's way to one destination stands.
type Delivery struct {
	// Stored tells that the destination has it.
	Stored bool
	// Err is the last failure; nil while there was none.
	Err error
}

// Word is the delivery's state in one word.
func (d Delivery) Word() string {
	switch {
	case d.Stored:
		return "stored"
	case errors.Is(d.Err, store.ErrRefused):
		return "refused"
	case d.Err != nil:
		return "waiting"
	}
	return "-"
}

type deliveryKey struct{ uploadID, stream, sink string }

// A Deliverer takes queued snapshots to the destinations: each stream in
// order, no destination waiting for another, again and again until it is
// done. Run does the work; the other methods may be called beside it.
type Deliverer struct {
	State *state.State
	// Now is the clock by which tries are due; time.Now when nil.
	Now func() time.Time
	Log *zap.Logger

	mu    sync.Mutex
	to    *destinations
	known map[deliveryKey]Delivery
	busy  map[int64]bool        // deliveries under way
	load  map[string]int        // and how many by sink
	wake  chan struct{}         // has a token when there may be something to do
	ended chan struct{}         // closed and replaced when a try has ended
	spans map[string]streamSpan // of each stream's last run
}

// destinations are those that settings name.
type destinations struct {
	sinks   []store.Sink
	maxWait time.Duration
	limit   time.Duration
	busy    sync.WaitGroup // deliveries to them under way
}

// NewDeliverer makes a Deliverer. maxWait bounds the growing waits between two
// tries, limit the time that one may take; 0 is any time.
func NewDeliverer(s *state.State, sinks []store.Sink, maxWait, limit time.Duration, log *zap.Logger) *Deliverer {
	return &Deliverer{
		State: s, Log: log, to: &destinations{sinks: sinks, maxWait: maxWait, limit: limit},
		known: map[deliveryKey]Delivery{}, busy: map[int64]bool{}, load: map[string]int{},
		wake: make(chan struct{}, 1), ended: make(chan struct{}), spans: map[string]streamSpan{},
	}
}

func (d *Deliverer) now() time.Time {
	if d.Now != nil {
		return d.Now()
	}
	return time.Now()
}

// Wake tells that something was queued.
func (d *Deliverer) Wake() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Outcome returns what became of a delivery, as far as this process knows.
func (d *Deliverer) Outcome(uploadID, stream, sink string) Delivery {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.known[deliveryKey{uploadID, stream, sink}]
}

// Swap puts other destinations in the place of those before. What is on its
// way to these ends first; then idle is called.
func (d *Deliverer) Swap(sinks []store.Sink, maxWait, limit time.Duration, idle func()) {
	d.mu.Lock()
	before := d.to
	d.to = &destinations{sinks: sinks, maxWait: maxWait, limit: limit}
	d.mu.Unlock()
	d.Wake()
	go func() {
		before.busy.Wait()
		idle()
	}()
}

// Run delivers until ctx ends. When it returns, no delivery is under way.
func (d *Deliverer) Run(ctx context.Context) { d.Serve(ctx, ctx) }

// Serve begins deliveries until ctx ends, each under the context work. When it
// returns, none is under way.
func (d *Deliverer) Serve(ctx, work context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		next := d.dispatch(ctx, work, &all)
		timer := time.NewTimer(next)
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

// dispatch starts what is due and returns how long nothing else will be.
func (d *Deliverer) dispatch(ctx, work context.Context, all *sync.WaitGroup) time.Duration {
	heads, err := d.State.Heads(ctx)
	if err != nil {
		if ctx.Err() == nil {
			d.Log.Error("reading the queue", zap.Error(err))
		}
		return time.Minute
	}
	next := time.Hour
	for _, head := range heads {
		if d.sink(head.Sink) == nil {
			continue // it is configured no more; it stays queued until it is again
		}
		if wait := head.NextTry.Sub(d.now()); wait > 0 {
			next = min(next, wait)
			continue
		}
		if to := d.claim(head); to != nil {
			all.Go(func() {
				d.deliver(work, to, head)
				to.busy.Done()
				d.release(head)
			})
		}
	}
	return next
}

func (d *Deliverer) sink(name string) store.Sink {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.to.sink(name)
}

func (d *destinations) sink(name string) store.Sink {
	for _, s := range d.sinks {
		if s.Name() == name {
			return s
		}
	}
	return nil
}

// claim takes the right to try a delivery to the destinations of now; nil when
// it may not be tried.
func (d *Deliverer) claim(q state.Delivery) *destinations {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.busy[q.ID] || d.load[q.Sink] >= perSink || d.to.sink(q.Sink) == nil {
		return nil
	}
	d.busy[q.ID] = true
	d.load[q.Sink]++
	d.to.busy.Add(1)
	return d.to
}

func (d *Deliverer) release(q state.Delivery) {
	d.mu.Lock()
	delete(d.busy, q.ID)
	d.load[q.Sink]--
	close(d.ended)
	d.ended = make(chan struct{})
	d.mu.Unlock()
	d.Wake()
}

func (d *Deliverer) note(q state.Delivery, now Delivery) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known[deliveryKey{q.UploadID, q.Stream, q.Sink}] = now
}

// deliver tries one delivery once.
func (d *Deliverer) deliver(ctx context.Context, to *destinations, q state.Delivery) {
	log := d.Log.With(zap.String("stream", q.Stream), zap.String("sink", q.Sink), zap.String("upload_id", q.UploadID))
	lock, err := d.State.LockDelivery(q.Sink, q.Stream)
	if errors.Is(err, state.ErrLocked) {
		// Another process delivers; what it does is in the queue by then.
		d.postpone(ctx, log, q)
		return
	}
	if err != nil {
		log.Error("locking a delivery", zap.Error(err))
		d.postpone(ctx, log, q)
		return
	}
	defer func() {
		if err := lock.Unlock(); err != nil {
			log.Error("unlocking a delivery", zap.Error(err))
		}
	}()
	if queued, err := d.State.Queued(ctx, q.ID); err != nil || !queued {
		if err != nil && ctx.Err() == nil {
			log.Error("reading the queue", zap.Error(err))
		}
		if err == nil { // another process has delivered it since
			d.note(q, Delivery{Stored: true})
		}
		return
	}
	began := time.Now()
	within, span := d.traceDelivery(ctx, q)
	err = write(within, to.sink(q.Sink), q, to.limit)
	endSpan(span, err)
	// The queue must hear of it even when ctx is what ended the try.
	keep := context.WithoutCancel(ctx)
	if err == nil {
		if err := d.State.Delivered(keep, q.ID); err != nil {
			log.Error("stored, but not noted; it will be stored again, which changes nothing", zap.Error(err))
			return
		}
		d.note(q, Delivery{Stored: true})
		log.Info("stored", zap.Int64("records", q.Records), zap.Duration("took", time.Since(began).Round(time.Millisecond)))
		return
	}
	d.failed(keep, log, to.maxWait, q, err, ctx.Err() != nil)
}

// postpone puts a delivery off without counting it as tried.
func (d *Deliverer) postpone(ctx context.Context, log *zap.Logger, q state.Delivery) {
	if err := d.State.Postpone(context.WithoutCancel(ctx), q.ID, d.now().Add(lockedWait)); err != nil {
		log.Error("postponing a delivery", zap.Error(err))
	}
}

// write stores the snapshot within the limit, and turns a panic into an error.
func write(ctx context.Context, sink store.Sink, q state.Delivery, limit time.Duration) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: panic: %v\n%s", sink.Name(), p, debug.Stack())
		}
	}()
	s, err := snapshot.Open(q.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", snapshot.ErrDamaged, err)
	}
	if err != nil {
		return err
	}
	if limit <= 0 {
		return sink.Write(ctx, s)
	}
	tooLong := fmt.Errorf("it took longer than STORE_WRITE_TIMEOUT, %s", limit)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, tooLong)
	defer cancel()
	err = sink.Write(ctx, s)
	if err != nil && context.Cause(ctx) == tooLong && !errors.Is(err, tooLong) {
		return fmt.Errorf("%w: %w", tooLong, err)
	}
	return err
}

// failed queues the next try.
func (d *Deliverer) failed(ctx context.Context, log *zap.Logger, maxWait time.Duration, q state.Delivery, err error, stopped bool) {
	d.note(q, Delivery{Err: err})
	if errors.Is(err, snapshot.ErrDamaged) {
		// It can never be delivered and would hold up those behind it.
		dropped, lost := d.State.DropDamaged(ctx, q.ID)
		if lost != nil {
			err = errors.Join(err, lost)
		} else if dropped {
			log.Error("a damaged snapshot was taken off the queue; it is lost for this destination", zap.Error(err))
			return
		}
	}
	wait := waitAfter(q.Attempts+1, maxWait)
	class := state.Transient
	switch {
	case stopped:
		wait = 0 // it is nobody's fault: the next process tries at once
	case errors.Is(err, store.ErrRefused):
		class, wait = state.Refused, maxWait
	}
	if err := d.State.Retry(ctx, q.ID, err, class, d.now().Add(wait)); err != nil {
		log.Error("queueing the next try", zap.Error(err))
	}
	if stopped {
		return
	}
	write := log.Warn
	switch {
	case !telling(q.Attempts+1) && class == q.Class:
		write = log.Debug
	case class == state.Refused:
		write = log.Error
	}
	write("not stored; it stays queued", zap.Error(err), zap.Int("attempts", q.Attempts+1), zap.Duration("next_try_in", wait.Round(time.Second)))
}

// telling chooses the failures in a row that are worth a line: the first, and
// from then on each when there were twice as many.
func telling(attempts int) bool { return attempts&(attempts-1) == 0 }

// waitAfter grows with the tries, up to most; a quarter of it is left to
// chance.
func waitAfter(attempts int, most time.Duration) time.Duration {
	wait := firstWait
	for i := 1; i < attempts && wait < most; i++ {
		wait *= 2
	}
	wait = min(wait, most)
	return wait - rand.N(wait/4+1)
}

// Settle waits until nothing is queued for the destinations that could still
// be stored without somebody's help, or ctx ends. It returns what is left.
func (d *Deliverer) Settle(ctx context.Context) ([]state.Delivery, error) {
	for {
		d.mu.Lock()
		ended := d.ended
		d.mu.Unlock()
		left, hopeful, err := d.left(context.WithoutCancel(ctx))
		if err != nil || !hopeful {
			return left, err
		}
		select {
		case <-ctx.Done():
			return left, nil
		case <-ended:
		}
	}
}

// left returns the heads of the queues of this process's destinations, and
// whether any may still be stored.
func (d *Deliverer) left(ctx context.Context) (left []state.Delivery, hopeful bool, err error) {
	heads, err := d.State.Heads(ctx)
	if err != nil {
		return nil, false, err
	}
	for _, head := range heads {
		if d.sink(head.Sink) == nil {
			continue
		}
		left = append(left, head)
		hopeful = hopeful || head.Class != state.Refused
	}
	return left, hopeful, nil
}
