package main

import (
	"slices"
	"time"
)

const (
	// startSlack is how much later than the end of a reload a run that had begun before
	// may be recorded.
	startSlack = 2 * time.Second
	// keySlack is how much later than the end of a run the vendor may see its last
	// request.
	keySlack = 5 * time.Second
)

// checkSettings checks that no run began while its stream was off, and that no run that
// began after a reload had the key before.
func (s *soak) checkSettings(e *evidence, f *findings) {
	for _, one := range s.reloads.switches {
		for _, r := range e.runs {
			if slices.Contains(one.streams, r.Stream) && r.Started.After(one.off.Add(startSlack)) && r.Started.Before(one.on) {
				f.addf("%s: run %d (%s) began while the stream was off, %v after the reload", r.Stream, r.ID, r.Trigger,
					r.Started.Sub(one.off).Round(time.Millisecond))
			}
		}
	}
	for _, one := range s.reloads.rotations {
		last := one.reloaded
		for _, r := range e.runs {
			if r.Collector == one.vendor && r.Started.Before(one.reloaded.Add(startSlack)) && r.Ended.After(last) {
				last = r.Ended
			}
		}
		if used := s.vendors.sim.Host(one.vendor).LastKeyUse(one.old); used.After(last.Add(keySlack)) {
			f.addf("%s: the vendor received the old key %v after the reload with the new one, when all earlier runs had ended",
				one.vendor, used.Sub(one.reloaded).Round(time.Millisecond))
		}
	}
}
