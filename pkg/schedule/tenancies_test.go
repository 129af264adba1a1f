package schedule_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/state"
)

var simulatedHours = flag.Int("hours", 1, "how many hours TestHundredTenancies simulates")

const (
	// The first of the many tenancies are large: their runs take longRunTime.
	manyTenancies, largeTenancies = 100, 3

	manySlots   = 8
	longRunTime = 10 * time.Hour
)

// A collectorShape is a collector that each of many tenancies has.
type collectorShape struct {
	name    string
	streams int
	takes   time.Duration // a run of a tenancy that is not large
}

// collectorShapes have 13 streams.
var collectorShapes = []collectorShape{
	{name: "scanner", streams: 6, takes: 10 * time.Second},
	{name: "hosts", streams: 4, takes: 7 * time.Second},
	{name: "users", streams: 2, takes: 4 * time.Second},
	{name: "tickets", streams: 1, takes: 3 * time.Second},
}

// TestHundredTenancies checks the hourly runs of 100 tenancies with 1,300 streams, with the
// schedulers and the state of a service, while the runs of three new tenancies take ten hours
// each. The history of each stream has one row for each tick. No run of another tenancy waits
// longer than the runs of an hour take one after another, in the slot that no run has which is
// long or unknown.
func TestHundredTenancies(t *testing.T) {
	began := time.Now()
	withServiceIn(t, memoryDir(t), manySlots, func(s *service) {
		work := s.startMany()
		time.Sleep(time.Duration(*simulatedHours+1)*time.Hour - time.Second)
		s.checkSlots()
		s.checkTicks(*simulatedHours)
		s.checkWaits(work)
	})
	t.Logf("simulated hours: %d, in %v", *simulatedHours, time.Since(began).Round(time.Second))
}

// memoryDir returns a temporary directory in memory, if the machine has a file system for
// that: the test does not wait for a disk.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "collectord-*")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// manyTenancy returns the name of one of the many tenancies.
func manyTenancy(i int) string { return fmt.Sprintf("tenancy %02d", i) }

// isLarge reports whether a run is of a large tenancy.
func isLarge(run string) bool { return run < manyTenancy(largeTenancies) }

// startMany starts the many tenancies. work is how long the runs of an hour take together,
// except for those of the large ones.
func (s *service) startMany() (work time.Duration) {
	s.Helper()
	// database is what a run may wait for the database, whose retries use the clock.
	const database = time.Second
	for i := range manyTenancies {
		tenancy := manyTenancy(i)
		var plans []schedule.Plan
		for _, c := range collectorShapes {
			run := tenancy + "/" + c.name
			if isLarge(run) {
				s.setDuration(run, longRunTime)
			} else {
				s.setDuration(run, c.takes)
				s.addHistory(run, c.takes)
				work += c.takes + database
			}
			plans = append(plans, s.planStreams(tenancy, c.name, "0 * * * *", c.streams))
		}
		s.start(tenancy, plans...)
	}
	return work
}

// checkTicks checks that the history of each stream has one row for each tick: of a successful
// run that began within the hour. In a large tenancy, it may be of a run that began later or
// is in progress, of a tick that was skipped because of that run, or missing for a run that
// waits.
func (s *service) checkTicks(hours int) {
	s.Helper()
	rows := 0
	for i := range manyTenancies {
		tenancy := manyTenancy(i)
		for _, c := range s.tenants[tenancy].sched.Statuses() {
			for _, stream := range c.Streams {
				runs, err := s.state.Runs.ListTenancy(s.Context(), stream.Stream, tenancy, 10_000)
				if err != nil {
					s.Fatal(err)
				}
				runs = slices.DeleteFunc(runs, func(r state.Run) bool { return r.UploadID == tenancy+"/"+r.Collector }) // of addHistory
				rows += len(runs)
				want := hours
				if stream.Queued {
					want--
				}
				byTick := map[time.Time]int{}
				for _, r := range runs {
					byTick[r.Started.UTC().Truncate(time.Hour)]++
					if r.Trigger != "schedule" || r.Outcome != state.Success && !isLarge(tenancy) {
						s.Errorf("%s of %s has the outcome %q, trigger %s: %s", r.Stream, tenancy, r.Outcome, r.Trigger, r.Err)
					}
				}
				if len(runs) != want || len(byTick) != want && !isLarge(tenancy) {
					s.Errorf("%s of %s has %d rows of %d ticks, want %d", stream.Stream, tenancy, len(runs), len(byTick), want)
				}
			}
		}
	}
	s.Logf("%d rows in the history, one for each stream and tick", rows)
}

// checkWaits checks and logs how long the runs waited after their ticks.
func (s *service) checkWaits(longest time.Duration) {
	s.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	all, largest := []time.Duration{}, []time.Duration{}
	tenancies := map[string][]time.Duration{}
	for _, start := range s.starts {
		wait := start.at.Sub(start.at.Truncate(time.Hour))
		if isLarge(start.run) { // its tick may be hours ago
			largest = append(largest, wait)
			continue
		}
		if wait > longest {
			s.Errorf("%s waits %v, want at most %v", start.run, wait, longest)
		}
		tenancy, _, _ := strings.Cut(start.run, "/")
		all, tenancies[tenancy] = append(all, wait), append(tenancies[tenancy], wait)
	}
	s.Logf("%d runs of ten hours began; the others waited %s, at most %v is allowed", len(largest), describeWaits(all), longest)
	var medians, maxima []time.Duration
	for _, name := range slices.Sorted(maps.Keys(tenancies)) {
		waits := tenancies[name]
		s.Logf("%s waited %s", name, describeWaits(waits))
		medians, maxima = append(medians, percentile(waits, 50)), append(maxima, slices.Max(waits))
	}
	s.Logf("medians by tenancy: %s; maxima: %s", describeWaits(medians), describeWaits(maxima))
}

// describeWaits returns the distribution of waits.
func describeWaits(waits []time.Duration) string {
	return fmt.Sprintf("p50 %v, p99 %v, max %v", percentile(waits, 50), percentile(waits, 99), percentile(waits, 100))
}

// percentile returns the smallest of the waits, rounded to seconds, that at least p percent
// of them do not exceed.
func percentile(waits []time.Duration, p int) time.Duration {
	sorted := slices.Sorted(slices.Values(waits))
	return sorted[(len(sorted)*p+99)/100-1].Round(time.Second)
}
