package main

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
)

const (
	// faultPace is the shortest time between two faults of a vendor.
	faultPace = 250 * time.Millisecond
	// faultTime is how long a fault waits for requests.
	faultTime = 8 * time.Second
	// maxHits is the largest number of requests that a fault meets.
	maxHits = 2
	// changeTime is how long a vendor behaves differently.
	changeTime = 2 * time.Second
)

// vendorFaultKinds returns all kinds of faults of the simulated vendors that the
// soak injects, by name, for each vendor that has the kind. It leaves out those
// that hide or alter records, because the content of each run must be known, those that
// serve the page of an earlier run, and those that take hours.
func vendorFaultKinds() map[string]map[string]vendorsim.FaultKind {
	kinds := map[string]map[string]vendorsim.FaultKind{}
	for _, vendor := range vendorNames {
		for _, k := range vendorsim.FaultKinds(vendor) {
			if k.Hides || k.Alters || k.Hours || k.Stale {
				continue
			}
			name := faultName(k)
			if kinds[name] == nil {
				kinds[name] = map[string]vendorsim.FaultKind{}
			}
			kinds[name][vendor] = k
		}
	}
	return kinds
}

func faultName(k vendorsim.FaultKind) string { return "vendor: " + k.Name }

// vendorFaultNames returns the names of all kinds of faults, sorted.
func vendorFaultNames() []string { return slices.Sorted(maps.Keys(vendorFaultKinds())) }

// pendingFault is an injected fault that waits for requests.
type pendingFault struct {
	name, vendor string
	began        time.Time
	*vendorsim.FaultInjection
	counted int
	until   time.Time
}

// injectFaults injects faults of all vendors until ctx is done.
func (v *vendors) injectFaults(ctx context.Context) {
	var all sync.WaitGroup
	for i, vendor := range vendorNames {
		random := rand.New(rand.NewPCG(v.seed, 20+uint64(i)))
		all.Go(func() { v.injectFaultsOf(ctx, vendor, random) })
	}
	all.Wait()
}

// injectFaultsOf injects one fault of a vendor after the other in random order,
// first those of kinds that met no request yet, until ctx is done.
func (v *vendors) injectFaultsOf(ctx context.Context, vendor string, random *rand.Rand) {
	var all []vendorsim.FaultKind
	for _, kinds := range vendorFaultKinds() {
		if k, has := kinds[vendor]; has {
			all = append(all, k)
		}
	}
	slices.SortFunc(all, func(a, b vendorsim.FaultKind) int { return strings.Compare(a.Name, b.Name) })
	var pending []*pendingFault
	defer func() { v.countHits(pending, true) }()
	for sleepContext(ctx, faultPace) {
		pending = v.countHits(pending, false)
		// A second change of the vendor could not be undone, and a request meets
		// only the first of several faults.
		if isBusy(pending) {
			continue
		}
		missing := v.faults.missingKinds(vendorFaultNames())
		kinds := slices.DeleteFunc(slices.Clone(all), func(k vendorsim.FaultKind) bool {
			isPending := slices.ContainsFunc(pending, func(p *pendingFault) bool { return p.Kind.Name == k.Name })
			return isPending || !slices.Contains(missing, faultName(k))
		})
		if len(kinds) == 0 {
			kinds = all
		}
		pending = append(pending, v.injectFault(vendor, kinds[random.IntN(len(kinds))], random))
	}
}

// maxPending is the largest number of faults of a vendor that wait for requests.
const maxPending = 3

// isBusy reports whether the pending faults of a vendor include one that changes
// how it behaves, or are many.
func isBusy(pending []*pendingFault) bool {
	return len(pending) >= maxPending || slices.ContainsFunc(pending, func(p *pendingFault) bool { return p.ChangesVendor() })
}

// injectFault injects a fault of a kind.
func (v *vendors) injectFault(vendor string, kind vendorsim.FaultKind, random *rand.Rand) *pendingFault {
	draw := vendorsim.FaultDraw{Random: random, MaxHits: maxHits, MaxSkip: 3, MaxWait: time.Second}
	p := &pendingFault{name: faultName(kind), vendor: vendor, began: time.Now(), FaultInjection: kind.Inject(v.sim.Host(vendor), draw)}
	p.until = time.Now().Add(faultTime)
	if p.ChangesVendor() {
		p.until = time.Now().Add(changeTime)
	}
	return p
}

// countHits counts the hits since the last call and removes expired faults, or
// all faults. It returns the remaining ones.
func (v *vendors) countHits(pending []*pendingFault, all bool) (left []*pendingFault) {
	now := time.Now()
	for _, p := range pending {
		hits := p.Hits()
		if hits > p.counted {
			v.events.record(p.name, p.vendor, p.began, now)
		}
		v.faults.count(p.name, max(0, hits-p.counted))
		p.counted = max(p.counted, hits)
		if all || now.After(p.until) || hits >= maxHits && !p.ChangesVendor() {
			p.Remove()
			continue
		}
		left = append(left, p)
	}
	return left
}
