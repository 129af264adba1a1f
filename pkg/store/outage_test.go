package store_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/store"
)

// A clock stands still until it is told to go on.
type clock struct {
	mu    sync.Mutex
	now   time.Time
	asked chan time.Duration // how long the deliverer has nothing to do
	fire  chan time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) After(d time.Duration) <-chan time.Time {
	c.asked <- d
	return c.fire
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	c.now = c.now.Add(d)
	now := c.now
	c.mu.Unlock()
	c.fire <- now
}

// TestPostgresDownForAnHour has three ticks while Postgres is down: the other
// destinations have each at its time, Postgres has all three, in order, after
// it comes back.
func TestPostgresDownForAnHour(t *testing.T) {
	destinations := store.Destinations(t)
	names := []string{"file", "duckdb", "s3", "postgres"}
	var sinks []store.Sink
	for _, name := range names {
		sinks = append(sinks, destinations[name])
	}
	began := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	c := &clock{now: began, asked: make(chan time.Duration, 1000), fire: make(chan time.Time)}
	st, err := state.Open(t.Context(), filepath.Join(t.TempDir(), "state"), state.Options{Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	d := schedule.NewDeliverer(st, sinks, 15*time.Minute, zap.NewNop())
	d.Now, d.After = c.Now, c.After
	var running sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	running.Go(func() { d.Run(ctx) })
	defer running.Wait()
	defer stop()

	destinations["postgres"].Stop()
	var taken []snapshot.Header
	for tick := range 3 {
		h := snapshot.Header{Collector: "okta", Stream: "okta_users", Tenancy: "default",
			UploadID: fmt.Sprintf("00000000-0000-4000-8000-%012d", tick+1), UploadTimestamp: c.Now()}
		taken = append(taken, h)
		collect(t, st, h, 10+tick)
		d.Wake()
		at := c.Now()
		left := until(t, c, st, func(q []state.Delivery) bool {
			return !slices.ContainsFunc(q, func(d state.Delivery) bool { return d.Sink != "postgres" }) && q[0].Attempts > 0
		})
		if len(left) != tick+1 || !c.Now().Equal(at) {
			t.Errorf("tick %d: %d deliveries left at %s", tick, len(left), c.Now())
		}
		if strings.Contains(left[0].Err, "\n") || left[0].Class != state.Transient {
			t.Errorf("tick %d: %s: %q", tick, left[0].Class, left[0].Err)
		}
		for _, name := range names[:3] {
			if got := destinations[name].Latest(h); len(got) != 10+tick || !strings.Contains(got[0], h.UploadID) {
				t.Errorf("tick %d: %s has %d records", tick, name, len(got))
			}
		}
		for next := at.Add(20 * time.Minute); c.Now().Before(next); {
			q, err := st.Queue(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			attempts, wait := q[0].Attempts, q[0].NextTry.Sub(c.Now())
			if wait = max(wait, time.Millisecond); wait >= next.Sub(c.Now()) {
				c.pass(next.Sub(c.Now()))
				break
			}
			c.pass(wait)
			until(t, c, st, func(q []state.Delivery) bool { return q[0].Attempts > attempts })
		}
	}
	if out := c.Now().Sub(began); out != time.Hour {
		t.Fatalf("it was down for %s", out)
	}
	if err := destinations["postgres"].Start(); err != nil {
		t.Fatal(err)
	}
	c.pass(15 * time.Minute)
	until(t, c, st, func(q []state.Delivery) bool { return len(q) == 0 })
	if got := destinations["postgres"].All(taken[0]); len(got) != 10+11+12 {
		t.Errorf("Postgres has %d records", len(got))
	}
	if got := destinations["postgres"].Latest(taken[2]); len(got) != 12 || !strings.Contains(got[0], taken[2].UploadID) {
		t.Errorf("Postgres has %d records as the newest", len(got))
	}
	// Rows lie in the table in the order in which they came.
	var order []string
	for _, record := range destinations["postgres"].All(taken[0]) {
		_, id, _ := strings.Cut(record, `"_upload_id":"`)
		if id = strings.TrimSuffix(id, `"}`); !slices.Contains(order, id) {
			order = append(order, id)
		}
	}
	for i, h := range taken {
		if i >= len(order) || order[i] != h.UploadID {
			t.Fatalf("stored in the order %v", order)
		}
	}
}

// until waits until the queue is as wanted. The deliverer looks at it after
// every try and says so by asking for the time.
func until(t *testing.T, c *clock, st *state.State, wanted func([]state.Delivery) bool) []state.Delivery {
	t.Helper()
	for {
		q, err := st.Queue(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if wanted(q) {
			return q
		}
		select {
		case <-c.asked:
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-time.After(time.Minute):
			t.Fatalf("the queue stays %+v", q)
		}
	}
}

// collect seals a snapshot of n records and queues it for all destinations.
func collect(t *testing.T, st *state.State, h snapshot.Header, n int) {
	t.Helper()
	id, err := st.Begin(t.Context(), state.Start{Header: h, Trigger: "test", Started: h.UploadTimestamp})
	if err != nil {
		t.Fatal(err)
	}
	w, err := st.Spool(t.Context(), h, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	page := w.Page()
	for i := range n {
		if err := page.Append(fmt.Appendf(nil, `{"n":%d}`, i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := page.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Commit(t.Context(), id, w, state.Figures{}, state.Policy{Sinks: []string{"file", "duckdb", "s3", "postgres"}}); err != nil {
		t.Fatal(err)
	}
}
