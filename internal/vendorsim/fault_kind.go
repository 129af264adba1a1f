package vendorsim

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// A FaultKind is a kind of fault that a vendor can have. [FaultKinds] returns
// all of them.
type FaultKind struct {
	// Name describes the kind, such as "connection reset". No two kinds that a
	// vendor has share a name.
	Name string
	// Vendor is the vendor that has the fault; "" means that all have it.
	Vendor string
	// Hides means that a client may end without records that the vendor has or
	// had, so that the records of a run cannot be known before it.
	Hides bool
	// Hours means that a client may need hours to find out, so that the fault is
	// only for tests on a fake clock.
	Hours bool
	// Stale means that a response is served again later. If that is in another run,
	// its first page may be the last one of an earlier run, which no client can notice.
	Stale bool
	// Alters means that records have other content while the vendor has the fault.
	Alters bool

	inject func(*FaultInjection)
}

// A FaultDraw says how the details of a fault are chosen.
type FaultDraw struct {
	Random *rand.Rand
	// MaxHits bounds the number of requests that a fault hits; 0 means no bound.
	MaxHits int
	// MaxSkip bounds the number of requests before the first one that a fault
	// hits; 0 means 12.
	MaxSkip int
	// MaxWait bounds how long a response is delayed, and the wait that it asks
	// for.
	MaxWait time.Duration
}

// A FaultInjection is one fault of a kind, with its random details.
type FaultInjection struct {
	Kind FaultKind
	draw FaultDraw
	host *Host

	injections []besideInjection
	undo       []func()

	mu     sync.Mutex
	hit    []string                // method and URI of the requests that were hit
	hidden map[string]map[int]bool // records that the client may not get, by stream
	gone   bool                    // the hidden records are not the vendor's any more
}

// A besideInjection is a fault of requests, or of another server of the vendor.
type besideInjection interface {
	Hits() int
	Remove()
}

// FaultKinds returns the kinds of faults that a vendor can have.
func FaultKinds(vendor string) []FaultKind {
	var kinds []FaultKind
	for _, list := range [][]FaultKind{
		statusFaultKinds, bodyFaultKinds, gitHubFaultKinds, oktaFaultKinds, knowBe4FaultKinds, snykFaultKinds, crowdstrikeFaultKinds, tenableFaultKinds, webAppFaultKinds, microsoftFaultKinds,
		feedFaultKinds, domainsFaultKinds,
	} {
		for _, k := range list {
			if k.Vendor == "" || k.Vendor == vendor {
				kinds = append(kinds, k)
			}
		}
	}
	return kinds
}

// Inject injects one fault of the kind.
func (f FaultKind) Inject(h *Host, draw FaultDraw) *FaultInjection {
	injection := &FaultInjection{Kind: f, draw: draw, host: h, hidden: map[string]map[int]bool{}}
	f.inject(injection)
	return injection
}

// Hits returns how many requests the fault has hit. A fault that changes how the
// vendor behaves has hit one.
func (f *FaultInjection) Hits() int {
	n := len(f.undo)
	for _, in := range f.injections {
		n += in.Hits()
	}
	return n
}

// ChangesVendor reports whether the fault changes how the vendor behaves, until it
// is removed. Two such faults of a vendor must be removed in reverse order.
func (f *FaultInjection) ChangesVendor() bool { return len(f.undo) > 0 }

// HitRequests returns the method and URI of each request that was hit.
func (f *FaultInjection) HitRequests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.hit)
}

// HidesRecord reports whether a client may end without record i of a stream
// because of the fault. gone reports whether that is because the vendor no
// longer has the record, so that nothing is wrong with a client that does not
// notice.
func (f *FaultInjection) HidesRecord(stream string, i int) (hides, gone bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hidden[stream][i], f.gone
}

// Remove ends the fault.
func (f *FaultInjection) Remove() {
	for _, in := range f.injections {
		in.Remove()
	}
	for _, undo := range slices.Backward(f.undo) {
		undo()
	}
	f.undo = nil
}

