package schedule

import (
	"slices"
	"time"
)

// Usage returns how many slots are granted and how many runs wait, and how many tenancies
// and collectors are counted that have none. idle reports whether a slot is free that one of
// the waiting runs may have.
func (s *Slots) Usage() (granted, waiting, leftOver int, idle bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tenancies, collectors, unproven, total := map[string]bool{}, map[string]bool{}, map[string]bool{}, 0
	for _, w := range s.granted {
		tenancies[w.tenancy], collectors[w.collector] = true, true
		if w.length != shortRun || time.Since(w.since) > 15*time.Minute {
			unproven[w.tenancy] = true
			total++
		}
	}
	for _, w := range s.waiting {
		isNew := w.length == unknownRun && !unproven[w.tenancy]
		idle = idle || len(s.granted) < s.max && (w.length == shortRun || total < max(1, s.max*3/4) || isNew && total < s.max-1)
	}
	return len(s.granted), len(s.waiting), len(s.tenancies) - len(tenancies) + len(s.collectors) - len(collectors), idle
}

// isReleased reports whether the slot was given up.
func (s *slot) isReleased() bool {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	return !slices.Contains(s.of.waiting, s) && !slices.Contains(s.of.granted, s)
}
