package schedule_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/pkg/schedule"
)

// A step is something that happens at a minute.
type step struct {
	at int
	do func(s *service)
}

// begin starts runs by hand, which take some minutes.
func begin(minutes int, runs ...string) func(*service) {
	return func(s *service) {
		for _, name := range runs {
			s.setDuration(name, time.Duration(minutes)*time.Minute)
			s.runNow(name)
		}
	}
}

// TestOrderOfStarts checks which run has a free slot next.
func TestOrderOfStarts(t *testing.T) {
	t.Parallel()
	setMax := func(n int) func(*service) { return func(s *service) { s.slots.SetMax(n) } }
	stop := func(tenancy string) func(*service) { return func(s *service) { s.stop(tenancy) } }
	for name, tc := range map[string]struct {
		max     int
		long    string // the runs whose last one took 16 minutes
		unknown string // the runs that have no history; the last of others took a minute
		steps   []step
		want    []string
	}{
		"the one that waits longest": {
			max:   1,
			steps: []step{{0, begin(10, "a/x")}, {1, begin(10, "c/x")}, {2, begin(10, "b/x")}, {3, begin(10, "a/y")}},
			want:  []string{"0 a/x", "10 c/x", "20 b/x", "30 a/y"},
		},
		"in a tenancy alone": {
			max:   1,
			steps: []step{{0, begin(10, "a/x")}, {1, begin(10, "a/z")}, {2, begin(10, "a/y")}},
			want:  []string{"0 a/x", "10 a/z", "20 a/y"},
		},
		"the tenancy with the fewest runs": {
			max:   2,
			steps: []step{{0, begin(10, "a/x")}, {1, begin(20, "a/y")}, {2, begin(10, "a/z")}, {3, begin(10, "b/z")}},
			want:  []string{"0 a/x", "1 a/y", "10 b/z", "20 a/z"},
		},
		"the tenancy with the fewest runs, long work": {
			max:   3,
			steps: []step{{0, begin(600, "a/x", "a/y", "a/z")}, {1, begin(600, "a/w")}, {2, begin(1, "b/x")}, {3, setMax(4)}},
			want:  []string{"0 a/x", "0 a/y", "0 a/z", "3 b/x", "4 a/w"},
		},
		"the collector with the fewest runs of all tenancies": {
			max:   2,
			steps: []step{{0, begin(30, "a/x")}, {1, begin(10, "b/y")}, {2, begin(10, "c/x")}, {3, begin(10, "d/y")}},
			want:  []string{"0 a/x", "1 b/y", "11 d/y", "21 c/x"},
		},
		"the tenancy before the collector": {
			max:   2,
			steps: []step{{0, begin(30, "a/x")}, {1, begin(10, "b/y")}, {2, begin(10, "a/z")}, {3, begin(10, "c/x")}},
			want:  []string{"0 a/x", "1 b/y", "11 c/x", "21 a/z"},
		},
		"a quarter is for short runs": {
			max:  4,
			long: "a/w a/x a/y a/z b/x",
			steps: []step{
				{0, begin(60, "a/w", "a/x", "a/y", "a/z")}, {1, begin(60, "b/x")}, {1, begin(5, "b/y")}, {2, begin(5, "c/x")}, {3, begin(5, "a/v")},
			},
			want: []string{"0 a/w", "0 a/x", "0 a/y", "1 b/y", "6 c/x", "11 a/v", "60 b/x", "60 a/z"},
		},
		"one of two is for short runs": {
			max:   2,
			long:  "a/x a/y",
			steps: []step{{0, begin(60, "a/x", "a/y")}, {1, begin(5, "a/z")}},
			want:  []string{"0 a/x", "1 a/z", "60 a/y"},
		},
		"a single slot has no reserve": {
			max:   1,
			long:  "a/x",
			steps: []step{{0, begin(60, "a/x")}, {1, begin(5, "b/x")}},
			want:  []string{"0 a/x", "60 b/x"},
		},
		"a run that turns out to be long": {
			max:   2,
			long:  "b/y",
			steps: []step{{0, begin(60, "a/x")}, {16, begin(60, "b/y")}, {17, begin(5, "c/x")}},
			want:  []string{"0 a/x", "17 c/x", "60 b/y"},
		},
		"the unknown runs of a new tenancy leave a quarter": {
			max:     8,
			unknown: "a/v a/w a/x a/y a/z c/v c/w c/x",
			steps: []step{
				{0, begin(600, "a/v", "a/w", "a/x", "a/y", "a/z")}, {1, begin(600, "c/v", "c/w", "c/x")}, {2, begin(5, "b/x", "b/y", "b/z")},
			},
			want: []string{"0 a/v", "0 a/w", "0 a/x", "0 a/y", "0 a/z", "1 c/v", "2 b/x", "2 b/y", "7 b/z", "600 c/w", "600 c/x"},
		},
		"a new tenancy beside long runs has one unknown run, but not in the last slot": {
			max:     5,
			long:    "a/x a/y a/z",
			unknown: "b/x b/y c/x",
			steps: []step{
				{0, begin(600, "a/x", "a/y", "a/z")}, {1, begin(60, "b/x", "b/y")}, {2, begin(600, "c/x")}, {3, begin(5, "d/x")},
			},
			want: []string{"0 a/x", "0 a/y", "0 a/z", "1 b/x", "3 d/x", "61 b/y", "121 c/x"},
		},
		"a failed run leaves the duration unknown": {
			max:     2,
			unknown: "a/x a/y b/x",
			steps: []step{
				{0, func(s *service) { s.addFailure("a/x", time.Second); s.addFailure("a/y", time.Second) }},
				{1, begin(60, "a/x", "a/y")}, {2, begin(5, "c/x")},
			},
			want: []string{"1 a/x", "2 c/x", "61 a/y"},
		},
		"a higher maximum": {
			max:   1,
			steps: []step{{0, begin(30, "a/w")}, {1, begin(30, "b/x", "b/y")}, {2, begin(10, "a/x")}, {5, setMax(3)}},
			want:  []string{"0 a/w", "5 b/x", "5 b/y", "30 a/x"},
		},
		"a lower maximum": {
			max:   3,
			steps: []step{{0, begin(10, "a/x")}, {1, begin(10, "b/x")}, {2, begin(10, "c/x")}, {3, setMax(1)}, {4, begin(10, "d/x")}},
			want:  []string{"0 a/x", "1 b/x", "2 c/x", "12 d/x"},
		},
		"a tenancy that is removed": {
			max:   1,
			steps: []step{{0, begin(30, "a/x")}, {1, begin(10, "b/x")}, {2, begin(10, "c/x")}, {3, stop("b")}, {4, stop("a")}},
			want:  []string{"0 a/x", "4 c/x"},
		},
		"a run that a reload withdraws": {
			max: 1,
			steps: []step{
				{0, begin(30, "a/x")}, {1, begin(10, "b/x")}, {2, begin(10, "b/y")},
				{3, func(s *service) { s.reload("b", s.plan("b", "y", "off")) }},
			},
			want: []string{"0 a/x", "30 b/y"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			withService(t, tc.max, func(s *service) {
				long, unknown := strings.Fields(tc.long), strings.Fields(tc.unknown)
				for _, tenancy := range []string{"a", "b", "c", "d"} {
					var plans []schedule.Plan
					for _, name := range []string{"v", "w", "x", "y", "z"} {
						plans = append(plans, s.plan(tenancy, name, "off"))
						switch run := tenancy + "/" + name; {
						case slices.Contains(long, run):
							s.addHistory(run, 16*time.Minute)
						case !slices.Contains(unknown, run):
							s.addHistory(run, time.Minute)
						}
					}
					s.start(tenancy, plans...)
				}
				minute := 0
				for _, step := range tc.steps {
					time.Sleep(time.Duration(step.at-minute) * time.Minute)
					minute = step.at
					s.checkSlots()
					step.do(s)
				}
				time.Sleep(24 * time.Hour)
				s.checkSlots()
				if diff := gocmp.Diff(tc.want, sortedWithinMinutes(s.startedRuns(), tc.want)); diff != "" {
					t.Errorf("starts (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// sortedWithinMinutes orders the starts of the same minute, which are simultaneous, as in
// want.
func sortedWithinMinutes(starts, want []string) []string {
	minute := func(start string) int {
		n, _ := strconv.Atoi(strings.Fields(start)[0]) // startedRuns has numbers
		return n
	}
	slices.SortStableFunc(starts, func(a, b string) int {
		return cmp.Or(minute(a)-minute(b), slices.Index(want, a)-slices.Index(want, b))
	})
	return starts
}

// TestSlotsAtRandom checks, while tenancies are added, removed and reloaded and the maximum
// changes, that there are never more runs than allowed, that no slot is lost, and that none
// is free while a run waits that may have it.
func TestSlotsAtRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			runAtRandom(t, seed)
		})
	}
}

func runAtRandom(t *testing.T, seed uint64) {
	const collectors = 4
	withService(t, 3, func(s *service) {
		random, limit := rand.New(rand.NewPCG(seed, 0)), 3
		names := []string{"a", "b", "c", "d", "e"}
		for range 40 {
			tenancy := names[random.IntN(len(names))]
			running := s.tenants[tenancy] != nil
			switch action := random.IntN(10); {
			case !running:
				s.start(tenancy, s.plans(tenancy, "*/20 * * * *", collectors)...)
			case action == 0:
				s.stop(tenancy)
			case action == 1:
				s.reload(tenancy, s.plans(tenancy, "*/20 * * * *", random.IntN(collectors+1))...)
			case action == 2:
				limit = 1 + random.IntN(6)
				s.slots.SetMax(limit)
			default:
				name := tenancy + "/" + string(rune('a'+random.IntN(collectors)))
				s.setDuration(name, []time.Duration{time.Second, 5 * time.Minute, 40 * time.Minute}[random.IntN(3)])
			}
			s.checkSlots()
			_, before := s.takeMost() // with those that an earlier maximum allowed
			time.Sleep(time.Duration(random.IntN(1200)) * time.Second)
			s.checkSlots()
			if most, _ := s.takeMost(); most > max(limit, before) {
				t.Errorf("%d runs at once, want at most %d", most, limit)
			}
		}
		if n := len(s.startedRuns()); n < 40 {
			t.Errorf("only %d runs", n)
		}
	})
}
