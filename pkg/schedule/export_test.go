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
	tenancies, collectors, long := map[string]bool{}, map[string]bool{}, 0
	for _, w := range s.granted {
		tenancies[w.tenancy], collectors[w.collector] = true, true
		if w.long || time.Since(w.since) > 15*time.Minute {
			long++
		}
	}
	for _, w := range s.waiting {
		idle = idle || len(s.granted) < s.max && (!w.long || long < max(1, s.max*3/4))
	}
	return len(s.granted), len(s.waiting), len(s.tenancies) - len(tenancies) + len(s.collectors) - len(collectors), idle
}

// isReleased reports whether the slot was given up.
func (s *slot) isReleased() bool {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	return !slices.Contains(s.of.waiting, s) && !slices.Contains(s.of.granted, s)
}
