package rest

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/collectord/collectord/pkg/collector"
)

// TestWaitForAnExtractionThatWaits: an extraction that waits for the token or
// the slot of another one shows the wait of the other.
func TestWaitForAnExtractionThatWaits(t *testing.T) {
	for _, f := range []struct {
		name    string
		limits  map[string]Limit
		token   bool
		waitFor string
	}{
		{name: "token", token: true, waitFor: "rate limit of POST /oauth2/token"},
		{name: "slot", limits: map[string]Limit{"": {Concurrent: 1, Rates: []Rate{{N: 1, Per: time.Hour}}}}, waitFor: "rate limit"},
	} {
		t.Run(f.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &tokenServer{}
				c, auth, stop := startTokenServer(t, a)
				defer stop()
				if f.token {
					a.fail = respond(429, "slow down", "Retry-After", "900")
				} else {
					c.Auth = nil
					auth.Client = nil
				}
				c.Limits = NewLimiter(f.limits)
				if f.limits != nil { // the first request of the hour
					_, _ = c.Get(t.Context(), Request{Path: "/x"})
				}
				ctx, cancel := context.WithCancel(t.Context())
				var leader, waiter collector.Stats
				var all sync.WaitGroup
				for _, stats := range []*collector.Stats{&leader, &waiter} {
					all.Go(func() { _, _ = c.Get(collector.WithStats(ctx, stats), Request{Path: "/x"}) })
					time.Sleep(time.Second)
				}
				time.Sleep(12 * time.Minute)
				got, want := waiter.Progress(), leader.Progress()
				if !got.WaitUntil.After(time.Now()) || !got.WaitUntil.Equal(want.WaitUntil) || got.WaitFor != f.waitFor || want.WaitFor != f.waitFor {
					t.Errorf("waits until %v for %q; the other until %v for %q, want %q", got.WaitUntil, got.WaitFor, want.WaitUntil, want.WaitFor, f.waitFor)
				}
				if got.Waited != 0 || got.Requests != 0 {
					t.Errorf("counted %d requests and a wait of %v, which are those of the other", got.Requests, got.Waited)
				}
				cancel()
				all.Wait()
				if got := waiter.Progress(); !got.WaitUntil.IsZero() || got.WaitFor != "" {
					t.Errorf("waits until %v for %q after its end", got.WaitUntil, got.WaitFor)
				}
			})
		})
	}
}

// TestWaitForOwnRequestIsIdle: an extraction whose request has the only slot
// and receives nothing is idle, although other requests of it wait.
func TestWaitForOwnRequestIsIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(map[string]Limit{"": {Concurrent: 1}})
		ctx, cancel := context.WithCancel(t.Context())
		var stats collector.Stats
		stats.CountReceived(1)
		active := stats.Progress().Active
		ctx = collector.WithStats(ctx, &stats)
		release, err := l.acquire(ctx, "", func() error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := l.acquire(ctx, "", func() error { return nil }); err == nil {
				t.Error("got the slot")
			}
		})
		time.Sleep(time.Hour)
		if p := stats.Progress(); !p.Active.Equal(active) || !p.WaitUntil.IsZero() {
			t.Errorf("active at %v, waits until %v; want idle since %v", p.Active, p.WaitUntil, active)
		}
		cancel()
		all.Wait()
		release()
	})
}
