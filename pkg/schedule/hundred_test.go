package schedule

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// TestADayOfAHundredTenancies checks the waits of 1,300 hourly runs for a day, while the
// runs of one tenancy take ten hours: none of the others waits longer than the short runs of
// an hour take in the slots that long runs cannot have, and none loses a tick.
func TestADayOfAHundredTenancies(t *testing.T) {
	t.Parallel()
	const (
		most, tenancies, collectors, hours = 8, 100, 13, 24

		short, long = 5 * time.Second, 10 * time.Hour
		free        = most - most*3/4 // the slots that long runs cannot have
		longestWait = ((tenancies-1)*collectors - 1) * short / free
		// A long run waits for two others, and each time for the short runs of that hour:
		// they are of tenancies with fewer runs in progress.
		longestLongWait = 2 * (long + time.Hour)
	)
	synctest.Test(t, func(t *testing.T) {
		slots := NewSlots(most)
		active, starts, waits := map[string]*slot{}, map[string]int{}, map[runLength]time.Duration{}
		request := func(tenancy, collector int) {
			key, takes := fmt.Sprint(tenancy, "/", collector), short
			if tenancy == 0 {
				takes = long
			}
			if w := active[key]; w != nil && !w.isReleased() {
				return // the tick is skipped
			}
			asked := time.Now()
			w := &slot{of: slots, tenancy: fmt.Sprint(tenancy), collector: fmt.Sprint(collector), length: shortRun}
			if takes == long {
				w.length = longerRun
			}
			w.wake = func() { // called with the mutex of slots
				starts[key]++
				waits[w.length] = max(waits[w.length], time.Since(asked))
				if n := len(slots.granted); n > most {
					t.Errorf("%d runs at once", n)
				}
				time.AfterFunc(takes, w.release)
			}
			active[key] = w
			slots.request([]*slot{w})
		}
		random := rand.New(rand.NewPCG(1, 0))
		for range hours {
			for _, tenancy := range random.Perm(tenancies) { // each may be the first
				for collector := range collectors {
					request(tenancy, collector)
				}
			}
			time.Sleep(time.Hour)
			synctest.Wait()
		}
		time.Sleep(3 * (long + time.Hour))
		synctest.Wait()
		for tenancy := range tenancies {
			for collector := range collectors {
				key := fmt.Sprint(tenancy, "/", collector)
				if n := starts[key]; tenancy > 0 && n != hours || n == 0 {
					t.Errorf("%s starts %d times in %d hours", key, n, hours)
				}
			}
		}
		if waits[shortRun] > longestWait || waits[longerRun] > longestLongWait {
			t.Errorf("a short run waits %v, want at most %v; a long one waits %v, want at most %v", waits[shortRun], longestWait, waits[longerRun], longestLongWait)
		}
		if granted, waiting, leftOver, _ := slots.Usage(); granted != 0 || waiting != 0 || leftOver != 0 {
			t.Errorf("in the end %d slots are granted, %d runs wait, %d counts are left over", granted, waiting, leftOver)
		}
	})
}
