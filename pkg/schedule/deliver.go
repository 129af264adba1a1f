package schedule

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"runtime/debug"
	"strings"
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
	Sinks []store.Sink
	// MaxWait bounds the growing waits between two tries.
	MaxWait time.Duration
	// WriteTimeout ends a try that takes longer, so that a destination that
	// hangs does not hold its place for ever; 0 is no bound.
	WriteTimeout time.Duration
	Log          *zap.Logger
	// Now and After are the clock by which tries are planned; NewDeliverer
	// sets those of package time.
	Now   func() time.Time
	After func(time.Duration) <-chan time.Time

	mu    sync.Mutex
	known map[deliveryKey]Delivery
	busy  map[int64]bool // deliveries under way
	load  map[string]int // and how many by sink
	wake  chan struct{}  // has a token when there may be something to do
	ended chan struct{}  // closed and replaced when a try has ended
}

// NewDeliverer makes a Deliverer.
func NewDeliverer(s *state.State, sinks []store.Sink, maxWait time.Duration, log *zap.Logger) *Deliverer {
	return &Deliverer{
		State: s, Sinks: sinks, MaxWait: maxWait, Log: log, Now: time.Now, After: time.After,
		known: map[deliveryKey]Delivery{}, busy: map[int64]bool{}, load: map[string]int{},
		wake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
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

// Run delivers until ctx ends. When it returns, no delivery is under way.
func (d *Deliverer) Run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		next := d.dispatch(ctx, &all)
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		case <-d.After(next):
		}
	}
}

// dispatch starts what is due and returns how long nothing else will be.
func (d *Deliverer) dispatch(ctx context.Context, all *sync.WaitGroup) time.Duration {
	heads, err := d.State.Heads(ctx)
	if err != nil {
		if ctx.Err() == nil {
			d.Log.Error("reading the queue", zap.Error(err))
		}
		return time.Minute
	}
	next := time.Hour
	for _, head := range heads {
		sink := d.sink(head.Sink)
		if sink == nil {
			continue // it is configured no more; it stays queued until it is again
		}
		if wait := head.NextTry.Sub(d.Now()); wait > 0 {
			next = min(next, wait)
			continue
		}
		if d.claim(head) {
			all.Go(func() {
				d.deliver(ctx, sink, head)
				d.release(head)
			})
		}
	}
	return next
}

func (d *Deliverer) sink(name string) store.Sink {
	for _, s := range d.Sinks {
		if s.Name() == name {
			return s
		}
	}
	return nil
}

func (d *Deliverer) claim(q state.Delivery) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.busy[q.ID] || d.load[q.Sink] >= perSink {
		return false
	}
	d.busy[q.ID] = true
	d.load[q.Sink]++
	return true
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
func (d *Deliverer) deliver(ctx context.Context, sink store.Sink, q state.Delivery) {
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
	err = d.write(ctx, sink, q)
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
	d.failed(keep, log, q, err, ctx.Err() != nil)
}

// postpone puts a delivery off without counting it as tried.
func (d *Deliverer) postpone(ctx context.Context, log *zap.Logger, q state.Delivery) {
	if err := d.State.Postpone(context.WithoutCancel(ctx), q.ID, d.Now().Add(lockedWait)); err != nil {
		log.Error("postponing a delivery", zap.Error(err))
	}
}

// write stores the snapshot, and turns a panic into an error. The error is one
// line.
func (d *Deliverer) write(ctx context.Context, sink store.Sink, q state.Delivery) (err error) {
	if d.WriteTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, d.WriteTimeout, timeoutError(d.WriteTimeout))
		defer cancel()
	}
	defer func() {
		if p := recover(); p != nil {
			d.Log.Error("a destination panicked", zap.String("sink", sink.Name()), zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
			err = fmt.Errorf("%s: panic: %v", sink.Name(), p)
		}
		// Not every library hands on the context's cause.
		var late timeoutError
		if cause := context.Cause(ctx); err != nil && errors.As(cause, &late) && !errors.As(err, &late) {
			err = fmt.Errorf("%s: %w: %w", sink.Name(), cause, err)
		}
		err = oneLine(err)
	}()
	s, err := snapshot.Open(q.Dir)
	if err != nil {
		return err
	}
	return sink.Write(ctx, s)
}

// A timeoutError ends a try that takes longer than that.
type timeoutError time.Duration

func (e timeoutError) Error() string {
	return fmt.Sprintf("not stored within %s: see why the destination is slow, or raise STORE_WRITE_TIMEOUT", time.Duration(e))
}

// oneLine joins the lines of an error's text.
func oneLine(err error) error {
	if err == nil || !strings.ContainsRune(err.Error(), '\n') {
		return err
	}
	var text strings.Builder
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if text.Len() > 0 {
			if !strings.HasSuffix(text.String(), ":") {
				text.WriteByte(';')
			}
			text.WriteByte(' ')
		}
		text.WriteString(line)
	}
	return flatError{err, text.String()}
}

type flatError struct {
	error
	text string
}

func (e flatError) Error() string { return e.text }

func (e flatError) Unwrap() error { return e.error }

// failed queues the next try.
func (d *Deliverer) failed(ctx context.Context, log *zap.Logger, q state.Delivery, err error, stopped bool) {
	d.note(q, Delivery{Err: err})
	if errors.Is(err, snapshot.ErrDamaged) || errors.Is(err, fs.ErrNotExist) {
		// It can never be delivered and would hold up those behind it.
		dropped, lost := d.State.DropDamaged(ctx, q.ID)
		if lost != nil {
			err = oneLine(errors.Join(err, lost))
		} else if dropped {
			log.Error("a damaged or missing snapshot was taken off the queue; it is lost for this destination", zap.Error(err))
			return
		}
	}
	wait := d.wait(q.Attempts + 1)
	class := state.Transient
	switch {
	case stopped:
		wait = 0 // it is nobody's fault: the next process tries at once
	case errors.Is(err, store.ErrRefused):
		class, wait = state.Refused, d.MaxWait
	}
	if err := d.State.Retry(ctx, q.ID, err, class, d.Now().Add(wait)); err != nil {
		log.Error("queueing the next try", zap.Error(err))
	}
	if stopped {
		return
	}
	write := log.Warn
	if class == state.Refused {
		write = log.Error
	}
	write("not stored; it stays queued", zap.Error(err), zap.Int("attempts", q.Attempts+1), zap.Duration("next_try_in", wait.Round(time.Second)))
}

// wait grows with the tries, up to MaxWait; a quarter of it is left to chance.
func (d *Deliverer) wait(attempts int) time.Duration {
	wait := firstWait
	for i := 1; i < attempts && wait < d.MaxWait; i++ {
		wait *= 2
	}
	wait = min(wait, d.MaxWait)
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
