package run

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/collectord/collectord/pkg/collector"
)

// TestIdleOnlyWithTheExtractionItWaitsFor: an extraction that waits for another
// one, whose wait the vendor asked for, is not idle. It is idle when the other
// receives nothing.
func TestIdleOnlyWithTheExtractionItWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var waiter, worker collector.Stats
		ctx, stop := watchIdle(t.Context(), &waiter, 10*time.Minute)
		defer stop()
		defer waiter.BeginWaitOn("the list of organisations", &worker)()
		worker.CountRequest("GET /rest/orgs", 1)
		endWait := worker.BeginWait(collector.Wait{Until: time.Now().Add(15 * time.Minute), For: "rate limit", RateLimit: true})
		time.Sleep(15 * time.Minute)
		endWait()
		time.Sleep(9 * time.Minute)
		if ctx.Err() != nil {
			t.Fatalf("ended by %v", context.Cause(ctx))
		}
		time.Sleep(2 * time.Minute)
		if err := context.Cause(ctx); !errors.Is(err, collector.ErrIdle) || !strings.Contains(err.Error(), "stuck at: GET /rest/orgs") {
			t.Errorf("ended by %v", err)
		}
	})
}
