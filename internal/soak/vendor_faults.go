package main

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
)

// vendorKind is a way in which a vendor fails.
type vendorKind struct {
	name string
	// vendor is the one that fails so; any of them when it is "".
	vendor string
	fault  vendorsim.Fault
	// job makes the next export jobs end so, in place of fault.
	job vendorsim.Outcome
}

func isToken(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/oauth2/") }

// noToken leaves the answers with tokens alone.
func noToken(r *http.Request) bool { return !isToken(r) }

func doing(do vendorsim.Effect) vendorsim.Fault { return vendorsim.Fault{When: noToken, Do: do} }

var vendorKinds = []vendorKind{
	{name: "vendor: 429 with Retry-After", fault: doing(vendorsim.Status(429, `{"error":"slow down"}`, "Retry-After", "1"))},
	{name: "vendor: 500", fault: doing(vendorsim.Status(500, `{"error":"internal"}`))},
	{name: "vendor: 502", fault: doing(vendorsim.HTML(502))},
	{name: "vendor: 503 with Retry-After", fault: doing(vendorsim.Status(503, "", "Retry-After", "1"))},
	{name: "vendor: 403", fault: doing(vendorsim.Status(403, `{"error":"forbidden"}`))},
	{name: "vendor: body cut", fault: doing(vendorsim.Truncate(vendorsim.Half))},
	{name: "vendor: connection reset", fault: doing(vendorsim.Reset(vendorsim.Half))},
	{name: "vendor: JSON cut", fault: doing(vendorsim.CutBody(vendorsim.Half))},
	{name: "vendor: gzip cut", fault: doing(vendorsim.CutGzip(vendorsim.Half))},
	{name: "vendor: stall", fault: doing(vendorsim.HangAfter(vendorsim.Half))},
	{name: "vendor: slow", fault: doing(vendorsim.Drip(16<<10, 20*time.Millisecond))},
	{name: "vendor: HTML at 200", fault: doing(vendorsim.HTML(200))},
	{name: "vendor: errors beside 200", fault: doing(vendorsim.Errors("something went wrong"))},
	{name: "vendor: token expired", vendor: "crowdstrike", fault: doing(vendorsim.Status(401, `{"errors":[{"code":401,"message":"access denied, invalid bearer token"}]}`))},
	{name: "vendor: token lost", vendor: "crowdstrike", fault: vendorsim.Fault{When: isToken, Do: vendorsim.Worked(504, "gone")}},
	{name: "vendor: export chunk failed", vendor: "tenable", job: vendorsim.OutcomeChunkFailed},
	{name: "vendor: export died", vendor: "tenable", job: vendorsim.OutcomeError},
}

// trap is a fault that waits for a request.
type trap struct {
	kind     string
	in       *vendorsim.Injection
	credited int
	until    time.Time
}

// misbehave lets vendors fail until ctx ends, each kind in turn, in an order
// left to chance.
func (v *vendors) misbehave(ctx context.Context) {
	random := rand.New(rand.NewPCG(v.seed, 2))
	var set []*trap
	defer func() {
		v.credit(set, true)
		v.behave()
	}()
	for {
		for _, k := range random.Perm(len(vendorKinds)) {
			if t := v.set(vendorKinds[k], random); t != nil {
				set = append(set, t)
			}
			if !pause(ctx, 600*time.Millisecond) {
				return
			}
			set = v.credit(set, false)
		}
	}
}

// set makes a fault wait for a request.
func (v *vendors) set(k vendorKind, random *rand.Rand) *trap {
	if k.job != vendorsim.OutcomeGood {
		stream := exports[random.IntN(len(exports))]
		if v.jobs[stream] == "" {
			v.jobs[stream] = k.name
			v.tenable.Configure(stream, func(s *vendorsim.TenableStream) { s.Next = []vendorsim.Outcome{k.job} })
		}
		return nil
	}
	name := k.vendor
	if name == "" {
		name = vendorNames[random.IntN(len(vendorNames))]
	}
	f := k.fault
	f.From, f.Times = 1+random.IntN(3), 1+random.IntN(2)
	return &trap{kind: k.name, in: v.sim.Host(name).Inject(f), until: time.Now().Add(8 * time.Second)}
}

// credit counts what has struck since, and takes away what waits in vain.
func (v *vendors) credit(set []*trap, all bool) (left []*trap) {
	now := time.Now()
	for _, t := range set {
		hits := t.in.Hits()
		v.faults.add(t.kind, hits-t.credited)
		t.credited = hits
		if all || now.After(t.until) {
			t.in.Remove()
			continue
		}
		left = append(left, t)
	}
	for stream, kind := range v.jobs {
		waits := 0
		v.tenable.Configure(stream, func(s *vendorsim.TenableStream) { waits = len(s.Next) })
		if waits == 0 {
			v.faults.add(kind, 1)
			delete(v.jobs, stream)
		}
	}
	return left
}

// behave ends all faults.
func (v *vendors) behave() {
	for _, h := range v.sim.Hosts() {
		h.ClearFaults()
	}
	for _, stream := range exports {
		v.tenable.Configure(stream, func(s *vendorsim.TenableStream) { s.Next = nil })
	}
}
