package schedule

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/collectord/collectord/pkg/run"
)

// longRun is the duration above which a run counts as long.
const longRun = 15 * time.Minute

// A runLength is how long a run is expected to take.
type runLength int

const (
	// unknownRun is the length of a run none of whose streams was collected before.
	unknownRun runLength = iota
	shortRun
	longerRun // than longRun
)

// Slots bounds the runs in progress of all schedulers of a process, and shares them fairly.
// A free slot goes to the queued run whose tenancy has the fewest runs in progress; of these
// to the one whose collector has the fewest, in all tenancies; of these to the one that
// waits longest.
//
// Long runs have at most three quarters of the slots, rounded down, but at least one, so
// that they cannot keep short ones waiting for hours. A run is long if it is expected to take
// more than 15 minutes, or if it is in progress since then.
//
// A run whose duration is unknown counts as a long one: those of a new tenancy could
// otherwise have all slots, and all be long. So that a new tenancy does not wait for the
// long runs of others, one run at a time of a tenancy that has no other long or unknown one
// in progress may have any slot but the last.
//
// A Scheduler calls the methods with its mutex held. Slots therefore never calls one that
// takes that mutex: a slot's wake only sends to a channel, and the loop of the scheduler
// starts the run.
type Slots struct {
	mu      sync.Mutex
	max     int
	paused  bool
	waiting []*slot // in the order in which they were requested
	granted []*slot
	// tenancies and collectors count the granted slots by tenancy and by collector.
	tenancies, collectors map[string]int
}

// NewSlots returns Slots for at most n runs in progress; values below 1 mean 1.
func NewSlots(n int) *Slots {
	return &Slots{max: max(1, n), tenancies: map[string]int{}, collectors: map[string]int{}}
}

// SetMax changes the maximum; values below 1 mean 1. Runs in progress above a lower one
// finish.
func (s *Slots) SetMax(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.max = max(1, n)
	s.grant()
}

// Pause keeps runs from beginning, or ends this. Those in progress go on.
func (s *Slots) Pause(paused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = paused
	s.grant()
}

// A slot is the place of one run in Slots: requested, then granted, then released.
type slot struct {
	of                 *Slots
	tenancy, collector string
	length             runLength // as it is expected
	wake               func()    // called when the slot is granted; it must not block or lock
	since              time.Time // when it was granted; zero before; guarded by of.mu
}

// request queues slots, which must be of s. All of them are queued before the first is
// granted.
func (s *Slots) request(slots []*slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = append(s.waiting, slots...)
	s.grant()
}

// AcquireFor returns the function that waits for slots of runs of a tenancy that no scheduler
// plans. They count as short, since no later ones wait for them.
func (s *Slots) AcquireFor(tenancy string) run.Acquire {
	return func(ctx context.Context, collector string) (release func(), err error) {
		granted := make(chan struct{})
		w := &slot{of: s, tenancy: tenancy, collector: collector, length: shortRun, wake: func() { close(granted) }}
		s.request([]*slot{w})
		select {
		case <-granted:
			return w.release, nil
		case <-ctx.Done():
			w.release()
			return nil, context.Cause(ctx)
		}
	}
}

// adopt grants a slot to a run that is in progress, whatever the maximum.
func (s *Slots) adopt(w *slot) *slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.of, w.since = s, time.Now()
	s.granted = append(s.granted, w)
	count(s.tenancies, w.tenancy, 1)
	count(s.collectors, w.collector, 1)
	return w
}

// isGranted reports whether the run may start; a nil slot is not granted.
func (s *slot) isGranted() bool {
	if s == nil {
		return false
	}
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	return !s.since.IsZero()
}

// release gives up the slot, whether it is granted or not. A nil slot has nothing to give
// up, nor has one that was released.
func (s *slot) release() {
	if s == nil {
		return
	}
	all := s.of
	all.mu.Lock()
	defer all.mu.Unlock()
	if i := slices.Index(all.waiting, s); i >= 0 {
		all.waiting = slices.Delete(all.waiting, i, i+1)
		return
	}
	if i := slices.Index(all.granted, s); i >= 0 {
		all.granted = slices.Delete(all.granted, i, i+1)
		count(all.tenancies, s.tenancy, -1)
		count(all.collectors, s.collector, -1)
		all.grant()
	}
}

// grant grants the free slots and wakes the schedulers that have them now.
func (s *Slots) grant() {
	now := time.Now()
	for len(s.granted) < s.max && !s.paused {
		next := s.next(now)
		if next < 0 {
			return
		}
		w := s.waiting[next]
		s.waiting = slices.Delete(s.waiting, next, next+1)
		s.granted = append(s.granted, w)
		count(s.tenancies, w.tenancy, 1)
		count(s.collectors, w.collector, 1)
		w.since = now
		w.wake()
	}
}

// countUnproven returns the number of runs in progress that are long or unknown, and the
// tenancies that have one.
func (s *Slots) countUnproven(now time.Time) (n int, tenancies map[string]bool) {
	tenancies = map[string]bool{}
	for _, w := range s.granted {
		if w.length != shortRun || now.Sub(w.since) > longRun {
			n++
			tenancies[w.tenancy] = true
		}
	}
	return n, tenancies
}

// mostUnproven returns how many long and unknown runs may be in progress, with w, which is
// one of them. isFirst reports whether its tenancy has no other.
func (s *Slots) mostUnproven(w *slot, isFirst bool) int {
	if w.length == unknownRun && isFirst {
		return max(1, s.max-1)
	}
	return max(1, s.max*3/4)
}

// next returns the index of the waiting slot that is granted next; -1 for none.
func (s *Slots) next(now time.Time) int {
	best := -1
	unproven, tenancies := s.countUnproven(now)
	for i, w := range s.waiting {
		if w.length != shortRun && unproven >= s.mostUnproven(w, !tenancies[w.tenancy]) {
			continue
		}
		if best < 0 || s.compare(w, s.waiting[best]) < 0 {
			best = i
		}
	}
	return best
}

// compare orders slots by the runs in progress of their tenancy and their collector.
func (s *Slots) compare(a, b *slot) int {
	return cmp.Or(
		cmp.Compare(s.tenancies[a.tenancy], s.tenancies[b.tenancy]),
		cmp.Compare(s.collectors[a.collector], s.collectors[b.collector]),
	)
}

// count adds n to the count of name. A count of 0 is removed, since tenancies come and go.
func count(counts map[string]int, name string, n int) {
	if counts[name] += n; counts[name] == 0 {
		delete(counts, name)
	}
}
