package main

import (
	"fmt"
	"maps"
	"slices"
	"sync"
)

// Kinds of faults that belong to no list.
const (
	fileFault     = "file: no directory"
	longDownFault = "daemon: down until the alert"
	longS3Fault   = "S3: down until the alert"
)

// A tally counts events by kind.
type tally struct {
	mu sync.Mutex
	n  map[string]int
}

func newTally() *tally { return &tally{n: map[string]int{}} }

func (t *tally) count(kind string, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n[kind] += n
}

func (t *tally) counts() map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.n)
}

// missingKinds returns the kinds that were never counted.
func (t *tally) missingKinds(kinds []string) (missing []string) {
	n := t.counts()
	for _, kind := range kinds {
		if n[kind] == 0 {
			missing = append(missing, kind)
		}
	}
	return missing
}

// requiredFaultKinds returns the kinds of faults that must occur in the soak.
func (s *soak) requiredFaultKinds() []string {
	kinds := []string{
		fileFault, "daemon: SIGKILL", "daemon: SIGTERM", clockFault,
		reloadFault, badReloadFault, withdrawnFirst, withdrawnLater, switchedOffFault, switchedOnFault,
	}
	if s.opts.time >= longFrom {
		kinds = append(kinds, longDownFault, longS3Fault)
	}
	kinds = append(kinds, vendorFaultNames()...)
	if s.disk.mounted {
		kinds = append(kinds, diskFault)
	}
	for _, k := range destinationFaultKinds {
		kinds = append(kinds, k.name)
	}
	return kinds
}

// findings collects violations without duplicates.
type findings struct {
	mu   sync.Mutex
	list []string
}

func (f *findings) addf(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if text := fmt.Sprintf(format, args...); len(f.list) < 1000 && !slices.Contains(f.list, text) {
		f.list = append(f.list, text)
	}
}

func (f *findings) entries() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.list)
}
