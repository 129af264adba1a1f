package schedule_test

import (
	"fmt"
	"testing"
	"time"
)

// TestLongRunsStarveNoTenancy checks that every run of the other tenancies starts in time
// while one tenancy has runs of ten hours on all of its collectors, and that no tick is lost.
func TestLongRunsStarveNoTenancy(t *testing.T) {
	t.Parallel()
	const (
		slots, tenancies, collectors, hours = 8, 12, 2, 12

		short, long = 4 * time.Minute, 10 * time.Hour
		// database is what a run may wait for the database, whose retries use the clock.
		database = 5 * time.Second
		// Long runs have 6 of the 8 slots. While a short run waits, the other two slots
		// have other short runs of the same hour, all of which end before the next tick.
		longest = (tenancies*collectors - 1) * (short + database) / 2
	)
	withService(t, slots, func(s *service) {
		names := []string{"large"}
		for i := range tenancies {
			names = append(names, fmt.Sprint("tenancy", i))
		}
		for _, tenancy := range names {
			plans := s.plans(tenancy, "0 * * * *", collectors)
			if tenancy == "large" {
				plans = s.plans(tenancy, "0 * * * *", slots+1)
			}
			for _, p := range plans {
				run := tenancy + "/" + p.Job.Collector.Name
				s.setDuration(run, short)
				if tenancy == "large" {
					s.setDuration(run, long)
					s.addHistory(run, long)
				}
			}
			s.start(tenancy, plans...)
		}
		time.Sleep((hours+1)*time.Hour - time.Second)
		s.checkSlots()
		s.mu.Lock()
		defer s.mu.Unlock()
		ticks := map[string]int{}
		for _, start := range s.starts {
			ticks[start.run]++
			wait := start.at.Sub(start.at.Truncate(time.Hour))
			if s.takes[start.run] == short && wait > longest {
				t.Errorf("%s waits %v, want at most %v", start.run, wait, longest)
			}
		}
		for run, d := range s.takes {
			if want := hours; d == short && ticks[run] != want || ticks[run] == 0 {
				t.Errorf("%s starts %d times in %d hours", run, ticks[run], hours)
			}
		}
	})
}
