package run

import (
	"sync"
	"time"

	"github.com/collectord/collectord/pkg/collector"
)

// ActiveRuns is a list of running extractions, and what those did that have ended. Its
// zero value is empty. Its methods may be called concurrently.
type ActiveRuns struct {
	mu    sync.Mutex
	list  []*ActiveRun
	ended map[streamKey]Totals
}

// streamKey identifies a stream by the name of its collector and its own.
type streamKey struct{ collector, stream string }

// Totals are the sums over all extractions of a stream in this process. They never
// decrease.
type Totals struct {
	// Statuses counts responses by status class, as collector.Progress does.
	Statuses [6]int64
	Retries  int64
	// Waited is the time spent waiting for the vendor's rate limit.
	Waited time.Duration
}

// withProgress returns the sums of t and p.
func (t Totals) withProgress(p collector.Progress) Totals {
	for class, n := range p.Statuses {
		t.Statuses[class] += n
	}
	t.Retries += p.Retries
	t.Waited += p.Waited
	return t
}

// An ActiveRun is the extraction of one stream while it runs.
type ActiveRun struct {
	Collector, Stream string
	Started           time.Time
	// Stats are the counters of an extraction of this process.
	Stats *collector.Stats
	// Node is the process that executes the extraction, if it is another one, and Recorded
	// what it last said about it.
	Node     string
	Recorded collector.Progress
}

// Progress returns what the extraction has done.
func (a *ActiveRun) Progress() collector.Progress {
	if a.Stats == nil {
		return a.Recorded
	}
	return a.Stats.Progress()
}

// List returns the running extractions in the order of their start.
func (a *ActiveRuns) List() []*ActiveRun {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]*ActiveRun(nil), a.list...)
}

// Totals returns the totals of a stream, those of its running extractions included.
func (a *ActiveRuns) Totals(collectorName, stream string) Totals {
	a.mu.Lock()
	defer a.mu.Unlock()
	total := a.ended[streamKey{collectorName, stream}]
	for _, r := range a.list {
		if r.Collector == collectorName && r.Stream == stream {
			total = total.withProgress(r.Stats.Progress())
		}
	}
	return total
}

// addRun appends r to the list and returns a function that removes it.
func (a *ActiveRuns) addRun(r *ActiveRun) (remove func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list = append(a.list, r)
	return func() { a.removeRun(r) }
}

func (a *ActiveRuns) removeRun(r *ActiveRun) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, other := range a.list {
		if other == r {
			a.list = append(a.list[:i], a.list[i+1:]...)
			if a.ended == nil {
				a.ended = map[streamKey]Totals{}
			}
			key := streamKey{r.Collector, r.Stream}
			a.ended[key] = a.ended[key].withProgress(r.Stats.Progress())
			return
		}
	}
}
