package main

import (
	"fmt"
	"maps"
	"slices"
	"sync"
)

// A tally counts by kind.
type tally struct {
	mu sync.Mutex
	n  map[string]int
}

func newTally() *tally { return &tally{n: map[string]int{}} }

func (t *tally) add(kind string, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n[kind] += n
}

func (t *tally) all() map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.n)
}

// missing are the kinds that were never counted.
func (t *tally) missing(kinds []string) (missing []string) {
	n := t.all()
	for _, kind := range kinds {
		if n[kind] == 0 {
			missing = append(missing, kind)
		}
	}
	return missing
}

// allKinds are the kinds of fault that each soak must have made.
func allKinds() []string {
	kinds := []string{"file: no folder", "daemon: SIGKILL", "daemon: SIGTERM", "daemon: SIGHUP", "daemon: SIGHUP with bad settings"}
	for _, k := range vendorKinds {
		kinds = append(kinds, k.name)
	}
	for _, k := range destinationKinds {
		kinds = append(kinds, k.name)
	}
	return kinds
}

// findings are violations, each once.
type findings struct {
	mu   sync.Mutex
	list []string
}

func (f *findings) add(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if text := fmt.Sprintf(format, args...); len(f.list) < 1000 && !slices.Contains(f.list, text) {
		f.list = append(f.list, text)
	}
}

func (f *findings) all() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.list)
}