// hideRecord records that a client may end without record i of a stream.
func (f *FaultInjection) hideRecord(stream string, i int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hidden[stream] == nil {
		f.hidden[stream] = map[int]bool{}
	}
	f.hidden[stream][i] = true
}

// injectFault injects a fault of requests and records which ones it hits.
func (f *FaultInjection) injectFault(fault Fault) {
	do := fault.Do
	fault.Do = func(next http.Handler) http.Handler {
		handler := do(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			f.mu.Lock()
			f.hit = append(f.hit, r.Method+" "+r.URL.RequestURI())
			f.mu.Unlock()
			handler.ServeHTTP(w, r)
		})
	}
	f.injections = append(f.injections, f.host.Inject(fault))
}

// spread injects an effect that hits requests other than those for tokens: some
// of the next ones, or some of those for one path.
func (f *FaultInjection) spread(do Effect) {
	fault := Fault{When: isNotTokenRequest, From: 1 + f.skip(), Times: f.times(), Do: do}
	if f.draw.Random.IntN(2) == 0 {
		// The path is that of one of the next requests.
		fault.When, fault.From = samePath(f.skip(), func(r *http.Request) string { return r.URL.Path }), 1
	}
	f.injectFault(fault)
}

// skip returns how many requests are skipped.
func (f *FaultInjection) skip() int {
	most := f.draw.MaxSkip
	if most == 0 {
		most = 12
	}
	return f.draw.Random.IntN(most)
}

// times returns how many requests are hit: usually a few, sometimes all.
func (f *FaultInjection) times() int {
	n := 1 + f.draw.Random.IntN(3)
	switch f.draw.Random.IntN(10) {
	case 0:
		n = 1 << 30
	case 1, 2:
		n = 4 + f.draw.Random.IntN(8)
	}
	if f.draw.MaxHits > 0 {
		n = min(n, f.draw.MaxHits)
	}
	return n
}

// wait returns a delay of up to most.
func (f *FaultInjection) wait(most time.Duration) time.Duration {
	most = min(most, f.draw.MaxWait)
	return max(most/8, time.Duration(f.draw.Random.Int64N(int64(most))))
}

// samePath returns a condition that is true for the requests that have the same
// key as the one that comes after skip others, and for that one.
func samePath(skip int, key func(*http.Request) string) func(*http.Request) bool {
	chosen, seen := "", 0
	return func(r *http.Request) bool {
		if !isNotTokenRequest(r) {
			return false
		}
		if seen++; seen == skip+1 {
			chosen = key(r)
		}
		return seen > skip && key(r) == chosen
	}
}

func isTokenRequest(r *http.Request) bool { return strings.Contains(r.URL.Path, "/oauth2/") }

func isNotTokenRequest(r *http.Request) bool { return !isTokenRequest(r) }

// requestFault is a kind of fault that replaces or damages responses.
func requestFault(name string, do func(f *FaultInjection) Effect) FaultKind {
	return FaultKind{Name: name, inject: func(f *FaultInjection) { f.spread(do(f)) }}
}

// whileRead injects an event that happens once, before one of the next requests
// is handled.
func (f *FaultInjection) whileRead(event func()) {
	f.injectFault(Fault{When: isNotTokenRequest, From: 2 + f.skip(), Do: Before(event)})
}

// limitRequests lets the vendor admit few requests in a window, as when other
// programs use up the quota.
func (f *FaultInjection) limitRequests(name string, n LimitNumbers) {
	n.Window = min(n.Window, f.draw.MaxWait)
	for _, l := range f.host.limits {
		if l.limit.Name == name {
			usual := l.limit.LimitNumbers
			f.undo = append(f.undo, func() { f.host.SetLimit(name, usual) })
		}
	}
	f.host.SetLimit(name, n)
}
