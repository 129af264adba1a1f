package vendorsim

import (
	"net/http"
	"slices"
	"sync"
)

// Forever is the value of [Fault.Times] for a fault that hits all requests.
const Forever = -1

// Fault selects requests and defines what happens to them.
type Fault struct {
	// Method limits the fault to one method; "" means any.
	Method string
	// Path limits it to paths that match a pattern: "*" or "{name}" stand for
	// one segment, a last "**" for the rest; "" means any.
	Path string
	// When limits it further; nil means no further limit.
	When func(*http.Request) bool
	// From is the number of the first matching request that is hit, counted
	// from 1. 0 means 1.
	From int
	// Times is the number of matching requests that are hit, starting with
	// From. 0 means one, [Forever] means all.
	Times int
	// Do is the effect on the requests that are hit.
	Do Effect
}

// Effect returns a handler that changes what the client receives. next is the
// handler that would have responded; the effect may call it or not.
type Effect func(next http.Handler) http.Handler

// Injection is a fault that was injected.
type Injection struct {
	fault Fault
	owner *faults

	// The owner's lock guards these.
	seen, hits int
}

// faults are the injections of a host.
type faults struct {
	mu   sync.Mutex
	list []*Injection
}

// Inject injects a fault. If several faults match a request, only the one that
// was injected first is applied and counts the request, so that faults on the
// same path take effect one after the other. It panics if f has no effect.
func (h *Host) Inject(f Fault) *Injection {
	if f.Do == nil {
		panic("vendorsim: fault without an effect")
	}
	f.From = max(f.From, 1)
	if f.Times == 0 {
		f.Times = 1
	}
	in := &Injection{fault: f, owner: &h.faults}
	h.faults.mu.Lock()
	defer h.faults.mu.Unlock()
	h.faults.list = append(h.faults.list, in)
	return in
}

// ClearFaults removes all faults.
func (h *Host) ClearFaults() {
	h.faults.mu.Lock()
	defer h.faults.mu.Unlock()
	h.faults.list = nil
}

// Hits returns how many requests the fault has hit.
func (in *Injection) Hits() int {
	in.owner.mu.Lock()
	defer in.owner.mu.Unlock()
	return in.hits
}

// Remove removes the fault from its host.
func (in *Injection) Remove() {
	in.owner.mu.Lock()
	defer in.owner.mu.Unlock()
	in.owner.list = slices.DeleteFunc(in.owner.list, func(x *Injection) bool { return x == in })
}

// applyFaults returns the handler with the effect of the fault that hits the
// request, or next if there is none.
func (f *faults) applyFaults(r *http.Request, next http.Handler) http.Handler {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, in := range f.list {
		if !in.fault.matches(r) {
			continue
		}
		in.seen++
		if in.seen < in.fault.From || in.fault.Times != Forever && in.seen >= in.fault.From+in.fault.Times {
			continue
		}
		in.hits++
		return in.fault.Do(next)
	}
	return next
}

func (f *Fault) matches(r *http.Request) bool {
	return (f.Method == "" || f.Method == r.Method) && matchPath(f.Path, r.URL.Path) && (f.When == nil || f.When(r))
}
